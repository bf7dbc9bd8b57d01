//! What a secret can be told by at a glance, and who looks closer.
//!
//! No mark is the beginning of another, so at each place of a text there is at most one; and every place is
//! looked at, also inside what turned out to be no secret.
//!
//! The search knows candidates by the first bytes that all marks of a group have, so the few short marks are a
//! group by themselves: together with them the long ones are found at a third of the pace.

use std::sync::LazyLock;

use aho_corasick::packed;
use jiff::Timestamp;

use super::{
    json_web_tokens, password_hashes, pem, private_keys, tokens,
    view::{Found, View},
};

/// A closer look at a mark.
type Check = fn(View<'_>, Timestamp) -> Option<Found>;

/// The marks whose checks know which one it is.
const MARKS: &[(&[u8], Check)] = &[
    (b"-----BEGIN ", |view, _| pem::any(view)),
    (b"PuTTY-User-Key-File-", |view, _| pem::putty(view)),
    (b"AGE-SECRET-KEY-", |view, _| private_keys::age(view)),
    (b"AGE-PLUGIN-", |view, _| private_keys::age(view)),
    // 64 bytes in base 64 end with one of these.
    (b"A==", |view, _| private_keys::nix(view)),
    (b"Q==", |view, _| private_keys::nix(view)),
    (b"g==", |view, _| private_keys::nix(view)),
    (b"w==", |view, _| private_keys::nix(view)),
    (b"PrivateKey", |view, _| private_keys::wireguard(view)),
    (b"privateKey", |view, _| private_keys::wireguard(view)),
    (b"PresharedKey", |view, _| private_keys::wireguard(view)),
    (b"presharedKey", |view, _| private_keys::wireguard(view)),
    (b"private-key", |view, _| private_keys::wireguard(view)),
    (b"preshared-key", |view, _| private_keys::wireguard(view)),
    (b"AKIA", |view, _| tokens::aws_pair(view)),
    (b"secret_access_key", |view, _| tokens::aws_labelled(view)),
    (b"SECRET_ACCESS_KEY", |view, _| tokens::aws_labelled(view)),
    (b"SecretAccessKey", |view, _| tokens::aws_labelled(view)),
    (b"secretAccessKey", |view, _| tokens::aws_labelled(view)),
    (b"ghp_", |view, _| tokens::github(view)),
    (b"gho_", |view, _| tokens::github(view)),
    (b"ghu_", |view, _| tokens::github(view)),
    (b"ghs_", |view, _| tokens::github(view)),
    (b"ghr_", |view, _| tokens::github(view)),
    (b"npm_", |view, _| tokens::npm(view)),
    (b"xoxa-", |view, _| tokens::slack(view)),
    (b"xoxb-", |view, _| tokens::slack(view)),
    (b"xoxc-", |view, _| tokens::slack(view)),
    (b"xoxe-", |view, _| tokens::slack(view)),
    (b"xoxo-", |view, _| tokens::slack(view)),
    (b"xoxp-", |view, _| tokens::slack(view)),
    (b"xoxr-", |view, _| tokens::slack(view)),
    (b"xoxs-", |view, _| tokens::slack(view)),
    (b"T3BlbkFJ", |view, _| tokens::openai(view)),
    (b":AA", |view, _| tokens::telegram(view)),
    (b"eyJ", json_web_tokens::any),
    (b"$6$", |view, _| password_hashes::any(view)),
    (b"$5$", |view, _| password_hashes::any(view)),
    (b"$1$", |view, _| password_hashes::any(view)),
    (b"$7$", |view, _| password_hashes::any(view)),
    (b"$y$", |view, _| password_hashes::any(view)),
    (b"$gy$", |view, _| password_hashes::any(view)),
    (b"$apr1$", |view, _| password_hashes::any(view)),
    (b"$2a$", |view, _| password_hashes::any(view)),
    (b"$2b$", |view, _| password_hashes::any(view)),
    (b"$2x$", |view, _| password_hashes::any(view)),
    (b"$2y$", |view, _| password_hashes::any(view)),
    (b"$3$$", |view, _| password_hashes::any(view)),
    (b"$md5$", |view, _| password_hashes::any(view)),
    (b"$md5,", |view, _| password_hashes::any(view)),
    (b"$sha1$", |view, _| password_hashes::any(view)),
    (b"$argon2", |view, _| password_hashes::any(view)),
];

/// The longest mark there is, and some room.
pub(super) const LONGEST: usize = 32;

/// Marks that are shorter are a group by themselves.
const LONG: usize = 4;

static ALL: LazyLock<[Group; 2]> = LazyLock::new(|| {
    let forms = tokens::FORMS.iter();
    let forms = forms.map(|form| (form.mark, (|view, _| tokens::by_form(view)) as Check));
    let (long, short) = MARKS.iter().copied().chain(forms).partition(|mark| mark.0.len() >= LONG);
    [Group::new(long), Group::new(short)]
});

/// Marks that are looked for together.
struct Group {
    marks: Vec<(&'static [u8], Check)>,
    /// None on processors whose instructions do not suit it.
    fast: Option<packed::Searcher>,
    /// Which bytes a mark can begin with.
    first: [bool; 256],
}

impl Group {
    fn new(marks: Vec<(&'static [u8], Check)>) -> Self {
        // There are more marks than are taken unasked.
        let config = packed::Config::new().heuristic_pattern_limits(false).clone();
        let fast = config.builder().extend(marks.iter().map(|(mark, _)| mark)).build();
        let mut first = [false; 256];
        marks.iter().for_each(|(mark, _)| first[usize::from(mark[0])] = true);
        Self { marks, fast, first }
    }

    /// The first mark that begins at `from` or later and ends by `to`: where, and which.
    fn find(&self, bytes: &[u8], from: usize, to: usize) -> Option<(usize, usize)> {
        match &self.fast {
            Some(fast) => {
                let found = fast.find_in(bytes, (from..to).into())?;
                Some((found.start(), found.pattern().as_usize()))
            }
            None => self.find_slowly(&bytes[..to], from),
        }
    }

    fn find_slowly(&self, bytes: &[u8], from: usize) -> Option<(usize, usize)> {
        let likely = (from..bytes.len()).filter(|at| self.first[usize::from(bytes[*at])]);
        likely.into_iter().find_map(|at| {
            let here = &bytes[at..];
            let which = self.marks.iter().position(|(mark, _)| here.starts_with(mark))?;
            Some((at, which))
        })
    }
}

/// Checks every mark that begins in `from..to`, and hands over where a secret begins with what it is, in the
/// order of the marks. Of `bytes` the checks see what is there.
pub(super) fn search(
    bytes: &[u8],
    from: usize,
    to: usize,
    now: Timestamp,
    mut found: impl FnMut(usize, Found),
) {
    let end = bytes.len().min(to.saturating_add(LONGEST));
    let next = |group: &Group, from| group.find(bytes, from, end).filter(|(at, _)| *at < to);
    let mut ahead = ALL.each_ref().map(|group| (group, next(group, from)));
    loop {
        let nearest = ahead.iter_mut().filter_map(|(group, mark)| mark.map(|it| (it, group, mark)));
        let Some(((at, which), group, mark)) = nearest.min_by_key(|((at, _), ..)| *at) else {
            return;
        };
        if let Some(secret) = (group.marks[which].1)(View::new(bytes, at), now)
            && let Some(start) = at.checked_add_signed(secret.start)
        {
            found(start, secret);
        }
        *mark = next(group, at + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_mark_is_the_beginning_of_another_and_none_is_too_long() {
        let marks: Vec<&[u8]> =
            ALL.iter().flat_map(|group| &group.marks).map(|(mark, _)| *mark).collect();
        for (n, mark) in marks.iter().enumerate() {
            assert!(mark.len() <= LONGEST);
            let others = marks.iter().enumerate().filter(|(other, _)| *other != n);
            for (_, other) in others {
                assert!(!other.starts_with(mark), "{}", String::from_utf8_lossy(other));
            }
        }
    }

    #[test]
    fn the_slow_search_finds_what_the_fast_one_finds() {
        for group in &*ALL {
            let mut text = Vec::new();
            for (n, (mark, _)) in group.marks.iter().enumerate() {
                text.extend_from_slice(&mark[..mark.len() - 1]);
                text.extend(std::iter::repeat_n(b'$', n % 5));
                text.extend_from_slice(mark);
            }
            assert!(group.fast.is_some() || !cfg!(target_arch = "x86_64"));
            let all = |find: &dyn Fn(usize) -> Option<(usize, usize)>| {
                let mut at = 0;
                std::iter::from_fn(|| find(at).inspect(|found| at = found.0 + 1)).collect()
            };
            let fast: Vec<_> = all(&|from| group.find(&text, from, text.len()));
            let slow: Vec<_> = all(&|from| group.find_slowly(&text, from));
            assert_eq!(fast, slow);
            assert!(fast.len() >= group.marks.len());
        }
    }
}
