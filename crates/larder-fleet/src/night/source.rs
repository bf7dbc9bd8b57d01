//! Where the fleet's flake comes from, and the work tree it is fetched into.
//!
//! A run never works in the user's own checkout: it fetches into a folder of its own, so that a lock
//! update or a half-finished run touches nobody's files. From a git repository the *committed* state
//! is taken.

use std::{
    io,
    path::{Path, PathBuf},
};

use larder_nix::command::{CancellationToken, CommandError, Invocation};

/// The schemes that git may be asked to fetch by. Others run programs of the URL's choosing.
const GIT_SCHEMES: &[&str] = &["https", "http", "ssh", "git", "file"];

/// A flake's place, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FlakeSource {
    /// A git repository.
    Git {
        /// What git fetches from.
        url: String,
        /// Branch, tag or full reference; the remote's HEAD without.
        reference: Option<String>,
        /// A commit to stay at.
        revision: Option<String>,
        /// The folder of flake.nix in it.
        folder: Option<String>,
    },
    /// A folder on this machine; if it lies in a git repository, that is fetched.
    Folder {
        /// The folder of flake.nix.
        path: PathBuf,
    },
}

/// Not a flake that can be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FlakeSourceError {
    /// None of the known forms.
    #[error(
        "cannot fetch the flake `{0}`: use a path (`/etc/nixos`), a git URL (`git+ssh://…`, \
         `git+https://…?ref=…&dir=…`, `git@host:path`), `github:owner/repository[/branch]` or `gitlab:…`"
    )]
    Form(String),
    /// A query parameter that would be ignored silently.
    #[error(
        "cannot fetch the flake `{flake}`: the parameter `{parameter}` is not supported (known: ref, rev, dir)"
    )]
    Parameter {
        /// The whole text.
        flake: String,
        /// The parameter.
        parameter: String,
    },
    /// A value that would be taken for an option, or leave the tree.
    #[error("cannot fetch the flake `{flake}`: {value:?} is not a usable {what}")]
    Value {
        /// The whole text.
        flake: String,
        /// Which value.
        what: &'static str,
        /// The value.
        value: String,
    },
    /// A program failed.
    #[error("cannot fetch the flake: {0}")]
    Command(#[from] CommandError),
    /// The work tree cannot be made.
    #[error("cannot prepare {path}: {source}")]
    Io {
        /// The folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The folder has no flake.
    #[error("there is no flake.nix in {0}")]
    NoFlake(PathBuf),
}

/// A fetched flake.
#[derive(Clone, Debug)]
pub struct WorkTree {
    /// The folder of flake.nix.
    pub flake_folder: PathBuf,
    /// The reference that Nix evaluates.
    pub reference: String,
    /// The commit, where it came from git.
    pub commit: Option<String>,
    /// Where it was fetched from with git.
    pub repository: Option<Repository>,
}

/// Where git fetched a flake from.
#[derive(Clone, Debug)]
pub struct Repository {
    /// What git fetches from, and pushes to.
    pub url: String,
    /// The folder of flake.nix in it.
    pub folder: Option<String>,
}

impl WorkTree {
    /// The lock file's path in the repository.
    pub(super) fn lock_path(&self) -> String {
        match self.repository.as_ref().and_then(|repository| repository.folder.as_ref()) {
            Some(folder) => format!("{}/flake.lock", folder.trim_matches('/')),
            None => "flake.lock".to_owned(),
        }
    }
}

impl FlakeSource {
    /// Reads a flake's place.
    pub fn parse(text: &str) -> Result<Self, FlakeSourceError> {
        let (base, query) = text.split_once('?').unwrap_or((text, ""));
        let mut source = Parameters::parse(text, query)?;
        let path = base.strip_prefix("path:").unwrap_or(base);
        // To Nix, a repository on this machine without a revision is the folder as it is.
        let path = path.strip_prefix("git+file://").unwrap_or(path);
        if path.starts_with('/') {
            if source.reference.is_some() || source.revision.is_some() {
                source.url = format!("file://{path}");
                return source.git(text);
            }
            source.check(text)?;
            let path = match &source.folder {
                Some(folder) => Path::new(path).join(folder),
                None => PathBuf::from(path),
            };
            return Ok(Self::Folder { path });
        }
        source.url = match base.split_once(':') {
            Some((forge @ ("github" | "gitlab"), rest)) => source.forge(text, forge, rest)?,
            _ => base.strip_prefix("git+").unwrap_or(base).to_owned(),
        };
        source.git(text)
    }

    /// The flake as it is, where it is, uncommitted edits included; nothing is written there. A remote
    /// one is fetched into `work`.
    pub async fn in_place(
        &self,
        work: &Path,
        cancel: &CancellationToken,
    ) -> Result<WorkTree, FlakeSourceError> {
        let Self::Folder { path } = self else { return self.fetch(work, cancel).await };
        if !path.join("flake.nix").is_file() {
            return Err(FlakeSourceError::NoFlake(path.clone()));
        }
        let reference = match repository_of(path, cancel).await? {
            None => nix_url("path", path),
            Some((top, None)) => nix_url("git+file", &top),
            Some((top, Some(folder))) => {
                format!("{}?dir={}", nix_url("git+file", &top), encode(&folder))
            }
        };
        let (commit, repository) = (None, None);
        Ok(WorkTree { flake_folder: path.clone(), reference, commit, repository })
    }

    /// Fetches the flake's newest state into `work`, which is made, brought up to date, or made anew
    /// where an interrupted run left it unusable.
    pub async fn fetch(
        &self,
        work: &Path,
        cancel: &CancellationToken,
    ) -> Result<WorkTree, FlakeSourceError> {
        let tree = match self {
            Self::Folder { path } => match repository_of(path, cancel).await? {
                None => copy_folder(path, work, cancel).await?,
                Some((top, folder)) => {
                    let source = Self::Git {
                        url: format!("file://{}", top.display()),
                        reference: None,
                        revision: None,
                        folder,
                    };
                    Box::pin(source.fetch(work, cancel)).await?
                }
            },
            Self::Git { url: from, reference, revision, folder } => {
                let (reference, revision) = (reference.as_deref(), revision.as_deref());
                let wanted = Wanted { url: from, reference, revision };
                let commit = wanted.check_out_or_start_over(work, cancel).await?;
                let url = nix_url("git+file", work);
                let (flake_folder, reference) = match folder {
                    Some(folder) => (work.join(folder), format!("{url}?dir={}", encode(folder))),
                    None => (work.to_owned(), url),
                };
                let repository = Some(Repository { url: from.clone(), folder: folder.clone() });
                WorkTree { flake_folder, reference, commit: Some(commit), repository }
            }
        };
        if !tree.flake_folder.join("flake.nix").is_file() {
            return Err(FlakeSourceError::NoFlake(tree.flake_folder));
        }
        Ok(tree)
    }
}

#[derive(Default)]
struct Parameters {
    url: String,
    reference: Option<String>,
    revision: Option<String>,
    folder: Option<String>,
}

impl Parameters {
    fn parse(text: &str, query: &str) -> Result<Self, FlakeSourceError> {
        let mut parameters = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = Some(value.to_owned()).filter(|value| !value.is_empty());
            match key {
                "ref" => parameters.reference = value,
                "rev" => parameters.revision = value,
                "dir" => parameters.folder = value,
                _ => {
                    return Err(FlakeSourceError::Parameter {
                        flake: text.to_owned(),
                        parameter: key.to_owned(),
                    });
                }
            }
        }
        Ok(parameters)
    }

    fn forge(&mut self, text: &str, forge: &str, rest: &str) -> Result<String, FlakeSourceError> {
        let mut parts = rest.splitn(3, '/');
        let plain = |name: &&str| {
            !name.is_empty()
                && !name.starts_with(['.', '-'])
                && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        };
        let mut name = || parts.next().filter(plain);
        let (Some(owner), Some(repository)) = (name(), name()) else {
            return Err(FlakeSourceError::Form(text.to_owned()));
        };
        if let Some(reference) = parts.next() {
            let is_commit =
                reference.len() == 40 && reference.bytes().all(|byte| byte.is_ascii_hexdigit());
            let slot = if is_commit { &mut self.revision } else { &mut self.reference };
            *slot = Some(reference.to_owned());
        }
        Ok(format!("https://{forge}.com/{owner}/{repository}.git"))
    }

    fn git(self, text: &str) -> Result<FlakeSource, FlakeSourceError> {
        self.check(text)?;
        let Self { url, reference, revision, folder } = self;
        let authority = match url.split_once("://") {
            Some((scheme, rest)) if GIT_SCHEMES.contains(&scheme) => rest.split('/').next(),
            Some(_) => None,
            // `user@host:path`, as ssh and git understand it.
            None => url.split_once(':').and_then(|(authority, path)| {
                let good = authority.contains('@') && !path.is_empty() && !path.starts_with(':');
                good.then_some(authority)
            }),
        };
        // A user or host that begins with a dash would be an option to ssh.
        if authority.is_none_or(|it| it.split('@').any(|part| part.starts_with('-'))) {
            return Err(FlakeSourceError::Form(text.to_owned()));
        }
        Ok(FlakeSource::Git { url, reference, revision, folder })
    }

    /// Refuses values that git would take for something else, and folders outside of the tree.
    fn check(&self, text: &str) -> Result<(), FlakeSourceError> {
        let value = |what, value: &str| {
            let (flake, value) = (text.to_owned(), value.to_owned());
            Err(FlakeSourceError::Value { flake, what, value })
        };
        for (what, part) in [("reference", &self.reference), ("revision", &self.revision)] {
            match part {
                Some(part) if part.starts_with(['-', '+']) || part.contains([' ', ':', '*']) => {
                    return value(what, part);
                }
                _ => {}
            }
        }
        match &self.folder {
            Some(part) if part.starts_with('/') || part.split('/').any(|name| name == "..") => {
                value("folder", part)
            }
            _ => Ok(()),
        }
    }
}

struct Wanted<'a> {
    url: &'a str,
    reference: Option<&'a str>,
    revision: Option<&'a str>,
}

impl Wanted<'_> {
    /// A run that was killed may leave a half-made repository. Rather than knowing all the ways, the
    /// tree is thrown away and fetched again when the first try fails for whatever reason.
    async fn check_out_or_start_over(
        &self,
        work: &Path,
        cancel: &CancellationToken,
    ) -> Result<String, FlakeSourceError> {
        if work.join(".git").is_dir() {
            match self.check_out(work, cancel).await {
                Ok(commit) => return Ok(commit),
                Err(error @ FlakeSourceError::Command(CommandError::Cancelled { .. })) => {
                    return Err(error);
                }
                Err(error) => tracing::debug!(%error, "fetching anew into an empty work tree"),
            }
        }
        empty(work)?;
        git(work).args(["init", "--quiet"]).output(cancel).await?;
        self.check_out(work, cancel).await
    }

    async fn check_out(
        &self,
        work: &Path,
        cancel: &CancellationToken,
    ) -> Result<String, FlakeSourceError> {
        let fetch = git(work).args(["fetch", "--quiet", "--no-tags", "--force", "--", self.url]);
        let fetch = match (self.revision, self.reference) {
            // A bare commit can be asked of few servers; all branches together hold it.
            (Some(_), None) => fetch.arg("+refs/*:refs/remotes/fetched/*"),
            (_, Some(reference)) => fetch.arg(reference),
            (None, None) => fetch.arg("HEAD"),
        };
        fetch.output(cancel).await?;
        let target = self.revision.unwrap_or("FETCH_HEAD");
        git(work)
            .args(["checkout", "--quiet", "--force", "--detach", target])
            .output(cancel)
            .await?;
        git(work).args(["clean", "--quiet", "-ffdx"]).output(cancel).await?;
        Ok(git(work).args(["rev-parse", "HEAD"]).output(cancel).await?.text())
    }
}

/// Git in a folder, asking nobody anything, and speaking English where its words matter.
pub(crate) fn git(folder: &Path) -> Invocation {
    Invocation::new("git")
        .folder(folder)
        .with_unattended_git()
        .env("GIT_ALLOW_PROTOCOL", GIT_SCHEMES.join(":"))
        .env("LC_ALL", "C")
        .args(["-c", "advice.detachedHead=false"])
}

/// The top of the git repository that holds this folder, and the folder's place in it; nothing, if it
/// lies in none. That git cannot tell is an error: taking it for "in none" would take in files that
/// git keeps out.
pub(crate) async fn repository_of(
    folder: &Path,
    cancel: &CancellationToken,
) -> Result<Option<(PathBuf, Option<String>)>, CommandError> {
    let ask = |what: &str| git(folder).args(["rev-parse", what]);
    let top = match ask("--show-toplevel").output(cancel).await {
        Ok(top) => top.text(),
        Err(CommandError::Failed { message, .. }) if message.contains("not a git repository") => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let prefix = ask("--show-prefix").output(cancel).await?.text();
    let prefix = prefix.trim_end_matches('/').to_owned();
    Ok(Some((PathBuf::from(top), Some(prefix).filter(|prefix| !prefix.is_empty()))))
}

async fn copy_folder(
    from: &Path,
    work: &Path,
    cancel: &CancellationToken,
) -> Result<WorkTree, FlakeSourceError> {
    if !from.join("flake.nix").is_file() {
        return Err(FlakeSourceError::NoFlake(from.to_owned()));
    }
    empty(work)?;
    Invocation::new("cp")
        .args(["-a", "--reflink=auto", "--"])
        .arg(from.join("."))
        .arg(work)
        .output(cancel)
        .await?;
    let (commit, repository) = (None, None);
    let reference = nix_url("path", work);
    Ok(WorkTree { flake_folder: work.to_owned(), reference, commit, repository })
}

fn empty(folder: &Path) -> Result<(), FlakeSourceError> {
    let io = |source| FlakeSourceError::Io { path: folder.to_owned(), source };
    let removed = match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => std::fs::remove_file(folder),
        removed => removed,
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io(error)),
        _ => std::fs::create_dir_all(folder).map_err(io),
    }
}

/// A folder as a URL of this scheme.
pub(crate) fn nix_url(scheme: &str, folder: &Path) -> String {
    let slashes = if scheme == "path" { ":" } else { "://" };
    format!("{scheme}{slashes}{}", encode(&folder.to_string_lossy()))
}

/// Percent-encodes what a URL's path may not hold as it is.
pub(crate) fn encode(path: &str) -> String {
    const KEPT: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC
        .remove(b'/')
        .remove(b'-')
        .remove(b'_')
        .remove(b'.')
        .remove(b'~');
    percent_encoding::utf8_percent_encode(path, KEPT).to_string()
}
