//! The names of NARs that are packed when they are asked for: `<NAR hash>.nar.zst?hash=<path hash>&packing=<recipe>`.

use larder_cache::packed::Recipe;
use larder_formats::{hash::Sha256, store_path::StorePathHash};

/// Which packed NAR is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackedName {
    /// The path whose NAR it is.
    pub path: StorePathHash,
    /// The NAR's own hash.
    pub nar_hash: Sha256,
    /// How it was to be packed, where the name says it.
    pub recipe: Option<Recipe>,
}

impl PackedName {
    /// Reads a file's name, percent-decoded, and what follows the `?`, as it came. Nothing, if it is not in this
    /// style, or says something twice. A recipe that cannot be one is as none.
    pub fn parse(file: &str, query: Option<&str>) -> Option<Self> {
        let nar_hash = Sha256::parse_nix32(file.strip_suffix(".nar.zst")?).ok()?;
        let (mut path, mut recipe) = (None, None);
        for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            let slot = match &*name {
                "hash" => &mut path,
                "packing" => &mut recipe,
                _ => continue,
            };
            if slot.replace(value).is_some() {
                return None;
            }
        }
        let recipe = recipe.and_then(|recipe| recipe.parse().ok());
        Some(Self { path: path?.parse().ok()?, nar_hash, recipe })
    }
}
