//! `larder hook`

use larder_formats::store_path::StorePath;
use larder_nix::{database::Database, layout::StoreLayout};

use crate::{
    context::{self, Context},
    environment::{self, Built},
    report::{Done, Error},
    wiring,
};

/// Keep what Nix has just built for a while, and hand it in to be pushed (Nix's post-build-hook calls this)
///
/// Takes what it needs from the environment (OUT_PATHS, DRV_PATH). Whatever goes wrong, this says so on standard
/// error and ends well: Nix would stop the whole build otherwise.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

pub(crate) fn run(context: &Context, _: &Arguments) -> Done {
    if let Err(error) = hand_in(context) {
        tracing::error!("what was built is not kept, or not handed in to be pushed: {error}");
    }
    Done::Well
}

fn hand_in(context: &Context) -> Result<(), Error> {
    let (config, push) = match context.config_or_defaults() {
        Ok(config) => {
            let push = !config.push.to.is_empty();
            (config, push)
        }
        // Where it is to go can be put right later.
        Err(error) => {
            tracing::warn!("{error}");
            (context::defaults()?, true)
        }
    };
    let pin = config.build.pin_built.is_some();
    if !pin && !push {
        return Err(Error::NowhereToPush);
    }
    let built = environment::built();
    let layout = wiring::layout(&config)?;
    let paths = named(&layout, &built)?;
    // Each is of use without the other.
    let pinned = if pin { wiring::built_pins(&config)?.add(&paths) } else { Ok(()) };
    if push {
        wiring::queue(&config)?.add(&paths)?;
    }
    Ok(pinned?)
}

/// The outputs. Nix 2.8 names only the derivation.
fn named(layout: &StoreLayout, built: &Built) -> Result<Vec<StorePath>, Error> {
    let parse = |text: &str| {
        layout.store_dir.parse(text).map_err(|error| Error::Path(format!("{text}: {error}")))
    };
    let outputs: Vec<StorePath> =
        built.outputs.split_ascii_whitespace().map(parse).collect::<Result<_, _>>()?;
    if !outputs.is_empty() {
        return Ok(outputs);
    }
    if built.derivation.is_empty() {
        return Err(Error::NotAHook);
    }
    let derivation = parse(&built.derivation)?;
    let known = Database::open(layout).and_then(|database| database.outputs(&derivation));
    match known {
        Ok(outputs) if !outputs.is_empty() => Ok(outputs.into_values().collect()),
        // Whoever hands out looks again.
        _ => Ok(vec![derivation]),
    }
}
