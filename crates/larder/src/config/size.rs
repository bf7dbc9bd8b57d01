//! Sizes in bytes, as people write them.

use std::{fmt, num::NonZeroU64, str::FromStr};

use super::problem::{ValueError, quoted};

/// A number of bytes, more than none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(NonZeroU64);

/// The units, largest first, so that the first that fits is the one to write with.
const UNITS: [(&str, u64); 11] = [
    ("PiB", 1 << 50),
    ("PB", 1_000_000_000_000_000),
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1000),
    ("B", 1),
];

impl ByteSize {
    /// What no package's NAR has, and every disk can hold: 32 GiB.
    pub const MAX_NAR: Self = Self(NonZeroU64::new(32 << 30).expect("not 0"));

    /// Enough for Nix's own database to be written to while what was begun is put away.
    pub const MIN_FREE_DISK: Self = Self(NonZeroU64::new(1_000_000_000).expect("not 0"));

    /// The number of bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        self.0.get()
    }
}

impl FromStr for ByteSize {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let refuse = |remedy: String| {
            Err(ValueError::new(format!("{} is not a size that can be used", quoted(text)), remedy))
        };
        let number_end =
            text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
        let (number, unit) = text.split_at(number_end);
        let unit = unit.strip_prefix(' ').unwrap_or(unit);
        if let Some((_, factor)) = UNITS.iter().find(|(name, _)| *name == unit) {
            return match product(number, *factor).and_then(NonZeroU64::new) {
                Some(bytes) => Ok(Self(bytes)),
                None => {
                    refuse("write a number above 0 that makes whole bytes: `1.5GiB`".to_owned())
                }
            };
        }
        // Some programs take `G` for 1000³, others for 1024³.
        let letter = unit.chars().next().map(|letter| letter.to_ascii_uppercase());
        match letter.filter(|letter| !number.is_empty() && "KMGTP".contains(*letter)) {
            Some(letter) => {
                let decimal = if letter == 'K' { 'k' } else { letter };
                refuse(format!(
                    "write `{number}{decimal}B`, in thousands, or `{number}{letter}iB`, in 1024s"
                ))
            }
            None => refuse("write a number and a unit: `500GB`, `2TB`, `1.5GiB`".to_owned()),
        }
    }
}

/// Exact: a floating-point number would make other bytes of the same text.
fn product(number: &str, factor: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = u32::try_from(fraction.len()).ok().filter(|digits| *digits <= 15)?;
    let parts = 10_u128.checked_pow(digits)?;
    let whole: u64 = whole.parse().ok()?;
    let fraction: u64 = fraction.parse().ok()?;
    let units = u128::from(whole).checked_mul(parts)?.checked_add(u128::from(fraction))?;
    let bytes = units.checked_mul(u128::from(factor))?;
    if bytes % parts == 0 { u64::try_from(bytes / parts).ok() } else { None }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.bytes();
        let fits = UNITS.into_iter().find(|(_, factor)| bytes.is_multiple_of(*factor));
        let (unit, factor) = fits.unwrap_or(("B", 1));
        write!(f, "{}{unit}", bytes / factor)
    }
}
