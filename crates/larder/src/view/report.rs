//! Runs, a line for each.

use larder_fleet::{ledger::Run, night::Headline};
use serde_json::{Value, json};

use super::summary::headline;

/// The runs, for people or for programs.
pub(crate) fn list(runs: &[Run], as_json: bool) -> String {
    if as_json {
        let runs: Vec<Value> = runs.iter().map(document).collect();
        return format!("{:#}", json!({ "runs": runs }));
    }
    if runs.is_empty() {
        return "no run yet".to_owned();
    }
    runs.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn document(run: &Run) -> Value {
    let came_to = run.report.as_deref().and_then(Headline::read);
    let headline = came_to.as_ref().map(headline);
    let good = came_to.as_ref().map(|run| run.is_good);
    json!({ "run": run.number, "began": run.began, "good": good, "headline": headline })
}

fn line(run: &Run) -> String {
    let came_to = match run.report.as_deref().map(Headline::read) {
        Some(Some(came_to)) => headline(&came_to),
        Some(None) => "its report cannot be read by this Larder".to_owned(),
        None => "no report: under way, killed, or long ago".to_owned(),
    };
    let began = run.began.parse().map(|began: jiff::Timestamp| format!("{began:.0}"));
    format!("{:>6}  {}  {came_to}", run.number, began.unwrap_or_else(|_| run.began.clone()))
}
