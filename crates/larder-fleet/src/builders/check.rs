//! Looks a builder over from here, as a run would use it: by ssh, and by a real build. Nothing is changed over there but
//! for what that build adds to its store; every wait has an end.

use std::{fs::File, io::Read, path::Path, time::Duration};

use futures::future::join_all;
use jiff::Timestamp;
use larder_nix::{
    command::{CancellationToken, Invocation},
    nix::{Nix, Version},
    settings::show_config,
};

use super::{
    builder::Builder,
    findings::{Answers, Built, Finding, Login, Said, findings},
    machines::machines,
    probe,
    ssh::Ssh,
    words::Word,
};

/// A version that knows the newer words.
const NEW: Version = Version { major: 2, minor: 34 };

/// For a look that is bounded in time, what is needed.
#[derive(Debug)]
pub struct Checker {
    /// Nix, which reaches the builders.
    pub nix: Nix,
    /// How they are reached without it.
    pub ssh: Ssh,
    /// Where what was built is held until the look is over.
    pub roots: std::path::PathBuf,
    /// Reads the time.
    pub clock: fn() -> Timestamp,
    /// How long an answer may take.
    pub patience: Duration,
    /// How long a build may take, which does next to nothing.
    pub build_patience: Duration,
}

impl Checker {
    /// Looks them over, all at once; the findings come in their order.
    pub async fn check(
        &self,
        builders: &[&Builder],
        cancel: &CancellationToken,
    ) -> Vec<Vec<Finding>> {
        let look = async |builder| findings(builder, &self.ask(builder, cancel).await);
        join_all(builders.iter().map(|builder| look(*builder))).await
    }

    async fn ask(&self, builder: &Builder, cancel: &CancellationToken) -> Answers {
        let ask = |words| self.said(self.ssh.command(builder, words), self.patience, cancel);
        let login = match ask(&["echo", "larder"]).await {
            Said::Well(text) if text.trim() == "larder" => Login::Shell,
            said => {
                // A key may be bound to what Nix needs.
                let hello = probe::one(&self.nix, builder, self.patience, cancel).await;
                if hello.is_err() {
                    return Answers::of(Login::None(said));
                }
                Login::Bound
            }
        };
        let mut answers = Answers::of(login);
        if matches!(answers.login, Login::Shell) {
            answers.nix = ask(&["nix-store", "--version"]).await;
            // One that does not tell its version is taken for a new one, and what it says will show.
            let version = answers.version().unwrap_or(NEW);
            let asked = ["nix", "--extra-experimental-features", "nix-command"];
            let asked = [&asked, show_config(version)].concat();
            answers.settings = ask(&asked).await;
            answers.user = ask(&["id", "-un"]).await;
            answers.groups = ask(&["id", "-Gn"]).await;
            // The second is there everywhere, and is told of where the first is not.
            answers.disk = ask(&["df", "-P", "-k", "/nix/store", "/"]).await;
            let before = (self.clock)();
            let there = ask(&["date", "+%s"]).await;
            answers.clock = (there, before, (self.clock)());
        }
        for system in builder.native_systems() {
            answers.built.push((system.clone(), self.build(builder, system, cancel).await));
        }
        answers
    }

    /// Builds something that nobody has, over there alone, and holds what comes back.
    async fn build(&self, builder: &Builder, system: &Word, cancel: &CancellationToken) -> Built {
        let unique = (self.clock)().as_nanosecond();
        let expression = format!(
            "derivation {{ name = \"larder-check-{name}\"; system = \"{system}\"; builder = \"/bin/sh\"; \
             args = [ \"-c\" \"echo $unique > $out\" ]; unique = \"{unique}\"; }}",
            name = builder.name,
        );
        let root = self.roots.join(format!("{}-{system}", builder.name));
        let asked = self.build_command(builder, &expression, &root);
        let built = match self.said(asked, self.build_patience, cancel).await {
            Said::Well(path) if self.holds(path.trim(), &unique.to_string()) => Built::Well,
            Said::Well(path) => Built::Failed(format!("{} did not come back", path.trim())),
            Said::Failed { message, .. } => Built::Failed(message),
            Said::Late(patience) => Built::Late(patience),
            Said::Nothing => Built::Failed(String::new()),
        };
        // It was held as long as it was looked at.
        let _ = std::fs::remove_file(&root);
        built
    }

    fn holds(&self, path: &str, text: &str) -> bool {
        let layout = self.nix.layout();
        let Ok(path) = layout.store_dir.parse(path) else { return false };
        let Ok(file) = File::open(layout.real_path(&path)) else { return false };
        let mut found = String::new();
        // It comes from another machine: no more than what is expected.
        file.take(256).read_to_string(&mut found).is_ok() && found.trim() == text
    }

    fn build_command(&self, builder: &Builder, expression: &str, root: &Path) -> Invocation {
        let of_all = Builder { mandatory_features: Vec::new(), ..builder.clone() };
        let lines = machines(&[&of_all]);
        self.nix
            .command("nix-build")
            .args(["--max-jobs", "0", "--option", "builders", lines.trim_end()])
            .args(["--option", "builders-use-substitutes", "true"])
            .arg("--out-link")
            .arg(root)
            .args(["-E", expression])
    }

    async fn said(
        &self,
        command: Invocation,
        patience: Duration,
        cancel: &CancellationToken,
    ) -> Said {
        match tokio::time::timeout(patience, command.run(cancel, |_| ())).await {
            Err(_) => Said::Late(patience),
            Ok(Err(error)) => {
                Said::Failed { code: Some(255), printed: String::new(), message: error.to_string() }
            }
            Ok(Ok(output)) => {
                let printed = String::from_utf8_lossy(&output.stdout).into_owned();
                match output.finished.status.success() {
                    true => Said::Well(printed),
                    false => Said::Failed {
                        code: output.finished.status.code(),
                        printed,
                        message: output.finished.stderr_tail,
                    },
                }
            }
        }
    }
}
