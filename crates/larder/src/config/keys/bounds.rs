//! The keys that say how much of the machine, and of the time, a run of builds may take.

use super::{Fallback, Key, Section};

/// More keys under `[build]`.
pub(super) const KEYS: &[Key] = &[
    Key {
        section: Section::Build,
        name: "memory",
        kind: "size, for example `500GB`, `1.5GiB`",
        fallback: Fallback::Described("no limit"),
        meaning: "How much memory a run may take, evaluation and all builds together. Where Larder runs Nix without a \
                  daemon, a control group holds it to that; nix-daemon is limited by `MemoryMax=` of its own unit. \
                  Packages that took more than half of it in an earlier run are built alone, before all others.",
        example: "\"24GB\"",
        start: None,
    },
    Key {
        section: Section::Build,
        name: "min-free-disk",
        kind: "size, for example `500GB`, `1.5GiB`",
        fallback: Fallback::Value("\"1GB\""),
        meaning: "How much room is to stay free where the store is. Below it a run stops building, collects what is \
                  dead and neither pinned nor of this run, and goes on; if that does not help, it stops, and what \
                  was built is published.",
        example: "\"20GB\"",
        start: None,
    },
    Key {
        section: Section::Build,
        name: "time-limit",
        kind: "duration, for example `12h`, `30d`, `2w`",
        fallback: Fallback::Described("no limit"),
        meaning: "How long a run may take. Then Nix is stopped, hosts that are done are published, and the others are \
                  reported as unfinished; the next run goes on from what was built.",
        example: "\"8h\"",
        start: None,
    },
    Key {
        section: Section::Build,
        name: "host-time-limit",
        kind: "duration, for example `12h`, `30d`, `2w`",
        fallback: Fallback::Described("no limit"),
        meaning: "How long a run may build what only one host needs. The time of a host runs while at least one such \
                  derivation is being built; a host over its limit is left out of the rest of the run.",
        example: "\"3h\"",
        start: None,
    },
    Key {
        section: Section::Build,
        name: "first",
        kind: "list of host names",
        fallback: Fallback::Value("[]"),
        meaning: "Hosts that are built before the others, so that a night which ends early has them. One that takes no \
                  part in a run is passed over.",
        example: "[\"laptop\"]",
        start: None,
    },
];
