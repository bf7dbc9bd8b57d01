//! What many measurements come to.

/// The middle one of an odd number of values, the upper of the middle two of an even number.
pub(crate) fn median(values: &[f64]) -> f64 {
    let sorted = sorted(values);
    sorted[sorted.len() / 2]
}

/// The smallest value that no less than this part of all (0 to 100) do not exceed: the nearest rank.
pub(crate) fn percentile(values: &[f64], part: u32) -> f64 {
    let sorted = sorted(values);
    let part = usize::try_from(part).unwrap_or(100).min(100);
    let rank = (sorted.len() * part).div_ceil(100);
    sorted[rank.saturating_sub(1)]
}

fn sorted(values: &[f64]) -> Vec<f64> {
    assert!(!values.is_empty(), "nothing was measured");
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one_in_whatever_order_they_came() {
        assert_eq!(median(&[3.0, 100.0, 1.0, 2.0, 50.0]), 3.0);
        assert_eq!(median(&[7.0]), 7.0);
        assert_eq!(median(&[2.0, 1.0]), 2.0);
    }

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(percentile(&hundred, 99), 99.0);
        assert_eq!(percentile(&hundred, 50), 50.0);
        assert_eq!(percentile(&hundred, 100), 100.0);
        assert_eq!(percentile(&hundred, 0), 1.0);
        assert_eq!(percentile(&[5.0, 4.0, 9.0], 99), 9.0, "few values: the greatest");
        assert_eq!(percentile(&[5.0, 4.0, 9.0], 34), 5.0, "more than a third: the second");
    }
}
