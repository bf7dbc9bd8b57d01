//! One run of Nix: how it is called, and what its end says.

use std::collections::BTreeSet;

use larder_nix::{command::Invocation, nix::Nix};

use super::{
    super::rounds::{Round, What},
    Work,
};
use crate::night::evaluate::Evaluated;

/// Whether Nix ends so when builds failed, and by nothing else: 100 and what it adds to that, since 2.0. (A daemon
/// does not tell.)
pub(super) fn is_verdict(status: i32) -> bool {
    (0x60..0x70).contains(&status)
}

/// Realises what a round is of.
pub(super) fn command(
    nix: &Nix,
    hosts: &[Evaluated],
    work: &Work<'_>,
    round: &Round,
) -> Invocation {
    let store_dir = &nix.layout().store_dir;
    let derivations: BTreeSet<String> = match &round.what {
        What::Only(these) => these.iter().map(|path| store_dir.display(path)).collect(),
        What::Hosts(these) => {
            let wanted = these.iter().filter_map(|host| hosts.get(*host));
            wanted.map(|host| store_dir.display(&host.derivation)).collect()
        }
    };
    let command = nix
        .command("nix-store")
        .args(["--realise", "--keep-going", "--log-format", "internal-json"])
        .args(["--max-jobs", &round.limits.max_jobs.to_string()])
        .args(["--cores", &round.limits.cores.to_string()])
        .args(work.settings.iter().flat_map(|(name, value)| ["--option", name, value]));
    let command = match round.what {
        // Where everything builds, these roots bridge the time to the publication.
        What::Hosts(_) => {
            command.arg("--add-root").arg(work.roots.join("result")).arg("--indirect")
        }
        What::Only(_) => command,
    };
    command.args(derivations).log(work.log)
}
