//! `larder builders keygen`

use std::path::{Path, PathBuf};

use larder_fleet::builders::{KeyFile, SshUser};
use larder_nix::command::Invocation;

use crate::{
    context::{Context, say},
    environment,
    report::{Done, Error},
    view,
};

/// Make a key for logging in to builders, and say where its public half goes
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Where to write the private key [default: builder-key in `state-dir`]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Whom to log in as
    #[arg(long, value_name = "NAME", default_value = "nix-builder")]
    user: SshUser,
}

pub(super) async fn run(context: &Context, arguments: &Arguments) -> Result<Done, Error> {
    let config = context.config_or_defaults()?;
    let file = arguments.output.clone().unwrap_or_else(|| config.state_dir.join("builder-key"));
    let file = std::path::absolute(&file).map_err(|source| Error::Io { path: file, source })?;
    let name = file.display().to_string();
    let _: KeyFile = name.parse().map_err(|error| Error::Path(format!("{error}")))?;
    let public = PathBuf::from(format!("{name}.pub"));
    for path in [&file, &public] {
        // ssh-keygen would ask, and take silence for a no.
        if path.symlink_metadata().is_ok() {
            return Err(Error::KeyFileExists(path.clone()));
        }
    }
    let folder = file.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(folder)
        .map_err(|source| Error::Io { path: folder.to_owned(), source })?;
    let comment = format!("larder@{}", environment::host_name());
    // It makes the file for its owner alone. No passphrase: nobody is there at night to enter it.
    let keygen = Invocation::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", ""]);
    keygen.args(["-C", &comment, "-f", &name]).output(&context.cancel).await?;
    let line = std::fs::read_to_string(&public)
        .map_err(|source| Error::Io { path: public.clone(), source })?;
    say(&view::builders::key_made(&name, line.trim(), &arguments.user));
    Ok(Done::Well)
}
