//! From `[[notify]]` to those who can be told.

use jiff::SignedDuration;
use larder_cache::storage::Secret;
use larder_fleet::notify::{Receiver, Sender, Wants, Way};

use crate::{
    clock,
    config::{Address, Config, Notify, NotifyWay},
    keys,
    report::Error,
};

/// A receiver, with the secrets it takes to reach it.
pub(crate) fn receiver(notify: &Notify) -> Result<Receiver, Error> {
    let way = match &notify.way {
        NotifyWay::Webhook { address, token_file } => {
            let token = token_file.as_deref().map(keys::read_secret).transpose()?;
            Way::Webhook { url: url(address)?, token }
        }
        NotifyWay::Slack(address) => Way::Slack { url: url(address)? },
        NotifyWay::Discord(address) => Way::Discord { url: url(address)? },
        NotifyWay::Matrix { address, room, token_file } => {
            let (url, token) = (url(address)?, keys::read_secret(token_file)?);
            Way::Matrix { url, room: room.clone(), token }
        }
        NotifyWay::Ntfy { address, token_file } => {
            let token = token_file.as_deref().map(keys::read_secret).transpose()?;
            Way::Ntfy { url: url(address)?, token }
        }
        NotifyWay::Command { command, json, mail_to } => {
            Way::Command { command: command.clone(), json: *json, mail_to: mail_to.clone() }
        }
    };
    Ok(Receiver { name: notify.name.clone(), way, timeout: notify.timeout })
}

fn url(address: &Address) -> Result<Secret, Error> {
    match address {
        Address::Url(url) => Ok(url.clone()),
        Address::File(file) => Ok(keys::read_secret(file)?),
    }
}

/// What a receiver wants to hear.
pub(crate) fn wants(config: &Config, notify: &Notify) -> Wants {
    let told = |after| SignedDuration::try_from(after).unwrap_or(SignedDuration::MAX);
    Wants {
        events: notify.events.clone(),
        digest: notify.digest,
        // Saturates: no run is ever so late.
        overdue_after: notify.overdue_after.map_or_else(|| overdue(config), told),
    }
}

/// After how long without the end of a run something is wrong: a day more than the schedules let pass. Of several, the one
/// that comes most often says.
fn overdue(config: &Config) -> SignedDuration {
    const DAY: SignedDuration = SignedDuration::from_hours(24);
    let now = clock::now().to_zoned(clock::zone());
    let pauses = config.schedules.iter().map(|it| it.schedule.at.longest_pause(&now));
    pauses.min().unwrap_or_default().saturating_add(DAY).max(DAY * 3)
}

/// Who sends.
pub(crate) fn sender() -> Result<Sender, Error> {
    Sender::new().map_err(|error| Error::Sender(error.to_string()))
}
