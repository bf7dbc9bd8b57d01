//! Reports of runs: kept, shown on the terminal and on pages, and harmless there.

use std::fs;

use larder_testkit::NixVersion;
use serde_json::Value;

use super::{FAIL, get, serving};
use crate::build_server::{BuildServer, SmallFleet};

fn report(server: &BuildServer, arguments: &[&str]) -> Value {
    let shown = server.larder(&["report", "--json"]).args(arguments).run().success();
    serde_json::from_str(&shown.stdout).unwrap()
}

#[test]
fn a_run_can_be_looked_at_later_and_says_what_changed() {
    for version in NixVersion::builders() {
        let (server, fleet) = SmallFleet::with_server(version, "");
        let _ = fleet.write_hosts(
            "alpha = make \"nixos-system\" ''echo ${make \"tool-1.0\" \"echo > $out\"} > $out'';",
        );
        fleet.lock(&server.store);
        let _ = server.build(&[]).success();
        let _ = fleet.write_hosts(&format!(
            "alpha = make \"nixos-system\" ''echo ${{make \"tool-1.1\" \"echo > $out\"}} > $out'';\n\
             beta = make \"nixos-system\" ''cp ${{make \"broken-2.0\" ''{FAIL}''}} $out'';"
        ));
        let _ = fleet.move_nixpkgs("2");
        let built = server.build(&["--update", "--json"]);
        assert_eq!(built.code(), 3, "{built}");

        let kept = report(&server, &[]);
        let told = BuildServer::report(&built);
        assert_eq!(
            (&kept["format"], &kept["run"], &kept["update"]),
            (&1.into(), &2.into(), &true.into())
        );
        assert_eq!(kept["end"]["result"], "finished");
        let (alpha, beta) = (&kept["hosts"][0], &kept["hosts"][1]);
        let changed = &alpha["versions"]["packages"]["changed"];
        assert_eq!(changed[0]["name"], "tool", "{alpha:#}");
        assert_eq!(changed[0]["before"], serde_json::json!(["1.0"]));
        assert_eq!(changed[0]["after"], serde_json::json!(["1.1"]));
        assert!(beta["failingSince"].is_string() && beta["lastGood"].is_null(), "{beta:#}");
        let names: Vec<&str> = kept["builds"]["names"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["nixos-system", "tool-1.1"]);
        assert!(kept["disk"]["free"].as_u64().unwrap() > 0);
        assert!(kept["durations"]["whole"].as_u64() >= kept["durations"]["evaluation"].as_u64());
        for key in ["changes", "built", "fetched", "builds", "durations", "ended"] {
            assert_eq!(kept[key], told[key], "{key}");
        }

        let text = server.larder(&["report"]).run().success().stdout;
        assert!(text.starts_with("run 2 of "), "{text}");
        assert!(text.contains("alpha: tool 1.0 → 1.1"), "{text}");
        assert!(text.contains("main.c:42: error: no such thing"), "{text}");
        assert_eq!(report(&server, &["1"])["hosts"][0]["outcome"]["outcome"], "built");
        let list = server.larder(&["report", "--list"]).run().success().stdout;
        let lines: Vec<&str> = list.lines().collect();
        assert!(lines[0].contains("1 of 2 hosts good; failed: beta"), "{list}");
        assert!(lines[1].contains("1 of 1 host good"), "{list}");
        let none = server.larder(&["report", "7"]).run().failure();
        assert!(none.stderr.contains("there was no run 7"), "{none}");
    }
}

#[test]
fn a_run_that_fails_before_any_host_has_a_report_and_one_that_publishes_nothing_has_none() {
    let (server, fleet) = SmallFleet::with_server(NixVersion::V2_26, "");
    let none = server.larder(&["report"]).run().failure();
    assert!(none.stderr.contains("there was no run here yet"), "{none}");
    fs::rename(fleet.config.dir(), fleet.config.dir().with_extension("away")).unwrap();
    let failed = server.build(&[]);
    assert_eq!(failed.code(), 1, "{failed}");
    let kept = report(&server, &[]);
    assert_eq!(kept["end"]["result"], "failed", "{kept:#}");
    let message = kept["end"]["message"].as_str().unwrap();
    assert!(failed.stderr.contains(message), "{message}");
    fs::rename(fleet.config.dir().with_extension("away"), fleet.config.dir()).unwrap();
    let _ = server.build(&["--no-publish"]).success();
    assert_eq!(report(&server, &[])["run"], 1);
}

#[test]
fn a_page_shows_a_run_and_nothing_in_a_log_acts_on_it() {
    let (server, fleet) = SmallFleet::with_server(NixVersion::V2_34, "");
    let hostile = r#"<script>alert(1)</script>"#;
    let _ = fleet.write_hosts(&format!(
        "alpha = make \"nixos-system\" \"echo alpha > $out\";\n\
         beta = make \"nixos-system\" ''printf '%b\\n' '{hostile}' '\\033]0;title\\007\\033[31mred\\033[0m'; exit 1'';\n\
         gamma = throw \"{hostile}\";"
    ));
    let run = server.build(&[]);
    assert_eq!(run.code(), 3, "{run}");
    let (mut serving, address) = serving(&server);
    let (head, page) = get(&address, "/builds/1");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.to_lowercase().contains("content-security-policy: default-src 'none'"), "{head}");
    assert!(head.to_lowercase().contains("cache-control: no-cache"), "{head}");
    assert!(!page.contains("<script"), "{page}");
    assert_eq!(page.matches("&lt;script&gt;alert(1)&lt;/script&gt;").count(), 2, "{page}");
    assert!(page.contains("red") && !page.contains(['\u{1b}', '\u{7}']), "{page}");
    assert!(page.contains("1 of 3 hosts good"), "{page}");
    let (_, list) = get(&address, "/builds");
    assert!(
        list.contains("<a href=\"builds/1\">") && list.contains("failed: beta, gamma"),
        "{list}"
    );
    let (head, json) = get(&address, "/builds/1.json");
    assert!(head.to_lowercase().contains("content-type: application/json"), "{head}");
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["run"], 1);
    for absent in ["/builds/2", "/builds/2.json", "/builds/x", "/builds/01", "/builds/"] {
        assert!(get(&address, absent).0.starts_with("HTTP/1.1 404"), "{absent}");
    }
    let (_, landing) = get(&address, "/");
    assert!(landing.contains("href=\"builds\""), "{landing}");

    // What a later Larder might write, or a disk might lose, breaks no page.
    let ledger =
        rusqlite::Connection::open(larder_fleet::night::ledger_file(&server.state_dir())).unwrap();
    for (run, report) in [(2, "{\"format\":9,\"end\":{\"result\":\"sublimed\"}}"), (3, "not JSON")]
    {
        ledger.execute("insert into runs (number, started, flake) values (?1, '2026-01-01T00:00:00Z', 'x')", [run]).unwrap();
        ledger
            .execute("insert into reports values (?1, '2026-01-01T00:00:00Z', ?2)", (run, report))
            .unwrap();
    }
    let newer =
        "{\"format\":2,\"run\":4,\"brandNew\":[1],\"hosts\":[{\"host\":\"delta\",\"more\":true}]}";
    ledger
        .execute(
            "insert into runs (number, started, flake) values (4, '2026-01-01T00:00:00Z', 'x')",
            [],
        )
        .unwrap();
    ledger.execute("insert into reports values (4, '2026-01-01T00:00:00Z', ?1)", [newer]).unwrap();
    let (head, list) = get(&address, "/builds");
    assert!(
        head.starts_with("HTTP/1.1 200") && list.matches("cannot be read").count() == 2,
        "{list}"
    );
    assert!(get(&address, "/builds/4").1.contains("delta"));
    assert!(get(&address, "/builds/3").1.contains("cannot be read"));
    let _ = server.larder(&["report", "--list"]).run().success();
    assert_eq!(serving.stop(), 0);
}
