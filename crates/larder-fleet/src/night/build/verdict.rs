//! What a derivation failed of, judged from what is known. Pure.
//!
//! The kernel's own word (its log names a process of that build; or its counter rose and the build bears the mark of
//! signal 9) is knowledge. Everything else about memory is an inference, and is called one.

use crate::ledger::FailureKind;

/// What a shell, Nix or a compiler says of a process that signal 9 ended.
const KILLED: [&str; 5] = [
    "failed due to signal 9",
    "failed with exit code 137",
    "exit status 137",
    "Killed signal terminated program",
    "signal: 9, SIGKILL",
];

/// What programs say that were not killed, but got no memory.
const NO_MEMORY: [&str; 5] = [
    "cannot allocate memory",
    "virtual memory exhausted",
    "std::bad_alloc",
    "out of memory",
    "memory exhausted",
];

/// What is said when the disk is full. Nix adds the last one to a failed build's log by itself.
const NO_ROOM: [&str; 3] =
    ["no space left on device", "disk is full", "may have been caused by lack of free disk space"];

/// What is known of a derivation that failed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Evidence<'a> {
    /// What Nix said of it.
    pub said: &'a str,
    /// The end of its log.
    pub log: &'a str,
    /// Whether what it makes is known beforehand, as of a download: only these have a network.
    pub is_download: bool,
    /// Whether another machine built it, whose kernel is not asked.
    pub is_remote: bool,
    /// Whether the kernel's log names one of its processes.
    pub is_named_by_the_kernel: bool,
}

/// How many processes of the builds the kernel killed in a round. Nothing, where no counter tells.
pub(super) type Kills = Option<u64>;

/// What it failed of, as far as it can be judged by itself.
pub(super) fn kind(evidence: &Evidence<'_>, kills: Kills) -> FailureKind {
    let kills = if evidence.is_remote { None } else { kills };
    if evidence.said.contains("timed out after") || evidence.said.contains("silent for more than") {
        return FailureKind::TimedOut;
    }
    if evidence.is_named_by_the_kernel {
        return FailureKind::Memory { inferred: false };
    }
    if is_killed(evidence) {
        // Where the kernel did not do it, something did that watches over memory, as systemd-oomd does.
        return FailureKind::Memory { inferred: kills.is_none_or(|kills| kills == 0) };
    }
    if evidence.said.contains("hash mismatch") {
        return FailureKind::Itself;
    }
    // Before what is said of memory: it names the disk, not memory.
    if evidence.is_download || says(evidence, &NO_ROOM) {
        return FailureKind::Transient;
    }
    // With a counter, such words are the program's own affair unless the kernel killed something.
    if says(evidence, &NO_MEMORY) && kills != Some(0) {
        return FailureKind::Memory { inferred: true };
    }
    FailureKind::Itself
}

/// The same for all that failed in a round. Where the kernel killed and nothing that failed bears a mark, what
/// failed by itself may have lost a process without saying so.
pub(super) fn kinds(all: &[Evidence<'_>], kills: Kills) -> Vec<FailureKind> {
    let mut kinds: Vec<FailureKind> = all.iter().map(|one| kind(one, kills)).collect();
    let is_memory = |kind: &FailureKind| matches!(kind, FailureKind::Memory { .. });
    if kills.is_some_and(|kills| kills > 0) && !kinds.iter().any(is_memory) {
        for (kind, evidence) in kinds.iter_mut().zip(all) {
            let says_why = evidence.is_remote || evidence.said.contains("hash mismatch");
            if *kind == FailureKind::Itself && !says_why {
                *kind = FailureKind::Memory { inferred: true };
            }
        }
    }
    kinds
}

fn is_killed(evidence: &Evidence<'_>) -> bool {
    let marked = |text: &str| KILLED.iter().any(|mark| text.contains(mark));
    // A shell's own word for it stands at the end of a line: `line 3:  4711 Killed   cc1plus …` in some.
    let by_a_shell =
        |line: &str| line == "Killed" || line.ends_with(" Killed") || line.contains(" Killed  ");
    marked(evidence.said) || marked(evidence.log) || evidence.log.lines().any(by_a_shell)
}

fn says(evidence: &Evidence<'_>, words: &[&str]) -> bool {
    let text = format!("{}\n{}", evidence.said, evidence.log).to_lowercase();
    words.iter().any(|word| text.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMORY: FailureKind = FailureKind::Memory { inferred: false };
    const INFERRED: FailureKind = FailureKind::Memory { inferred: true };

    fn said(said: &str) -> Evidence<'_> {
        Evidence { said, ..Evidence::default() }
    }

    fn log(log: &str) -> Evidence<'_> {
        Evidence { log, ..Evidence::default() }
    }

    #[test]
    fn signal_9_is_knowledge_where_the_kernel_counted_and_an_inference_where_not() {
        let words = [
            "builder for '/nix/store/…-big.drv' failed due to signal 9 (Killed)",
            "builder for '/nix/store/…-big.drv' failed with exit code 137",
            "Cannot build '/nix/store/…-big.drv'.\nReason: builder failed due to signal 9 (Killed).",
            "Cannot build '/nix/store/…-big.drv'.\nReason: builder failed with exit code 137.",
        ];
        for word in words {
            assert_eq!(kind(&said(word), Some(1)), MEMORY, "{word}");
            assert_eq!(kind(&said(word), None), INFERRED, "{word}");
            assert_eq!(kind(&said(word), Some(0)), INFERRED, "a killer in user space: {word}");
            let remote = Evidence { is_remote: true, ..said(word) };
            assert_eq!(kind(&remote, Some(1)), INFERRED, "our kernel did not count that");
        }
    }

    #[test]
    fn compilers_and_shells_say_it_in_their_own_way() {
        for text in [
            "gcc: fatal error: Killed signal terminated program cc1plus\ncompilation terminated.",
            "Killed",
            "build.sh: line 3:  4711 Killed                  ./link",
            "collect2: fatal error: ld terminated\nerror: linking failed (signal: 9, SIGKILL: kill)",
        ] {
            assert_eq!(kind(&log(text), Some(2)), MEMORY, "{text}");
            assert_eq!(kind(&log(text), None), INFERRED, "{text}");
        }
        for text in ["virtual memory exhausted: Cannot allocate memory", "what():  std::bad_alloc"]
        {
            assert_eq!(kind(&log(text), None), INFERRED, "{text}");
            assert_eq!(
                kind(&log(text), Some(0)),
                FailureKind::Itself,
                "the kernel says no: {text}"
            );
        }
    }

    #[test]
    fn what_the_kernels_log_names_is_known() {
        let named = Evidence { is_named_by_the_kernel: true, ..log("make: *** [all] Error 1") };
        assert_eq!(kind(&named, None), MEMORY);
    }

    #[test]
    fn a_kill_that_nobody_bears_the_mark_of_falls_on_whoever_failed() {
        let quiet = log("make: *** [all] Error 1");
        assert_eq!(kinds(&[quiet], Some(1)), [INFERRED]);
        assert_eq!(kinds(&[quiet], Some(0)), [FailureKind::Itself]);
        assert_eq!(kinds(&[quiet], None), [FailureKind::Itself]);
        assert_eq!(kinds(&[quiet, log("Killed")], Some(1)), [FailureKind::Itself, MEMORY]);
        let mismatch = said("hash mismatch in fixed-output derivation '/nix/store/…-x.drv'");
        assert_eq!(kinds(&[mismatch], Some(1)), [FailureKind::Itself]);
    }

    #[test]
    fn disk_and_network_are_transient_and_a_wrong_hash_is_not() {
        let download = Evidence { is_download: true, ..said("failed with exit code 1") };
        assert_eq!(kind(&download, Some(0)), FailureKind::Transient);
        let mismatch = Evidence { is_download: true, ..said("hash mismatch in fixed-output") };
        assert_eq!(kind(&mismatch, Some(0)), FailureKind::Itself);
        let full = log("dd: error writing 'x': No space left on device");
        assert_eq!(kind(&full, None), FailureKind::Transient);
        assert_eq!(kind(&said("timed out after 5 seconds"), None), FailureKind::TimedOut);
        assert_eq!(kind(&log("error: no such thing"), None), FailureKind::Itself);
    }
}
