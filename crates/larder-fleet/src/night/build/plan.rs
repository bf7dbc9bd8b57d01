//! Asking Nix what it would do.

use larder_formats::store_path::StorePath;
use larder_nix::{
    command::{CancellationToken, CommandError},
    nix::Nix,
};

use crate::night::plan::BuildPlan;

/// What Nix would do to realise a derivation or a store path.
pub(crate) async fn plan(
    nix: &Nix,
    derivation: &StorePath,
    cancel: &CancellationToken,
) -> Result<BuildPlan, CommandError> {
    let store_dir = &nix.layout().store_dir;
    let command =
        nix.command("nix-store").args(["--realise", "--dry-run", &store_dir.display(derivation)]);
    let mut text = String::new();
    let output = command
        .run(cancel, |line| {
            text.push_str(line);
            text.push('\n');
        })
        .await?;
    output.finished.check(&command)?;
    Ok(BuildPlan::parse(&text, store_dir))
}
