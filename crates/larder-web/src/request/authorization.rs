//! `Authorization`: the token that a client shows, as netrc files make curl and Nix send it (Basic, RFC 7617: the
//! password is the token, and the user's name says nothing), or as programs do (Bearer, RFC 6750).

use base64::{Engine, engine::general_purpose::STANDARD};
use larder_cache::token::Presented;
use zeroize::Zeroizing;

/// The longest value that is looked at, in bytes: a token has some hundred.
const LONGEST: usize = 1024;

/// Reads the header's value. Nothing where it holds no token of ours, whoever's it may be.
pub fn token(value: &[u8]) -> Option<Presented> {
    let value = str::from_utf8(value).ok().filter(|value| value.len() <= LONGEST)?;
    let (scheme, rest) = value.trim_ascii().split_once(' ')?;
    let rest = rest.trim_ascii();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Presented::parse(rest);
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = Zeroizing::new(STANDARD.decode(rest).ok()?);
    let (_, password) = str::from_utf8(&decoded).ok()?.split_once(':')?;
    Presented::parse(password)
}
