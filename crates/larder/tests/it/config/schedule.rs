//! `[[schedule]]`: what is read, and what is refused.

use larder::config::Config;

use super::{parse, problems};

#[test]
fn what_is_left_out_has_its_default() {
    let config: Config = parse(
        "[[schedule]]\nname = \"nightly\"\nat = \"02:00\"\n\
         [[schedule]]\nname = \"x\"\nat = \"0 12 * * 1-5\"\njitter = \"0\"\ncatch-up = false\nhosts = [\"a\"]\n",
    );
    let [nightly, other] = config.schedules.as_slice() else { panic!("{config:?}") };
    assert_eq!(nightly.schedule.jitter.as_mins(), 15);
    assert!(nightly.schedule.catch_up && nightly.update && nightly.hosts.is_none());
    assert!(other.schedule.jitter.is_zero() && !other.schedule.catch_up);
    assert_eq!(config.build.pin_built.map(|length| length.as_secs()), Some(30 * 24 * 60 * 60));
    for off in ["0", "off"] {
        let config = parse(&format!("[build]\npin-built = {off:?}\n"));
        assert_eq!(config.build.pin_built, None);
    }
}

#[test]
fn what_never_comes_or_is_there_twice_is_refused_with_its_remedy() {
    for (text, said) in [
        ("name = \"a\"", "there is no `at`"),
        ("at = \"02:00\"", "there is no `name`"),
        ("name = \"../a\"\nat = \"02:00\"", "cannot be a schedule's name"),
        ("name = \"a\"\nat = \"2 o'clock\"", "it is neither a time of day nor five fields"),
        ("name = \"a\"\nat = \"0 0 30 2 *\"", "that never comes"),
        ("name = \"a\"\nat = \"61 0 * * *\"", "write a time of day (`02:00`)"),
        ("name = \"a\"\nat = \"02:00\"\nhosts = []", "every host that no other schedule names"),
        ("name = \"a\"\nat = \"02:00\"\njitter = \"soon\"", "is not a duration"),
        (
            "name = \"a\"\nat = \"02:00\"\n[[schedule]]\nname = \"a\"\nat = \"03:00\"",
            "is the name of a schedule above already",
        ),
    ] {
        let problems = problems(&format!("[[schedule]]\n{text}\n"));
        assert!(problems.contains(said), "{text}: {problems}");
    }
}
