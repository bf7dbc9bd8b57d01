//! Small texts that others write: what a client shows of itself, and where caches are said to lie.

use larder_cache::storage::{Key, Location};
use larder_web::request::authorization;

/// `Authorization`: a token that was understood is known by its id, and nothing of it is shown.
pub fn authorization(bytes: &[u8]) {
    let Some(presented) = authorization::token(bytes) else { return };
    let text = String::from_utf8_lossy(bytes);
    let shown = format!("{presented:?}");
    assert!(presented.id().to_string().len() < text.len());
    assert!(
        text.split('_')
            .next_back()
            .is_none_or(|secret| secret.len() < 8 || !shown.contains(secret))
    );
}

/// Addresses of caches: what is understood is written so that it is understood as the same. Names of objects never lead out.
pub fn location(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(location) = text.parse::<Location>() {
        assert_eq!(location.to_string().parse().as_ref(), Ok(&location), "{text:?}");
    }
    if let Ok(key) = Key::new(text) {
        assert_eq!(key.as_str(), text);
        assert!(!text.starts_with('/') && !text.is_empty() && !text.contains('\0'));
        assert!(text.split('/').all(|part| !matches!(part, "" | "." | "..")));
    }
}
