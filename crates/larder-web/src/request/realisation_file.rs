//! The files of realisations: which output of which derivation is asked for.

use larder_formats::realisation::RealisationKey;

/// Reads `sha256:<hash>!<output>.doi`, percent-decoded: the derivation by its hash modulo its inputs, as Nix
/// up to 2.34 asks. Nothing, if it is not that.
pub fn by_hash(file: &str) -> Option<RealisationKey> {
    let output = file.strip_suffix(".doi")?;
    Some(RealisationKey::Modulo(output.parse().ok()?))
}

/// Reads a derivation's base name and `<output>.doi`, percent-decoded, as Nix from 2.35 on asks. Nothing, if
/// they are not that.
pub fn by_path(derivation: &str, file: &str) -> Option<RealisationKey> {
    let output = file.strip_suffix(".doi")?;
    Some(RealisationKey::Resolved(derivation.parse().ok()?, output.parse().ok()?))
}
