//! The keys that say what static caches there are and what goes into them.

use super::{Fallback, Key, Section};

const KEY_LIST: &str = "list of public keys, `name:base64`";
const PATH: &str = "absolute path";
const TRUTH: &str = "true or false";
const SIZE: &str = "size, for example `500GB`, `2TB`, `1.5GiB`";

/// The keys under `[[cache]]` and `[push]`.
pub(super) const KEYS: &[Key] = &[
    Key {
        section: Section::Cache,
        name: "name",
        kind: "word of lower-case letters, digits and `-`",
        fallback: Fallback::Described("none (every cache needs one)"),
        meaning: "What the cache is called, in `to` under `[push]` and on the command line, and the folder \
                  `larder serve` shows it under: `/main/nix-cache-info`. No two caches have one name, and \
                  none has that of a folder the server has already.",
        example: "\"main\"",
        start: None,
    },
    Key {
        section: Section::Cache,
        name: "url",
        kind: "absolute path, or `file://`, `s3://`, `sftp://`, `http://` or `https://` URL",
        fallback: Fallback::Described("none (every cache needs one)"),
        meaning: "Where the cache lies: a directory (`/srv/cache` or `file:///srv/cache`), a bucket \
                  (`s3://bucket/prefix?endpoint=https://s3.example&region=garage`), a directory of another \
                  machine (`sftp://user@host:port/path`), or a cache that another server takes uploads for \
                  (`https://larder.example/main`). No secrets stand in it: credentials come from the \
                  environment, the files of AWS's tools, ssh's configuration and agent, and `netrc`.",
        example: "\"s3://fleet-cache?endpoint=https://s3.example&region=garage\"",
        start: None,
    },
    Key {
        section: Section::Cache,
        name: "compression",
        kind: "`zstd`, `xz` or `none`",
        fallback: Fallback::Value("\"zstd\""),
        meaning: "How NARs are compressed that are put into the cache. Those that are in it stay as they \
                  are. `xz` is smaller and much slower; `none` suits file systems that compress.",
        example: "\"xz\"",
        start: None,
    },
    Key {
        section: Section::Cache,
        name: "level",
        kind: "whole number",
        fallback: Fallback::Described("3 for `zstd`, 6 for `xz`"),
        meaning: "How hard the compression tries: 1 to 19 for `zstd`, 0 to 9 for `xz`. Higher is smaller \
                  and slower.",
        example: "9",
        start: None,
    },
    Key {
        section: Section::Cache,
        name: "readable-by-others",
        kind: TRUTH,
        fallback: Fallback::Value("true"),
        meaning: "Whether somebody may read the cache who may not read the store it is pushed from. Paths \
                  are then looked through for secrets before they leave. True unless you say otherwise, \
                  because the two mistakes differ: a check too many costs a moment, and a key that was \
                  published cannot be called back.",
        example: "false",
        start: None,
    },
    Key {
        section: Section::Cache,
        name: "allow-secrets",
        kind: "list of texts",
        fallback: Fallback::Value("[]"),
        meaning: "What the look for secrets lets pass in this cache, as the message that refuses a path \
                  says it. The keys that nixpkgs publishes in its own source pass without being named.",
        example: "[\"path openssh-* tests/**\"]",
        start: None,
    },
    Key {
        section: Section::Cache,
        name: "private",
        kind: TRUTH,
        fallback: Fallback::Described("true where `readable-by-others` is false, else false"),
        meaning: "Whether `larder serve` asks for a token before it lets anybody read the cache. Writing \
                  always needs one. `larder token create` makes them. Who reads the directory or the bucket \
                  itself is not asked.",
        example: "true",
        start: None,
    },
    Key {
        section: Section::Cache,
        name: "redirect",
        kind: TRUTH,
        fallback: Fallback::Value("false"),
        meaning: "Whether `larder serve` sends those who fetch a NAR to the bucket itself, by an address that is \
                  good for an hour, in place of passing its bytes on. Clients have to reach the bucket then. \
                  Means nothing for directories.",
        example: "true",
        start: None,
    },
    Key {
        section: Section::Cache,
        name: "max-nar-size",
        kind: SIZE,
        fallback: Fallback::Value("\"32GiB\""),
        meaning: "How large a NAR may be that is uploaded, unpacked or not.",
        example: "\"4GiB\"",
        start: None,
    },
    Key {
        section: Section::Cache,
        name: "signing-keys",
        kind: "list of absolute paths",
        fallback: Fallback::Value("[]"),
        meaning: "Files with the secret keys that sign what is put into the cache, made by `larder key \
                  generate`. Signatures a path already has are kept.",
        example: "[\"/etc/larder/cache.key\"]",
        start: None,
    },
    Key {
        section: Section::Cache,
        name: "trusted-public-keys",
        kind: KEY_LIST,
        fallback: Fallback::Value("[]"),
        meaning: "The keys whose signatures on uploaded paths are believed and kept.",
        example: "[\"builder.example-1:9gH8DqnqN1QX3A182UdO9ByRqXl9KE9bQpWk0alXOfA=\"]",
        start: None,
    },
    Key {
        section: Section::Cache,
        name: "priority",
        kind: "whole number",
        fallback: Fallback::Value("30"),
        meaning: "Which cache Nix asks first when it knows several: the one with the lower number. \
                  cache.nixos.org says 40.",
        example: "50",
        start: None,
    },
    Key {
        section: Section::Cache,
        name: "max-size",
        kind: SIZE,
        fallback: Fallback::Described("no limit"),
        meaning: "How many bytes `larder gc` leaves in the cache, unless pins need more. `GB` is 1000³ \
                  bytes and `GiB` 1024³; a bare `G` is neither, since programs disagree on it.",
        example: "\"500GB\"",
        start: None,
    },
    Key {
        section: Section::Cache,
        name: "max-age",
        kind: "duration, for example `12h`, `30d`, `2w`",
        fallback: Fallback::Described("no limit"),
        meaning: "How long after its last use a path stays that no pin reaches. A day has 24 hours.",
        example: "\"90d\"",
        start: None,
    },
    Key {
        section: Section::Push,
        name: "to",
        kind: "list of names of caches",
        fallback: Fallback::Value("[]"),
        meaning: "The caches that builds are pushed to: those of `larder build`, and those that Nix's \
                  post-build hook hands to `larder hook`. Each is the `name` of a `[[cache]]`.",
        example: "[\"main\"]",
        start: None,
    },
    Key {
        section: Section::Push,
        name: "trusted-upstreams",
        kind: "list of URLs, `http://` or `https://`",
        fallback: Fallback::Value("[\"https://cache.nixos.org\"]"),
        meaning: "Caches that clients ask as well, so that what they have is not pushed. What they have is \
                  not looked through for secrets either: it is public already. An empty list pushes \
                  whole closures.",
        example: "[\"https://cache.nixos.org\", \"https://nix-community.cachix.org\"]",
        start: None,
    },
    Key {
        section: Section::Push,
        name: "trusted-upstream-keys",
        kind: KEY_LIST,
        fallback: Fallback::Value(
            "[\"cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=\"]",
        ),
        meaning: "The keys that sign what those caches have. What a cache has without the signature of one \
                  of these keys is not taken for the same.",
        example: "[\"nix-community.cachix.org-1:mB9FSh9qf2dCimDSUo8Zy7bkq5CX+/rkCWyvRCYg3Fs=\"]",
        start: None,
    },
    Key {
        section: Section::Push,
        name: "watch-store",
        kind: TRUTH,
        fallback: Fallback::Value("false"),
        meaning: "Whether `larder serve` and `larder push --watch` push every new path of the store, and \
                  not only what builds and the hook name.",
        example: "true",
        start: None,
    },
    Key {
        section: Section::Push,
        name: "netrc",
        kind: PATH,
        fallback: Fallback::Value("\"/etc/nix/netrc\""),
        meaning: "The file with the tokens for caches at `http://` and `https://`, a line for each host: \
                  `machine larder.example password larder_…`. It is the file Nix reads them from as well. \
                  Where there is none, uploads are tried without.",
        example: "\"/etc/larder/netrc\"",
        start: None,
    },
];
