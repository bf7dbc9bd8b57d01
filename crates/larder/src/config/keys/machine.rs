//! The keys that say what one machine is in the fleet.

use super::{Fallback, Key, Section};

/// The keys above the first section, and under `[serve]`, `[build]` and `[client]`.
pub(super) const KEYS: &[Key] = &[
    Key {
        section: Section::Top,
        name: "state-dir",
        kind: "absolute path",
        fallback: Fallback::Value("\"/var/lib/larder\""),
        meaning: "Where Larder keeps what it must remember: the ledger of revisions, work trees, logs, \
                  and on a client what it last accepted. Made when it is missing.",
        example: "\"/srv/larder\"",
        start: None,
    },
    Key {
        section: Section::Serve,
        name: "listen",
        kind: "list of addresses, each `host:port` or `unix:/path`",
        fallback: Fallback::Value("[\"[::]:5000\"]"),
        meaning: "Where the binary cache answers. `[::]:5000` is port 5000 on every address of this \
                  machine; IPv6 addresses stand in brackets. Port 0 lets the system choose.",
        example: "[\"127.0.0.1:5000\", \"unix:/run/larder/http.sock\"]",
        start: Some("[\"[::]:5000\"]"),
    },
    Key {
        section: Section::Serve,
        name: "tls-listen",
        kind: "list of addresses, each `host:port` or `unix:/path`",
        fallback: Fallback::Described("no TLS"),
        meaning: "Where the binary cache answers by TLS (HTTP/2 and HTTP/1.1), beside `listen`. Needs \
                  `tls-certificate` and `tls-key`. Sockets of the service manager speak TLS on the ports that \
                  are named here.",
        example: "[\"[::]:443\"]",
        start: None,
    },
    Key {
        section: Section::Serve,
        name: "tls-certificate",
        kind: "absolute path",
        fallback: Fallback::Described("no TLS"),
        meaning: "The file with the certificate and its chain, in PEM. When it or the key changes, the \
                  next client is shown the new one.",
        example: "\"/var/lib/acme/cache.example.org/fullchain.pem\"",
        start: None,
    },
    Key {
        section: Section::Serve,
        name: "tls-key",
        kind: "absolute path",
        fallback: Fallback::Described("no TLS"),
        meaning: "The file with the certificate's private key, in PEM. Not readable by everybody.",
        example: "\"/var/lib/acme/cache.example.org/key.pem\"",
        start: None,
    },
    Key {
        section: Section::Serve,
        name: "store",
        kind: "Nix store URI",
        fallback: Fallback::Value("\"auto\""),
        meaning: "The store that is served, as Nix itself writes it: `auto` (this machine's), an \
                  absolute path (a chroot store with that directory as its root), or `local` with any of \
                  the parameters `root`, `store`, `state`, `log` and `real`. Only stores on this machine \
                  can be served.",
        example: "\"local?store=/nix/store&state=/mnt/nix/var/nix&real=/mnt/nix/store\"",
        start: None,
    },
    Key {
        section: Section::Serve,
        name: "serve-store",
        kind: "true or false",
        fallback: Fallback::Value("true"),
        meaning: "Whether this machine's own store is served. Static caches (`[[cache]]`) are, either way: with \
                  `false`, a machine without Nix can serve them.",
        example: "false",
        start: None,
    },
    Key {
        section: Section::Serve,
        name: "pass-through",
        kind: "true or false",
        fallback: Fallback::Value("false"),
        meaning: "Whether what this store has not is taken from the static caches that are not private, and then from \
                  every `[[upstream]]`, kept and signed as `[proxy]` says. So one machine is all that a LAN needs, and \
                  what comes over a slow link comes once.",
        example: "true",
        start: None,
    },
    Key {
        section: Section::Serve,
        name: "signing-keys",
        kind: "list of absolute paths",
        fallback: Fallback::Value("[]"),
        meaning: "Files with the secret keys that sign every narinfo, made by `larder key generate`. \
                  Signatures a path already has are kept. Without a key, clients accept only paths that \
                  are signed already. Keep the files out of the Nix store: everyone can read that.",
        example: "[\"/etc/larder/cache.key\"]",
        start: Some("[\"/etc/larder/cache.key\"]"),
    },
    Key {
        section: Section::Serve,
        name: "priority",
        kind: "whole number",
        fallback: Fallback::Value("30"),
        meaning: "Which cache Nix asks first when it knows several: the one with the lower number. \
                  cache.nixos.org says 40, so with the default this one is asked before it.",
        example: "50",
        start: None,
    },
    Key {
        section: Section::Serve,
        name: "compress-nars",
        kind: "true or false",
        fallback: Fallback::Value("false"),
        meaning: "Whether NARs go out with `Content-Encoding: zstd` to clients that accept it. Saves \
                  bandwidth on slow links; an encoded download that breaks off starts again from the \
                  beginning, where a plain one resumes.",
        example: "true",
        start: None,
    },
    Key {
        section: Section::Serve,
        name: "packed-nars",
        kind: "size, for example `500GB`, `1.5GiB`",
        fallback: Fallback::Described("no packed NARs"),
        meaning: "How many bytes of packed NARs are kept in `<state-dir>/packed-nars`. With this key clients are told \
                  `Compression: zstd`; a NAR is packed when it is first asked for, and the least recently used go when \
                  there is no more room. Downloads that break off resume. One NAR takes half of it at most.",
        example: "\"20GB\"",
        start: None,
    },
    Key {
        section: Section::Serve,
        name: "packed-nars-level",
        kind: "whole number",
        fallback: Fallback::Value("3"),
        meaning: "How hard zstd tries to make them small, from 1 to 19. Somebody waits for it. A NAR that is being \
                  packed takes 10 MB of memory at level 3, 20 MB at level 9, 51 MB at level 12 and 76 MB at level \
                  15; as many are packed at once as there are processors.",
        example: "9",
        start: None,
    },
    Key {
        section: Section::Serve,
        name: "base-path",
        kind: "path of an address",
        fallback: Fallback::Value("\"/\""),
        meaning: "What the path of every address begins with: with `/cache`, nix-cache-info is at \
                  `/cache/nix-cache-info`. For a proxy in front that passes the whole path on; one that \
                  takes its own part away says so in `X-Forwarded-Prefix` instead.",
        example: "\"/cache\"",
        start: None,
    },
    Key {
        section: Section::Serve,
        name: "trusted-proxies",
        kind: "list of IP addresses and networks",
        fallback: Fallback::Value("[\"127.0.0.0/8\", \"::1\"]"),
        meaning: "Who is believed in what it says of a request's origin (`X-Forwarded-For`, `-Proto`, `-Host` \
                  and `-Prefix`, or `Forwarded`), which the page at `/` and the log show. Whoever comes by a \
                  unix socket is believed too.",
        example: "[\"127.0.0.1\", \"10.20.0.0/16\", \"fd00:20::/64\"]",
        start: None,
    },
    Key {
        section: Section::Build,
        name: "flake",
        kind: "absolute path or flake reference",
        fallback: Fallback::Described("none (`larder build` and `larder check` need one)"),
        meaning: "The flake whose `nixosConfigurations` are built: a path, or a repository as Nix writes \
                  it (`git+ssh://`, `git+https://`, `git+file:///`, `github:owner/repository`), with \
                  `?ref=` for a branch. It is fetched into a work tree of Larder's own; the original is \
                  never written to.",
        example: "\"git+ssh://git@forge.example/fleet.git?ref=main\"",
        start: Some("\"/etc/nixos\""),
    },
    Key {
        section: Section::Build,
        name: "hosts",
        kind: "list of host names",
        fallback: Fallback::Described("every host of the flake"),
        meaning: "Which of the flake's `nixosConfigurations` are built when the command names none.",
        example: "[\"laptop\", \"desktop\"]",
        start: None,
    },
    Key {
        section: Section::Build,
        name: "max-jobs",
        kind: "whole number",
        fallback: Fallback::Value("1"),
        meaning: "How many derivations are built at the same time, over all hosts of a run. 0 builds \
                  nothing on this machine and leaves everything to Nix's remote builders.",
        example: "4",
        start: None,
    },
    Key {
        section: Section::Build,
        name: "cores",
        kind: "whole number",
        fallback: Fallback::Value("0"),
        meaning: "How many cores one derivation may use. 0 is all of the machine's.",
        example: "8",
        start: None,
    },
    Key {
        section: Section::Build,
        name: "keep-revisions",
        kind: "whole number, at least 1",
        fallback: Fallback::Value("5"),
        meaning: "How many of each host's newest revisions are kept from the garbage collector.",
        example: "10",
        start: None,
    },
    Key {
        section: Section::Build,
        name: "rev-dir",
        kind: "absolute path",
        fallback: Fallback::Value("\"/var/lib/nix-auto-build\""),
        meaning: "Where `<host>.rev` is written after a host has built: the nixpkgs commit it was built \
                  from and nothing else, for scripts and for clients that come over SSH.",
        example: "\"/srv/larder/revisions\"",
        start: None,
    },
    Key {
        section: Section::Build,
        name: "fleet-key",
        kind: "absolute path",
        fallback: Fallback::Described("`fleet.key` in `state-dir`"),
        meaning: "The file with the secret key that signs revisions, made by `larder key generate`. \
                  Clients accept only what it signed, so keep it apart from the keys of the cache.",
        example: "\"/etc/larder/fleet.key\"",
        start: None,
    },
    Key {
        section: Section::Build,
        name: "expiry",
        kind: "duration, for example `12h`, `30d`, `2w`",
        fallback: Fallback::Value("\"30d\""),
        meaning: "How long clients accept a revision after it was published. A server that someone keeps \
                  from publishing, or an old answer played back, is noticed after this time. A day has \
                  24 hours.",
        example: "\"2w\"",
        start: None,
    },
    Key {
        section: Section::Client,
        name: "servers",
        kind: "list of URLs, `http://`, `https://` or `ssh://`",
        fallback: Fallback::Described("none (`larder upgrade` needs one)"),
        meaning: "Where to ask what was built for this machine, tried in this order. Over SSH \
                  (`ssh://[user@]host[:port][/rev-dir]`) only the nixpkgs commit in `<host>.rev` is read, \
                  from `/var/lib/nix-auto-build` unless the URL has a directory.",
        example: "[\"https://larder.example\", \"ssh://larder@build.example:22/var/lib/nix-auto-build\"]",
        start: Some("[\"http://build.example:5000\"]"),
    },
    Key {
        section: Section::Client,
        name: "fleet-public-keys",
        kind: "list of public keys, `name:base64`",
        fallback: Fallback::Value("[]"),
        meaning: "The keys whose signature on a revision is accepted; one of them is enough. \
                  `larder key public` prints the public half of the server's `fleet-key`. Without a \
                  key, nothing that comes over HTTP is accepted.",
        example: "[\"fleet.example-1:9gH8DqnqN1QX3A182UdO9ByRqXl9KE9bQpWk0alXOfA=\"]",
        start: Some("[]"),
    },
    Key {
        section: Section::Client,
        name: "host",
        kind: "host name",
        fallback: Fallback::Described("this machine's host name"),
        meaning: "Which of the fleet's hosts this machine is: its name in `nixosConfigurations`.",
        example: "\"laptop\"",
        start: None,
    },
    Key {
        section: Section::Client,
        name: "flake",
        kind: "absolute path or flake reference",
        fallback: Fallback::Described("none (the server's build is taken as it is)"),
        meaning: "The flake this machine's system is built from, local edits included, with the \
                  server's lock file. Written as in `[build]`.",
        example: "\"/etc/nixos\"",
        start: None,
    },
    Key {
        section: Section::Client,
        name: "profile",
        kind: "absolute path",
        fallback: Fallback::Value("\"/nix/var/nix/profiles/system\""),
        meaning: "The profile whose newest generation is the system of this machine.",
        example: "\"/nix/var/nix/profiles/system-profiles/test\"",
        start: None,
    },
];
