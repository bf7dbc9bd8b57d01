//! The configuration says everything that is wrong with a file, and its texts say what it reads.

mod builders;
mod caches;
mod schedule;

use std::path::{Path, PathBuf};
use std::time::Duration;

use insta::assert_snapshot;
use larder::config::keys::{self, Fallback, Key, Section};
use larder::config::server::SshServer;
use larder::config::{
    Config, FlakeRef, Listen, LoadError, Role, Server, StoreUri, reference, starting_file,
};
use proptest::prelude::*;

fn parse(text: &str) -> Config {
    Config::parse(text, "larder.toml").unwrap_or_else(|errors| panic!("{errors}"))
}

fn problems(text: &str) -> String {
    Config::parse(text, "larder.toml").expect_err("a broken file").to_string()
}

/// The least file with that key's section in it.
fn least(key: &Key) -> String {
    let cache = "[[cache]]\nname = \"least\"\nurl = \"/least\"\n";
    match key.section {
        Section::Notify => least_receiver(key.name).to_owned(),
        Section::Cache => cache.to_owned(),
        Section::Builder => {
            "[[builder]]\nname = \"least\"\nsystems = [\"riscv64-linux\"]\n".to_owned()
        }
        Section::Upstream => "[[upstream]]\nname = \"least\"\nurls = [\"/least\"]\n".to_owned(),
        Section::Schedule => "[[schedule]]\nname = \"least\"\nat = \"01:00\"\n".to_owned(),
        Section::Push => "[[cache]]\nname = \"main\"\nurl = \"/least\"\n[push]\n".to_owned(),
        other => other.header().map_or(String::new(), |header| format!("{header}\n")),
    }
}

/// The least receiver that may have that key: what a receiver has depends on its kind.
fn least_receiver(name: &str) -> &'static str {
    match name {
        "url-file" => "[[notify]]\nname = \"least\"\nkind = \"slack\"\nurl-file = \"/least\"\n",
        "url" | "room" | "token-file" => {
            "[[notify]]\nname = \"least\"\nkind = \"matrix\"\nurl = \"https://least.example\"\nroom = \"!least\"\n\
             token-file = \"/least\"\n"
        }
        "kind" => {
            "[[notify]]\nname = \"least\"\nkind = \"webhook\"\nurl = \"https://least.example\"\n"
        }
        _ => "[[notify]]\nname = \"least\"\nkind = \"command\"\ncommand = [\"least\"]\n",
    }
}

fn with_key(key: &Key, value: &str) -> String {
    let least = least(key);
    let mut lines: Vec<&str> = least.lines().collect();
    if key.section.is_repeated() {
        lines.retain(|line| !line.starts_with(&format!("{} = ", key.name)));
    }
    let setting = format!("{} = {value}", key.name);
    lines.push(&setting);
    lines.join("\n") + "\n"
}

/// The same with those keys that it means nothing without.
fn with_companions(key: &Key, value: &str) -> String {
    let groups: [&[&str]; 2] =
        [&["tls-listen", "tls-certificate", "tls-key"], &["keep", "keep-size"]];
    let others = key.section.keys().filter(|other| {
        let both = |group: &&[&str]| group.contains(&key.name) && group.contains(&other.name);
        other.name != key.name && groups.iter().any(both)
    });
    let others: String =
        others.map(|other| format!("{} = {}\n", other.name, other.example)).collect();
    format!("{}{others}", with_key(key, value))
}

/// A file that sets every key to its example.
fn full_file() -> String {
    let mut file = String::new();
    for section in Section::ALL.into_iter().filter(|section| *section != Section::Notify) {
        file.extend(section.header().map(|header| format!("{header}\n")));
        file.extend(section.keys().map(|key| format!("{} = {}\n", key.name, key.example)));
    }
    // What one receiver has, another cannot have.
    for (name, key) in ["room", "url-file", "command"].iter().enumerate() {
        let receiver = least_receiver(key).replace("least", &format!("receiver-{name}"));
        file.push_str(&receiver);
    }
    let taken = ["name", "kind", "url", "room", "token-file", "command"];
    let rest = Section::Notify.keys().filter(|key| !taken.contains(&key.name));
    let rest = rest.filter(|key| !["url-file", "json"].contains(&key.name));
    file.extend(rest.map(|key| format!("{} = {}\n", key.name, key.example)));
    file
}

/// A starting file with every commented key set: the line below is a key of the table.
fn uncommented(file: &str) -> String {
    let is_key = |line: &str| {
        line.split_once(" = ").is_some_and(|(name, _)| keys::all().any(|key| key.name == name))
    };
    let lines =
        file.lines().map(|line| line.strip_prefix("# ").filter(|it| is_key(it)).unwrap_or(line));
    lines.map(|line| format!("{line}\n")).collect()
}

#[test]
fn an_empty_file_gives_the_documented_defaults() {
    let empty = parse("");
    for key in keys::all() {
        if let Fallback::Value(value) = key.fallback {
            assert_eq!(parse(&with_key(key, value)), parse(&least(key)), "{}", key.name);
        }
    }
    assert_eq!(empty.build.fleet_key, Path::new("/var/lib/larder/fleet.key"));
    assert_eq!(empty.build.hosts, None);
    assert_eq!(empty.client.servers, []);
    assert_eq!(empty.serve.priority, 30);
}

#[test]
fn every_documented_key_is_read() {
    for key in keys::all() {
        assert_ne!(
            parse(&with_companions(key, key.example)),
            parse(&least(key)),
            "{} changes nothing",
            key.name
        );
        let wrong = problems(&with_key(key, "1979-05-27"));
        let said = format!("wrong type for `{}`: expected {}, found a date", key.name, key.kind);
        assert!(wrong.contains(&said), "{wrong}");
    }
}

#[test]
fn the_documented_examples_together_are_a_configuration() {
    let config = parse(&full_file());
    assert_eq!(config.state_dir, Path::new("/srv/larder"));
    assert_eq!(config.serve.listen.len(), 2);
    assert_eq!(config.build.expiry, Duration::from_secs(14 * 24 * 60 * 60));
    assert_eq!(config.client.host.map(|host| host.to_string()), Some("laptop".to_owned()));
}

#[test]
fn no_two_keys_of_a_section_have_one_name() {
    let keys: Vec<&Key> = keys::all().collect();
    for (index, key) in keys.iter().enumerate() {
        let again =
            keys[index + 1..].iter().any(|it| (it.section, it.name) == (key.section, key.name));
        assert!(!again, "{} is there twice", key.name);
    }
}

#[test]
fn a_starting_file_is_valid_as_it_is_and_with_every_key_uncommented() {
    let server = parse(&starting_file(Role::Server));
    assert_eq!(server.build.flake.map(|flake| flake.to_string()), Some("/etc/nixos".to_owned()));
    assert_eq!(server.serve.signing_keys, [PathBuf::from("/etc/larder/cache.key")]);
    let client = parse(&starting_file(Role::Client));
    assert_eq!(client.client.servers.len(), 1);
    // A key that stood there as an example would be trusted by whoever forgets to change it.
    assert_eq!(client.client.fleet_public_keys, []);

    let server = uncommented(&starting_file(Role::Server));
    assert!(parse(&server).build.hosts.is_some(), "{server}");
    let client = uncommented(&starting_file(Role::Client));
    assert!(parse(&client).client.host.is_some(), "{client}");
}

#[test]
fn the_complete_examples_are_configurations_for_their_roles() {
    let server = parse(reference::example(Role::Server));
    assert!(server.build.flake.is_some() && !server.serve.signing_keys.is_empty());
    let client = parse(reference::example(Role::Client)).client;
    assert!(client.servers.len() == 2 && client.fleet_public_keys.len() == 1);
}

#[test]
fn starting_files_read_well() {
    assert_snapshot!("starting_file_server", starting_file(Role::Server));
    assert_snapshot!("starting_file_client", starting_file(Role::Client));
}

#[test]
fn the_reference_in_docs_is_the_generated_one() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    #[expect(clippy::disallowed_methods, reason = "how a person asks the test to write the page")]
    let bless = std::env::var_os("LARDER_BLESS").is_some();
    if bless {
        std::fs::write(&page, reference::reference()).expect("docs/ can be written");
    }
    let written = std::fs::read_to_string(&page).expect("docs/configuration.md is there");
    assert!(
        written == reference::reference(),
        "docs/configuration.md is out of date: LARDER_BLESS=1 cargo test -p larder"
    );
}

#[test]
fn all_problems_are_reported_at_once_with_their_places_and_remedies() {
    assert_snapshot!(problems(
        r#"state-dir = "larder"

[serve]
lisen = ["[::]:5000"]
listen = [":5000", "localhost", "[::1]:5000", "unix:run/s", "::1:80", "[::1]:5000"]
store = "https://cache.example"
priority = "30"

[build]
flake = "./fleet"
max_jobs = 2
keep-revisions = 0
hosts = ["laptop", "-x", "a/b", 7]
expiry = "1 month"

[client]
servers = ["build.example:5000", "ftp://x", "ssh://-oProxyCommand=x/"]
fleet-public-keys = ["nonsense"]
signing-keys = []
profile = true
"#
    ));
}

#[test]
fn a_wrong_name_is_answered_with_the_nearest_real_one() {
    assert_snapshot!(problems(
        r#"listen = []
State_Dir = "/x"
whatever = 1

[sever]
listen = []

[xyz]

[build]
state-dir = "/x"
fleet-public-key = 1
fleetkey = "/x"
qqqq = 1

[client]
host.name = "x"
max-jobs = 1
"#
    ));
}

#[test]
fn a_section_that_is_not_a_table_is_said_to_be_one() {
    assert_snapshot!(problems("serve = 3\n[[build]]\nflake = \"/etc/nixos\"\n"));
}

#[test]
fn text_that_is_not_toml_is_one_problem_a_slip_beside_the_others() {
    assert_snapshot!(problems(
        "state-dir = /var/lib/larder\n[serve]\npriority = 030\nstore =\nprio = 1\n\
         [build]\nexpiry = 30d\nflake = \"/etc/nixos\ncores = 1\ncores = 2\n"
    ));
}

#[test]
fn after_a_missing_bracket_only_what_stands_before_it_is_judged() {
    assert_snapshot!(problems(
        "[serve]\nprio = 1\nlisten = [\"[::]:5000\"\nstore = auto\n[build]\nnonsense = 1\n"
    ));
}

#[test]
fn values_that_cannot_work_are_refused_each_with_its_remedy() {
    assert_snapshot!(problems(
        r#"[serve]
listen = []
store = "local?roots=/mnt"
signing-keys = ["~/key", "/a", "/a"]
priority = 4294967296

[build]
flake = "github:o/r#nixosConfigurations.x"
hosts = []
rev-dir = "/x\u0000y"
expiry = "0s"

[client]
servers = ["http://a.example/?x", "ssh://host/$(id)", "http://user@a.example", "https://"]
host = "two words"
flake = "https://forge.example/fleet"
fleet-public-keys = [1]
"#
    ));
}

#[test]
fn what_cannot_stand_for_a_proxy_is_refused_with_its_remedy() {
    assert_snapshot!(problems(
        r#"[serve]
base-path = "/cache/../x"
trusted-proxies = ["proxy.example", "10.0.0.1/8", "::ffff:10.0.0.1", "10.0.0.0/33", "::1", "::1/128"]
"#
    ));
    let refused =
        ["cache", "", "https://a.example/cache", "//", "/a b", "/a?b", "/%63ache", "/{a}"];
    for path in refused {
        let said = problems(&format!("[serve]\nbase-path = \"{path}\"\n"));
        assert!(said.contains("write `/` and the names"), "{said}");
    }
    let path = |text: &str| parse(&format!("[serve]\nbase-path = \"{text}\"\n")).serve.base_path;
    assert_eq!(path("/a/b-1.c_d~/").as_str(), "/a/b-1.c_d~");
    assert_eq!(path("/"), parse("").serve.base_path);
}

#[test]
fn tls_needs_all_of_its_keys_and_addresses_of_its_own() {
    let tls = [
        "tls-listen = [\"[::]:443\"]\n",
        "tls-certificate = \"/tls/fullchain.pem\"\n",
        "tls-key = \"/tls/key.pem\"\n",
    ];
    let alone = tls.map(|line| problems(&format!("[serve]\n{line}")));
    let same = problems(&format!("[serve]\nlisten = [\"[::]:443\"]\n{}", tls.concat()));
    let unset = problems(&format!("[serve]\n{}", tls.concat().replace("443", "5000")));
    let relative = problems(&format!("[serve]\n{}", tls.concat().replace("/tls/", "")));
    assert_snapshot!([alone.join("\n"), same, unset, relative].join("\n"));
    let serve = parse(&format!("[serve]\n{}", tls.concat())).serve;
    assert_eq!(serve.tls_listen.len(), 1);
    assert_eq!(serve.certificate.unwrap().key, Path::new("/tls/key.pem"));
}

#[test]
fn a_secret_in_the_wrong_place_is_not_repeated() {
    let key = "A".repeat(86) + "==";
    let text = format!(
        "[client]\nfleet-public-keys = [\"fleet:{key}\", \"nonsense\"]\n\
         servers = [\"https://me:hunter2@a.example\", \"nonsense\"]\n\
         flake = \"git+https://me:hunter2@a.example/x\"\nhost = fleet:{key}\nprofile = \"fleet:{key}\"\n"
    );
    let said = problems(&text);
    assert!(!said.contains("AAAAAA") && !said.contains("hunter2"), "{said}");
    assert!(said.starts_with("7 problems") && said.contains("make a new one"), "{said}");
}

#[test]
fn excerpts_stay_short_and_harmless_to_a_terminal() {
    let text = "# \u{1b}]0;x\u{7}\n[build]\nhosts = [\"a\u{202e} b\"]\n";
    let said = problems(text);
    assert!(!said.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{said}");
    let long = format!("[build]\nhosts = [\"{}\", \"-{}\"]", "ab-".repeat(60), "cd-".repeat(60));
    assert_snapshot!(problems(&long));
}

#[test]
fn addresses_are_written_back_as_they_were_read() {
    for text in ["[::]:5000", "127.0.0.1:0", "localhost:80", "unix:/run/larder/http.sock"] {
        assert_eq!(text.parse::<Listen>().map(|listen| listen.to_string()), Ok(text.to_owned()));
    }
    assert_eq!("[::1]:80".parse(), Ok(Listen::Tcp { host: "::1".to_owned(), port: 80 }));
    for text in ["ssh://a", "ssh://me@[::1]:22/srv/revs", "http://a.example:5000/", "https://a/b/"]
    {
        assert_eq!(text.parse::<Server>().map(|server| server.to_string()), Ok(text.to_owned()));
    }
}

#[test]
fn stores_and_flakes_are_taken_as_nix_writes_them() {
    for store in ["auto", "/mnt", "local", "local?root=/mnt", "daemon", "local?real=/mnt&state=/s"]
    {
        assert_eq!(store.parse::<StoreUri>().map(|it| it.to_string()), Ok(store.to_owned()));
    }
    for store in
        ["", "mnt", "/mnt?root=/x", "auto?root=/mnt", "local?root=mnt", "s3://x", "ssh-ng://x"]
    {
        assert!(store.parse::<StoreUri>().is_err(), "{store}");
    }
    for flake in ["/etc/nixos", "path:/x?dir=y", "git+ssh://git@h:22/x?ref=y", "github:o/r/main"] {
        assert_eq!(flake.parse::<FlakeRef>().map(|it| it.to_string()), Ok(flake.to_owned()));
    }
    let flakes = ["", ".", "nixpkgs", "git@h:o/r", "path:x", "git+file:x", "github:o", "--x"];
    for flake in flakes.into_iter().chain(["git+ssh:///x", "/a b", "git+https://-x/y"]) {
        assert!(flake.parse::<FlakeRef>().is_err(), "{flake}");
    }
}

#[test]
fn what_a_browser_would_overlook_in_an_address_is_refused() {
    let texts =
        ["http:///a", "http:///:x@a", "http://a\\b", "http://", "http:a", "https://a/#x", "HTTP"];
    for text in texts {
        assert!(text.parse::<Server>().is_err(), "{text}");
    }
}

#[test]
fn a_server_over_ssh_is_taken_apart() {
    let server = SshServer {
        user: Some("larder".to_owned()),
        host: "build.example".to_owned(),
        port: Some(2222),
        rev_dir: Some(PathBuf::from("/srv/revs")),
    };
    assert_eq!("ssh://larder@build.example:2222/srv/revs/".parse(), Ok(Server::Ssh(server)));
}

#[test]
fn joining_to_a_server_with_a_path_adds_to_the_path() {
    let Ok(Server::Http(url)) = "https://a.example/larder".parse() else {
        panic!("an HTTP server")
    };
    assert_eq!(
        url.join("fleet/laptop.json").unwrap().as_str(),
        "https://a.example/larder/fleet/laptop.json"
    );
}

#[test]
fn the_fleet_key_follows_the_state_directory_unless_it_is_named() {
    assert_eq!(parse("state-dir = \"/s\"").build.fleet_key, Path::new("/s/fleet.key"));
    let named = parse("state-dir = \"/s\"\nbuild.fleet-key = \"/k\"");
    assert_eq!(named.build.fleet_key, Path::new("/k"));
}

#[test]
fn a_missing_file_names_the_command_that_writes_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("larder.toml");
    let error = Config::load(&path).unwrap_err();
    assert!(matches!(error, LoadError::Missing { .. }), "{error}");
    assert!(error.to_string().contains("larder init server"), "{error}");
}

#[test]
fn a_file_is_loaded_and_its_path_is_in_its_problems() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("larder.toml");
    std::fs::write(&path, full_file()).unwrap();
    assert_eq!(Config::load(&path).unwrap(), parse(&full_file()));
    std::fs::write(&path, "\nx = 1\n").unwrap();
    let said = Config::load(&path).unwrap_err().to_string();
    assert!(said.contains(&format!("{}:2:1: ", path.display())), "{said}");
    std::fs::write(&path, b"\n\n# \xff\n").unwrap();
    assert!(matches!(Config::load(&path), Err(LoadError::NotText { line: 3, .. })));
}

/// Text like a configuration, so that more than the parser of TOML is reached.
fn almost_a_file() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        prop::sample::select(keys::all().map(|key| key.name).collect::<Vec<_>>()),
        prop::sample::select(keys::all().map(|key| key.example).collect::<Vec<_>>()),
        prop::sample::select(vec![
            "[serve]",
            "[build]",
            "[client]",
            "[[cache]]",
            "[push]",
            "[[",
            "]",
            " = ",
            "\n",
            "\"",
            "\"\"\"",
            "'",
            "{",
            ",",
            "\\u",
            "#",
            "=",
            ".",
            "ü",
            "\t",
            "\r\n",
            "-1",
            "unix:",
            "ssh://",
            "@",
            "?",
            "\u{feff}",
        ]),
    ];
    prop_oneof![
        prop::collection::vec(word, 0..40).prop_map(|words| words.concat()),
        any::<String>(),
        (prop::sample::select(keys::all().collect::<Vec<_>>()), any::<String>())
            .prop_map(|(key, text)| with_key(key, &format!("[{text:?}]"))),
        (prop::sample::select(keys::all().collect::<Vec<_>>()), "[ -~]{0,30}")
            .prop_map(|(key, text)| with_key(key, &format!("'{text}'"))),
    ]
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic_and_every_problem_lies_in_it(text in almost_a_file()) {
        if let Err(errors) = Config::parse(&text, "larder.toml") {
            prop_assert!(!errors.problems.is_empty());
            let escapes = errors.to_string().contains('\u{1b}');
            prop_assert!(!escapes);
            let lines: Vec<&str> = text.split('\n').collect();
            for problem in &errors.problems {
                let line = lines.get(problem.line - 1);
                prop_assert!(line.is_some_and(|line| problem.column <= line.chars().count() + 1));
                prop_assert!(!problem.remedy.is_empty());
            }
        }
    }

    #[test]
    fn whatever_is_taken_for_a_server_is_written_back_as_the_same(text in "(ssh|http|https)://[a-z0-9@:/.\\[\\]_-]{1,24}") {
        if let Ok(server) = text.parse::<Server>() {
            prop_assert_eq!(server.to_string().parse::<Server>(), Ok(server));
        }
    }

    #[test]
    fn whatever_is_taken_for_an_address_is_written_back_as_the_same(text in "(unix:)?[a-z0-9:/.\\[\\]*-]{0,16}(:[0-9]{1,5})?") {
        if let Ok(listen) = text.parse::<Listen>() {
            prop_assert_eq!(listen.to_string().parse::<Listen>(), Ok(listen));
        }
    }
}
