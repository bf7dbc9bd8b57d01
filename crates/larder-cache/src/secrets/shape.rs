//! Forms of tokens: fixed parts, and runs of an alphabet.

use super::randomness::{is_random, is_random_mix};

/// A set of letters.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Letters {
    Digits,
    /// `0-9a-f`
    Hex,
    /// `0-9A-Z`
    Capitals,
    /// `0-9A-Za-z`
    Alphanumeric,
    /// `0-9A-Za-z`, `-` and `_`
    Base64Url,
    /// `0-9A-Za-z`, `+` and `/`
    Base64,
    /// `0-9A-Za-z`, `.` and `/`, of crypt(5)
    Crypt,
    /// Parameters of a hash: `0-9A-Za-z`, `.`, `/`, `,` and `=`
    Parameters,
}

/// A part of a form.
pub(super) enum Part {
    Fixed(&'static [u8]),
    /// From so many to so many letters.
    Run(Letters, usize, usize),
    /// The same of what has to look drawn by chance.
    Secret(Letters, usize, usize),
    /// One of these, which goes on what came before: the last letter of a base 64 has bits to spare.
    OneOf(&'static [u8]),
}

impl Letters {
    pub(super) fn has(self, byte: u8) -> bool {
        let other: &[u8] = match self {
            Self::Digits => return byte.is_ascii_digit(),
            Self::Hex => return matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
            Self::Capitals => return byte.is_ascii_digit() || byte.is_ascii_uppercase(),
            Self::Alphanumeric => b"",
            Self::Base64Url => b"-_",
            Self::Base64 => b"+/",
            Self::Crypt => b"./",
            Self::Parameters => b"./,=",
        };
        byte.is_ascii_alphanumeric() || other.contains(&byte)
    }

    /// How many letters a text begins with, at most `limit`.
    pub(super) fn run(self, text: &[u8], limit: usize) -> usize {
        text.iter().take(limit).take_while(|byte| self.has(**byte)).count()
    }

    /// Whether a text can have been drawn from these letters.
    fn drew(self, text: &[u8]) -> bool {
        match self {
            Self::Digits => is_random(text, 10),
            Self::Hex => is_random(text, 16),
            Self::Capitals => is_random(text, 32),
            Self::Alphanumeric => is_random_mix(text, 62),
            _ => is_random_mix(text, 64),
        }
    }
}

/// How long what a text begins with is, if it has this form; and whether more letters of its last run follow.
pub(super) fn length(text: &[u8], form: &[Part]) -> Option<(usize, bool)> {
    let mut rest = text;
    let mut last = None;
    for part in form {
        rest = match part {
            Part::Fixed(fixed) => {
                last = None;
                rest.strip_prefix(*fixed)?
            }
            Part::OneOf(letters) => match rest {
                [first, behind @ ..] if letters.contains(first) => behind,
                _ => return None,
            },
            Part::Run(letters, least, most) | Part::Secret(letters, least, most) => {
                last = Some(*letters);
                let (run, behind) = rest.split_at(letters.run(rest, *most));
                let secret = matches!(part, Part::Secret(..));
                if run.len() < *least || (secret && !letters.drew(run)) {
                    return None;
                }
                behind
            }
        };
    }
    let goes_on = last.zip(rest.first()).is_some_and(|(letters, next)| letters.has(*next));
    Some((text.len() - rest.len(), goes_on))
}
