//! Why something is built or downloaded here, for people and for programs.

use larder_fleet::{
    upgrade::plan::Class,
    why::{
        Answer, Asked, Comparison, Difference, Offer, Remembered, Role, Site, Subject, Trust,
        Verdict, Walked,
    },
};
use serde::Serialize;

use super::{
    lines,
    text::{count, size},
};

/// Causes that are told one by one.
const TOLD: usize = 5;

/// All that was found.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// What was asked about.
    pub subject: Subject,
    /// What explains it, the nearest first.
    pub causes: Vec<Subject>,
    /// How many derivations have to be built for it.
    pub builds: usize,
    /// Whether there is more than was looked at.
    pub cut_short: bool,
    /// What came of comparing it with what the server built.
    pub server: Option<Comparison>,
    /// Whether a daemon does what this user asks for.
    pub through_daemon: bool,
    /// Why it is not known what Nix remembers of caches, if it is not.
    pub memory_unknown: Option<String>,
}

impl Explanation {
    /// Puts together what was found.
    #[must_use]
    pub fn new(walked: Walked, server: Option<Comparison>, through_daemon: bool) -> Self {
        let Walked { subject, causes, builds, cut_short } = walked;
        let memory_unknown = None;
        Self { subject, causes, builds, cut_short, server, through_daemon, memory_unknown }
    }
}

/// For programs; see docs/why.md.
#[must_use]
pub fn json(explanation: &Explanation) -> String {
    // Every key is text and every number whole, so this cannot fail.
    serde_json::to_string_pretty(explanation).unwrap_or_default()
}

/// For people.
#[must_use]
pub fn explanation(explanation: &Explanation) -> String {
    let Explanation { subject: about, causes, builds, cut_short, server, memory_unknown, .. } =
        explanation;
    let mut text = subject(about);
    if !causes.is_empty() {
        let least = if *cut_short { "at least " } else { "" };
        let builds = count(*builds, "derivation");
        text.push(format!("{least}{builds} would be built for it. Nearest to the cause:"));
        for cause in causes.iter().take(TOLD) {
            text.extend(subject(cause).into_iter().map(|line| format!("  {line}")));
        }
        if causes.len() > TOLD {
            text.push(format!("  and {} more, which `--json` lists", causes.len() - TOLD));
        }
    }
    text.extend(server.iter().flat_map(comparison));
    text.extend(memory_unknown.iter().map(|why| {
        format!(
            "Not known is what Nix remembers of caches, and goes by for some time ({why}): root can look at it."
        )
    }));
    text.join("\n")
}

fn subject(subject: &Subject) -> Vec<String> {
    let name = match subject.version.as_str() {
        "" => subject.name.clone(),
        version => format!("{} {version}", subject.name),
    };
    let mut text = vec![format!("{name} ({})", subject.path)];
    if !subject.is_well() && subject.class == Some(Class::Configuration) {
        text.push(
            "  It is configuration: files that are written or linked where they are used, in a moment."
                .to_owned(),
        );
    }
    for verdict in &subject.verdicts {
        text.push(format!("  {}", sentence(verdict)));
        text.extend(remedy(verdict).map(|remedy| format!("    → {remedy}")));
    }
    if subject.verdicts.is_empty() {
        text.push("  None of those that were asked gave a reason.".to_owned());
    }
    if !subject.asked.is_empty() {
        text.push("  what was said:".to_owned());
        text.extend(subject.asked.iter().map(|asked| format!("    {}", said(asked))));
    }
    text
}

fn said(Asked { cache, role, answer, remembered }: &Asked) -> String {
    let role = match role {
        Role::Substituter => String::new(),
        Role::Ignored => " (not asked for this user)".to_owned(),
        Role::NotConfigured => " (not among Nix's substituters)".to_owned(),
        Role::Upstream { proxy, name, .. } => format!(" (`{name}` of the proxy {proxy})"),
    };
    let answer = match answer {
        Answer::Has(Offer { bytes, unpacked_bytes, trust, .. }) => {
            let trust = match trust {
                Trust::Good => String::new(),
                Trust::Unsigned => ", not signed".to_owned(),
                Trust::Strangers { signers } => format!(", signed by {}", signers.join(", ")),
                Trust::Forged { signer } => format!(", signed by another key called {signer}"),
            };
            format!("has it ({}){trust}", sizes(*bytes, *unpacked_bytes))
        }
        Answer::Broken { said } => format!("has it, and no file for it: {said}"),
        Answer::Absent => "does not have it".to_owned(),
        Answer::Denied { said } => format!("refuses: {said}"),
        Answer::Unreachable { said } => format!("could not be asked: {said}"),
        Answer::NoCache { said } => format!("is no cache for this store: {said}"),
        Answer::NoScheme => "is no URL".to_owned(),
    };
    let remembered = match remembered {
        Some(Remembered::Absent { until }) => {
            format!("; Nix takes it for absent there until {until:.0}")
        }
        Some(Remembered::Present { .. }) | None => String::new(),
    };
    format!("{cache}{role}: {answer}{remembered}")
}

fn sizes(bytes: Option<u64>, unpacked: u64) -> String {
    match bytes {
        Some(bytes) => format!("{} to download, {} unpacked", size(bytes), size(unpacked)),
        None => format!("{} unpacked", size(unpacked)),
    }
}

/// What is so.
#[must_use]
#[expect(clippy::too_many_lines, reason = "a line for each verdict, and nothing else")]
pub fn sentence(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Here => "It is here already.".to_owned(),
        Verdict::Downloaded { cache, bytes, unpacked_bytes } => {
            format!("It is downloaded from {cache}: {}.", sizes(*bytes, *unpacked_bytes))
        }
        Verdict::SubstituteOff => {
            "Nix is told to download nothing here: `substitute = false`.".to_owned()
        }
        Verdict::BuiltWhereUsed => {
            "Its derivation says `allowSubstitutes = false`: it is always built where it is used."
                .to_owned()
        }
        Verdict::OutputsUnknown => {
            "What it makes is not known before it is built (a content-addressed derivation)."
                .to_owned()
        }
        Verdict::NoSubstituters => "Nix asks no cache here: `substituters` is empty.".to_owned(),
        Verdict::NoScheme { substituter, refuses: true } => format!(
            "The substituter {substituter:?} is no URL, for which this Nix does nothing at all."
        ),
        Verdict::NoScheme { substituter, refuses: false } => {
            format!("The substituter {substituter:?} is no URL, so Nix leaves it out.")
        }
        Verdict::Remembered { cache, until } => format!(
            "{cache} has it by now, but had not when Nix asked, which takes it for absent until {until:.0}."
        ),
        Verdict::Untrusted { cache, signers, trusted } => {
            format!("{cache} has it, signed by {}; {}.", signers.join(", "), trusts(trusted))
        }
        Verdict::WrongKey { cache, signer } => format!(
            "{cache} has it, signed in the name {signer}, but not by the key that is trusted here under that name."
        ),
        Verdict::Unsigned { cache, trusted } => {
            format!("{cache} has it, but not signed; {}.", trusts(trusted))
        }
        Verdict::Broken { cache, said } => {
            format!("{cache} says that it has it, and does not deliver it: {said}.")
        }
        Verdict::Ignored { cache } => format!(
            "{cache} has it and is in your own settings, but the daemon does not ask it for you: you are not among \
             its `trusted-users`."
        ),
        Verdict::NotConfigured { cache } => {
            format!("{cache} has it, but is not among Nix's `substituters` here.")
        }
        Verdict::UpstreamDown { proxy, upstream, said } => format!(
            "The proxy {proxy} cannot ask `{upstream}` at the moment: {said}. Whether that has it is not known to it."
        ),
        Verdict::UpstreamUntrusted { proxy, upstream, signers } if signers.is_empty() => {
            format!("`{upstream}`, which the proxy {proxy} asks, has it, but not signed.")
        }
        Verdict::UpstreamUntrusted { proxy, upstream, signers } => format!(
            "`{upstream}`, which the proxy {proxy} asks, has it, signed by {}, which is not among its `public-keys` there.",
            signers.join(", ")
        ),
        Verdict::Unreachable { cache, said } => {
            format!("{cache} could not be asked: {said}. Whether it has it is not known.")
        }
        Verdict::NoCache { cache, said } => {
            format!("What answers at {cache} is no cache for this store: {said}.")
        }
        Verdict::Denied { cache, said } => {
            format!("{cache} refuses to tell, which Nix takes for absent: {said}.")
        }
        Verdict::OtherSystem { system } => {
            format!("It is for {system}, and this machine builds for other kinds.")
        }
        Verdict::Collected { cache, had } => format!(
            "{cache} had it when Nix asked (at {had:.0}), and does not have it any more: it was removed there."
        ),
        Verdict::Absent { caches } => match caches.as_slice() {
            [cache] => format!("{cache} does not have it."),
            caches => format!("These do not have it: {}.", caches.join(", ")),
        },
    }
}

fn trusts(keys: &[String]) -> String {
    match keys {
        [] => "no key is trusted here (`trusted-public-keys` is empty)".to_owned(),
        keys => format!("trusted here: {}", keys.join(", ")),
    }
}

/// What can be done about it, where anything is to be done.
#[must_use]
pub fn remedy(verdict: &Verdict) -> Option<&'static str> {
    Some(match verdict {
        Verdict::Here | Verdict::Downloaded { .. } => return None,
        Verdict::SubstituteOff => {
            "set `substitute = true` in nix.conf, or leave out `--no-substitute`"
        }
        Verdict::BuiltWhereUsed => {
            "nothing is wrong: this is quick; `always-allow-substitutes = true` (Nix 2.19 and later) asks caches all \
             the same"
        }
        Verdict::OutputsUnknown => {
            "name what you want to know of by its store path, once it was built somewhere"
        }
        Verdict::NoSubstituters => {
            "set `substituters` and `trusted-public-keys` as the server's page at `/` shows them"
        }
        Verdict::NoScheme { .. } => {
            "write it with http:// before it, in `substituters` of nix.conf"
        }
        Verdict::Remembered { .. } => {
            "wait until then, or say `--option narinfo-cache-negative-ttl 0` once (with a daemon, as a trusted user)"
        }
        Verdict::Untrusted { .. } => {
            "if that key is yours, add it to `trusted-public-keys`, as the cache's page or `larder key public` shows it"
        }
        Verdict::WrongKey { .. } => {
            "the cache was given another key, or it is not your cache: compare its page with `trusted-public-keys`"
        }
        Verdict::Unsigned { .. } => {
            "have it signed: set `signing-keys` where it is served, or `nix store sign` and push it again"
        }
        Verdict::Broken { .. } => "mend it there: `larder cache check`, then `larder cache repair`",
        Verdict::Ignored { .. } => {
            "add it to `substituters` of the machine's nix.conf, or to `trusted-substituters`, and restart the daemon"
        }
        Verdict::NotConfigured { .. } => {
            "add it to `substituters`, and its key to `trusted-public-keys`, of the machine's nix.conf"
        }
        Verdict::UpstreamDown { .. } => {
            "`larder proxy status` shows its upstreams; it asks again by itself"
        }
        Verdict::UpstreamUntrusted { .. } => {
            "if that key is right, add it to `public-keys` of this [[upstream]] in the proxy's configuration"
        }
        Verdict::Unreachable { .. } => {
            "see whether it runs and is reachable from here; `larder proxy` keeps a dead cache from stopping Nix"
        }
        Verdict::NoCache { .. } => {
            "see whether the URL is right, and whether this network wants a login first (open a page in a browser)"
        }
        Verdict::Denied { .. } => "give a login in the file that `netrc-file` of nix.conf names",
        Verdict::OtherSystem { .. } => {
            "build it on a machine of that kind (`builders`), or allow emulation (`extra-platforms`)"
        }
        Verdict::Collected { .. } => {
            "have it built or pushed there again, and pinned (`larder pin add`) if it is to stay"
        }
        Verdict::Absent { .. } => {
            "have a machine build it that fills one of these caches (`larder build`, `larder push`), or build it here"
        }
    })
}

fn comparison(comparison: &Comparison) -> Vec<String> {
    match comparison {
        Comparison::Unknown { why } => {
            vec![format!("It could not be compared with what the server built: {why}.")]
        }
        Comparison::Same { path } => vec![
            format!("The server built exactly this ({path})."),
            "  → if its cache does not have it any more, it was collected there: pin it (`larder pin`), or build again"
                .to_owned(),
        ],
        Comparison::Differs { there, sites, unknown, cut_short } => {
            let mut text = vec![format!("It is not what the server built ({there}):")];
            text.extend(sites.iter().flat_map(site));
            if sites.is_empty() {
                text.push("  where they differ was not found".to_owned());
            }
            if !unknown.is_empty() {
                let what = count(unknown.len(), "derivation");
                text.push(format!("  {what} of the server's could not be had to compare with"));
            }
            if *cut_short {
                text.push("  there is more that was not compared: it would have taken too long".to_owned());
            }
            text.push(
                "  → undo that change, commit it where the server builds, or take the server's lock file (`larder upgrade`)"
                    .to_owned(),
            );
            text
        }
    }
}

fn site(Site { here, there, differences }: &Site) -> Vec<String> {
    let mut text = vec![format!("  {} ({here} here, {there} there)", lines::short(here))];
    text.extend(differences.iter().map(|it| format!("    {}", difference(it))));
    text
}

fn difference(difference: &Difference) -> String {
    let quoted = |value: &Option<String>| {
        value.as_ref().map_or("missing".to_owned(), |value| format!("{value:?}"))
    };
    match difference {
        Difference::Attribute { name, here, there } => {
            format!("`{name}` is {} here, {} there", quoted(here), quoted(there))
        }
        Difference::Source { name, here: Some(here), there: Some(there) } => {
            format!("the source {name} is another one: {here} here, {there} there")
        }
        Difference::Source { name, here: Some(_), there: None } => {
            format!("the source {name} is used here only")
        }
        Difference::Source { name, .. } => format!("the source {name} is used there only"),
        Difference::Input { here: Some(input), .. } => {
            format!("it is made from {} here only", lines::short(input))
        }
        Difference::Input { there: Some(input), .. } => {
            format!("it is made from {} there only", lines::short(input))
        }
        Difference::Input { .. } => String::new(),
    }
}
