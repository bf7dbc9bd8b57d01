//! What a push shows.

use std::{
    io::IsTerminal,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use larder_cache::push::{Event, Observer, Plan, Sent};

use super::text::size;

/// How often a log gets a line, where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Paths that are named one by one; of more, only so many.
const NAMED: usize = 20;

/// A bar over the bytes of NARs, or a line now and then.
pub(crate) struct Board {
    bar: ProgressBar,
    paths: Arc<AtomicU64>,
}

impl Board {
    /// A board for some work on that many bytes.
    pub(crate) fn new(doing: &str, bytes: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr());
        let template = "{prefix}: {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left  {wide_msg}";
        // A wrong template would show in the first look at it; the default is an honest stand-in.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_prefix(doing.to_owned());
        if !std::io::stderr().is_terminal() {
            lines(&bar);
        }
        Self { bar, paths: Arc::default() }
    }

    /// What moves it.
    pub(crate) fn observer(&self) -> Observer {
        let (bar, paths) = (self.bar.clone(), Arc::clone(&self.paths));
        Arc::new(move |event| match event {
            Event::Planned(bytes) => bar.set_length(bytes),
            Event::Started(info) => bar.set_message(info.store_path.name().to_owned()),
            Event::Passed(bytes) => bar.inc(bytes as u64),
            Event::Finished(..) => {
                paths.fetch_add(1, Ordering::Relaxed);
            }
            Event::TriedAgain(path, reason) => {
                bar.suspend(|| super::note(&format!("{path}: {reason}; trying again")));
            }
            Event::Failed(path, reason) => {
                bar.suspend(|| super::note(&format!("{path}: {reason}")));
            }
        })
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// For a log: a line every few seconds, as long as the bar lives.
fn lines(bar: &ProgressBar) {
    let weak = bar.downgrade();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(LINE_EVERY).await;
            let Some(bar) = weak.upgrade().filter(|bar| !bar.is_finished()) else { return };
            let (at, of) = (bar.position(), bar.length().unwrap_or_default());
            let (rate, left) = (bar.per_sec(), bar.eta().as_secs());
            // Rates are shown to the byte by nobody.
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate")]
            let rate = rate as u64;
            super::note(&format!(
                "{}: {} of {}, {}/s, {left} s left",
                bar.prefix(),
                size(at),
                size(of),
                size(rate)
            ));
        }
    });
}

/// What a push would do, in a line.
pub(crate) fn plan(target: &str, plan: &Plan) -> String {
    let mut text = match plan.send.len() {
        0 => format!("{target}: nothing to send"),
        1 => format!("{target}: 1 path to send ({})", size(plan.nar_size())),
        many => format!("{target}: {many} paths to send ({})", size(plan.nar_size())),
    };
    if !plan.there.is_empty() {
        text.push_str(&format!("; {} there already", plan.there.len()));
    }
    let mut names: Vec<&str> = plan.upstream.iter().map(|(_, name)| name.as_str()).collect();
    names.dedup();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let count = plan.upstream.iter().filter(|(_, upstream)| upstream == name).count();
        text.push_str(&format!("; {count} in {name}"));
    }
    for name in &plan.silent {
        text.push_str(&format!("; {name} does not answer, so what it may have is sent"));
    }
    text
}

/// What came of a push.
pub(crate) fn sent(target: &str, plan: &Plan, sent: &Sent) -> String {
    let done = plan.send.len().saturating_sub(sent.failures.len());
    let mut text =
        format!("{target}: {done} paths sent, {} of {}", size(sent.bytes), size(plan.nar_size()));
    if sent.failures.is_empty() {
        return text;
    }
    text.push_str(&format!("; {} failed:", sent.failures.len()));
    for failure in sent.failures.iter().take(NAMED) {
        text.push_str(&format!("\n  {failure}"));
    }
    if sent.failures.len() > NAMED {
        text.push_str(&format!("\n  and {} more", sent.failures.len() - NAMED));
    }
    text.push_str("\nPush again: what is there is not sent twice.");
    text
}
