//! `larder token list`

use jiff::Timestamp;
use larder_cache::token::{TokenName, TokenRecord};

use crate::{
    clock,
    config::Config,
    context::say,
    report::{Done, Error},
    view,
};

/// List the tokens there are, without their secrets
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Of this cache alone; may be repeated
    #[arg(long, value_name = "NAME")]
    cache: Vec<String>,

    /// As JSON, an object a line
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(config: &Config, arguments: &Arguments) -> Result<Done, Error> {
    let mut done = Done::Well;
    for (cache, tokens) in super::tokens(config, &arguments.cache)? {
        let listed = tokens.list().await?;
        for record in &listed.tokens {
            say(&if arguments.json { json(&cache, record) } else { line(&cache, record) });
        }
        for error in &listed.unreadable {
            view::note(&format!("{cache}: {error}"));
            done = Done::SomeFailed;
        }
    }
    Ok(done)
}

fn line(cache: &str, record: &TokenRecord) -> String {
    let name = record.name.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
    let until = match (record.revoked, record.expires) {
        (Some(revoked), _) => format!("revoked {revoked:.0}"),
        (None, Some(expires)) if expires <= clock::now() => format!("expired {expires:.0}"),
        (None, Some(expires)) => format!("until {expires:.0}"),
        (None, None) => "until it is revoked".to_owned(),
    };
    let TokenRecord { id, scope, created, .. } = record;
    format!("{cache} {id}{name}: {scope}; made {created:.0}, {until}")
}

fn json(cache: &str, record: &TokenRecord) -> String {
    let time = |time: Option<Timestamp>| time.map(|time| time.to_string());
    let object = serde_json::json!({
        "cache": cache,
        "id": record.id.to_string(),
        "name": record.name.as_ref().map(TokenName::to_string),
        "read": record.scope.read,
        "write": record.scope.write,
        "created": record.created.to_string(),
        "expires": time(record.expires),
        "revoked": time(record.revoked),
    });
    object.to_string()
}
