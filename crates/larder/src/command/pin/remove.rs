//! `larder pin remove`

use larder_cache::record::Name;

use crate::{
    config::Config,
    report::{Done, Error, KeepingError},
    view, wiring,
};

/// Remove a pin; what it kept goes with the next collection, unless something else keeps it
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// What it is called
    name: Name,

    /// A pin of this cache, and not of this machine's store
    #[arg(long = "in", value_name = "CACHE")]
    cache: Option<String>,
}

pub(super) async fn run(config: &Config, arguments: &Arguments) -> Result<Done, Error> {
    let Arguments { name, cache } = arguments;
    let was_there = match cache {
        None => wiring::local_pins(config)?.remove(name).await?,
        Some(cache) => super::of_cache(config, cache).await?.1.remove(name).await?.is_some(),
    };
    if !was_there {
        return Err(KeepingError::NoSuchPin(name.clone()).into());
    }
    view::note(&format!("{name} pins nothing any more"));
    Ok(Done::Well)
}
