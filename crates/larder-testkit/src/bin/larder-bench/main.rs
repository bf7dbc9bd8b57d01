//! `./dev bench [--json] [NAME…]`: how fast Larder serves, against nginx serving the same bytes as files.
//!
//! Both run on this machine in this run, in turn (ours, theirs, ours, …), with the same load generator,
//! so that what is compared is comparable however fast the machine is. What is printed is the median of
//! each and their ratio; above 1 Larder is faster.

#![expect(
    clippy::panic,
    clippy::expect_used,
    reason = "a figure that cannot be measured is told by a panic that says why"
)]

mod load;
mod memory;
mod site;

use std::io::Write;

use load::{Load, Measured};
use site::Site;

/// Rounds for each figure. An odd number, so that the median is one of them.
const ROUNDS: usize = 5;

/// A figure: ours, the peer's, and their ratio.
struct Figure {
    name: String,
    unit: &'static str,
    value: f64,
    peer: Option<f64>,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let json = arguments.iter().any(|argument| argument == "--json");
    let wanted: Vec<&String> = arguments.iter().filter(|name| !name.starts_with("--")).collect();
    let wants = |name: &str| wanted.is_empty() || wanted.iter().any(|part| name.contains(*part));
    progress("making a store: 64 MiB in large files, 6 000 small files, 600 paths");
    let site = Site::new();
    for (name, unit, load) in figures(&site) {
        if wants(&name) {
            progress(&name);
            let (value, peer) = compare(&site, &load, unit);
            report(&Figure { name, unit, value, peer: Some(peer) }, json);
        }
    }
    if wants("memory") {
        progress("memory");
        let value = memory::with_slow_readers(&site);
        let name = "memory with 64 slow readers of 64 MiB".to_owned();
        report(&Figure { name, unit: "MiB", value, peer: None }, json);
    }
}

fn figures(site: &Site) -> Vec<(String, &'static str, Load)> {
    let mut figures = vec![(
        "narinfo, 32 connections".to_owned(),
        "requests/s",
        Load { paths: site.narinfos.clone(), connections: 32 },
    )];
    for connections in [1, 16] {
        for (what, nar) in [("large files", &site.large), ("small files", &site.small)] {
            let name = format!("NAR of {what}, {connections} connections");
            figures.push((name, "MiB/s", Load { paths: vec![nar.clone()], connections }));
        }
    }
    figures
}

fn compare(site: &Site, load: &Load, unit: &str) -> (f64, f64) {
    let pick = |measured: &Measured| match unit {
        "requests/s" => measured.requests_per_second,
        _ => measured.bytes_per_second / (1024.0 * 1024.0),
    };
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(pick(&load.run(&site.larder)));
        theirs.push(pick(&load.run(&site.nginx.url())));
    }
    (median(ours), median(theirs))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[expect(clippy::print_stdout, reason = "this is what the program is for")]
fn report(figure: &Figure, json: bool) {
    let Figure { name, unit, value, peer } = figure;
    let ratio = peer.map(|peer| value / peer);
    if json {
        let line = serde_json::json!({
            "name": name, "unit": unit, "value": value, "peer": peer, "ratio": ratio,
        });
        println!("{line}");
    } else {
        let beside = match (peer, ratio) {
            (Some(peer), Some(ratio)) => format!("nginx {peer:>10.0}   ratio {ratio:.2}"),
            _ => String::new(),
        };
        println!("{name:<40} {value:>10.0} {unit:<10} {beside}");
    }
}

fn progress(text: &str) {
    // Nobody needs to read it.
    let _ = writeln!(std::io::stderr(), "… {text}");
}
