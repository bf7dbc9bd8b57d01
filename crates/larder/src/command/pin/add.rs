//! `larder pin add`

use jiff::Timestamp;
use larder_cache::record::Name;
use larder_formats::store_path::{StorePath, StorePathHash};

use crate::{
    clock,
    config::Config,
    context::Context,
    report::{Done, Error, KeepingError},
    roots, view, wiring,
};

/// Set a pin, in place of one of the same name
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// What to call it
    name: Name,

    /// Store paths, links to some such as ./result, or installables such as .#hello
    #[arg(required = true)]
    paths: Vec<String>,

    /// Pin them in this cache, a configured one or a URL, and not in this machine's store
    #[arg(long = "in", value_name = "CACHE")]
    cache: Option<String>,

    /// How long it lasts, for example `30d`; without, it lasts until it is removed
    #[arg(long = "for", value_name = "DURATION")]
    duration: Option<String>,
}

pub(super) async fn run(
    context: &Context,
    config: &Config,
    arguments: &Arguments,
) -> Result<Done, Error> {
    let Arguments { name, paths, cache, duration } = arguments;
    let until = duration.as_deref().map(clock::after).transpose()?;
    let paths = roots::find(context, config, paths.clone()).await?;
    let count = match cache {
        Some(cache) => in_cache(config, cache, (name.clone(), paths), until).await?,
        None => {
            let nix = wiring::nix(config, &context.cancel).await?;
            let pins = wiring::local_pins(config)?;
            pins.add(&nix, (name.clone(), paths), until, &context.cancel).await?.paths.len()
        }
    };
    let until = view::pin::until(until, clock::now());
    let paths = if count == 1 { "1 path".to_owned() } else { format!("{count} paths") };
    view::note(&format!("pinned {paths} as {name}, {until}"));
    Ok(Done::Well)
}

async fn in_cache(
    config: &Config,
    cache: &str,
    (name, paths): (Name, Vec<StorePath>),
    until: Option<Timestamp>,
) -> Result<usize, Error> {
    let (target, pins) = super::of_cache(config, cache).await?;
    let place = target.cache(config)?;
    let hashes: Vec<StorePathHash> = paths.iter().map(StorePath::hash).collect();
    let absent = async || {
        let here = place.present(hashes.clone()).await?;
        let absent = paths.iter().find(|path| !here.contains(&path.hash()));
        let missing =
            |path: &StorePath| KeepingError::NotInCache(path.clone(), target.name.clone());
        absent.map_or(Ok(()), |path| Err(Error::from(missing(path))))
    };
    absent().await?;
    let pin = pins.add(name, paths.clone(), until).await?;
    // Only what is found after that is certain to stay.
    absent().await?;
    Ok(pin.paths.len())
}
