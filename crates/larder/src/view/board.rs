//! The live board: a line for each host, and one for what is under way.

use std::{collections::BTreeMap, time::Duration};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use larder_fleet::{
    host::HostName,
    night::{BuildPlan, Notice, Observer},
};
use larder_formats::store_path::StorePath;

use super::{lines, plain, summary};

/// How often the elapsed time moves.
const TICK: Duration = Duration::from_millis(250);

/// Draws the board on standard error, and clears it when dropped.
pub(super) struct Board {
    bars: MultiProgress,
    hosts: BTreeMap<HostName, (ProgressBar, HostProgress)>,
    activity: ProgressBar,
}

/// How far a host is.
#[derive(Debug, Default)]
struct HostProgress {
    plan: BuildPlan,
    built: usize,
    fetched: usize,
    /// What is being built, and where, if not here.
    building: BTreeMap<StorePath, String>,
    finished: bool,
}

impl Board {
    pub(super) fn new() -> Self {
        let bars = MultiProgress::new();
        let activity = begin(bars.add(ProgressBar::new_spinner()));
        Self { bars, hosts: BTreeMap::new(), activity }
    }

    fn set(&self, host: &HostName, text: String) {
        if let Some((bar, _)) = self.hosts.get(host) {
            bar.set_message(format!("{host}: {text}"));
        }
    }

    /// Hosts are evaluated again where another lock is tried.
    fn start_over(&mut self, host: &HostName) {
        if let Some((bar, progress)) = self.hosts.get_mut(host) {
            *progress = HostProgress::default();
            if bar.is_finished() {
                bar.reset();
            }
        }
        self.set(host, "evaluating".to_owned());
    }

    fn finish(&mut self, host: &HostName, text: String) {
        if let Some((bar, progress)) = self.hosts.get_mut(host) {
            progress.finished = true;
            bar.finish_with_message(format!("{host}: {text}"));
        }
    }

    /// Applies a change to every host, and shows those whose text it changed.
    fn update(&mut self, change: impl Fn(&mut HostProgress)) {
        for (host, (bar, progress)) in &mut self.hosts {
            let before = progress.text();
            change(progress);
            let after = progress.text();
            if after != before && !progress.finished {
                bar.set_message(format!("{host}: {after}"));
            }
        }
    }
}

impl Observer for Board {
    fn notice(&mut self, notice: Notice<'_>) {
        match notice {
            Notice::Hosts(hosts) => {
                for host in hosts {
                    let bar = ProgressBar::new_spinner();
                    let bar = begin(self.bars.insert_before(&self.activity, bar));
                    bar.set_message(format!("{host}: waiting"));
                    self.hosts.insert(host.clone(), (bar, HostProgress::default()));
                }
                self.activity.set_message("");
            }
            Notice::Evaluating(host) => self.start_over(host),
            Notice::Checked(host) => self.finish(host, "evaluates".to_owned()),
            Notice::EvaluationFailed(host, _) => {
                self.finish(host, "cannot be evaluated".to_owned());
            }
            Notice::Evaluated(host, plan) => {
                if let Some((_, progress)) = self.hosts.get_mut(host) {
                    progress.plan = plan.clone();
                }
                self.set(host, summary::plan(plan));
            }
            Notice::BuildStarted { derivation, machine } => {
                self.update(|host| host.start(derivation, machine));
            }
            Notice::BuildEnded(derivation) => self.update(|host| host.end(derivation)),
            Notice::FetchEnded(path) => self.update(|host| host.fetch(path)),
            Notice::BuildLine { derivation, line } => {
                let line = plain(line);
                self.activity.set_message(format!("{}> {line}", lines::short(derivation)));
            }
            Notice::Done(host, outcome) => self.finish(host, summary::outcome(outcome)),
            Notice::Message(text) => {
                // Standard error that has gone away takes the board with it.
                let _ = self.bars.println(plain(text));
            }
            other => {
                if let Some(line) = lines::line(other) {
                    self.activity.set_message(plain(&line));
                }
            }
        }
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        // The summary says it all again, for good.
        let _ = self.bars.clear();
    }
}

impl HostProgress {
    fn start(&mut self, derivation: &StorePath, machine: &str) {
        if self.plan.build.contains(derivation) {
            self.building.insert(derivation.clone(), plain(machine));
        }
    }

    fn end(&mut self, derivation: &StorePath) {
        if self.building.remove(derivation).is_some() {
            self.built += 1;
        }
    }

    fn fetch(&mut self, path: &StorePath) {
        self.fetched += usize::from(self.plan.fetch.contains(path));
    }

    fn text(&self) -> String {
        let left = self.plan.build.len().saturating_sub(self.built);
        let mut text = format!("{} built, {left} to go", self.built);
        if !self.plan.fetch.is_empty() {
            text.push_str(&format!("; {} of {} downloaded", self.fetched, self.plan.fetch.len()));
        }
        let building: Vec<String> =
            self.building.iter().map(|(path, machine)| lines::placed(path, machine)).collect();
        if !building.is_empty() {
            text.push_str(&format!("; building {}", building.join(", ")));
        }
        text
    }
}

/// Has a bar tell the time. Only once it has its place: before, it would draw a line of its own.
fn begin(bar: ProgressBar) -> ProgressBar {
    // A wrong template would show in the first look at it; the default is an honest stand-in.
    if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed:>4} {wide_msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(TICK);
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_counts_only_what_it_needs() {
        let path = |name: &str| -> StorePath {
            format!("00000000000000000000000000000000-{name}").parse().unwrap()
        };
        let mut host = HostProgress::default();
        host.plan.build = [path("linux.drv"), path("system.drv")].into();
        host.plan.fetch = [path("glibc")].into();
        host.start(&path("linux.drv"), "opi01");
        host.start(&path("of-another-host.drv"), "");
        assert_eq!(host.text(), "0 built, 2 to go; 0 of 1 downloaded; building linux on opi01");
        host.end(&path("linux.drv"));
        host.end(&path("of-another-host.drv"));
        host.fetch(&path("glibc"));
        assert_eq!(host.text(), "1 built, 1 to go; 1 of 1 downloaded");
    }
}
