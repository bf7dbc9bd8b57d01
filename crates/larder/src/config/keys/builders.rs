//! The keys that say which machines build for this one.

use super::{Fallback, Key, Section};

const WORDS: &str = "list of words";

/// The keys under `[[builder]]`.
pub(super) const KEYS: &[Key] = &[
    Key {
        section: Section::Builder,
        name: "name",
        kind: "word of letters, digits and `_ . -`",
        fallback: Fallback::Described("none (every builder needs one)"),
        meaning: "What the builder is called, in what is told of a run and in `larder builders check`. No two have one \
                  name.",
        example: "\"opi01\"",
        start: None,
    },
    Key {
        section: Section::Builder,
        name: "host",
        kind: "host name, IPv4 address or alias of ssh's configuration",
        fallback: Fallback::Described("its `name`"),
        meaning: "Where ssh finds it. What ssh's own configuration says of it (`~/.ssh/config` of the user who runs \
                  `larder build`, `/etc/ssh/ssh_config`) holds where the keys here say nothing. No two have one host, \
                  since Nix counts what each builds by it; two behind one address need a `Host` each in ssh's \
                  configuration, and so does an IPv6 address.",
        example: "\"opi01.internal\"",
        start: None,
    },
    Key {
        section: Section::Builder,
        name: "port",
        kind: "whole number",
        fallback: Fallback::Described("what ssh's configuration says"),
        meaning: "The port of its sshd.",
        example: "2222",
        start: None,
    },
    Key {
        section: Section::Builder,
        name: "user",
        kind: "user's name",
        fallback: Fallback::Described("what ssh's configuration says"),
        meaning: "Whom ssh logs in as. That user needs a login shell, and must be among the `trusted-users` of the \
                  builder's nix.conf.",
        example: "\"nix-builder\"",
        start: None,
    },
    Key {
        section: Section::Builder,
        name: "key",
        kind: "absolute path of letters, digits and `/ _ . + @ : -`",
        fallback: Fallback::Described("what ssh's configuration says"),
        meaning: "The file of the private key that ssh logs in with, which has no passphrase, since nobody is there at \
                  night to enter it. `larder builders keygen` makes one.",
        example: "\"/var/lib/larder/builder-key\"",
        start: None,
    },
    Key {
        section: Section::Builder,
        name: "host-key",
        kind: "public key, as in `/etc/ssh/ssh_host_ed25519_key.pub`",
        fallback: Fallback::Described("what ssh's `known_hosts` say"),
        meaning: "The key by which the builder is known. With it, nobody has to log in once by hand to answer ssh's \
                  question, and no other machine can stand in.",
        example: "\"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ7zqmqlh3vFNt8mYvBQzbHRhMT9QNdOU6Vr1CkXUo5t\"",
        start: None,
    },
    Key {
        section: Section::Builder,
        name: "systems",
        kind: WORDS,
        fallback: Fallback::Described("none (every builder needs one)"),
        meaning: "The systems it builds for.",
        example: "[\"aarch64-linux\", \"riscv64-linux\"]",
        start: None,
    },
    Key {
        section: Section::Builder,
        name: "emulated",
        kind: WORDS,
        fallback: Fallback::Value("[]"),
        meaning: "Those of its `systems` that it emulates (binfmt). It gets builds for them only while no builder \
                  answers that needs no emulation for them. While one does, this machine emulates them neither, \
                  whatever `extra-platforms` says.",
        example: "[\"riscv64-linux\"]",
        start: None,
    },
    Key {
        section: Section::Builder,
        name: "max-jobs",
        kind: "whole number, at least 1",
        fallback: Fallback::Value("1"),
        meaning: "How many derivations it builds at the same time.",
        example: "6",
        start: None,
    },
    Key {
        section: Section::Builder,
        name: "reserved-jobs",
        kind: "whole number",
        fallback: Fallback::Value("0"),
        meaning: "How many of them are left to others who use the builder: a laptop, another server, people. Each \
                  coordinator counts by itself, so that two with `max-jobs = 6` give it twelve. One stays in any case.",
        example: "2",
        start: None,
    },
    Key {
        section: Section::Builder,
        name: "speed-factor",
        kind: "whole number, at least 1",
        fallback: Fallback::Value("1"),
        meaning: "How fast it is, compared with the other builders. Of two that are as busy, the faster one gets the \
                  build.",
        example: "2",
        start: None,
    },
    Key {
        section: Section::Builder,
        name: "features",
        kind: WORDS,
        fallback: Fallback::Value("[]"),
        meaning: "What derivations may ask for that it has (`requiredSystemFeatures`). Without `big-parallel`, it gets \
                  neither kernels nor browsers.",
        example: "[\"big-parallel\", \"kvm\", \"nixos-test\"]",
        start: None,
    },
    Key {
        section: Section::Builder,
        name: "mandatory-features",
        kind: WORDS,
        fallback: Fallback::Value("[]"),
        meaning: "Features without which a derivation does not get there: for a builder that is kept for some.",
        example: "[\"cuda\"]",
        start: None,
    },
];
