//! Sizes, days and lists as people read them, the same wherever they are told.

use jiff::Timestamp;
use unit_prefix::NumberPrefix;

/// A number of bytes, in the largest binary unit that it fills.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "only so many digits are shown")]
pub fn size(bytes: u64) -> String {
    match NumberPrefix::binary(bytes as f64) {
        NumberPrefix::Standalone(bytes) => format!("{bytes} B"),
        NumberPrefix::Prefixed(prefix, number) => format!("{number:.2} {prefix}B"),
    }
}

/// A time's day, which is what people ask for of what lasts.
#[must_use]
pub fn day(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d").to_string()
}

/// The first of many, and how many more there are.
pub fn few<'a>(all: impl IntoIterator<Item = &'a str>, shown: usize) -> String {
    let all: Vec<&str> = all.into_iter().collect();
    let first = all.iter().take(shown).copied().collect::<Vec<_>>().join(", ");
    match all.len().saturating_sub(shown) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::{few, size};

    #[test]
    fn sizes_are_told_in_the_largest_unit_that_fits() {
        for (bytes, told) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.50 KiB"),
            (5 << 30, "5.00 GiB"),
            (u64::MAX, "16.00 EiB"),
        ] {
            assert_eq!(size(bytes), told);
        }
    }

    #[test]
    fn of_many_the_first_are_told_and_how_many_more() {
        assert_eq!(few(["a", "b"], 2), "a, b");
        assert_eq!(few(["a", "b", "c", "d"], 2), "a, b and 2 more");
        assert_eq!(few([], 2), "");
    }
}
