//! `larder proxy status`

use larder_cache::{
    proxy::{Health, Status},
    storage::{Key, Location, OpenOptions, Patience},
};

use crate::{
    config::{Config, Listen},
    context::{Context, say},
    report::{Done, Error},
    view,
};

/// Bytes of an answer.
const LIMIT: usize = 16 * 1024 * 1024;

/// Tell how the upstreams of the running proxy are
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The proxy's address; that of the configuration, if it is not named
    #[arg(long)]
    url: Option<String>,

    /// Print it for programs
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(context: &Context, arguments: &Arguments) -> Result<Done, Error> {
    let config = context.config_or_defaults()?;
    let url = match &arguments.url {
        Some(url) => url.clone(),
        None => address(&config).ok_or_else(|| {
            Error::Path("the proxy listens on a socket alone: name its address with `--url`".into())
        })?,
    };
    let location: Location = url.parse()?;
    let patience = Patience { retries: 0, ..Patience::default() };
    let server = location.open(&OpenOptions { patience, ..OpenOptions::default() })?;
    let status = Key::new("status").map_err(|error| Error::Path(error.to_string()))?;
    let text = server.get(&status, LIMIT).await?;
    let status = text.and_then(|text| serde_json::from_slice::<Status>(&text).ok());
    let status = status.ok_or_else(|| {
        Error::Path(format!("what answers at {url} is no proxy: is `larder proxy` running there?"))
    })?;
    if arguments.json {
        say(&serde_json::json!(status).to_string());
    } else {
        say(view::proxy::status(&status).trim_end());
    }
    let lives = |upstream: &larder_cache::proxy::UpstreamStatus| {
        upstream.addresses.iter().any(|address| address.health != Health::Down)
    };
    Ok(if status.upstreams.iter().all(lives) { Done::Well } else { Done::SomeFailed })
}

/// Where this machine reaches it.
fn address(config: &Config) -> Option<String> {
    let here = config.proxy.listen.iter().find_map(Listen::from_this_machine);
    here.map(|listen| format!("http://{listen}"))
}
