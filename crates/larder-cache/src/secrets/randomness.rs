//! Whether a text can have been made by chance, as secrets are.

/// What people write where a secret would stand.
const WORDS: [&[u8]; 15] = [
    b"example",
    b"placeholder",
    b"dummy",
    b"redacted",
    b"changeme",
    b"sample",
    b"secret",
    b"password",
    b"your-",
    b"your_",
    b"-here",
    b"_here",
    b"xxxxx",
    b"abcdefg",
    b"1234567",
];

/// In longer texts a short word occurs by chance.
const MAX_WORDED: usize = 100;

/// Whether a text looks drawn from an alphabet of `letters`. What is drawn so is refused less than once in a
/// hundred thousand; what repeats itself, counts up or says that it is an example is refused.
pub(super) fn is_random(text: &[u8], letters: u32) -> bool {
    let mut seen = [false; 256];
    text.iter().for_each(|byte| seen[usize::from(*byte)] = true);
    let distinct = seen.iter().filter(|seen| **seen).count();
    let steps = text.windows(2).filter(|pair| pair[1].wrapping_sub(pair[0]) <= 1).count();
    distinct as f64 >= 0.6 * expected_distinct(text.len(), letters)
        && steps <= text.len() / 2
        && (text.len() > MAX_WORDED || !WORDS.iter().any(|word| contains_word(text, word)))
}

/// The same for a text of digits, capitals and small letters: more than one of them has to be there.
pub(super) fn is_random_mix(text: &[u8], letters: u32) -> bool {
    let classes = [u8::is_ascii_digit, u8::is_ascii_uppercase, u8::is_ascii_lowercase];
    classes.iter().filter(|class| text.iter().any(class)).count() > 1 && is_random(text, letters)
}

/// How many letters of an alphabet `drawn` draws show, on average.
fn expected_distinct(drawn: usize, letters: u32) -> f64 {
    let letters = f64::from(letters);
    let never = (1.0 - 1.0 / letters).powf(drawn as f64);
    letters * (1.0 - never)
}

/// Whether a word is in a text, in small letters or large.
pub(super) fn contains_word(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_drawn_is_hardly_ever_refused() {
        let mut state = 1u64;
        let mut draw = |alphabet: &[u8]| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            alphabet[(state >> 33) as usize % alphabet.len()]
        };
        let base64 = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_";
        for (alphabet, length) in [(16, 32), (16, 64), (62, 20), (64, 20), (64, 40), (64, 93)] {
            let refused = (0..5_000).filter(|_| {
                let text: Vec<u8> = (0..length).map(|_| draw(&base64[..alphabet])).collect();
                !is_random(&text, alphabet as u32)
            });
            assert!(refused.count() < 2, "{length} of {alphabet}");
        }
    }
}
