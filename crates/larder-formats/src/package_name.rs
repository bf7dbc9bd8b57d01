//! Which package, at which version, a name of a store path or derivation stands for.
//!
//! Promise: name and version are split where Nix splits them (`builtins.parseDrvName`). The outputs of one
//! package are folded into it by the names nixpkgs gives to outputs, since a path does not say of itself
//! which output it is.

use crate::store_path::StorePath;

/// The names of outputs that nixpkgs uses, besides `out`, whose paths have no such ending.
const OUTPUTS: [&str; 18] = [
    "bin", "data", "debug", "dev", "devdoc", "dist", "doc", "getent", "info", "lib", "libgcc",
    "man", "modules", "py", "static", "su", "terminfo", "tools",
];

/// A package's name and version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackageName<'a> {
    /// The name, such as `bash-interactive`.
    pub name: &'a str,
    /// The version, such as `5.2p37`. Empty where there is none, as of most configuration.
    pub version: &'a str,
}

impl<'a> PackageName<'a> {
    /// Splits a name: the version begins behind the first dash that no letter follows.
    #[must_use]
    pub fn parse(text: &'a str) -> Self {
        let dashes = text.bytes().enumerate().filter(|(_, byte)| *byte == b'-');
        let ends =
            |at: usize| text.as_bytes().get(at + 1).is_some_and(|b| !b.is_ascii_alphabetic());
        let at = dashes.map(|(at, _)| at).find(|at| ends(*at));
        match at.and_then(|at| Some((text.get(..at)?, text.get(at + 1..)?))) {
            Some((name, version)) => Self { name, version },
            None => Self { name: text, version: "" },
        }
    }

    /// The package that a store path belongs to: as which output, or as which derivation, is left out.
    #[must_use]
    pub fn of(path: &'a StorePath) -> Self {
        let name = path.name();
        if let Some(derivation) = name.strip_suffix(".drv") {
            return Self::parse(derivation);
        }
        let whole = Self::parse(name);
        match whole.version.rsplit_once('-') {
            Some((version, output)) if OUTPUTS.contains(&output) => Self { version, ..whole },
            _ => whole,
        }
    }
}
