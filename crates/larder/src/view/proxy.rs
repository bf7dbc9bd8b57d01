//! How a proxy and its upstreams are, for people.

use std::fmt::Write as _;

use larder_cache::{
    proxy::{AddressStatus, Health, Status},
    words::size,
};

/// Some lines for each upstream, and what became of all questions.
pub(crate) fn status(status: &Status) -> String {
    let mut text = String::new();
    for upstream in &status.upstreams {
        let _ = writeln!(text, "{}", upstream.name);
        for address in &upstream.addresses {
            text.push_str(&one(address));
        }
    }
    let Status { asked, absent, could_not_tell, fetched, bytes, .. } = status;
    let _ = writeln!(
        text,
        "\nasked for {asked} paths: {absent} are nowhere, of {could_not_tell} not every upstream told\n\
         handed out {}, fetched {fetched} NARs",
        size(*bytes)
    );
    if let Some(kept) = &status.kept {
        let _ = writeln!(
            text,
            "kept: {} of the paths asked for, {} handed out without fetching",
            kept.hits,
            size(kept.bytes)
        );
    }
    text
}

fn one(address: &AddressStatus) -> String {
    let AddressStatus { url, found, absent, untrusted, failed, .. } = address;
    let health = match address.health {
        Health::Up => "answers",
        Health::Down => "does not answer",
        Health::Unproven => "has not answered yet",
    };
    let latency = address.latency_ms.map_or(String::new(), |time| format!(" in {time:.0} ms"));
    let total = found + absent + untrusted;
    let rate = (found * 100).checked_div(total).unwrap_or(0);
    let mut text = format!(
        "  {url}: {health}{latency}\n    had {found} of {total} ({rate} %), {} fetched",
        size(address.bytes)
    );
    if *untrusted > 0 {
        let _ = write!(text, "; {untrusted} signed by none of its `public-keys`");
    }
    if *failed > 0 {
        let _ = write!(text, "; {failed} times no answer");
    }
    text.push('\n');
    if let Some(reason) = address.last_failure.as_ref().filter(|_| address.health != Health::Up) {
        let _ = writeln!(text, "    {reason}");
    }
    text
}
