//! The keys of `[[notify]]`.

use super::{Fallback, Key, Section};

pub(super) const KEYS: &[Key] = &[
    Key {
        section: Section::Notify,
        name: "name",
        kind: "text",
        fallback: Fallback::Described("none: every receiver has one"),
        meaning: "What the receiver is called, in messages, in metrics and by `larder notify test NAME`: lower-case \
                  letters, digits and `-`. What was said to it is remembered by this name.",
        example: "\"team\"",
        start: None,
    },
    Key {
        section: Section::Notify,
        name: "kind",
        kind: "`webhook`, `slack`, `discord`, `matrix`, `ntfy` or `command`",
        fallback: Fallback::Described("none: every receiver has one"),
        meaning: "In which way it is told. `webhook` gets our own JSON (`docs/formats.md`); `slack` is for \
                  Mattermost and others as well that take the same; `command` is a program that gets a text on \
                  its standard input.",
        example: "\"slack\"",
        start: None,
    },
    Key {
        section: Section::Notify,
        name: "url",
        kind: "a URL, `http://` or `https://`",
        fallback: Fallback::Described("none"),
        meaning: "The address of a `webhook`, of Slack's or Discord's webhook, of a Matrix homeserver, or of a topic \
                  of ntfy. Those of Slack and Discord are secrets: better write them into a file, and name that \
                  with `url-file`.",
        example: "\"https://ntfy.sh/our-fleet\"",
        start: None,
    },
    Key {
        section: Section::Notify,
        name: "url-file",
        kind: "an absolute path",
        fallback: Fallback::Described("none"),
        meaning: "The file with the address, in place of `url`. Nobody but its owner and its group may read it.",
        example: "\"/etc/larder/slack.url\"",
        start: None,
    },
    Key {
        section: Section::Notify,
        name: "token-file",
        kind: "an absolute path",
        fallback: Fallback::Described("none"),
        meaning: "The file with a token, which is sent as `Authorization: Bearer`. Matrix needs one. Nobody but its \
                  owner and its group may read it.",
        example: "\"/etc/larder/matrix.token\"",
        start: None,
    },
    Key {
        section: Section::Notify,
        name: "room",
        kind: "text",
        fallback: Fallback::Described("none"),
        meaning: "The id of the Matrix room, as the room's settings show it.",
        example: "\"!abcdefg:example.org\"",
        start: None,
    },
    Key {
        section: Section::Notify,
        name: "command",
        kind: "list of texts",
        fallback: Fallback::Described("none"),
        meaning: "The program of the kind `command` and its arguments. No shell reads them.",
        example: "[\"/run/wrappers/bin/sendmail\", \"-t\"]",
        start: None,
    },
    Key {
        section: Section::Notify,
        name: "mail-to",
        kind: "list of mail addresses",
        fallback: Fallback::Value("[]"),
        meaning: "With addresses here, a `command` gets a whole mail with its header lines, as `sendmail -t` reads it.",
        example: "[\"admin@example.org\"]",
        start: None,
    },
    Key {
        section: Section::Notify,
        name: "json",
        kind: "`true` or `false`",
        fallback: Fallback::Value("false"),
        meaning: "Whether a `command` gets the JSON of a `webhook` in place of a text.",
        example: "true",
        start: None,
    },
    Key {
        section: Section::Notify,
        name: "events",
        kind: "list of `failure`, `recovery`, `hold`, `hold-ended`, `overdue`",
        fallback: Fallback::Described("all of them"),
        meaning: "What it is told of. Each change is told once, and not again every night.",
        example: "[\"failure\", \"recovery\", \"overdue\"]",
        start: None,
    },
    Key {
        section: Section::Notify,
        name: "digest",
        kind: "`never`, `daily` or `weekly`",
        fallback: Fallback::Value("\"never\""),
        meaning: "How often it is told how all is, even when nothing has changed.",
        example: "\"weekly\"",
        start: None,
    },
    Key {
        section: Section::Notify,
        name: "overdue-after",
        kind: "duration, for example `12h`, `30d`, `2w`",
        fallback: Fallback::Described(
            "three days, or a day more than the `[[schedule]]` that comes most often lets pass",
        ),
        meaning: "For how long no run may come to its end before it is told of that. `larder serve` looks, and each run.",
        example: "\"36h\"",
        start: None,
    },
    Key {
        section: Section::Notify,
        name: "timeout",
        kind: "duration, for example `12h`, `30d`, `2w`",
        fallback: Fallback::Value("\"10s\""),
        meaning: "How long it may take to take a message; no run waits longer than that for all receivers together. \
                  What it does not take is kept for a week, and tried again at growing intervals, by `larder serve` \
                  and by the next run.",
        example: "\"30s\"",
        start: None,
    },
];
