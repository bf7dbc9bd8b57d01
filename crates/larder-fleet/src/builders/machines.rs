//! What Nix is told: the list of machines, and the systems that this machine may emulate. Pure.

use std::{collections::BTreeSet, iter};

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{builder::Builder, words::Word};

/// The machines list with these builders, which answer: a line for the systems that each builds natively, and below
/// those, one for what it emulates and no native could build.
///
/// The order alone would not do: Nix compares how busy they are, so that a native that builds anything at all loses against
/// one that emulates and is idle.
#[must_use]
pub fn machines(live: &[&Builder]) -> String {
    let native = live.iter().filter_map(|builder| {
        line(builder, &builder.native_systems().collect::<Vec<_>>(), builder.speed_factor)
    });
    let emulated = live.iter().filter_map(|builder| {
        let wanted = builder.emulated.iter().filter(|system| !has_native(live, builder, system));
        // Of two that emulate, neither is known to be faster; behind a native, each is slow.
        line(builder, &wanted.collect::<Vec<_>>(), 1)
    });
    native.chain(emulated).collect()
}

/// Whether all that this one could build by emulation is built natively by another.
fn has_native(live: &[&Builder], emulating: &Builder, system: &Word) -> bool {
    live.iter().any(|other| {
        let can = |feature| {
            other.features.contains(feature) || other.mandatory_features.contains(feature)
        };
        other.native_systems().any(|native| native == system)
            && other.mandatory_features.is_empty()
            && emulating.features.iter().chain(&emulating.mandatory_features).all(can)
    })
}

/// `uri systems key jobs speed features mandatory host-key`, `-` for what is left to Nix or to ssh.
fn line(builder: &Builder, systems: &[&Word], speed: u32) -> Option<String> {
    if systems.is_empty() {
        return None;
    }
    let key = builder.key.as_ref().map(|key| key.as_path().display().to_string());
    let host_key = builder.host_key.as_ref().map(|key| STANDARD.encode(key.as_str()));
    let unset = || "-".to_owned();
    let fields = [
        builder.uri(),
        list(systems.iter().copied()),
        key.unwrap_or_else(unset),
        builder.jobs().to_string(),
        speed.to_string(),
        list(&builder.features),
        list(&builder.mandatory_features),
        host_key.unwrap_or_else(unset),
    ];
    Some(format!("{}\n", fields.join(" ")))
}

fn list<'a>(words: impl IntoIterator<Item = &'a Word>) -> String {
    let words: Vec<&str> = words.into_iter().map(Word::as_str).collect();
    if words.is_empty() { "-".to_owned() } else { words.join(",") }
}

/// The systems that this machine may build for besides its own, while these builders answer: none that it would have to
/// emulate and that one of them builds natively. `configured` is what nix.conf allows.
///
/// With emulation allowed, Nix emulates whenever the natives are merely busy. One that takes only what needs its
/// mandatory features is no native for the rest.
#[must_use]
pub fn extra_platforms(
    own: &str,
    configured: &BTreeSet<String>,
    live: &[&Builder],
) -> BTreeSet<String> {
    let natives = live.iter().filter(|builder| builder.mandatory_features.is_empty());
    let natives: BTreeSet<&str> =
        natives.flat_map(|builder| builder.native_systems()).map(Word::as_str).collect();
    let stays = |system: &&String| {
        let system = system.as_str();
        system != own && (!natives.contains(system) || runs_without_emulation(own, system))
    };
    configured.iter().filter(stays).cloned().collect()
}

/// What a processor runs besides the system it is named for.
pub(super) fn runs_without_emulation(own: &str, system: &str) -> bool {
    let levels = ["x86_64-v1-linux", "x86_64-v2-linux", "x86_64-v3-linux", "x86_64-v4-linux"];
    own == "x86_64-linux" && iter::once("i686-linux").chain(levels).any(|one| one == system)
}
