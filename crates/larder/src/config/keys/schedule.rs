//! The keys that say when the fleet is built, and how long what was built stays.

use super::{Fallback, Key, Section};

/// The keys under `[[schedule]]`, and what goes with them under `[build]`.
pub(super) const KEYS: &[Key] = &[
    Key {
        section: Section::Build,
        name: "pin-built",
        kind: "duration, for example `12h`, `30d`, `2w`, or `off`",
        fallback: Fallback::Value("\"30d\""),
        meaning: "How long what was built here, or came back from a remote builder, is kept from the garbage collector, \
                  and what a client with local edits needs to build and no trusted upstream has. Nix's post-build hook \
                  has to call `larder hook` for the former.",
        example: "\"60d\"",
        start: None,
    },
    Key {
        section: Section::Schedule,
        name: "name",
        kind: "name: letters, digits and `. _ -`",
        fallback: Fallback::Described("none; every schedule needs one"),
        meaning: "What the schedule is called, in `larder schedule` and in the log. No two have the same.",
        example: "\"nightly\"",
        start: None,
    },
    Key {
        section: Section::Schedule,
        name: "at",
        kind: "time of day, or the five fields of cron",
        fallback: Fallback::Described("none; every schedule needs one"),
        meaning: "When: `02:00`, every day, or minute, hour, day of the month, month and day of the week, such as \
                  `30 1 * * 1-5`. It is this machine's local time. A time that the clock leaves out in spring is made up \
                  for right after; of one that it shows twice in autumn, the first counts.",
        example: "\"02:00\"",
        start: None,
    },
    Key {
        section: Section::Schedule,
        name: "hosts",
        kind: "list of host names",
        fallback: Fallback::Described("every host that no other schedule names"),
        meaning: "Which hosts are built. Without this, those that `larder build` would build, but for those that another \
                  schedule names.",
        example: "[\"laptop\"]",
        start: None,
    },
    Key {
        section: Section::Schedule,
        name: "except",
        kind: "list of host names",
        fallback: Fallback::Value("[]"),
        meaning: "Hosts that are left out.",
        example: "[\"lab\"]",
        start: None,
    },
    Key {
        section: Section::Schedule,
        name: "jitter",
        kind: "duration, for example `10m`, `1h`, or `off`",
        fallback: Fallback::Value("\"15m\""),
        meaning: "A run begins up to this much later, so that not everybody asks the forge and the caches at once. How \
                  much it is depends on the machine, the schedule and the day, and not on when the server was started.",
        example: "\"1h\"",
        start: None,
    },
    Key {
        section: Section::Schedule,
        name: "catch-up",
        kind: "true or false",
        fallback: Fallback::Value("true"),
        meaning: "Whether what was missed while the server did not run is made up for as soon as it does: by one run, \
                  however much was missed.",
        example: "false",
        start: None,
    },
    Key {
        section: Section::Schedule,
        name: "update",
        kind: "true or false",
        fallback: Fallback::Value("true"),
        meaning: "Whether the flake's lock file is updated first.",
        example: "false",
        start: None,
    },
];
