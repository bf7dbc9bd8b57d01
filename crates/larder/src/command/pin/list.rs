//! `larder pin list`

use larder_cache::pin::{built::Standing, local::Listed};

use crate::{
    clock,
    config::Config,
    context::say,
    report::{Done, Error},
    view::pin as view,
    wiring,
};

/// List the pins there are, and say how much of what was built here is kept
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Of this cache, and not of this machine's store
    #[arg(long = "in", value_name = "CACHE")]
    cache: Option<String>,

    /// As JSON, an object a line
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(config: &Config, arguments: &Arguments) -> Result<Done, Error> {
    let pins = match &arguments.cache {
        None => wiring::local_pins(config)?.list().await?,
        Some(cache) => {
            let (_, pins) = super::of_cache(config, cache).await?;
            let listed = |pin: larder_cache::pin::Pin| Listed {
                name: pin.name.clone(),
                pin: Some(pin),
                lacking: Vec::new(),
            };
            pins.list().await?.into_iter().map(listed).collect()
        }
    };
    let now = clock::now();
    let built = match arguments.cache {
        None => wiring::built_pins(config)?.standing()?,
        Some(_) => Standing::default(),
    };
    for pin in &pins {
        say(&if arguments.json { view::json(pin) } else { view::line(pin, now) });
    }
    if built.paths > 0 {
        say(&if arguments.json { view::built_json(built) } else { view::built(built) });
    }
    let is_whole = |it: &Listed| it.pin.is_some() && it.lacking.is_empty();
    Ok(if pins.iter().all(is_whole) { Done::Well } else { Done::SomeFailed })
}
