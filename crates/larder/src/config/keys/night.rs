//! The keys that say what a run does about an update.

use super::{Fallback, Key, Section};

/// More keys under `[build]`.
pub(super) const KEYS: &[Key] = &[
    Key {
        section: Section::Build,
        name: "required-hosts",
        kind: "list of host names",
        fallback: Fallback::Described("every host that is built"),
        meaning: "Which hosts an update may not break. When one of them fails with the updated lock and builds with \
                  the old one, the inputs that are at fault stay where they are, and the rest is published. The lock \
                  goes home (`push-lock-to`) only when all of them have built.",
        example: "[\"desktop\", \"server\"]",
        start: None,
    },
    Key {
        section: Section::Build,
        name: "search-limit",
        kind: "whole number",
        fallback: Fallback::Value("32"),
        meaning: "How many combinations of updates are evaluated at most in a run to find out which inputs broke a \
                  host. When none was found with which all required hosts build, nothing is updated in that run. \
                  With 0 no input is ever held: the hosts that build are published, the others stay as they are.",
        example: "100",
        start: None,
    },
    Key {
        section: Section::Build,
        name: "push-lock-to",
        kind: "name of a branch",
        fallback: Fallback::Described("the updated lock is only published, and committed nowhere"),
        meaning: "The branch of the flake's repository that an updated flake.lock is committed and pushed to, once \
                  every required host has built with it: the branch that is built, or one of its own for review. \
                  Nothing is ever forced. Until the lock is there, further runs start from the published one.",
        example: "\"main\"",
        start: None,
    },
    Key {
        section: Section::Build,
        name: "lock-author",
        kind: "text, `Name <address>`",
        fallback: Fallback::Value("\"Larder <larder@localhost>\""),
        meaning: "Who the commits of `push-lock-to` are by.",
        example: "\"Larder <larder@build.example>\"",
        start: None,
    },
];
