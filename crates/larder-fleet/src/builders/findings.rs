//! What a look at a builder means: pure, from what was said to findings, each with its remedy.

use std::{fmt, time::Duration};

use jiff::Timestamp;
use larder_nix::{
    nix::Version,
    settings::{Settings, is_among},
};

use super::{builder::Builder, words::Word};

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is about.
    pub about: Subject,
    /// How it is.
    pub verdict: Verdict,
    /// What was found.
    pub what: String,
    /// What to do about it; none where it is well.
    pub remedy: Option<String>,
}

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Well,
    /// It builds, and something is not as it should be, or could not be told.
    Doubtful,
    /// It keeps the builder from building.
    Wrong,
}

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is what it says")]
pub enum Subject {
    Reach,
    HostKey,
    Key,
    LoginShell,
    Nix,
    Trust,
    Systems,
    Features,
    Substitutes,
    Clock,
    Disk,
    Build,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Reach => "reach",
            Self::HostKey => "host key",
            Self::Key => "key",
            Self::LoginShell => "login shell",
            Self::Nix => "nix",
            Self::Trust => "trust",
            Self::Systems => "systems",
            Self::Features => "features",
            Self::Substitutes => "substitutes",
            Self::Clock => "clock",
            Self::Disk => "disk",
            Self::Build => "build",
        })
    }
}

/// What came of a command on a builder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Said {
    /// It was not asked.
    #[default]
    Nothing,
    /// It ended well, having printed this.
    Well(String),
    /// It failed, or ssh did.
    Failed {
        /// Its exit status, which is 255 where ssh failed by itself.
        code: Option<i32>,
        /// Standard output.
        printed: String,
        /// Standard error.
        message: String,
    },
    /// It did not end.
    Late(Duration),
}

/// Whether one gets in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// Commands are run.
    Shell,
    /// Nix answers and nothing else: the key is bound to it.
    Bound,
    /// No.
    None(Said),
}

/// What came of a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Built {
    /// It came back.
    Well,
    /// It failed, with these words.
    Failed(String),
    /// It did not end.
    Late(Duration),
}

/// Everything that was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answers {
    /// Whether one gets in.
    pub login: Login,
    /// `nix-store --version`.
    pub nix: Said,
    /// `nix config show --json`.
    pub settings: Said,
    /// `id -un`.
    pub user: Said,
    /// `id -Gn`.
    pub groups: Said,
    /// `df -P -k /nix/store /`.
    pub disk: Said,
    /// `date +%s`, and the time here before and after.
    pub clock: (Said, Timestamp, Timestamp),
    /// The builds, by their systems.
    pub built: Vec<(Word, Built)>,
}

impl Said {
    fn text(&self) -> Option<&str> {
        match self {
            Self::Well(text) => Some(text.trim()),
            _ => None,
        }
    }

    /// Everything that was said, for people.
    fn words(&self) -> String {
        match self {
            Self::Nothing => "not asked".to_owned(),
            Self::Well(text) => one_line(text),
            Self::Failed { printed, message, .. } => one_line(&format!("{printed}\n{message}")),
            Self::Late(patience) => format!("no answer in {} seconds", patience.as_secs()),
        }
    }
}

impl Answers {
    /// Those of one of whom nothing else is known.
    #[must_use]
    pub fn of(login: Login) -> Self {
        let time = Timestamp::UNIX_EPOCH;
        Self {
            login,
            nix: Said::Nothing,
            settings: Said::Nothing,
            user: Said::Nothing,
            groups: Said::Nothing,
            disk: Said::Nothing,
            clock: (Said::Nothing, time, time),
            built: Vec::new(),
        }
    }

    /// Its Nix.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        Version::parse(self.nix.text()?)
    }
}

/// What is to be said of a builder.
#[must_use]
pub fn findings(builder: &Builder, answers: &Answers) -> Vec<Finding> {
    let mut all = vec![login(builder, &answers.login)];
    if matches!(answers.login, Login::Shell) {
        all.push(nix(answers));
        match answers.settings.text().and_then(Settings::parse) {
            Some(settings) => {
                all.push(trust(&settings, answers));
                all.push(systems(builder, &settings));
                all.push(features(builder, &settings));
                all.push(substitutes(&settings));
            }
            None if answers.version().is_some() => all.push(doubtful(
                Subject::Trust,
                format!("its settings cannot be read: {}", answers.settings.words()),
                "look at its nix.conf; the build below tells what matters most",
            )),
            None => {}
        }
        all.push(clock(answers));
        all.push(disk(&answers.disk));
    }
    all.extend(answers.built.iter().map(|(system, built)| build(system, built)));
    all
}

fn well(about: Subject, what: impl Into<String>) -> Finding {
    Finding { about, verdict: Verdict::Well, what: what.into(), remedy: None }
}

fn doubtful(about: Subject, what: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { about, verdict: Verdict::Doubtful, what: what.into(), remedy: Some(remedy.into()) }
}

fn wrong(about: Subject, what: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { about, verdict: Verdict::Wrong, what: what.into(), remedy: Some(remedy.into()) }
}

fn one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let all = lines.collect::<Vec<_>>().join("; ");
    if all.is_empty() { "it says nothing".to_owned() } else { all.chars().take(400).collect() }
}

/// Without what Nix tells of its progress before.
fn from_the_error(said: &str) -> &str {
    said.find("error:").and_then(|at| said.get(at..)).unwrap_or(said)
}

/// ssh's own words tell why one does not get in: they are the same for twenty years.
fn login(builder: &Builder, login: &Login) -> Finding {
    let said = match login {
        Login::Shell => return well(Subject::Reach, format!("{} lets us in", builder.host)),
        Login::Bound => {
            return doubtful(
                Subject::Reach,
                "Nix answers there and nothing else: the key is bound to it",
                "nothing, if that is meant (`command=` in authorized_keys); what follows is only what can be seen so",
            );
        }
        Login::None(said) => said,
    };
    let words = said.words();
    let has = |all: &[&str]| all.iter().any(|it| words.contains(it));
    let host = &builder.host;
    if has(&["Host key verification failed", "IDENTIFICATION HAS CHANGED", "host key is known"]) {
        let remedy = format!(
            "compare what `ssh-keyscan -t ed25519 {host}` prints here with `cat /etc/ssh/ssh_host_ed25519_key.pub` \
             there, and set `host-key` to it"
        );
        return wrong(Subject::HostKey, words, remedy);
    }
    if has(&["Permission denied", "Too many authentication failures", "UNPROTECTED PRIVATE KEY"]) {
        let remedy = "the public half of `key` must be in the authorized_keys of `user` there, and the private one \
                      readable by its owner alone (0600); `larder builders keygen` makes a pair and says what to do \
                      with it";
        return wrong(Subject::Key, words, remedy);
    }
    if let Said::Well(_) | Said::Failed { code: None | Some(..255), .. } = said {
        let remedy = "give the user a login shell: on NixOS `users.users.<name>.isNormalUser = true` or `.shell = \
                      pkgs.bashInteractive`, since one with `isSystemUser` alone has none. What the shell prints by itself \
                      (in .bashrc) disturbs Nix as well";
        return wrong(Subject::LoginShell, words, remedy);
    }
    let remedy = format!(
        "see that it is on, that its name is known here and that sshd listens there (`port`); `ssh {host}` tells more"
    );
    wrong(Subject::Reach, words, remedy)
}

fn nix(answers: &Answers) -> Finding {
    match answers.version() {
        Some(version) if version >= (Version { major: 2, minor: 4 }) => {
            well(Subject::Nix, format!("version {version}"))
        }
        Some(version) => doubtful(
            Subject::Nix,
            format!("version {version}"),
            "it is older than what Larder is tested with (2.8): update it",
        ),
        None => wrong(
            Subject::Nix,
            format!("`nix-store --version`: {}", answers.nix.words()),
            "install Nix there, or put it into the PATH of logins that are no terminals: with Nix's installer, \
             `SetEnv PATH=/nix/var/nix/profiles/default/bin:/usr/bin:/bin` in sshd_config",
        ),
    }
}

fn trust(settings: &Settings, answers: &Answers) -> Finding {
    let (Some(user), Some(groups)) = (answers.user.text(), answers.groups.text()) else {
        let words = answers.user.words();
        return doubtful(Subject::Trust, format!("`id`: {words}"), "the build below tells");
    };
    if is_among(&settings.trusted_users, user, groups) {
        return well(Subject::Trust, format!("{user} is a trusted user"));
    }
    let what = format!("{user} is not a trusted user there, and may not bring what is not signed");
    let remedy = format!(
        "on the builder: `nix.settings.trusted-users = [ \"{user}\" ];`, or `trusted-users = root {user}` in nix.conf"
    );
    // Who writes to the store without a daemon, as root may, need not be trusted by one.
    match answers.built.iter().any(|(_, built)| *built == Built::Well) {
        true => doubtful(Subject::Trust, what, remedy),
        false => wrong(Subject::Trust, what, remedy),
    }
}

fn systems(builder: &Builder, settings: &Settings) -> Finding {
    let own = &settings.system;
    let listed = |words: &[&Word]| {
        words.iter().map(|it| it.as_str().to_owned()).collect::<Vec<_>>().join(", ")
    };
    let missing: Vec<&Word> =
        builder.systems.iter().filter(|it| !settings.systems.contains(it.as_str())).collect();
    if !missing.is_empty() {
        return wrong(
            Subject::Systems,
            format!("it does not build for {}: it is {own}", listed(&missing)),
            "take that out of `systems`, or add it to `extra-platforms` there if it can emulate it (`boot.binfmt.\
             emulatedSystems` on NixOS)",
        );
    }
    let kin = |system: &str| super::machines::runs_without_emulation(own, system);
    let native = builder.native_systems();
    let foreign: Vec<&Word> =
        native.filter(|it| it.as_str() != *own && !kin(it.as_str())).collect();
    if !foreign.is_empty() {
        return doubtful(
            Subject::Systems,
            format!("it is {own}, and is to build for {} natively", listed(&foreign)),
            "if it emulates that, name it in `emulated` too, so that natives go before it",
        );
    }
    well(Subject::Systems, listed(&builder.systems.iter().collect::<Vec<_>>()))
}

fn features(builder: &Builder, settings: &Settings) -> Finding {
    let claimed: Vec<&str> =
        builder.features.iter().chain(&builder.mandatory_features).map(Word::as_str).collect();
    let lacks = |it: &&&str| !settings.features.contains(**it);
    let missing: Vec<&str> = claimed.iter().filter(lacks).copied().collect();
    if !missing.is_empty() {
        return wrong(
            Subject::Features,
            format!("it does not have {}", missing.join(", ")),
            "take that out of `features`, or add it to `system-features` there",
        );
    }
    match claimed.is_empty() {
        true => well(Subject::Features, "none are claimed"),
        false => well(Subject::Features, claimed.join(", ")),
    }
}

fn substitutes(settings: &Settings) -> Finding {
    match settings.caches() {
        from if !from.is_empty() => well(Subject::Substitutes, from.join(" ")),
        _ => doubtful(
            Subject::Substitutes,
            "it downloads nothing, so that all that a build needs is sent to it from here",
            "on the builder: `substitute = true`, and `substituters` that it reaches",
        ),
    }
}

fn clock(answers: &Answers) -> Finding {
    /// What files and certificates do not mind.
    const TOLERATED: i64 = 30;
    let (said, before, after) = &answers.clock;
    let Some(there) = said.text().and_then(|text| text.parse::<i64>().ok()) else {
        return doubtful(Subject::Clock, format!("`date`: {}", said.words()), "look at it there");
    };
    let (early, late) = (before.as_second() - there, there - after.as_second());
    match early.max(late) {
        off if off <= TOLERATED => well(Subject::Clock, "as here"),
        off => doubtful(
            Subject::Clock,
            format!(
                "{off} seconds {}",
                if early > late { "behind this one" } else { "ahead of this one" }
            ),
            "have it set by NTP (`services.timesyncd.enable`), and this machine's as well",
        ),
    }
}

fn disk(said: &Said) -> Finding {
    const LITTLE: u64 = 5;
    let (Said::Well(text) | Said::Failed { printed: text, .. }) = said else {
        return doubtful(Subject::Disk, format!("`df`: {}", said.words()), "look at it there");
    };
    // Headers are lines too; the fourth of their columns is no number.
    let free = text.lines().find_map(|line| {
        line.split_ascii_whitespace().nth(3)?.parse::<u64>().ok().map(|kib| kib / (1024 * 1024))
    });
    match free {
        None => doubtful(Subject::Disk, format!("`df`: {}", said.words()), "look at it there"),
        Some(free) if free < LITTLE => doubtful(
            Subject::Disk,
            format!("{free} GiB are free"),
            "make room (`nix-collect-garbage -d`), or have it made: `min-free` and `max-free` in its nix.conf",
        ),
        Some(free) => well(Subject::Disk, format!("{free} GiB are free")),
    }
}

fn build(system: &Word, built: &Built) -> Finding {
    let remedy = "what Nix says of it stands beside; `nix-build --max-jobs 0` with a derivation of that system repeats it";
    match built {
        Built::Well => well(Subject::Build, format!("{system}: built there, and came back")),
        Built::Failed(words) => {
            let words = one_line(from_the_error(words));
            wrong(Subject::Build, format!("{system}: {words}"), remedy)
        }
        Built::Late(patience) => doubtful(
            Subject::Build,
            format!("{system}: not done in {} seconds", patience.as_secs()),
            "see whether it is busy with builds of others; `reserved-jobs` leaves room",
        ),
    }
}
