//! What services take for an account is found, by the name of the service, and ends where it ends.

use super::{found, only, places, samples};

#[test]
fn every_sample_is_found_by_its_kind_where_it_begins() {
    for sample in samples::all() {
        let found = places(sample.text());
        assert_eq!(found, [(sample.before.len() as u64, sample.kind)], "{sample:?}");
    }
}

#[test]
fn no_two_samples_are_one_secret() {
    let samples = samples::all();
    let mut seen: Vec<_> = samples.iter().map(|it| only(it.text()).fingerprint).collect();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), samples.len());
}

#[test]
fn a_token_is_found_and_is_the_same_in_every_quotation() {
    let around = [
        ("", "\n"),
        ("\"", "\""),
        ("\\\"", "\\\""),
        ("'", "'"),
        ("''", "''"),
        ("`", "`"),
        ("token=", "&x=1"),
        ("token%3D", "%26"),
        ("x\\u003d", "\\u0026"),
        ("first\\n", "\\nlast"),
        ("first\\t", "\\r\\n"),
        ("<b>", "</b>"),
        ("https://user:", "@host/"),
        ("Authorization: Bearer ", "\r\n"),
        ("(", ")."),
        ("\0", "\0"),
        ("ends with a dot: ", ". Next."),
    ];
    for sample in samples::all().iter().filter(|sample| !sample.has_lines()) {
        let fingerprint = only(sample.text()).fingerprint;
        for (before, after) in around {
            let finding = only(format!("{before}{}{after}", sample.text()));
            let place = (before.len() + sample.before.len()) as u64;
            let expected = (sample.kind, place, fingerprint);
            assert_eq!(
                (finding.kind, finding.offset, finding.fingerprint),
                expected,
                "{sample:?} {before:?}"
            );
        }
    }
}

#[test]
fn a_token_with_a_long_mark_is_found_between_other_texts_of_a_program() {
    let marks = ["glpat-", "github_pat_", "ghp_", "npm_", "dop_v1_", "sk_live_", "dckr_", "AGE-"];
    for mark in marks {
        let samples = samples::all();
        let sample = samples.iter().find(|sample| sample.secret.starts_with(mark)).unwrap();
        let text = format!("called `Option::unwrap()`{}:is not a directory", sample.secret);
        assert_eq!(only(text).kind, sample.kind, "{sample:?}");
        let text = format!("internal error{}", sample.secret);
        assert_eq!(only(text).fingerprint, only(&sample.secret).fingerprint, "{sample:?}");
    }
}

#[test]
fn a_checksum_that_does_not_hold_is_no_token() {
    for sample in samples::all() {
        let is_checked = ["ghp_", "gho_", "ghu_", "ghs_", "ghr_", "npm_", "AGE-"];
        if is_checked.iter().any(|mark| sample.secret.starts_with(mark)) {
            let last = if sample.secret.ends_with('Q') { 'P' } else { 'Q' };
            let damaged = format!("{}{last}", &sample.secret[..sample.secret.len() - 1]);
            assert_eq!(found(damaged), [], "{sample:?}");
        }
    }
}

#[test]
fn a_name_of_aws_opens_nothing_without_its_secret() {
    let samples = samples::all();
    let pair = samples.iter().find(|sample| sample.before.starts_with("AKIA")).unwrap();
    let name = pair.before.trim_end_matches(':');
    assert_eq!(found(format!("access_key_id = {name}\n")), []);
    let far = format!("{name}\n{}\n{}", "-".repeat(600), pair.secret);
    assert_eq!(found(far), []);
    // A name and a label for one secret make one finding.
    only(format!("aws_access_key_id = {name}\naws_secret_access_key = {}\n", pair.secret));
}
