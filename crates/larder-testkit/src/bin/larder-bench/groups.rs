//! Figures that take minutes, and are measured only when they are named: `./dev bench push`.

use crate::{
    Bench, MIB, ROUNDS, alternate, closure,
    content::Content,
    figure::{Better, Figure},
    load::Load,
    million::Caches,
    night::{Nights, Wide},
    progress,
    proxy::Upstream,
    push::{Packing, Pushes, size},
    resume,
    site::Site,
    static_cache::StaticSite,
    statistics::median,
};

/// Rounds of what takes long. An odd number, so that the median is one of them.
const FEW: usize = 3;

/// A word for the command line, and what measures.
type Group = (&'static str, fn(&Bench));

/// The figures that belong together, by what they are called on the command line.
pub(crate) const GROUPS: [Group; 5] = [
    ("push", Bench::push),
    ("static", Bench::static_cache),
    ("million", Bench::million),
    ("proxy", Bench::proxy),
    ("night", Bench::night),
];

/// How Nix compresses with zstd: as it does when told no more, and on all cores.
const NIX_ONE_CORE: &str = "compression=zstd";
const NIX_ALL_CORES: &str = "compression=zstd&parallel-compression=true";

impl Bench {
    fn night(&self) {
        let names = ["a night in which nothing changed", "the same, without its evaluation"];
        if self.begins(&names) {
            let nights = Nights::of_the_sample_fleet();
            let [night, evaluation] = in_turn(FEW, [&|| nights.night(), &|| nights.evaluation()]);
            let [all, rest] = names.map(str::to_owned);
            let peer = Some(("nix eval", evaluation));
            let (unit, better) = ("s", Better::Lower);
            self.print(Figure { name: all, unit, better, value: night, peer });
            let value = night - evaluation;
            self.print(Figure { name: rest, unit, better, value, peer: None });
        }
        for builders in 1..=3 {
            let name = format!("24 builds of six seconds on {builders} builders of 4 jobs");
            if self.begins(&[&name]) {
                let wide = Wide::new(builders);
                let generation = std::cell::Cell::new(0);
                let next = || {
                    generation.set(generation.get() + 1);
                    wide.move_on(generation.get());
                };
                let larder = || {
                    next();
                    wide.larder()
                };
                let nix = || {
                    next();
                    wide.nix()
                };
                let [value, nix] = in_turn(FEW, [&larder, &nix]);
                let peer = Some(("nix", nix));
                self.print(Figure { name, unit: "s", better: Better::Lower, value, peer });
            }
        }
    }

    fn push(&self) {
        let pushes = prepared();
        self.to_folder(&pushes);
        self.over_ssh(&pushes, Packing::Default, "zstd");
        self.over_ssh(&pushes, Packing::Plain, "no compression");
        if self.begins(&["sent by a push that was killed three times"]) {
            let ours = pushes.empty("larder");
            let _ = pushes.larder_to_folder(&ours, Packing::Private);
            let (sent, there) = resume::after_kills(&pushes, size(&ours.join("nar")));
            let name = "sent by a push that was killed three times".to_owned();
            let peer = Some(("the cache", there));
            self.print(Figure { name, unit: "MiB", better: Better::Lower, value: sent, peer });
        }
    }

    fn to_folder(&self, pushes: &Pushes) {
        let names = [
            "push to a folder, zstd",
            "push to a folder, zstd, not looked through",
            "push to a folder, zstd, beside Nix on all cores",
        ];
        let sizes = "size of the NARs that were pushed, zstd";
        if !self.begins(&[names[0], names[1], names[2], sizes]) {
            return;
        }
        let ours = |packing| pushes.larder_to_folder(&pushes.empty("larder"), packing);
        let nix = |settings| pushes.nix_to_folder(&pushes.empty("nix"), settings);
        let [read, unread, one, all] = in_turn(
            FEW,
            [
                &|| ours(Packing::Default),
                &|| ours(Packing::Private),
                &|| nix(NIX_ONE_CORE),
                &|| nix(NIX_ALL_CORES),
            ],
        );
        for (name, (value, peer)) in
            names.into_iter().zip([(read, one), (unread, one), (read, all)])
        {
            let (name, peer) = (name.to_owned(), Some(("Nix", peer)));
            self.print(Figure { name, unit: "s", better: Better::Lower, value, peer });
        }
        let [value, nix] =
            ["larder", "nix"].map(|name| size(&pushes.folder(name).join("nar")) as f64 / MIB);
        let (name, peer) = (sizes.to_owned(), Some(("Nix", nix)));
        self.print(Figure { name, unit: "MiB", better: Better::Lower, value, peer });
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
            FEW,
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
        let _ = pushes.larder_to_folder(&cache, Packing::Private);
        let site = StaticSite::new(&cache);
        let servers = [&site.larder, &site.nginx.url()];
        for (name, unit, load) in site.loads() {
            self.load(servers, &name, unit, &load);
        }
    }

    fn proxy(&self) {
        let content = Content::find();
        progress(&format!("making a store of {content}"));
        let site = Site::new(&content);
        let upstream = Upstream::new(&site);
        let warm = upstream.proxy();
        let _ = closure::fetch(&warm.url, &site);
        for (from, rounds) in [("", ROUNDS), (", from afar", FEW)] {
            let kinds = ["through a warm proxy", "through a cold proxy"]
                .map(|how| format!("closure fetched by Nix 2.34 {how}{from}"));
            if !self.begins(&[&kinds[0], &kinds[1]]) {
                continue;
            }
            let rounds = (0..rounds).map(|_| match from {
                "" => upstream.closure(&site, &warm),
                _ => upstream.closure_from_afar(&site, &warm),
            });
            let [direct, warm, cold] = medians(rounds.collect());
            for (name, value) in kinds.into_iter().zip([warm, cold]) {
                let peer = Some(("directly", direct));
                self.print(Figure { name, unit: "s", better: Better::Lower, value, peer });
            }
        }
        let name = "narinfo asked for the first time, with a dead upstream";
        if self.begins(&[name]) {
            let rounds = (0..ROUNDS).map(|_| upstream.latency(&site));
            let [value, alone] = medians(rounds.collect());
            let (name, peer) = (name.to_owned(), Some(("without it", alone)));
            self.print(Figure { name, unit: "µs", better: Better::Lower, value, peer });
        }
        let name = "narinfos of a warm proxy, 32 connections";
        if self.begins(&[name]) {
            let load = Load { paths: site.narinfos.clone(), connections: 32 };
            let [[ours], [serve]] =
                alternate([&warm.url, &site.larder], |base| [load.run(base).requests_per_second]);
            let (name, peer) = (name.to_owned(), Some(("larder serve", serve)));
            self.print(Figure {
                name,
                unit: "requests/s",
                better: Better::Higher,
                value: ours,
                peer,
            });
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

/// Measures each once a round; the median of each. Says what came out on the way, since a round takes minutes.
fn in_turn<const COUNT: usize>(rounds: usize, measures: [&dyn Fn() -> f64; COUNT]) -> [f64; COUNT] {
    let rounds: Vec<[f64; COUNT]> = (0..rounds)
        .map(|_| {
            let round = measures.map(|measure| measure());
            progress(&format!("{round:.2?}"));
            round
        })
        .collect();
    medians(rounds)
}

fn medians<const COUNT: usize>(rounds: Vec<[f64; COUNT]>) -> [f64; COUNT] {
    std::array::from_fn(|which| {
        median(&rounds.iter().map(|round| round[which]).collect::<Vec<_>>())
    })
}
