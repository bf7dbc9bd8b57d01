//! How a run went, in a line: what of a kept report says so, read without the rest, which may be large.

use serde::{Deserialize, de::IgnoredAny};

use super::report::{End, Report};
use crate::host::HostName;

/// How a run went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Headline {
    /// How it ended as a whole.
    pub end: End,
    /// Whether every host did as it should.
    pub is_good: bool,
    /// How many hosts took part.
    pub hosts: usize,
    /// Those among them that it failed for.
    pub failed: Vec<String>,
    /// The inputs that are held.
    pub held: Vec<String>,
}

impl Headline {
    /// That of a report that was kept. None for what is none, or one of a form that is not understood here.
    pub fn read(text: &str) -> Option<Self> {
        serde_json::from_str::<Kept>(text)
            .inspect_err(|error| tracing::debug!(%error, "a kept report cannot be read"))
            .ok()
            .map(Self::from)
    }
}

impl From<&Report> for Headline {
    fn from(report: &Report) -> Self {
        Self {
            end: report.end.clone(),
            is_good: report.is_good(),
            hosts: report.hosts.len(),
            failed: report.failed().map(|host| host.host.to_string()).collect(),
            held: report.held.iter().map(|held| held.input.clone()).collect(),
        }
    }
}

/// What is read of [`Report`].
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Kept {
    end: End,
    hosts: Vec<KeptHost>,
    held: Vec<KeptHeld>,
    left_out: Vec<IgnoredAny>,
}

#[derive(Deserialize)]
struct KeptHost {
    host: HostName,
    #[serde(default)]
    outcome: Option<KeptOutcome>,
}

#[derive(Deserialize)]
struct KeptOutcome {
    outcome: String,
}

#[derive(Deserialize)]
struct KeptHeld {
    input: String,
}

impl From<Kept> for Headline {
    fn from(kept: Kept) -> Self {
        let failed = |host: &&KeptHost| {
            let outcome = host.outcome.as_ref().map(|outcome| outcome.outcome.as_str());
            !matches!(outcome, None | Some("built" | "unchanged"))
        };
        let failed: Vec<String> =
            kept.hosts.iter().filter(failed).map(|host| host.host.to_string()).collect();
        let finished = kept.end == End::Finished;
        Self {
            is_good: finished && kept.left_out.is_empty() && failed.is_empty(),
            end: kept.end,
            hosts: kept.hosts.len(),
            failed,
            held: kept.held.into_iter().map(|held| held.input).collect(),
        }
    }
}
