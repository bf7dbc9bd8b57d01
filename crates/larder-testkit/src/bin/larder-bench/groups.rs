//! Figures that take minutes, and are measured only when they are named: `./dev bench push`.

use crate::{
    Bench, MIB, ROUNDS,
    figure::{Better, Figure},
    million::Caches,
    progress,
    push::{Packing, Pushes, size},
    resume,
    static_cache::StaticSite,
    statistics::median,
};

/// Rounds of pushes, each of which takes long. An odd number, so that the median is one of them.
const PUSHES: usize = 3;

/// The figures that belong together, by what they are called on the command line.
pub(crate) const GROUPS: [(&str, fn(&Bench)); 3] =
    [("push", Bench::push), ("static", Bench::static_cache), ("million", Bench::million)];

/// How Nix compresses with zstd: as it does when told no more, and on all cores.
const NIX_ONE_CORE: &str = "compression=zstd";
const NIX_ALL_CORES: &str = "compression=zstd&parallel-compression=true";

impl Bench {
    fn push(&self) {
        let pushes = prepared();
        let ours = pushes.empty("larder");
        self.to_folder(&pushes);
        self.over_ssh(&pushes, Packing::Default, "zstd");
        self.over_ssh(&pushes, Packing::Plain, "no compression");
        if self.begins(&["sent by a push that was killed three times"]) {
            let _ = pushes.larder_to_folder(&ours);
            let (sent, there) = resume::after_kills(&pushes, size(&ours));
            let name = "sent by a push that was killed three times".to_owned();
            let peer = Some(("the cache", there));
            self.print(Figure { name, unit: "MiB", better: Better::Lower, value: sent, peer });
        }
    }

    fn to_folder(&self, pushes: &Pushes) {
        let names = ["push to a folder, zstd", "push to a folder, zstd, beside Nix on all cores"];
        let sizes = "size of what was pushed to a folder, zstd";
        if !self.begins(&[names[0], names[1], sizes]) {
            return;
        }
        let [ours, one, all] =
            ["larder", "nix", "nix-parallel"].map(|name| move || pushes.empty(name));
        let times = in_turn(
            PUSHES,
            [
                &|| pushes.larder_to_folder(&ours()),
                &|| pushes.nix_to_folder(&one(), NIX_ONE_CORE),
                &|| pushes.nix_to_folder(&all(), NIX_ALL_CORES),
            ],
        );
        for (name, peer) in names.into_iter().zip([times[1], times[2]]) {
            let (name, peer) = (name.to_owned(), Some(("Nix", peer)));
            self.print(Figure { name, unit: "s", better: Better::Lower, value: times[0], peer });
        }
        let [ours, nix] = ["larder", "nix"].map(|name| size(&pushes.folder(name)) as f64 / MIB);
        let (name, peer) = (sizes.to_owned(), Some(("Nix", nix)));
        self.print(Figure { name, unit: "MiB", better: Better::Lower, value: ours, peer });
    }

    fn over_ssh(&self, pushes: &Pushes, packing: Packing, what: &str) {
        let name = format!("push over SFTP, {what}");
        if !self.begins(&[&name]) {
            return;
        }
        // The bytes for scp are those that were pushed.
        let pushed = pushes.empty("ssh-pushed");
        let _ = pushes.larder_over_ssh(&pushed, packing);
        let [value, scp] = in_turn(
            PUSHES,
            [&|| pushes.larder_over_ssh(&pushes.empty("ssh-larder"), packing), &|| {
                pushes.scp(&pushed, &pushes.empty("ssh-scp"))
            }],
        );
        let peer = Some(("scp", scp));
        self.print(Figure { name, unit: "s", better: Better::Lower, value, peer });
    }

    fn static_cache(&self) {
        let pushes = prepared();
        let cache = pushes.empty("larder");
        let _ = pushes.larder_to_folder(&cache);
        let site = StaticSite::new(&cache);
        let servers = [&site.larder, &site.nginx.url()];
        for (name, unit, load) in site.loads() {
            self.load(servers, &name, unit, &load);
        }
    }

    fn million(&self) {
        progress("making a cache of a million paths");
        let caches = Caches::new();
        progress("latency");
        let [many, few] = caches.latency(ROUNDS);
        for (value, which) in ["median", "99th percentile"].into_iter().enumerate() {
            self.print(Figure {
                name: format!("narinfo of a million, {which}"),
                unit: "µs",
                better: Better::Lower,
                value: many[value],
                peer: Some(("a thousand", few[value])),
            });
        }
        let alone = |name: &str, unit, value| {
            let name = name.to_owned();
            self.print(Figure { name, unit, better: Better::Lower, value, peer: None });
        };
        alone("memory of the server, a million paths", "MiB", caches.server_memory());
        progress("collection");
        for which in ["without an index", "with an index"] {
            let cost = caches.plan();
            alone(&format!("plan of a collection {which}"), "s", cost.seconds);
            alone(&format!("memory of a plan {which}"), "MiB", cost.memory);
        }
    }
}

fn prepared() -> Pushes {
    progress("making a store of a gigabyte");
    let pushes = Pushes::new();
    progress(&pushes.packages.to_string());
    pushes
}

/// Measures each once a round; the median of each.
fn in_turn<const COUNT: usize>(rounds: usize, measures: [&dyn Fn() -> f64; COUNT]) -> [f64; COUNT] {
    let rounds: Vec<[f64; COUNT]> =
        (0..rounds).map(|_| measures.map(|measure| measure())).collect();
    for round in &rounds {
        progress(&format!("{round:.2?}"));
    }
    std::array::from_fn(|which| {
        median(&rounds.iter().map(|round| round[which]).collect::<Vec<_>>())
    })
}
