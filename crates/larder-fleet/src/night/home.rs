//! The lock's way home: one commit on a branch of the flake's repository.
//!
//! Promise: nothing is ever forced, and nothing that people did is undone. Where somebody pushes at the same moment,
//! the one commit is made again on top of theirs; where they changed flake.lock itself, theirs stays. That a lock
//! cannot go home is told, and is no failure: it is published, and the next run starts from it.

use std::time::Duration;

use jiff::Timestamp;
use larder_formats::lock_file::{InputChange, LockFile, LockedInput};
use larder_nix::command::{CancellationToken, CommandError, Invocation};
use serde::{Deserialize, Serialize};

use super::source::{Repository, WorkTree, git};
use crate::{
    ledger::{Held, Ledger, LedgerError, PublishedLock},
    plain::plain,
};

/// How often somebody else may be faster.
const TRIES: u32 = 5;

/// The first pause before another try; each is twice as long as the one before.
const PAUSE: Duration = Duration::from_millis(200);

/// Lines of a log that a commit has of what failed.
const SAID: usize = 5;

/// Where locks go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    /// The branch: the one that is built, or one for review.
    pub branch: String,
    /// Who the commit is by.
    pub name: String,
    /// Their address.
    pub email: String,
    /// How long all of it may take: a hook of the forge may hang, and all else of the run is done.
    pub patience: Duration,
}

/// What became of a lock that was to go home.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "home")]
pub enum WentHome {
    /// It is there.
    Pushed {
        /// The branch.
        branch: String,
        /// The commit.
        commit: String,
    },
    /// It was there already.
    AlreadyThere {
        /// The branch.
        branch: String,
    },
    /// It could not go.
    NotPushed {
        /// The branch.
        branch: String,
        /// Why.
        reason: String,
    },
}

/// A lock to send.
pub(super) struct Sent<'a> {
    pub tree: &'a WorkTree,
    /// The lock, which the work tree has.
    pub lock: &'a LockFile,
    /// The repository's, which it was made from.
    pub repository: &'a LockFile,
    /// The one that was published before.
    pub before: Option<&'a PublishedLock>,
    /// What is written of it.
    pub message: &'a str,
    /// The run that sends it, and when.
    pub run: i64,
    pub now: Timestamp,
}

/// Sends a lock home.
pub(super) async fn send(
    home: &Home,
    sent: &Sent<'_>,
    ledger: &Ledger,
    cancel: &CancellationToken,
) -> WentHome {
    let branch = home.branch.clone();
    let stopped = cancel.child_token();
    let way = Way { home, sent, ledger, cancel: &stopped };
    let going = way.go();
    tokio::pin!(going);
    let gone = match tokio::time::timeout(home.patience, &mut going).await {
        Ok(gone) => gone,
        Err(_) => {
            stopped.cancel();
            going.await.or(Err(HomeError::Silent(home.patience.as_secs())))
        }
    };
    match gone {
        Ok(Some(commit)) => WentHome::Pushed { branch, commit },
        Ok(None) => WentHome::AlreadyThere { branch },
        Err(error) => WentHome::NotPushed { branch, reason: error.to_string() },
    }
}

#[derive(Debug, thiserror::Error)]
enum HomeError {
    #[error("the flake is in no git repository")]
    NoRepository,
    #[error("{0}")]
    Command(#[from] CommandError),
    #[error("{0}")]
    Ledger(#[from] LedgerError),
    #[error("the lock cannot be written down: {0}")]
    Io(#[from] std::io::Error),
    #[error("somebody else changed flake.lock there meanwhile: the next run starts from theirs")]
    Changed,
    #[error("the repository took longer than {0} s")]
    Silent(u64),
    #[error("others pushed to it again and again, {TRIES} times")]
    Busy,
}

struct Way<'a> {
    home: &'a Home,
    sent: &'a Sent<'a>,
    ledger: &'a Ledger,
    cancel: &'a CancellationToken,
}

/// What a commit is made of.
struct Base {
    parents: Vec<String>,
    /// The commit whose files it has, but for the lock.
    files: String,
}

impl Way<'_> {
    async fn go(&self) -> Result<Option<String>, HomeError> {
        let tree = self.sent.tree;
        let (Some(repository), Some(built)) = (&tree.repository, &tree.commit) else {
            return Err(HomeError::NoRepository);
        };
        let mut pause = PAUSE;
        let mut tip = self.tip(repository).await?;
        for _ in 0..TRIES {
            let lock = match &tip {
                Some(tip) => self.lock_at(tip).await?,
                None => None,
            };
            if lock.as_deref() == Some(self.sent.lock.text()) {
                return Ok(None);
            }
            let base = self.base(built, tip.as_deref(), lock.as_deref()).await?;
            let commit = self.commit(&base).await?;
            // Noted first: whatever becomes of the push, one that is there is known to be ours.
            self.ledger.lock_sent(self.sent.run, (&self.home.branch, &commit), self.sent.now)?;
            let to = format!("{commit}:refs/heads/{}", self.home.branch);
            match self.text(["push", "--quiet", "--", &repository.url, &to]).await {
                Ok(_) => return Ok(Some(commit)),
                // Told apart by what is there now: what git says of it is not the same in all versions.
                Err(error) => {
                    let now = self.tip(repository).await?;
                    if now == tip || self.cancel.is_cancelled() {
                        return Err(error);
                    }
                    tip = now;
                }
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        Err(HomeError::Busy)
    }

    /// The newest commit of the branch, fetched; nothing, if there is no such branch.
    async fn tip(&self, repository: &Repository) -> Result<Option<String>, HomeError> {
        let branch = format!("refs/heads/{}", self.home.branch);
        let there = self.text(["ls-remote", "--quiet", "--", &repository.url, &branch]).await?;
        if there.is_empty() {
            return Ok(None);
        }
        self.text(["fetch", "--quiet", "--no-tags", "--", &repository.url, &branch]).await?;
        Ok(Some(self.text(["rev-parse", "FETCH_HEAD"]).await?))
    }

    /// The lock that a commit has.
    async fn lock_at(&self, commit: &str) -> Result<Option<String>, HomeError> {
        let file = format!("{commit}:{}", self.sent.tree.lock_path());
        if self.text(["cat-file", "-e", &file]).await.is_err() {
            return Ok(None);
        }
        let shown = self.git().args(["cat-file", "blob", &file]).output(self.cancel).await?;
        Ok(Some(String::from_utf8_lossy(&shown.stdout).into_owned()))
    }

    /// What the commit is to be made of, such that pushing it forces nothing.
    async fn base(
        &self,
        built: &str,
        tip: Option<&str>,
        lock: Option<&str>,
    ) -> Result<Base, HomeError> {
        let on = |parent: &str| Base { parents: vec![parent.to_owned()], files: parent.to_owned() };
        let Some(tip) = tip else { return Ok(on(built)) };
        if self.is_ancestor(tip, built).await {
            return Ok(on(built));
        }
        let newer = self.is_ancestor(built, tip).await;
        if !newer && self.is_all_ours(tip, built).await? {
            // A branch for review that nobody has merged yet, while the flake went on.
            let parents = vec![tip.to_owned(), built.to_owned()];
            return Ok(Base { parents, files: built.to_owned() });
        }
        let known = [Some(self.sent.repository.text()), self.sent.before.map(|it| &*it.lock)];
        let is_known = match lock {
            Some(_) => known.contains(&lock) || self.ledger.is_commit_of_ours(tip)?,
            None => self.lock_at(built).await?.is_none(),
        };
        if is_known { Ok(on(tip)) } else { Err(HomeError::Changed) }
    }

    /// Whether what a branch has beside the commit that was built is by us alone.
    async fn is_all_ours(&self, tip: &str, built: &str) -> Result<bool, HomeError> {
        let commits = self.text(["rev-list", tip, "--not", built]).await?;
        for commit in commits.lines() {
            if !self.ledger.is_commit_of_ours(commit)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether one commit is the other, or came before it.
    async fn is_ancestor(&self, one: &str, other: &str) -> bool {
        self.text(["merge-base", "--is-ancestor", one, other]).await.is_ok()
    }

    /// Makes the commit, beside the work tree and its index.
    async fn commit(&self, base: &Base) -> Result<String, HomeError> {
        let scratch = tempfile::Builder::new().prefix("larder-index-").tempdir()?;
        let index = scratch.path().join("index");
        let with_index =
            |arguments: &[&str]| self.git().env("GIT_INDEX_FILE", &index).args(arguments);
        let file = self.sent.tree.flake_folder.join("flake.lock");
        let blob = self.git().args(["hash-object", "-w", "--no-filters", "--"]).arg(file);
        let blob = blob.output(self.cancel).await?.text();
        with_index(&["read-tree", &base.files]).output(self.cancel).await?;
        let entry = format!("100644,{blob},{}", self.sent.tree.lock_path());
        with_index(&["update-index", "--add", "--cacheinfo", &entry]).output(self.cancel).await?;
        let files = with_index(&["write-tree"]).output(self.cancel).await?.text();
        let Home { name, email, .. } = self.home;
        let mut commit = self.git();
        for who in ["AUTHOR", "COMMITTER"] {
            commit = commit.env(format!("GIT_{who}_NAME"), name);
            commit = commit.env(format!("GIT_{who}_EMAIL"), email);
        }
        commit = commit.args(["commit-tree", &files, "-F", "-"]).input(self.sent.message);
        for parent in &base.parents {
            commit = commit.args(["-p", parent]);
        }
        Ok(commit.output(self.cancel).await?.text())
    }

    async fn text<const N: usize>(&self, arguments: [&str; N]) -> Result<String, HomeError> {
        Ok(self.git().args(arguments).output(self.cancel).await?.text())
    }

    fn git(&self) -> Invocation {
        git(&self.sent.tree.flake_folder)
    }
}

/// What is written of a lock in its commit.
pub(super) fn message(changes: &[InputChange], held: &[Held]) -> String {
    let names: Vec<&str> = changes.iter().map(|change| &*change.name).collect();
    let mut text = match &*names {
        [] => "flake.lock: complete".to_owned(),
        names if names.len() > 3 => format!("flake.lock: update {} inputs", names.len()),
        names => format!("flake.lock: update {}", names.join(", ")),
    };
    let place = |place: &Option<LockedInput>| {
        place.as_ref().map_or("nothing", |input| &input.description).to_owned()
    };
    if !changes.is_empty() {
        text.push('\n');
    }
    for InputChange { name, from, to } in changes {
        text.push_str(&format!("\n{name}:\n  {}\n  → {}", place(from), place(to)));
    }
    if !held.is_empty() {
        text.push_str("\n\nHeld back:");
    }
    for Held { input, at, bad, since, hosts, failures, message } in held {
        let hosts: Vec<&str> = hosts.iter().map(crate::host::HostName::as_str).collect();
        text.push_str(&format!(
            "\n{input}, since {since:.0}:\n  {at}\n  {bad} breaks {}",
            hosts.join(", ")
        ));
        for failure in failures {
            text.push_str(&format!("\n  {} fails", failure.derivation));
            let from = failure.last_lines.len().saturating_sub(SAID);
            text.extend(failure.last_lines[from..].iter().map(|line| said(line)));
        }
        let lines: Vec<&str> = message.lines().filter(|_| failures.is_empty()).collect();
        let from = lines.len().saturating_sub(SAID);
        text.extend(lines[from..].iter().map(|line| said(line)));
    }
    text
}

/// A line that somebody else wrote, so much of it that a person reads it.
fn said(line: &str) -> String {
    const LONGEST: usize = 200;
    format!("\n    {}", plain(line).chars().take(LONGEST).collect::<String>())
}
