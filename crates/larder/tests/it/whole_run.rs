//! A run of a test's own, as no configuration would have it: with shorter times, or somebody who listens.

use jiff::SignedDuration;
use larder_fleet::{
    ledger::Ledger,
    night::{
        Bounds, FlakeSource, HostReport, Limits, Night, Notice, Observer, Publisher, Report,
        Wanted, ledger_file,
    },
};
use larder_formats::signature::SecretKey;
use larder_nix::{
    command::CancellationToken,
    database::Database,
    layout::{NixEnvironment, StoreLayout},
    nix::Nix,
};
use larder_testkit::{TestStore, process::path_with};

use crate::build_server::BuildServer;

/// A store's Nix, with these variables besides.
pub(crate) async fn nix(
    store: &TestStore,
    more: &[(&str, String)],
    cancel: &CancellationToken,
) -> Nix {
    let own = store.environment().into_iter();
    let own = own.map(|(name, value)| (name.to_owned(), value.display().to_string()));
    let path = path_with(&store.version().bin_dir()).to_str().unwrap().to_owned();
    let more = more.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
    let all = own.chain([("PATH".to_owned(), path)]).chain(more);
    let layout = StoreLayout::resolve(&store.uri(), &NixEnvironment::default()).unwrap();
    Nix::detect_with(layout, all.collect(), cancel).await.unwrap()
}

/// All hosts of a flake, built by this server alone, and published nowhere.
pub(crate) fn night(server: &BuildServer, nix: Nix, flake: &str) -> Night {
    Night {
        database: Database::open(nix.layout()).unwrap(),
        nix,
        state_dir: server.state_dir(),
        source: FlakeSource::parse(flake).unwrap(),
        flake: flake.to_owned(),
        hosts: Wanted::All,
        required: None,
        limits: Limits { max_jobs: 1, cores: 1 },
        bounds: Bounds::default(),
        builders: None,
        search_limit: 0,
        home: None,
        publisher: None,
        leases: None,
        clock: || jiff::Timestamp::UNIX_EPOCH,
    }
}

/// Publishes as this server does.
pub(crate) fn publisher(server: &BuildServer) -> Publisher {
    let key = std::fs::read_to_string(server.fleet_key()).unwrap();
    Publisher {
        state_dir: server.state_dir(),
        ledger: Ledger::open(&ledger_file(&server.state_dir())).unwrap(),
        rev_dir: server.rev_dir(),
        key: SecretKey::parse(key.trim()).unwrap(),
        keep: 3,
        expiry: SignedDuration::from_hours(24),
    }
}

/// Listens to nothing.
pub(crate) struct Deaf;

impl Observer for Deaf {
    fn notice(&mut self, _: Notice<'_>) {}
}

/// Host by host, how it ended.
pub(crate) fn ended(report: &Report) -> Vec<String> {
    let outcome = |host: &HostReport| {
        let outcome = serde_json::to_value(host.outcome.as_ref().unwrap()).unwrap();
        outcome["outcome"].as_str().unwrap().to_owned()
    };
    report.hosts.iter().map(outcome).collect()
}
