//! `./dev bench [--json] [--keep] [push | static | million | proxy | night] [NAME…]`: how fast Larder serves and pushes, against
//! others that do the same with the same bytes.
//!
//! All servers run on this machine in this run, in turn (ours, theirs, ours, …), with the same client, so
//! that what is compared is comparable however fast the machine is. What is printed is the median of each
//! and their ratio; above 1 Larder is the better one.

#![expect(
    clippy::panic,
    clippy::expect_used,
    reason = "a figure that cannot be measured is told by a panic that says why"
)]

mod closure;
mod content;
mod figure;
mod groups;
mod http;
mod latency;
mod load;
mod memory;
mod million;
mod night;
mod packages;
mod proxy;
mod push;
mod resume;
mod site;
mod start;
mod static_cache;
mod statistics;

use std::{io::Write, process::ExitCode};

use content::Content;
use figure::{Better, Figure};
use load::Load;
use site::Site;

/// Rounds for each figure. An odd number, so that the median is one of them.
pub(crate) const ROUNDS: usize = 5;

/// Seconds that each round of a load runs.
pub(crate) const SECONDS: u32 = 3;

pub(crate) const MIB: f64 = 1024.0 * 1024.0;

const USAGE: &str = "Usage: ./dev bench [--json] [--keep] [push | static | million | proxy | night] [NAME…]

  push     pushes of a gigabyte: to a folder beside Nix, over SFTP beside scp, and killed on the way
  static   serving a static cache, beside nginx
  million  a static cache of a million paths: narinfos and collection
  proxy    a closure through the proxy, warm and cold, and what a dead upstream costs
  night    a night in which nothing changed, and builds on one to three builders, beside Nix
  --json   one JSON object a line: name, unit, value, peer, ratio
  --keep   leave the servers running at the end, for other tools to be pointed at
  NAME     only figures whose name contains it: narinfo, large, small, closure, latency, memory, start";

/// What was asked for on the command line.
struct Bench {
    json: bool,
    names: Vec<String>,
}

fn main() -> ExitCode {
    let (options, names): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|argument| argument.starts_with('-'));
    if options.iter().any(|option| option != "--json" && option != "--keep") {
        progress(USAGE);
        return ExitCode::from(2);
    }
    let has = |name: &str| options.iter().any(|option| option == name);
    let mut bench = Bench { json: has("--json"), names };
    for (name, measure) in groups::GROUPS {
        if bench.names.first().is_some_and(|first| first == name) {
            let _ = bench.names.remove(0);
            measure(&bench);
            return ExitCode::SUCCESS;
        }
    }
    let content = Content::find();
    progress(&format!("making a store of {content}"));
    let site = Site::new(&content);
    drop(content);
    for (name, unit, load) in loads(&site) {
        bench.load([&site.larder, &site.nginx.url()], &name, unit, &load);
    }
    bench.closure(&site);
    bench.latency(&site);
    bench.memory(&site);
    bench.start();
    if has("--keep") {
        stay(&site);
    }
    ExitCode::SUCCESS
}

fn loads(site: &Site) -> Vec<(String, &'static str, Load)> {
    let mut loads = vec![(
        "narinfo, 32 connections".to_owned(),
        "requests/s",
        Load { paths: site.narinfos.clone(), connections: 32 },
    )];
    for (what, nar) in [("large files", &site.large), ("small files", &site.small)] {
        for (connections, count) in [(1, "1 connection"), (16, "16 connections")] {
            let load = Load { paths: vec![nar.clone()], connections };
            loads.push((format!("NAR of {what}, {count}"), "MiB/s", load));
        }
    }
    loads
}

impl Bench {
    fn load(&self, servers: [&String; 2], name: &str, unit: &'static str, load: &Load) {
        if !self.begins(&[name]) {
            return;
        }
        let [ours, theirs] = alternate(servers, |base| {
            let measured = load.run(base);
            match unit {
                "requests/s" => [measured.requests_per_second],
                _ => [measured.bytes_per_second / MIB],
            }
        });
        let peer = Some(("nginx", theirs[0]));
        self.print(Figure {
            name: name.to_owned(),
            unit,
            better: Better::Higher,
            value: ours[0],
            peer,
        });
    }

    fn closure(&self, site: &Site) {
        let beside_nginx = "closure fetched by Nix 2.34";
        let beside_files = "closure fetched by Nix 2.34, beside file://";
        if !self.begins(&[beside_nginx, beside_files]) {
            return;
        }
        let from = [&site.larder, &site.nginx.url(), &site.file_url()];
        let [[ours], [nginx], [files]] = alternate(from, |from| [closure::fetch(from, site)]);
        for (name, who, peer) in [(beside_nginx, "nginx", nginx), (beside_files, "file://", files)]
        {
            let peer = Some((who, peer));
            let (name, better) = (name.to_owned(), Better::Lower);
            self.print(Figure { name, unit: "s", better, value: ours, peer });
        }
    }

    fn latency(&self, site: &Site) {
        let names = ["median", "99th percentile"]
            .map(|which| format!("narinfo latency while NARs stream, {which}"));
        if !self.begins(&[&names[0], &names[1]]) {
            return;
        }
        let servers = [&site.larder, &site.nginx.url()];
        let [ours, theirs] = alternate(servers, |base| latency::while_streaming(base, site));
        for (name, (value, peer)) in names.into_iter().zip(ours.into_iter().zip(theirs)) {
            let peer = Some(("nginx", peer));
            self.print(Figure { name, unit: "µs", better: Better::Lower, value, peer });
        }
    }

    fn memory(&self, site: &Site) {
        let name = format!("resident memory with {} slow readers", memory::READERS);
        if self.begins(&[&name]) {
            let value = memory::with_slow_readers(site);
            self.print(Figure { name, unit: "MiB", better: Better::Lower, value, peer: None });
        }
    }

    fn start(&self) {
        let name = "start to first answer, 100 000 paths, beside 10";
        if self.begins(&[name]) {
            let (value, few) = start::until_first_answer();
            let (name, better) = (name.to_owned(), Better::Lower);
            self.print(Figure { name, unit: "ms", better, value, peer: Some(("10 paths", few)) });
        }
    }

    /// Whether any of these figures is wanted; says so, since each takes a while.
    fn begins(&self, figures: &[&str]) -> bool {
        let first = figures.iter().find(|name| self.wants(name));
        if let Some(name) = first {
            progress(name);
        }
        first.is_some()
    }

    fn wants(&self, figure: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|part| figure.contains(part.as_str()))
    }

    /// Figures that are measured together need not all be wanted.
    fn print(&self, figure: Figure) {
        if self.wants(&figure.name) {
            figure.print(self.json);
        }
    }
}

/// Measures each server once a round. Returns the median of each value for each server, in their order.
fn alternate<const SERVERS: usize, const VALUES: usize>(
    servers: [&String; SERVERS],
    measure: impl Fn(&str) -> [f64; VALUES],
) -> [[f64; VALUES]; SERVERS] {
    let rounds: Vec<[[f64; VALUES]; SERVERS]> =
        (0..ROUNDS).map(|_| servers.map(|server| measure(server))).collect();
    std::array::from_fn(|server| {
        std::array::from_fn(|value| {
            let all: Vec<f64> = rounds.iter().map(|round| round[server][value]).collect();
            statistics::median(&all)
        })
    })
}

/// Waits until somebody has seen enough.
fn stay(site: &Site) {
    progress(&format!(
        "the store: {}\n  Larder:       {}\n  nginx:        {}\n  static cache: {}\n  all of it:    {}\nPress Enter to end.",
        site.store.uri(),
        site.larder,
        site.nginx.url(),
        site.file_url(),
        site.top,
    ));
    // The end of input is an answer too.
    let _ = std::io::stdin().read_line(&mut String::new());
}

fn progress(text: &str) {
    // Nobody needs to read it.
    let _ = writeln!(std::io::stderr(), "… {text}");
}
