//! Words and lines that several views are made of.

pub(super) fn indented(line: &str) -> String {
    format!("  {line}").trim_end().to_owned()
}

pub(super) fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

/// The name in a derivation's base name.
pub(super) fn name(derivation: &str) -> &str {
    let name = derivation.split_once('-').map_or(derivation, |(_, name)| name);
    name.strip_suffix(".drv").unwrap_or(name)
}

/// A number of bytes, for people.
pub(super) fn size(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}
