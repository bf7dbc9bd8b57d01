//! What is told of builders.

use larder_fleet::builders::{Builder, Finding, SshUser, Subject, Verdict, Word};
use serde_json::{Value, json};

/// A builder on a line.
#[must_use]
pub fn listed(builder: &Builder) -> String {
    let natives = words(builder.native_systems());
    let mut parts = vec![natives];
    if !builder.emulated.is_empty() {
        parts.push(format!("emulated {}", words(&builder.emulated)));
    }
    let jobs = builder.jobs();
    let kept = builder.max_jobs.saturating_sub(jobs);
    parts.push(match (jobs, kept) {
        (1, 0) => "1 job".to_owned(),
        (jobs, 0) => format!("{jobs} jobs"),
        (jobs, kept) => format!("{jobs} of {} jobs", jobs + kept),
    });
    parts.push(format!("speed {}", builder.speed_factor));
    if !builder.features.is_empty() {
        parts.push(format!("has {}", words(&builder.features)));
    }
    if !builder.mandatory_features.is_empty() {
        parts.push(format!("only for {}", words(&builder.mandatory_features)));
    }
    parts.retain(|part| !part.is_empty());
    format!("{}  {}  {}", builder.name, builder.uri(), parts.join("; "))
}

/// The same for programs.
#[must_use]
pub fn json(builder: &Builder) -> Value {
    let list = |words: &[Word]| words.iter().map(Word::to_string).collect::<Vec<_>>();
    json!({
        "name": builder.name.to_string(),
        "uri": builder.uri(),
        "port": builder.port,
        "systems": list(&builder.systems),
        "emulated": list(&builder.emulated),
        "maxJobs": builder.max_jobs,
        "jobs": builder.jobs(),
        "speedFactor": builder.speed_factor,
        "features": list(&builder.features),
        "mandatoryFeatures": list(&builder.mandatory_features),
    })
}

/// What was found, a line each, and the remedy below it.
#[must_use]
pub fn checked(builder: &Builder, findings: &[Finding]) -> String {
    let mut text = format!("{} ({})", builder.name, builder.uri());
    for Finding { about, verdict, what, remedy } in findings {
        let mark = match verdict {
            Verdict::Well => "ok  ",
            Verdict::Doubtful => "look",
            Verdict::Wrong => "BAD ",
        };
        text.push_str(&format!("\n  {mark}  {about:11}  {what}"));
        if let Some(remedy) = remedy {
            text.push_str(&format!("\n        → {remedy}"));
        }
    }
    text
}

/// The same for programs.
#[must_use]
pub fn checked_json(builder: &Builder, findings: &[Finding]) -> Value {
    let finding = |finding: &Finding| {
        json!({
            "about": Subject::to_string(&finding.about),
            "verdict": match finding.verdict {
                Verdict::Well => "well",
                Verdict::Doubtful => "doubtful",
                Verdict::Wrong => "wrong",
            },
            "what": finding.what,
            "remedy": finding.remedy,
        })
    };
    let findings: Vec<Value> = findings.iter().map(finding).collect();
    json!({ "name": builder.name.to_string(), "uri": builder.uri(), "findings": findings })
}

/// What to do with a new key.
#[must_use]
pub fn key_made(file: &str, public: &str, user: &SshUser) -> String {
    format!(
        "the key is in {file}; its public half, for the authorized_keys of {user} on each builder:\n\
         \n\
         restrict {public}\n\
         \n\
         On NixOS, in the builder's configuration:\n\
         \n\
         users.users.{user} = {{\n  \
           # With isSystemUser it would have no login shell, and ssh no use for it.\n  \
           isNormalUser = true;\n  \
           openssh.authorizedKeys.keys = [ \"restrict {public}\" ];\n\
         }};\n\
         nix.settings.trusted-users = [ \"{user}\" ];\n\
         services.openssh.enable = true;\n\
         \n\
         Here, in larder.toml, with the builder's own name, systems and host key\n\
         (`cat /etc/ssh/ssh_host_ed25519_key.pub` there):\n\
         \n\
         [[builder]]\n\
         name = \"builder1\"\n\
         user = \"{user}\"\n\
         key = \"{file}\"\n\
         host-key = \"ssh-ed25519 …\"\n\
         systems = [\"aarch64-linux\"]\n\
         \n\
         Then `larder builders check`."
    )
}

fn words<'a>(all: impl IntoIterator<Item = &'a Word>) -> String {
    all.into_iter().map(Word::as_str).collect::<Vec<_>>().join(", ")
}
