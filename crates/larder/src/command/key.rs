//! `larder key`

use std::path::{Path, PathBuf};

use clap::Subcommand;
use larder_formats::{hash::Sha256Hasher, signature::PublicKey};
use larder_nix::{
    database::{Database, PathInfo},
    dump::Dump,
    layout::StoreLayout,
    read_ahead::{Blocking, Source},
};

use crate::{
    context::{Context, say},
    keys,
    report::{Done, Error},
    wiring,
};

/// Make keys, show their public halves, sign and verify; all in Nix's own formats
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a secret key, for its owner alone to read, and print its public half
    Generate {
        /// The key's name, by custom the cache's host name and a number: `cache.example.org-1`
        name: String,
        /// Where to write the secret key [default: NAME.key in the current folder]
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Print the public half of a secret key
    Public {
        /// The secret key's file
        file: PathBuf,
    },
    /// Sign store paths, so that they carry the signature wherever they are copied
    Sign {
        /// The store paths
        #[arg(required = true)]
        paths: Vec<String>,
        /// The secret key's file [default: the first of `signing-keys`]
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
        /// Their whole closures
        #[arg(long, short)]
        recursive: bool,
    },
    /// Verify that store paths have the contents and a good signature
    Verify {
        /// The store paths
        #[arg(required = true)]
        paths: Vec<String>,
        /// Believe this public key; may be repeated [default: the public halves of `signing-keys`]
        #[arg(long = "public-key", value_name = "KEY")]
        keys: Vec<PublicKey>,
    },
}

pub(crate) async fn run(context: &Context, arguments: &Arguments) -> Result<Done, Error> {
    match &arguments.action {
        Action::Generate { name, output } => {
            let path = output.clone().unwrap_or_else(|| PathBuf::from(format!("{name}.key")));
            let key = keys::generate(name, &path)?;
            say(&key.public().to_string());
            Ok(Done::Well)
        }
        Action::Public { file } => {
            say(&keys::read(file)?.public().to_string());
            Ok(Done::Well)
        }
        Action::Sign { paths, key, recursive } => {
            sign(context, paths, key.as_deref(), *recursive).await
        }
        Action::Verify { paths, keys } => verify(context, paths, keys),
    }
}

async fn sign(
    context: &Context,
    paths: &[String],
    key: Option<&Path>,
    recursive: bool,
) -> Result<Done, Error> {
    let config = context.config_or_defaults()?;
    let file = key
        .or(config.serve.signing_keys.first().map(PathBuf::as_path))
        .ok_or_else(|| Error::Path("no key to sign with: say `--key FILE`".to_owned()))?;
    // Nix would read a key that others can read; we do not.
    keys::read(file)?;
    let nix = wiring::nix(&config, &context.cancel).await?;
    let mut command = nix.command("nix").args(["store", "sign", "--key-file"]).arg(file);
    if recursive {
        command = command.arg("--recursive");
    }
    command.arg("--").args(paths).output(&context.cancel).await?;
    Ok(Done::Well)
}

fn verify(context: &Context, paths: &[String], keys: &[PublicKey]) -> Result<Done, Error> {
    let config = context.config_or_defaults()?;
    let mut trusted = keys.to_vec();
    if trusted.is_empty() {
        for file in &config.serve.signing_keys {
            trusted.push(keys::read(file)?.public());
        }
    }
    let layout = wiring::layout(&config)?;
    let database = Database::open(&layout)?;
    let mut done = Done::Well;
    for path in paths {
        let verdict = verdict(&layout, &database, path, &trusted)?;
        if verdict.is_err() {
            done = Done::SomeFailed;
        }
        let (Ok(text) | Err(text)) = verdict;
        say(&format!("{path}: {text}"));
    }
    Ok(done)
}

/// What is to be said of a path: good news or bad.
fn verdict(
    layout: &StoreLayout,
    database: &Database,
    text: &str,
    trusted: &[PublicKey],
) -> Result<Result<String, String>, Error> {
    let path = layout.store_dir.parse(text).map_err(|error| Error::Path(error.to_string()))?;
    let Some(info) = database.path_info(path.hash())?.filter(|info| info.path == path) else {
        return Ok(Err("not in the store".to_owned()));
    };
    match contents_match(layout, &info) {
        Ok(true) => {}
        Ok(false) => return Ok(Err("its contents were changed".to_owned())),
        Err(error) => return Ok(Err(format!("its contents are not as they were: {error}"))),
    }
    let info = info.into_narinfo(String::new());
    let good: Vec<&str> = trusted
        .iter()
        .filter(|key| {
            let message = info.fingerprint(&layout.store_dir);
            info.signatures
                .iter()
                .any(|one| one.key_name() == key.name() && key.verify(message.as_bytes(), one))
        })
        .map(PublicKey::name)
        .collect();
    Ok(if !good.is_empty() {
        Ok(format!("good, signed by {}", good.join(", ")))
    } else if info.is_content_addressed(&layout.store_dir) {
        Ok("good, content-addressed".to_owned())
    } else {
        Err("no good signature by a key that is believed".to_owned())
    })
}

fn contents_match(layout: &StoreLayout, info: &PathInfo) -> std::io::Result<bool> {
    let mut dump = Dump::new(&layout.real_path(&info.path), 0..info.nar_size);
    let mut hasher = Sha256Hasher::new();
    let mut chunk = Vec::new();
    loop {
        chunk.clear();
        dump.fill(&mut chunk, Blocking::Allowed)?;
        if chunk.is_empty() {
            return Ok(hasher.finish() == info.nar_hash);
        }
        hasher.update(&chunk);
    }
}
