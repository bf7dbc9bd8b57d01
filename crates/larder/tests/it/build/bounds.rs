//! A run ends in time and leaves room on the disk, and what it has made by then counts.

use std::{
    ffi::{OsStr, OsString},
    fs,
};

use larder_fleet::{
    ledger::{Ledger, Measured, Peak},
    night::ledger_file,
};
use larder_testkit::{NixVersion, process::path_with};
use serde_json::Value;

use crate::build_server::{BuildServer, SmallFleet, WAIT};

/// Says that it was tried.
fn counted(name: &str) -> String {
    format!("echo {name} >> $gate/tries; ")
}

fn tried(server: &BuildServer) -> Vec<String> {
    let tries = fs::read_to_string(server.gate().join("tries")).unwrap_or_default();
    tries.lines().map(str::to_owned).collect()
}

fn outcome(report: &Value, name: &str) -> String {
    let hosts = report["hosts"].as_array().unwrap();
    let host = hosts.iter().find(|host| host["host"] == name).unwrap();
    host["outcome"]["outcome"].as_str().unwrap().to_owned()
}

#[test]
fn at_the_end_of_the_night_what_is_done_is_published_and_the_rest_goes_on_the_next_time() {
    let bounds = "max-jobs = 2\ntime-limit = \"15s\"";
    let (mut server, fleet) = SmallFleet::with_server(NixVersion::V2_34, bounds);
    let beta = format!("{} {WAIT}", counted("beta"));
    let _ = fleet.set_hosts(&[("alpha", &counted("alpha")), ("beta", &beta)]);
    let built = server.build(&["--json"]);
    assert_eq!(built.code(), 3, "{built}");
    let report = BuildServer::report(&built);
    assert_eq!(outcome(&report, "alpha"), "built", "{built}");
    assert_eq!(outcome(&report, "beta"), "unfinished", "{built}");
    assert!(built.stdout.contains("`time-limit` under [build]"), "{built}");
    assert!(server.rev("alpha").is_some() && server.rev("beta").is_none());
    assert_eq!(server.processes(), []);
    server.open_gate();
    server.set("");
    let _ = server.build(&[]).success();
    assert!(server.rev("beta").is_some());
    let mut tried = tried(&server);
    tried.sort();
    assert_eq!(tried, ["alpha", "beta", "beta"], "what was done is not built again");
}

#[test]
fn a_host_over_its_limit_is_left_out_and_the_others_are_built() {
    let bounds = "first = [\"alpha\"]\nhost-time-limit = \"2s\"";
    let (server, fleet) = SmallFleet::with_server(NixVersion::V2_34, bounds);
    let _ = fleet.set_hosts(&[("alpha", WAIT), ("beta", ""), ("gamma", "")]);
    let built = server.build(&["--json"]);
    assert_eq!(built.code(), 3, "{built}");
    let report = BuildServer::report(&built);
    assert_eq!(outcome(&report, "alpha"), "unfinished", "{built}");
    assert_eq!(outcome(&report, "beta"), "built", "{built}");
    assert_eq!(outcome(&report, "gamma"), "built", "{built}");
}

#[test]
fn hosts_that_are_to_be_first_are() {
    for first in ["alpha", "beta", "gamma"] {
        let bounds = format!("first = [\"{first}\", \"absent\"]");
        let (server, fleet) = SmallFleet::with_server(NixVersion::V2_26, &bounds);
        let [alpha, beta, gamma] = ["alpha", "beta", "gamma"].map(counted);
        let _ = fleet.set_hosts(&[("alpha", &alpha), ("beta", &beta), ("gamma", &gamma)]);
        let _ = server.build(&[]).success();
        assert_eq!(tried(&server)[0], first);
    }
}

#[test]
fn a_download_that_fails_once_is_tried_again_and_one_that_always_does_is_transient() {
    let (server, fleet) = SmallFleet::with_server(NixVersion::V2_34, "");
    let download = |name: &str, script: &str| {
        format!(
            "derivation {{ name = \"{name}\"; system = \"{system}\"; builder = \"{busybox}\"; \
             args = [ \"sh\" \"-euc\" \"echo {name} >> {gate}/tries; {script}\" ]; \
             outputHash = \"{hash}\"; outputHashAlgo = \"sha256\"; outputHashMode = \"flat\"; \
             server = \"{gate}\"; }}",
            system = larder_testkit::nix::system(),
            busybox = larder_testkit::nix::busybox().display(),
            gate = server.gate().display(),
            // Of \"content\\n\".
            hash = "434728a410a78f56fc1b5899c3593436e61ab0c731e9072d95e96db290205e53",
        )
    };
    let once = format!(
        "if [ ! -e {g}/once ]; then echo > {g}/once; exit 7; fi; echo content > $out",
        g = server.gate().display()
    );
    let _ = fleet.write_hosts(&format!(
        "alpha = make \"nixos-system\" \"echo ${{{}}} > $out\";\n\
         beta = make \"nixos-system\" \"echo ${{{}}} > $out\";\n",
        download("once", &once),
        download("never", "exit 7"),
    ));
    let built = server.build(&["--json"]);
    let report = BuildServer::report(&built);
    assert_eq!(outcome(&report, "alpha"), "built", "{built}");
    assert_eq!(outcome(&report, "beta"), "build-failed", "{built}");
    let beta = &report["hosts"][1]["outcome"];
    assert_eq!(beta["kind"]["of"], "transient", "{built}");
    assert_eq!(beta["failures"][0]["kind"]["of"], "transient", "{built}");
    let count = |name: &str| tried(&server).iter().filter(|tried| *tried == name).count();
    assert_eq!((count("once"), count("never")), (2, 3), "{built}");
}

/// Runs `larder build` with its store on a disk of so many megabytes, of which garbage takes some.
fn on_a_small_disk(
    server: &BuildServer,
    (size, garbage): (u32, u32),
    path: &OsStr,
) -> (i32, String) {
    let script = "mkdir -p \"$1/nix\"; mount -t tmpfs -o size=$5m tmpfs \"$1/nix\"\n\
        nix-store --init\n\
        if [ $6 != 0 ]; then head -c $6000000 /dev/urandom > \"$4/garbage\"; nix-store --add \"$4/garbage\"; fi\n\
        code=0; \"$2\" build --json > \"$3\" 2>&1 || code=$?; echo \"code $code\"";
    let said = server.store.work_dir().join("said");
    let run = server
        .inside_mount_namespace()
        .args(["sh", "-euc", script, "sh"])
        .arg(server.store.root())
        .arg(env!("CARGO_BIN_EXE_larder"))
        .arg(&said)
        .arg(server.store.work_dir())
        .args([size.to_string(), garbage.to_string()])
        .env("PATH", path)
        .run()
        .success();
    let code = run.lines().last().unwrap().strip_prefix("code ").unwrap().parse().unwrap();
    (code, fs::read_to_string(said).unwrap())
}

fn usual_path(server: &BuildServer) -> OsString {
    path_with(&server.store.version().bin_dir())
}

/// Writes 50 MB and takes its time.
const WRITE: &str = "$builder dd if=/dev/zero of=$out.part bs=1M count=25; \
    $builder cat $out.part > $out-x; $builder sleep 1.5; $builder rm $out.part $out-x; ";

#[test]
fn below_the_floor_garbage_is_collected_and_the_run_goes_on() {
    for version in NixVersion::builders() {
        let (server, fleet) = SmallFleet::with_server(version, "min-free-disk = \"40MB\"");
        // In the sandbox's own part of the store, which is on that disk.
        let _ = fleet.set_hosts(&[
            ("alpha", &format!("{} {WRITE}", counted("alpha"))),
            ("beta", &counted("beta")),
        ]);
        let (code, said) = on_a_small_disk(&server, (110, 35), &usual_path(&server));
        assert_eq!(code, 0, "{said}");
        assert!(said.contains("garbage collected: "), "{said}");
        assert!(server.rev("alpha").is_some() && server.rev("beta").is_some());
        let beta = tried(&server).iter().filter(|tried| *tried == "beta").count();
        assert_eq!(beta, 1, "what is finished is kept: {said}");
    }
}

#[test]
fn where_there_is_nothing_to_collect_the_run_stops_and_publishes_what_it_has() {
    let bounds = "min-free-disk = \"70MB\"\nfirst = [\"beta\"]";
    let (server, fleet) = SmallFleet::with_server(NixVersion::V2_34, bounds);
    let _ = fleet.set_hosts(&[("alpha", WRITE), ("beta", "")]);
    let (code, said) = on_a_small_disk(&server, (110, 0), &usual_path(&server));
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("stopped: the disk is nearly full"), "{said}");
    assert!(said.contains("lower `min-free-disk`"), "{said}");
    assert!(server.rev("beta").is_some() && server.rev("alpha").is_none(), "{said}");
}

#[test]
fn a_collection_that_does_not_end_ends_with_the_night() {
    let bounds = "min-free-disk = \"70MB\"\nfirst = [\"beta\"]\ntime-limit = \"40s\"";
    let (server, fleet) = SmallFleet::with_server(NixVersion::V2_34, bounds);
    let _ = fleet.set_hosts(&[("alpha", WRITE), ("beta", "")]);
    let collecting = server.gate().join("collecting");
    let path = server.path_where(
        "nix-store",
        &format!(
            "case \"$*\" in *--gc*) echo > {}; exec sleep 1000;; esac; $REAL \"$@\"",
            collecting.display()
        ),
    );
    let (code, said) = on_a_small_disk(&server, (110, 0), &path);
    assert_eq!(code, 3, "{said}");
    assert!(collecting.exists(), "{said}");
    assert!(said.contains("the run's time was over"), "{said}");
    assert!(server.rev("beta").is_some() && server.rev("alpha").is_none(), "{said}");
    assert_eq!(server.processes(), []);
}

#[test]
fn what_is_big_and_needed_by_the_first_goes_before_it_and_what_else_is_big_after() {
    let bounds = "max-jobs = 2\nmemory = \"8GB\"\nfirst = [\"beta\"]";
    let (server, fleet) = SmallFleet::with_server(NixVersion::V2_34, bounds);
    let names = ["alpha", "beta", "gamma"];
    let _ = fleet.set_hosts(&names.map(|name| (name, "")));
    let _ = server.build(&[]).success();
    let peak = |host: &str| Peak {
        name: format!("big-{host}"),
        bytes: 5_000_000_000,
        how: Measured::Sampled,
    };
    let ledger = Ledger::open(&ledger_file(&server.state_dir())).unwrap();
    ledger.record_peaks(1, &names.map(peak)).unwrap();
    let host = |host: &str| {
        let big =
            format!("make \"big-{host}-1.0\" ''{} echo > $out''", counted(&format!("big-{host}")));
        let needs = format!("$builder cat ${{{big}}} > $out");
        format!("{host} = make \"nixos-system\" ''{} {needs}'';\n", counted(host))
    };
    let _ = fleet.write_hosts(&names.map(host).concat());
    let _ = server.build(&[]).success();
    let tried = tried(&server);
    let sorted = |range: std::ops::Range<usize>| {
        let mut some: Vec<&str> = tried[range].iter().map(String::as_str).collect();
        some.sort_unstable();
        some.join(" ")
    };
    let order = [sorted(0..1), sorted(1..2), sorted(2..4), sorted(4..6)];
    assert_eq!(order, ["big-beta", "beta", "big-alpha big-gamma", "alpha gamma"], "{tried:?}");
}
