//! What is told: steps, what happened in each, and the list of claims at the end.

#![expect(clippy::print_stdout, reason = "telling is what it is for")]

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use larder_testkit::Program;

/// How long a program may take.
const LIMIT: Duration = Duration::from_secs(600);

/// How often a terminal is told what goes on, and how often a log is.
const TERMINAL: Duration = Duration::from_millis(100);
const LOG: Duration = Duration::from_secs(10);

/// The demo as it is told.
#[derive(Debug)]
pub(crate) struct Story {
    started: Instant,
    steps: u32,
    claims: Vec<(String, bool)>,
    terminal: bool,
}

/// A program's end.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) output: String,
    pub(crate) took: Duration,
}

impl Story {
    pub(crate) fn begin() -> Self {
        let terminal = std::io::stdout().is_terminal();
        Self { started: Instant::now(), steps: 0, claims: Vec::new(), terminal }
    }

    pub(crate) fn title(&self, text: &str) {
        println!("\n{}\n", self.styled("1", text));
    }

    /// A new step.
    pub(crate) fn step(&mut self, text: &str) {
        self.steps += 1;
        let number = format!("{:2}", self.steps);
        println!("\n{}  {}", self.styled("1;36", &number), self.styled("1", text));
    }

    /// Something worth knowing.
    pub(crate) fn say(&self, text: &str) {
        text.lines().for_each(|line| println!("    {line}"));
    }

    /// What somebody would type, with what it stands for.
    pub(crate) fn typed(&self, machine: &str, text: &str) {
        println!("    {}", self.styled("33", &format!("{machine} $ {text}")));
    }

    /// A file's text, indented.
    pub(crate) fn file(&self, path: &str, text: &str) {
        println!("    {path}");
        text.lines().for_each(|line| println!("    {} {line}", self.styled("2", "│")));
    }

    /// Runs a program, telling its newest line while it goes on.
    pub(crate) fn run(&self, program: Program) -> Ran {
        let started = Instant::now();
        let mut running = program.spawn();
        let mut told = Instant::now();
        while running.is_running() && started.elapsed() < LIMIT {
            thread::sleep(Duration::from_millis(20));
            if told.elapsed() >= if self.terminal { TERMINAL } else { LOG } {
                self.progress(running.output().lines().last().unwrap_or_default(), started);
                told = Instant::now();
            }
        }
        let code = running.wait(Duration::ZERO);
        let took = started.elapsed();
        // Its last words are read by a thread of their own.
        thread::sleep(Duration::from_millis(50));
        self.clear();
        Ran { code, output: running.output(), took }
    }

    /// Something that is to hold, and whether it does.
    pub(crate) fn check(&mut self, claim: &str, holds: bool) {
        self.claims.push((claim.to_owned(), holds));
    }

    /// Tells which claims held.
    pub(crate) fn finish(self) -> ExitCode {
        println!("\n{}\n", self.styled("1", "Was it as promised?"));
        for (claim, holds) in &self.claims {
            let mark =
                if *holds { self.styled("32", "✓") } else { self.styled("31", "✗ NOT SO:") };
            println!("  {mark} {claim}");
        }
        let seconds = self.started.elapsed().as_secs();
        let failed = self.claims.iter().filter(|(_, holds)| !holds).count();
        if failed == 0 {
            println!("\n  all of it, in {seconds} s");
            return ExitCode::SUCCESS;
        }
        println!("\n  {failed} of {} claims did not hold", self.claims.len());
        ExitCode::FAILURE
    }

    fn progress(&self, line: &str, started: Instant) {
        let seconds = started.elapsed().as_secs();
        let line: String = shorten(line).chars().take(60).collect();
        if self.terminal {
            print!("\r\x1b[2K    {}", self.styled("2", &format!("{seconds:3} s  {line}")));
            // A terminal that has gone away will be noticed by the next line.
            let _ = std::io::stdout().flush();
        } else {
            println!("    … {seconds} s: {line}");
        }
    }

    fn clear(&self) {
        if self.terminal {
            print!("\r\x1b[2K");
        }
    }

    fn styled(&self, style: &str, text: &str) -> String {
        if self.terminal { format!("\x1b[{style}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// A line outside of any step.
pub(crate) fn tell(text: &str) {
    println!("{text}");
}

/// A number of bytes, for people.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 2] = [(1 << 20, "MiB"), (1 << 10, "KiB")];
    let unit = UNITS.iter().find(|(unit, _)| bytes >= *unit);
    match unit {
        // Rounded to tenths, without a float.
        Some((unit, name)) => {
            let tenths = (bytes * 10 + unit / 2) / unit;
            format!("{}.{} {name}", tenths / 10, tenths % 10)
        }
        None => format!("{bytes} B"),
    }
}

/// Seconds, in tenths.
pub(crate) fn seconds(took: Duration) -> String {
    format!("{}.{} s", took.as_secs(), took.subsec_millis() / 100)
}

/// The same text with the hash of each store path cut to its first characters.
pub(crate) fn shorten(text: &str) -> String {
    let mut parts = text.split("/nix/store/");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| match part.split_at_checked(32) {
        Some((hash, rest)) if rest.starts_with('-') => {
            format!("{text}/nix/store/{}…{rest}", &hash[..6])
        }
        _ => format!("{text}/nix/store/{part}"),
    })
}
