//! `/builds`, `/builds/<n>` and `/builds/<n>.json`: what runs came to.
//!
//! What a page shows is what the terminal shows. Names and logs are anybody's work: all of them are escaped,
//! characters that control something are left out, and a browser runs no script here.

use axum::{
    extract::{Path, State},
    http::{HeaderName, HeaderValue, Uri, header},
    response::{IntoResponse, Response},
};
use larder_cache::words::{day, size};
use larder_fleet::{
    ledger::{Failure, Held, Ledger, Outcome, Run},
    night::{End, Headline, HostReport, LockReport, Names, Origin, Report, Versions, WentHome},
    plain::plain,
};
use maud::{Markup, html};

use crate::{
    error::WebError,
    fleet, landing, page,
    request::build_file::{self, BuildFile},
    site::Shared,
};

/// Runs on one page of the list.
const LISTED: u32 = 50;

/// Lines of a failed build's log on a page.
const SHOWN_LINES: usize = 25;

const STYLE: &str = "table{border-collapse:collapse}td,th{padding:.1rem 1.5rem .1rem 0;text-align:left;vertical-align:top}\
.bad{color:#b00}.good{color:#070}\
@media(prefers-color-scheme:dark){.bad{color:#f77}.good{color:#7c7}}";

const HEADERS: [(HeaderName, HeaderValue); 4] = [
    (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'"),
    ),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
];

/// The runs, newest first.
pub(crate) async fn list(State(site): Shared, uri: Uri) -> Result<Response, WebError> {
    let before = build_file::before(uri.query().unwrap_or_default());
    // Reports may be large: they are read where nobody else has to wait for that.
    let listed = move |ledger: &Ledger| {
        let runs = ledger.runs(before, LISTED)?;
        let older = runs.last().filter(|_| runs.len() >= LISTED as usize).map(|run| run.number);
        Ok((runs.iter().map(row).collect(), older))
    };
    let (rows, older): (Vec<Markup>, _) = fleet::read(&site, listed).await?.unwrap_or_default();
    let body = html! {
        h1 { "Builds" }
        @if rows.is_empty() { p { "None yet." } }
        table { @for row in &rows { (row) } }
        @if let Some(older) = older { p { a href={ "builds?before=" (older) } { "older ones" } } }
    };
    Ok(answer("Builds", &body))
}

/// A run's page, or its report for programs.
pub(crate) async fn build(
    State(site): Shared,
    Path(file): Path<String>,
) -> Result<Response, WebError> {
    let file = BuildFile::parse(&file).ok_or(WebError::Absent)?;
    let (BuildFile::Page(number) | BuildFile::Document(number)) = file;
    let response = move |ledger: &Ledger| {
        let Some(run) = ledger.run(number)? else { return Ok(None) };
        Ok(match file {
            BuildFile::Document(_) => run.report.map(fleet::json_response),
            BuildFile::Page(_) => Some(of_run(&run)),
        })
    };
    fleet::read(&site, response).await?.flatten().ok_or(WebError::Absent)
}

fn of_run(run: &Run) -> Response {
    let title = format!("Build {}", run.number);
    let body = html! {
        h1 { (title) }
        @match run.report.as_deref().map(Report::read) {
            Some(Some(report)) => (whole(&report, run.number)),
            Some(None) => p { "Its report cannot be read by this Larder." },
            None => p { "Begun " (run.began) ". There is no report: it is under way, was killed, or was long ago." },
        }
        p { a href="../builds" { "all builds" } }
    };
    answer(&title, &body)
}

fn answer(title: &str, body: &Markup) -> Response {
    let style = format!("{}{STYLE}", landing::STYLE);
    (HEADERS, page::page(title, &style, body).into_string()).into_response()
}

fn row(run: &Run) -> Markup {
    html! {
        tr {
            td { a href={ "builds/" (run.number) } { (run.number) } }
            td { (minute(&run.began)) }
            td {
                @match run.report.as_deref().map(Headline::read) {
                    Some(Some(run)) => (headline(&run)),
                    Some(None) => "cannot be read by this Larder",
                    None => "no report",
                }
            }
        }
    }
}

/// A time as it is written, to the minute.
fn minute(time: &str) -> String {
    match time.parse::<jiff::Timestamp>() {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M UTC").to_string(),
        Err(_) => plain(time),
    }
}

fn headline(run: &Headline) -> Markup {
    let held: Vec<String> = run.held.iter().map(|input| plain(input)).collect();
    html! {
        @match &run.end {
            End::Finished => {
                span class=(if run.is_good { "good" } else { "bad" }) {
                    (run.hosts - run.failed.len()) " of " (run.hosts) " hosts good"
                }
            }
            End::Cancelled => "cancelled",
            End::Stopped { reason } => { "stopped: " (first_line(reason)) }
            End::Failed { message } => { span class="bad" { "failed: " (first_line(message)) } }
        }
        @if !run.failed.is_empty() { "; failed: " (run.failed.join(", ")) }
        @if !held.is_empty() { "; held: " (held.join(", ")) }
    }
}

fn whole(report: &Report, number: i64) -> Markup {
    html! {
        p { (headline(&report.into())) "." }
        @match &report.end {
            End::Stopped { reason: text } | End::Failed { message: text } => pre { (plain(text)) },
            End::Finished | End::Cancelled => {}
        }
        @if !report.hosts.is_empty() {
            h2 { "Hosts" }
            table { @for host in &report.hosts { (of_host(host)) } }
        }
        @for host in &report.hosts { (failure(host)) }
        @for held in &report.held { (of_held(held)) }
        @for left_out in &report.left_out {
            p { code { (plain(&left_out.name)) } " was left out: it " (plain(&left_out.reason)) "." }
        }
        @if !report.changes.is_empty() {
            h2 { "Inputs" }
            table {
                @for change in &report.changes {
                    tr {
                        td { (plain(&change.input)) }
                        td { (place(change.from.as_deref())) " → " (place(change.to.as_deref())) }
                    }
                }
            }
        }
        @if let Some(lock) = &report.lock { (of_lock(lock)) }
        @for host in &report.hosts {
            @if let Some(versions) = &host.versions { (of_versions(host, versions)) }
        }
        (names("Built", &report.builds))
        (names("Downloaded", &report.downloads))
        (figures(report))
        p { "For programs: " a href={ (number) ".json" } { (number) ".json" } "." }
    }
}

fn of_host(host: &HostReport) -> Markup {
    html! {
        tr {
            td { (host.host) }
            td {
                @match &host.outcome {
                    Some(Outcome::Built) => span class="good" { "built" },
                    Some(Outcome::Unchanged) => "unchanged",
                    Some(Outcome::EvaluationFailed { .. }) => span class="bad" { "failed to evaluate" },
                    Some(Outcome::BuildFailed { .. }) => span class="bad" { "failed to build" },
                    Some(Outcome::Unfinished { .. }) => span class="bad" { "not finished" },
                    Some(Outcome::NotPublished { .. }) => {
                        span class="bad" { "built, but not published in full" }
                    }
                    None => "",
                }
                @if let Some(since) = host.failing_since { " since " (day(since)) }
            }
            td {
                @if let Some(revision) = host.revision { "revision " (revision) }
                @else if let Some(good) = host.last_good {
                    "stays at revision " (good.revision) " of " (day(good.time))
                }
            }
            td { @if let Some(path) = &host.store_path { code { (path) } } }
        }
    }
}

fn failure(host: &HostReport) -> Markup {
    let (failures, message): (&[Failure], &str) = match &host.outcome {
        Some(Outcome::BuildFailed { failures, message, .. }) => (failures, message),
        Some(
            Outcome::EvaluationFailed { message }
            | Outcome::Unfinished { message }
            | Outcome::NotPublished { message },
        ) => (&[], message),
        Some(Outcome::Built | Outcome::Unchanged) | None => return Markup::default(),
    };
    html! {
        h2 { (host.host) }
        (logs(failures, message))
    }
}

fn of_held(held: &Held) -> Markup {
    let hosts: Vec<&str> = held.hosts.iter().map(|host| host.as_str()).collect();
    html! {
        h2 { (plain(&held.input)) " is held" }
        p {
            "Since " (day(held.since)) " it stays at " code { (plain(&held.at)) } ": with "
            code { (plain(&held.bad)) } ", " (hosts.join(", ")) " would fail."
        }
        (logs(&held.failures, &held.message))
    }
}

/// Where the run's lock came from and where it went, as far as that is not as usual.
fn of_lock(lock: &LockReport) -> Markup {
    html! {
        @if let Origin::Published { run } = lock.start {
            p { "It started from the lock that " a href=(run) { "build " (run) } " published." }
        }
        @for older in &lock.older {
            p class="bad" { (plain(&older.input)) " is older than what was published before." }
        }
        @if let Some(why) = &lock.undecided {
            p class="bad" {
                "Nothing was updated: some hosts fail with the new lock, and it could not be found out by \
                 which input."
            }
            pre { (plain(why)) }
        }
        @match &lock.home {
            Some(WentHome::Pushed { branch, commit }) => {
                p { "flake.lock was pushed to " code { (plain(branch)) } " as " code { (plain(commit)) } "." }
            }
            Some(WentHome::AlreadyThere { branch }) => {
                p { code { (plain(branch)) } " had this flake.lock already." }
            }
            Some(WentHome::NotPushed { branch, reason }) => {
                p class="bad" { "flake.lock was not pushed to " code { (plain(branch)) } ":" }
                pre { (plain(reason)) }
            }
            None => {}
        }
    }
}

/// The end of each failed derivation's log; without any, what Nix said.
fn logs(failures: &[Failure], message: &str) -> Markup {
    html! {
        @for failure in failures {
            p { code { (plain(&failure.derivation)) } " failed; the end of its log:" }
            pre {
                @for line in &failure.last_lines[failure.last_lines.len().saturating_sub(SHOWN_LINES)..] {
                    (plain(line)) "\n"
                }
            }
        }
        @if failures.is_empty() { pre { (plain(message)) } }
    }
}

fn of_versions(host: &HostReport, Versions { changes, omitted }: &Versions) -> Markup {
    let packages = &changes.packages;
    let joined = |versions: &std::collections::BTreeSet<String>| {
        let versions: Vec<String> = versions.iter().map(|version| plain(version)).collect();
        versions.join(", ")
    };
    html! {
        h2 { "What changed in " (host.host) }
        table {
            @for one in &packages.changed {
                tr { td { (plain(&one.name)) } td { (joined(&one.before)) " → " (joined(&one.after)) } }
            }
            @for one in &packages.added {
                tr { td { (plain(&one.name)) } td { (joined(&one.versions)) " (new)" } }
            }
            @for one in &packages.removed {
                tr { td { (plain(&one.name)) } td { (joined(&one.versions)) " (gone)" } }
            }
        }
        p {
            @if *omitted > 0 { "And " (omitted) " more. " }
            (packages.rebuilt) " rebuilt at the same version. All of it takes " (size(changes.closure_after))
            @if let Some(before) = changes.closure_before { ", before " (size(before)) } "."
        }
    }
}

fn names(what: &str, Names { names, omitted }: &Names) -> Markup {
    html! {
        @if !names.is_empty() {
            h2 { (what) }
            p {
                @for (index, one) in names.iter().enumerate() {
                    @if index > 0 { ", " }
                    (plain(&one.name))
                    @if one.count > 1 { " ×" (one.count) }
                }
                @if *omitted > 0 { " and " (omitted) " more" }
            }
        }
    }
}

fn figures(report: &Report) -> Markup {
    let seconds =
        |milliseconds: u64| format!("{}.{} s", milliseconds / 1000, milliseconds % 1000 / 100);
    html! {
        h2 { "Figures" }
        table {
            @if let (Some(began), Some(ended)) = (report.began, report.ended) {
                tr { td { "from, to" } td { (format!("{began:.0}")) ", " (format!("{ended:.0}")) } }
            }
            tr {
                td { "took" }
                td {
                    (seconds(report.durations.whole)) "; evaluation " (seconds(report.durations.evaluation))
                    ", building " (seconds(report.durations.building))
                }
            }
            tr { td { "derivations built" } td { (report.built) } }
            tr { td { "paths downloaded" } td { (report.fetched) ", " (size(report.downloaded_bytes)) } }
            @if let Some(disk) = &report.disk {
                tr { td { "disk" } td { (size(disk.used)) " used, " (size(disk.free)) " free" } }
            }
            @for peak in &report.peaks {
                tr { td { "most memory of " (plain(&peak.name)) } td { (size(peak.bytes)) } }
            }
            @if let Some(commit) = &report.commit { tr { td { "commit" } td { code { (plain(commit)) } } } }
        }
    }
}

fn place(place: Option<&str>) -> String {
    place.map_or_else(|| "nothing".to_owned(), plain)
}

/// The first line of a text, of which only so much.
fn first_line(text: &str) -> String {
    plain(text.lines().next().unwrap_or_default()).chars().take(200).collect()
}
