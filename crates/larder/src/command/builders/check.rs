//! `larder builders check`

use larder_fleet::builders::Verdict;

use crate::{
    context::{Context, say},
    report::{Done, Error},
    view, wiring,
};

/// Look builders over, as a run would use them, and say what is wrong and what to do
///
/// Looked at are: reach, host key, key, login shell, Nix and its version, trust, systems and features as claimed, whether
/// they download by themselves, clock and disk; and a build of each of their own systems is done there, with none done
/// here, and must come back. It ends with 3 if one of them cannot build.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Only these
    builders: Vec<String>,

    /// As JSON, an object for each builder, a line each
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(context: &Context, arguments: &Arguments) -> Result<Done, Error> {
    let config = context.config()?;
    let builders = super::named(&config, &arguments.builders)?;
    let checker = wiring::builders::checker(&config, &context.cancel).await?;
    let found = tokio::select! {
        found = checker.check(&builders, &context.cancel) => found,
        () = context.cancel.cancelled() => return Err(Error::Cancelled),
    };
    let mut done = Done::Well;
    for (builder, findings) in builders.into_iter().zip(found) {
        if findings.iter().any(|finding| finding.verdict == Verdict::Wrong) {
            done = Done::SomeFailed;
        }
        say(&match arguments.json {
            true => view::builders::checked_json(builder, &findings).to_string(),
            false => view::builders::checked(builder, &findings),
        });
    }
    Ok(done)
}
