//! Keys of key pairs that stand in a line: age, Nix, WireGuard.

use base64::{Engine, engine::general_purpose::STANDARD};
use larder_formats::signature::SecretKey;
use memchr::memmem;

use super::{
    finding::Kind,
    randomness::{contains_word, is_random_mix},
    shape::Letters,
    view::{Found, View},
};

/// An identity of age or a plugin: Bech32 in capitals, whose checksum holds.
pub(super) fn age(view: View<'_>) -> Option<Found> {
    let text = &view.after[..view.after.len().min(2048)];
    let is_letter = |byte: &u8| matches!(byte, b'A'..=b'Z' | b'0'..=b'9');
    let in_prefix = |byte: &u8| is_letter(byte) || b"-._+".contains(byte);
    // A plugin's name may look like the end of a prefix, too.
    let dashes = memmem::find_iter(&text[..text.len().min(64)], b"-1");
    let width = dashes.into_iter().find_map(|dash| {
        let (prefix, data) = (&text[..=dash], &text[dash + 2..]);
        let data = &data[..data.iter().take_while(|byte| is_letter(byte)).count()];
        let sound = prefix.iter().all(in_prefix) && data.len() >= 16 && bech32_holds(prefix, data);
        sound.then_some(prefix.len() + 1 + data.len())
    })?;
    Some(Found::new(Kind::AgeIdentity, 0, &text[..width]))
}

/// The checksum of Bech32 (BIP 173), in capitals.
fn bech32_holds(prefix: &[u8], data: &[u8]) -> bool {
    const LETTERS: &[u8; 32] = b"QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L";
    const GENERATOR: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
    let mut check = 1u32;
    let mut take = |value: u32| {
        let top = check >> 25;
        check = (check & 0x1ff_ffff) << 5 ^ value;
        for (bit, generator) in GENERATOR.iter().enumerate() {
            check ^= if top >> bit & 1 == 1 { *generator } else { 0 };
        }
    };
    let prefix = prefix.to_ascii_lowercase();
    prefix.iter().for_each(|byte| take(u32::from(byte >> 5)));
    take(0);
    prefix.iter().for_each(|byte| take(u32::from(byte & 31)));
    for byte in data {
        let Some(value) = LETTERS.iter().position(|letter| letter == byte) else { return false };
        take(value as u32);
    }
    check == 1
}

/// A secret key of Nix, `name:base64`, found by the end of its 64 bytes in base 64. Its halves belong together,
/// which is asked of nothing whose name says that it is an example: Nix's own manual shows such a key.
pub(super) fn nix(view: View<'_>) -> Option<Found> {
    /// Letters before the one that is followed by `==`.
    const LETTERS: usize = 85;
    let (before, key) = view.before.split_at_checked(view.before.len().checked_sub(LETTERS)?)?;
    let (colon, before) = before.split_last()?;
    if *colon != b':' || Letters::Base64.run(key, LETTERS) < LETTERS {
        return None;
    }
    let in_name = |byte: &&u8| byte.is_ascii_alphanumeric() || b"-._+@/".contains(byte);
    let name = before.iter().rev().take(256).take_while(in_name).count();
    let name = &before[before.len() - name..];
    // The key is the same whatever it is called, and begins behind its name.
    let key = [key, view.after.get(..3)?].concat();
    let text = format!("key:{}", std::str::from_utf8(&key).ok()?);
    let is_secret = !contains_word(name, b"example") && SecretKey::parse(&text).is_ok();
    let start = -isize::try_from(LETTERS).ok()?;
    is_secret.then(|| Found::new(Kind::NixSigningKey, start, &key))
}

/// A key of WireGuard, which is any 32 bytes in base 64, where it is called one: `PrivateKey = …`, or `private-key=…`
/// for NetworkManager.
pub(super) fn wireguard(view: View<'_>) -> Option<Found> {
    let label = view.after.iter().position(|byte| *byte == b'y')? + 1;
    let start = view.value(label)?;
    let text = view.past(start);
    let (key, sign) = (text.get(..43)?, text.get(43..)?);
    let ends = matches!(sign, [b'='] | [b'=', ..]) && sign.get(1) != Some(&b'=');
    let sound = ends && STANDARD.decode(&text[..44]).is_ok() && is_random_mix(key, 64);
    let start = isize::try_from(start).ok()?;
    sound.then(|| Found::new(Kind::WireGuardKey, start, &text[..44]))
}
