//! The keys of the proxy and of those it asks.

use super::{Fallback, Key, Section};

const KEY_LIST: &str = "list of public keys, `name:base64`";
const DURATION: &str = "duration, for example `500ms`, `2s`";

/// The keys under `[proxy]` and `[[upstream]]`.
pub(super) const KEYS: &[Key] = &[
    Key {
        section: Section::Proxy,
        name: "listen",
        kind: "list of addresses, each `host:port` or `unix:/path`",
        fallback: Fallback::Value("[\"127.0.0.1:5001\"]"),
        meaning: "Where the proxy answers: this machine alone, unless you say otherwise. `[::]:5001` answers a \
                  whole LAN.",
        example: "[\"[::]:5001\"]",
        start: None,
    },
    Key {
        section: Section::Proxy,
        name: "answer-within",
        kind: DURATION,
        fallback: Fallback::Value("\"2s\""),
        meaning: "How long it takes at most until Nix hears whether a path is to be had, whatever the upstreams do. \
                  An upstream that needs longer is as good as dead.",
        example: "\"5s\"",
        start: None,
    },
    Key {
        section: Section::Proxy,
        name: "keep",
        kind: "absolute path, or `file://` or `s3://` URL",
        fallback: Fallback::Described("`proxy/kept` in `state-dir`"),
        meaning: "Where what was fetched is kept for the next one who asks, as a static cache of which references \
                  may be missing.",
        example: "\"/srv/proxy\"",
        start: None,
    },
    Key {
        section: Section::Proxy,
        name: "keep-size",
        kind: "size, for example `500GB`, `2TB`, `1.5GiB`",
        fallback: Fallback::Described("nothing is kept"),
        meaning: "How many bytes of it are kept; the least useful goes first. It may be more for some minutes.",
        example: "\"20GB\"",
        start: None,
    },
    Key {
        section: Section::Proxy,
        name: "signing-keys",
        kind: "list of absolute paths",
        fallback: Fallback::Value("[]"),
        meaning: "Files with the secret keys that sign what the proxy hands out, so that its clients need one key \
                  and not each upstream's. What none of an upstream's keys signed is not handed out at all.",
        example: "[\"/etc/larder/cache.key\"]",
        start: None,
    },
    Key {
        section: Section::Upstream,
        name: "name",
        kind: "text",
        fallback: Fallback::Described("none (every upstream needs one)"),
        meaning: "What messages and figures call it. No two upstreams have one name.",
        example: "\"home\"",
        start: Some("\"cache.nixos.org\""),
    },
    Key {
        section: Section::Upstream,
        name: "urls",
        kind: "list of absolute paths, or `http://`, `https://`, `s3://`, `sftp://` or `file://` URLs",
        fallback: Fallback::Described("none (every upstream needs one)"),
        meaning: "The addresses of this one cache, the best first: at home, by VPN. The first that answers is used. \
                  Logins for servers come from `netrc` under `[push]`.",
        example: "[\"http://nas.home.example:5000\", \"http://nas.vpn.example:5000\"]",
        start: Some("[\"https://cache.nixos.org\"]"),
    },
    Key {
        section: Section::Upstream,
        name: "public-keys",
        kind: KEY_LIST,
        fallback: Fallback::Value("[]"),
        meaning: "The keys of which one must have signed a path for the upstream to be believed. Only what is \
                  content-addressed needs none.",
        example: "[\"nas.example-1:9gH8DqnqN1QX3A182UdO9ByRqXl9KE9bQpWk0alXOfA=\"]",
        start: Some("[\"cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=\"]"),
    },
    Key {
        section: Section::Upstream,
        name: "grace",
        kind: DURATION,
        fallback: Fallback::Value("\"500ms\""),
        meaning: "How long those below it wait for its answer when they have a path themselves.",
        example: "\"1s\"",
        start: None,
    },
    Key {
        section: Section::Upstream,
        name: "client-certificate",
        kind: "absolute path",
        fallback: Fallback::Described("none is shown"),
        meaning: "The file with the certificate and its private key, in PEM, by which a server at `https://` knows \
                  this machine.",
        example: "\"/etc/larder/client.pem\"",
        start: None,
    },
];
