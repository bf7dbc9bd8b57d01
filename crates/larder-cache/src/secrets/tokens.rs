//! Tokens of clouds and forges.
//!
//! What has no form of its own (the 40 hexadecimal digits of some forges) cannot be told from a hash and is
//! not looked for; nor are keys that are public by design, such as a browser's key of Google.

use memchr::memmem;

use super::{
    finding::Kind,
    randomness::is_random_mix,
    shape::{self, Letters, Part},
    view::{self, Found, View},
};

/// A form that begins with its mark, and whose token it is.
pub(super) struct Form {
    pub(super) mark: &'static [u8],
    service: &'static str,
    /// What may follow; the first that fits counts.
    behind: &'static [&'static [Part]],
}

/// A mark of so many letters occurs by chance, where letters are drawn.
const SHORT: usize = 5;

const fn form(
    mark: &'static [u8],
    service: &'static str,
    behind: &'static [&'static [Part]],
) -> Form {
    Form { mark, service, behind }
}

const DASH: Part = Part::Fixed(b"-");
const HEX_64: &[&[Part]] = &[&[Part::Secret(Letters::Hex, 64, 64)]];
const GITLAB: &[&[Part]] = &[
    // The newer one says its length and a checksum at the end.
    &[
        Part::Secret(Letters::Base64Url, 27, 300),
        Part::Fixed(b"."),
        Part::Run(Letters::Alphanumeric, 9, 9),
    ],
    &[Part::Secret(Letters::Base64Url, 20, 320)],
];
const GITLAB_TRIGGER: &[&[Part]] =
    &[&[Part::Secret(Letters::Hex, 40, 40)], &[Part::Secret(Letters::Base64Url, 20, 64)]];
const STRIPE: &[&[Part]] = &[&[Part::Secret(Letters::Alphanumeric, 24, 247)]];
const PYPI: &[&[Part]] = &[&[Part::Secret(Letters::Base64Url, 50, 1000)]];
const TAILSCALE: &[&[Part]] = &[&[
    Part::Run(Letters::Alphanumeric, 8, 32),
    DASH,
    Part::Secret(Letters::Alphanumeric, 20, 50),
]];

/// What is told by its form alone. No mark is the beginning of another.
pub(super) const FORMS: &[Form] = &[
    form(
        b"github_pat_",
        "GitHub",
        &[&[
            Part::Secret(Letters::Alphanumeric, 22, 22),
            Part::Fixed(b"_"),
            Part::Secret(Letters::Alphanumeric, 59, 59),
        ]],
    ),
    form(b"glpat-", "GitLab", GITLAB),
    form(b"gldt-", "GitLab", GITLAB),
    form(b"glrt-", "GitLab", GITLAB),
    form(b"glptt-", "GitLab", GITLAB_TRIGGER),
    form(b"glcbt-", "GitLab", GITLAB),
    form(b"glagent-", "GitLab", GITLAB),
    form(b"glsoat-", "GitLab", GITLAB),
    form(
        b"xapp-",
        "Slack",
        &[&[
            Part::Run(Letters::Digits, 1, 1),
            DASH,
            Part::Run(Letters::Capitals, 8, 16),
            DASH,
            Part::Run(Letters::Digits, 9, 14),
            DASH,
            Part::Secret(Letters::Hex, 64, 64),
        ]],
    ),
    form(
        b"hooks.slack.com/services/",
        "Slack",
        &[&[
            Part::Run(Letters::Capitals, 8, 14),
            Part::Fixed(b"/"),
            Part::Run(Letters::Capitals, 8, 14),
            Part::Fixed(b"/"),
            Part::Secret(Letters::Alphanumeric, 24, 24),
        ]],
    ),
    form(b"sk_live_", "Stripe", STRIPE),
    form(b"rk_live_", "Stripe", STRIPE),
    // The beginnings of macaroons for pypi.org and test.pypi.org.
    form(b"pypi-AgEIcHlwaS5vcmc", "PyPI", PYPI),
    form(b"pypi-AgENdGVzdC5weXBpLm9yZw", "PyPI", PYPI),
    form(b"hvs.", "Vault", &[&[Part::Secret(Letters::Base64Url, 24, 300)]]),
    form(b"hvb.", "Vault", &[&[Part::Secret(Letters::Base64Url, 100, 400)]]),
    form(b"dop_v1_", "DigitalOcean", HEX_64),
    form(b"doo_v1_", "DigitalOcean", HEX_64),
    form(b"dor_v1_", "DigitalOcean", HEX_64),
    form(b"tskey-auth-", "Tailscale", TAILSCALE),
    form(b"tskey-api-", "Tailscale", TAILSCALE),
    form(b"tskey-client-", "Tailscale", TAILSCALE),
    form(b"sk-ant-", "Anthropic", &[&[Part::Secret(Letters::Base64Url, 80, 200)]]),
    form(b"hf_", "Hugging Face", &[&[Part::Secret(Letters::Alphanumeric, 34, 37)]]),
    form(
        b"SG.",
        "SendGrid",
        &[&[
            Part::Secret(Letters::Base64Url, 22, 22),
            Part::Fixed(b"."),
            Part::Secret(Letters::Base64Url, 43, 43),
        ]],
    ),
    form(b"dckr_pat_", "Docker Hub", &[&[Part::Secret(Letters::Base64Url, 27, 27)]]),
    form(
        b"glsa_",
        "Grafana",
        &[&[
            Part::Secret(Letters::Alphanumeric, 32, 32),
            Part::Fixed(b"_"),
            Part::Run(Letters::Hex, 8, 8),
        ]],
    ),
    form(b"GOCSPX-", "Google", &[&[Part::Secret(Letters::Base64Url, 28, 28)]]),
    form(
        b"AccountKey=",
        "Azure storage",
        &[&[Part::Secret(Letters::Base64, 86, 86), Part::Fixed(b"==")]],
    ),
];

/// How the key of Azure's emulator begins, which is the same everywhere.
const AZURITE: &[u8] = b"AccountKey=Eby8vdM02xNO";

/// A token of one of the [`FORMS`].
///
/// One with a long mark may stand in the middle of a word: the texts of a program lie without a gap in some
/// executables.
pub(super) fn by_form(view: View<'_>) -> Option<Found> {
    let form = FORMS.iter().find(|form| view.after.starts_with(form.mark))?;
    let text = view.past(form.mark.len());
    let (length, goes_on) = form.behind.iter().find_map(|parts| shape::length(text, parts))?;
    let is_word = view.begins_a_word() && !goes_on;
    if (form.mark.len() <= SHORT && !is_word) || view.after.starts_with(AZURITE) {
        return None;
    }
    Some(Found::new(Kind::Token(form.service), 0, &view.after[..form.mark.len() + length]))
}

/// A token of Slack: numbers with dashes behind, or a version, and what nobody guesses.
pub(super) fn slack(view: View<'_>) -> Option<Found> {
    const MARK: usize = "xoxb-".len();
    let mut length = MARK;
    loop {
        let number = Letters::Digits.run(view.past(length), 16);
        if number == 0 || view.past(length + number).first() != Some(&b'-') {
            break;
        }
        length += number + 1;
    }
    let secret = Letters::Alphanumeric.run(view.past(length), 400);
    let text = &view.past(length)[..secret];
    let sound =
        length > MARK && secret >= 18 && is_random_mix(text, if is_hex(text) { 16 } else { 62 });
    sound.then(|| Found::new(Kind::Token("Slack"), 0, &view.after[..length + secret]))
}

fn is_hex(text: &[u8]) -> bool {
    Letters::Hex.run(text, text.len()) == text.len()
}

/// A token of GitHub (`ghp_` and its like), which ends with a checksum.
pub(super) fn github(view: View<'_>) -> Option<Found> {
    with_checksum(view, "GitHub")
}

/// A token of npm, made like GitHub's.
pub(super) fn npm(view: View<'_>) -> Option<Found> {
    with_checksum(view, "npm")
}

/// A mark of four characters, letters and digits, and the CRC-32 of these in six digits of base 62. There are 36
/// today, and what stands behind may be of another word; more are announced.
fn with_checksum(view: View<'_>, service: &'static str) -> Option<Found> {
    let text = view.past(4);
    let width = Letters::Alphanumeric.run(text, 256);
    let holds = |width: &usize| text.get(..*width).is_some_and(checksum_holds);
    let width = [36, width].into_iter().filter(|it| (36..=width).contains(it)).find(holds)?;
    Some(Found::new(Kind::Token(service), 0, &view.after[..4 + width]))
}

fn checksum_holds(text: &[u8]) -> bool {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let (random, check) = text.split_at(text.len().saturating_sub(6));
    let mut left = crc32fast::hash(random) as usize;
    check.iter().rev().all(|digit| {
        let expected = DIGITS[left % 62];
        left /= 62;
        *digit == expected
    })
}

/// An access key's name (`AKIA…`) with its secret nearby; the name alone opens nothing.
pub(super) fn aws_pair(view: View<'_>) -> Option<Found> {
    let is_letter = |byte: &u8| byte.is_ascii_uppercase() || matches!(byte, b'2'..=b'7');
    let name = view.after.get(..20)?;
    let next = view.after.get(20).is_some_and(|byte| Letters::Alphanumeric.has(*byte));
    if !view.begins_a_word() || !name.iter().all(is_letter) || next || name.ends_with(b"EXAMPLE") {
        return None;
    }
    let behind = view.past(20);
    let behind = &behind[..behind.len().min(super::view::BEHIND)];
    if let Some(at) = aws_secrets(behind).next() {
        return Some(aws(isize::try_from(20 + at).ok()?, &behind[at..at + 40]));
    }
    let at = aws_secrets(view.before).last()?;
    let start = isize::try_from(at).ok()? - isize::try_from(view.before.len()).ok()?;
    Some(aws(start, &view.before[at..at + 40]))
}

/// A secret that is called one: `aws_secret_access_key = …`.
pub(super) fn aws_labelled(view: View<'_>) -> Option<Found> {
    // In every spelling the first `y` is the last letter.
    let label = view.after.iter().position(|byte| byte.eq_ignore_ascii_case(&b'y'))? + 1;
    let start = view.value(label)?;
    let text = view.past(start);
    let secret = text.get(..40)?;
    let sound = Letters::Base64.run(text, 41) == 40 && is_aws_secret(secret);
    sound.then(|| isize::try_from(start).map(|start| aws(start, secret)).ok())?
}

fn aws(start: isize, secret: &[u8]) -> Found {
    Found::new(Kind::Token("AWS"), start, secret)
}

/// Where secrets begin in a text: 40 letters of base 64 that stand alone, or behind an escape.
fn aws_secrets(text: &[u8]) -> impl Iterator<Item = usize> {
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < text.len() {
            let (start, run) = (at, Letters::Base64.run(&text[at..], usize::MAX));
            at += run + 1;
            let secret = (start + run).checked_sub(40).filter(|it| *it >= start);
            let begins = |secret: &usize| *secret == start || ends_in_escape(&text[..*secret]);
            if let Some(secret) = secret.filter(begins)
                && is_aws_secret(&text[secret..start + run])
            {
                return Some(secret);
            }
        }
        None
    })
}

fn ends_in_escape(text: &[u8]) -> bool {
    text.last().is_some_and(u8::is_ascii_alphanumeric) && view::ends_a_word(text)
}

fn is_aws_secret(text: &[u8]) -> bool {
    let has = |class: fn(&u8) -> bool| text.iter().any(class);
    has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase) && is_random_mix(text, 64)
}

/// A key of OpenAI, which has that name in base 64 in its middle.
pub(super) fn openai(view: View<'_>) -> Option<Found> {
    let before =
        view.before.iter().rev().take(120).take_while(|byte| Letters::Base64Url.has(**byte));
    let before = &view.before[view.before.len() - before.count()..];
    let start = memmem::find(before, b"sk-")?;
    let behind = Letters::Base64Url.run(view.after, 128);
    let text = [&before[start..], &view.after[..behind]].concat();
    let sound = before.len() - start >= 23 && behind >= 28 && is_random_mix(&text[3..], 64);
    let start = isize::try_from(before.len() - start).ok()?;
    sound.then(|| Found::new(Kind::Token("OpenAI"), -start, &text))
}

/// A key of a bot of Telegram: its number, a colon, `AA` and more. In an address `bot` stands before.
pub(super) fn telegram(view: View<'_>) -> Option<Found> {
    let digits = view.before.iter().rev().take(11).take_while(|byte| byte.is_ascii_digit()).count();
    let (before, number) = view.before.split_at(view.before.len() - digits);
    let alone = view::ends_a_word(before) || before.ends_with(b"bot");
    let run = Letters::Base64Url.run(view.past(1), 36);
    let secret = view.after.get(1..36)?;
    let sound = alone && (8..=10).contains(&digits) && run == 35 && is_random_mix(secret, 64);
    sound.then(|| {
        let text = [number, &view.after[..36]].concat();
        Found::new(Kind::Token("Telegram"), -(digits as isize), &text)
    })
}
