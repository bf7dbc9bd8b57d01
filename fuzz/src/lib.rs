//! One function a format, or a part of a request: bytes in, and an assertion fails when a promise is broken.
//!
//! Promise: no bytes make a parser panic; what it takes, it writes again so that it reads back the
//! same; and memory stays within what was given. The libFuzzer programs in `fuzz_targets/` call
//! these functions, and so does an ordinary test, with every file of `corpus/`.

pub mod request;
pub mod secrets;
pub mod server;
pub mod text;
pub mod upload;

use larder_formats::cache_info::CacheInfo;
use larder_formats::content_address::ContentAddress;
use larder_formats::derivation::{Derivation, resolved_hash};
use larder_formats::envelope::Envelope;
use larder_formats::internal_json::{self, Line};
use larder_formats::lock_file::{self, LockFile};
use larder_formats::nar::{
    Decoder, Encoder, Event, Listing, ListingBuilder, ListingError, MAX_DEPTH, MAX_NAME_LEN,
};
use larder_formats::nar_file::NarFile;
use larder_formats::realisation::{DerivationOutput, OutputName, Realisation, RealisationKey};
use larder_formats::signature::{PublicKey, SecretKey, Signature};
use larder_formats::{NarInfo, Sha256, StoreDir, StorePath, StorePathHash, nix32};

/// A name, its target, in the order of the corpus's folders.
pub type Target = (&'static str, fn(&[u8]));

/// All targets, by name.
pub const TARGETS: [Target; 24] = [
    ("authorization", text::authorization),
    ("cache_info", cache_info),
    ("content_address", content_address),
    ("derivation", derivation),
    ("envelope", envelope),
    ("internal_json", internal_json),
    ("keys", keys),
    ("listing", listing),
    ("location", text::location),
    ("lock_file", lock_file),
    ("nar", nar),
    ("nar_file", nar_file),
    ("narinfo", narinfo),
    ("nix32", nix32),
    ("realisation", realisation),
    ("realisation_json", realisation_json),
    ("request", server::request),
    ("request_forwarded", request::forwarded),
    ("request_headers", request::headers),
    ("request_range", request::range),
    ("request_target", request::target),
    ("secrets", secrets::secrets),
    ("store_path", store_path),
    ("upload", upload::upload),
];

/// `nix-cache-info`: what was read is read again from what is written.
pub fn cache_info(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(info) = CacheInfo::parse(text) {
        assert_eq!(CacheInfo::parse(&info.to_text()), Ok(info));
    }
}

/// Content addresses: kept as they are, and a path made from one is well formed.
pub fn content_address(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(ca) = text.parse::<ContentAddress>() {
        assert_eq!(ca.as_str(), text);
        assert!(!text.contains(char::is_whitespace));
        let store_dir = StoreDir::default();
        let path = ca.store_path(&store_dir, "name", &[].into(), false);
        assert!(path.is_none_or(|path| store_dir.parse(&store_dir.display(&path)) == Ok(path)));
    }
}

/// Derivations: what is read was there and is no more than that, and whoever reads the same bytes for their
/// hash alone takes them, too.
pub fn derivation(bytes: &[u8]) {
    let hash = resolved_hash(bytes);
    let Ok(derivation) = Derivation::parse(bytes, &StoreDir::default()) else { return };
    assert!(hash.is_ok());
    let variables = derivation.variables.iter().flat_map(|(name, value)| [name, value]);
    let texts = variables.chain(&derivation.arguments).chain([&derivation.builder]);
    // What is not UTF-8 is replaced by three bytes.
    assert!(texts.map(String::len).sum::<usize>() <= 3 * bytes.len());
    let named = derivation.outputs.len() + derivation.input_derivations.len();
    assert!(named + derivation.input_sources.len() <= bytes.len());
    for name in ["preferLocalBuild", "allowSubstitutes", "src", "srcs"] {
        let attributes = derivation.attributes();
        let words = attributes.words(name);
        assert!(words.iter().all(|word| !word.is_empty() && word.len() <= 3 * bytes.len()));
        let _ = attributes.flag(name);
    }
}

/// Envelopes: they read back the same, and nothing verifies that our key did not sign.
pub fn envelope(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (Ok(parsed), Ok(key)) = (Envelope::parse(text), SecretKey::from_seed("fuzz", [42; 32]))
    else {
        return;
    };
    assert_eq!(Envelope::parse(&parsed.to_json()).ok().as_ref(), Some(&parsed));
    assert!(parsed.payload.len() <= text.len());
    assert!(parsed.verify(&parsed.payload_type, &[key.public()]).is_err());
    let signed = Envelope::sign(&parsed.payload_type, parsed.payload.clone(), &key);
    let verified = signed.verify(&parsed.payload_type, &[key.public()]).ok();
    assert_eq!(verified, Some(parsed.payload.as_slice()));
}

/// Lines of internal-json: none is lost, and no escape sequence survives stripping.
pub fn internal_json(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for line in text.lines() {
        match internal_json::parse_line(line) {
            Line::Plain(plain) => assert_eq!(plain, line),
            Line::Event(_) => assert!(line.starts_with("@nix ")),
        }
        let plain = internal_json::strip_ansi(line);
        assert!(plain.len() <= line.len());
        assert!(!plain.chars().any(|c| c.is_control() && c != '\t' && c != '\n'));
        assert_eq!(internal_json::strip_ansi(&plain), plain);
    }
}

/// Keys, signatures and hashes: written as they were read.
pub fn keys(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(key) = text.parse::<PublicKey>() {
        assert_eq!(key.to_string(), text);
    }
    if let Ok(signature) = text.parse::<Signature>() {
        assert_eq!(signature.to_string(), text);
    }
    if let Ok(key) = SecretKey::parse(text) {
        assert_eq!(key.expose().as_str(), text.trim_ascii());
        assert!(key.public().verify(bytes, &key.sign(bytes)));
    }
    if let Ok(hash) = text.parse::<Sha256>() {
        assert_eq!(hash.to_string().parse(), Ok(hash));
        assert_eq!(hash.to_sri().parse(), Ok(hash));
    }
}

/// The JSON of listings: it reads back the same.
pub fn listing(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(listing) = Listing::parse(text) {
        assert_eq!(Listing::parse(&listing.to_json()).ok(), Some(listing));
    }
}

/// Lock files: the text is kept, every input leads to a node, and nothing has changed from itself.
pub fn lock_file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(lock) = LockFile::parse(text) {
        assert_eq!(lock.text(), text);
        assert!(lock_file::changes(&lock, &lock).is_empty());
        assert!(lock_file::moved(&lock, &lock).is_empty());
        let all = lock.root_inputs().keys().cloned().collect();
        if let Ok(held) = lock.holding(&lock, &all) {
            assert!(lock_file::moved(&lock, &held).is_empty());
        }
        for input in lock.root_inputs().values() {
            assert!(lock.all_nodes().contains_key(&input.node) || input.kind == "self");
        }
    }
}

/// NARs: cutting one elsewhere changes nothing, what is taken is written again byte for byte,
/// memory is bounded, and every file lies where its listing says.
///
/// The first byte says in what pieces the rest is fed.
pub fn nar(bytes: &[u8]) {
    let Some((pieces, bytes)) = bytes.split_first() else { return };
    let whole = decode(bytes, bytes.len().max(1));
    let cut = decode(bytes, usize::from(*pieces) + 1);
    assert_eq!(whole, cut);
    let Some(Decoded { written, listing }) = whole else { return };
    assert_eq!(written, bytes);
    if let Some(listing) = listing {
        check_listing(&listing, bytes.len() as u64);
        // Deeper ones are written, but the reader of JSON stops at its own depth.
        let again = Listing::parse(&listing.to_json());
        assert!(again.is_ok_and(|again| again == listing) || listing.count() > 50);
    }
}

/// Names of NARs' files: written as they were read, and a file of one folder.
pub fn nar_file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(file) = NarFile::parse(text) {
        assert_eq!(file.to_string(), text);
        assert_eq!(NarFile::of_url(&file.url()), Some(file));
        assert!(!text.contains(['/', '\\', '?', '#']));
    }
    assert_eq!(
        NarFile::of_url(text).map(|file| file.url()),
        NarFile::of_url(text).map(|_| text.to_owned())
    );
}

/// Narinfos: they read back the same, and none is trusted that our key did not sign.
pub fn narinfo(bytes: &[u8]) {
    let (Ok(text), store_dir) = (std::str::from_utf8(bytes), StoreDir::default()) else { return };
    let Ok(mut info) = NarInfo::parse(text, &store_dir) else { return };
    assert_eq!(NarInfo::parse(&info.to_text(&store_dir), &store_dir).as_ref(), Ok(&info));
    let Ok(key) = SecretKey::from_seed("fuzz", [42; 32]) else { return };
    let keys = [key.public()];
    assert_eq!(info.is_trusted_by(&store_dir, &keys), info.is_content_addressed(&store_dir));
    info.sign_with(&store_dir, &key);
    assert!(info.is_trusted_by(&store_dir, &keys));
}

/// Base 32: bytes survive it, and so does every text it takes.
pub fn nix32(bytes: &[u8]) {
    let encoded = nix32::encode(bytes);
    assert_eq!(encoded.len(), nix32::encoded_len(bytes.len()));
    assert_eq!(nix32::decode(&encoded).as_deref(), Ok(bytes));
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(decoded) = nix32::decode(text)
    {
        assert_eq!(nix32::encode(&decoded), text);
        assert_eq!(nix32::decode_array::<20>(text).is_ok(), decoded.len() == 20);
    }
}

/// Names of realisations: they read back the same, can stand in a path, and what is signed verifies.
///
/// Either `sha256:<hash>!<output>`, or `<derivation>^<output>`.
pub fn realisation(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let key = match text.split_once('^') {
        Some((derivation, output)) => match (derivation.parse(), output.parse::<OutputName>()) {
            (Ok(derivation), Ok(output)) => {
                let key = RealisationKey::Resolved(derivation, output);
                assert_eq!(key.to_string(), text);
                key
            }
            _ => return,
        },
        None => match text.parse::<DerivationOutput>() {
            Ok(output) => {
                assert_eq!(output.to_string().parse().as_ref(), Ok(&output));
                RealisationKey::Modulo(output)
            }
            Err(_) => return,
        },
    };
    assert!(!key.to_string().contains(|c: char| "/\\\"%".contains(c) || c <= ' ' || c > '~'));
    let path = StorePath::new(StorePathHash::from_bytes([0; 20]), "x");
    let (Ok(path), Ok(signer)) = (path, SecretKey::from_seed("fuzz", [42; 32])) else { return };
    let (dependencies, signatures) = ([].into(), [].into());
    let mut realisation = Realisation { key, path, dependencies, signatures };
    let (texts, json) = (realisation.fingerprints(), realisation.to_json());
    realisation.sign_with(&signer);
    assert_eq!((realisation.fingerprints(), texts.len()), (texts.clone(), 1));
    assert!(realisation.to_json().len() > json.len());
    let by_us = |signature| signer.public().verify(texts[0].as_bytes(), signature);
    assert!(realisation.signatures.len() == 1 && realisation.signatures.iter().all(by_us));
}

/// The JSON of realisations: what is taken for the one that was asked for reads back the same.
pub fn realisation_json(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let by_hash = format!("sha256:{}!out", "0".repeat(64)).parse().map(RealisationKey::Modulo);
    let derivation = "00000000000000000000000000000000-x.drv".parse();
    let (Ok(by_hash), Ok(derivation), Ok(output)) = (by_hash, derivation, "out".parse()) else {
        return;
    };
    for key in [by_hash, RealisationKey::Resolved(derivation, output)] {
        if let Ok(mut read) = Realisation::parse(&key, text) {
            // Nix has none for what is named by its derivation.
            if matches!(key, RealisationKey::Resolved(..)) {
                read.dependencies.clear();
            }
            assert_eq!(Realisation::parse(&key, &read.to_json()).ok(), Some(read));
        }
    }
}

/// Store paths: written as they were read, inside the store, ordered as text.
pub fn store_path(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(path) = text.parse::<StorePath>() {
        assert_eq!(path.to_string(), text);
        assert!(!text.contains(['/', '\0', '\n', ' ']));
        let mut other = *path.hash().as_bytes();
        other.rotate_left(1);
        let other = StorePathHash::from_bytes(other);
        let by_text = path.hash().to_string().cmp(&other.to_string());
        assert_eq!(path.hash().cmp(&other), by_text);
    }
    if let Ok(path) = StoreDir::default().parse(text) {
        assert_eq!(StoreDir::default().display(&path), text);
    }
    if let Ok(store_dir) = StoreDir::new(text) {
        assert!(store_dir.as_str() == text && text.starts_with('/') && !text.ends_with('/'));
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Decoded {
    /// The NAR as the encoder writes it.
    written: Vec<u8>,
    /// `None` when a name is not UTF-8.
    listing: Option<Listing>,
}

/// The names of open directories, where each begins, one target, and what vectors keep in reserve.
const MOST_MEMORY: usize = 2 * (MAX_DEPTH * (MAX_NAME_LEN + size_of::<usize>()) + 8192);

fn decode(nar: &[u8], piece: usize) -> Option<Decoded> {
    let (mut decoder, mut builder) = (Decoder::new(), Some(ListingBuilder::new()));
    let mut rewriter = Rewriter::default();
    Encoder::new(&mut rewriter.out).magic();
    for mut input in nar.chunks(piece) {
        while let Some(event) = decoder.next_event(&mut input).ok()? {
            rewriter.take(&event);
            let pushed = builder.as_mut().map(|builder| builder.push(&event));
            match pushed {
                Some(Err(ListingError::NotUtf8(_))) => builder = None,
                pushed => assert!(pushed.is_none_or(|pushed| pushed.is_ok())),
            }
            let buffered = decoder.buffered();
            assert!(buffered <= MOST_MEMORY && buffered <= 4 * nar.len() + 64);
        }
        assert!(input.is_empty());
    }
    decoder.finish().ok()?;
    let listing = builder.map(ListingBuilder::finish);
    assert!(!matches!(listing, Some(Err(_))));
    Some(Decoded { written: rewriter.out, listing: listing.and_then(Result::ok) })
}

/// Writes a NAR again from its events.
#[derive(Default)]
struct Rewriter {
    out: Vec<u8>,
    depth: usize,
    size: u64,
}

impl Rewriter {
    fn take(&mut self, event: &Event<'_>) {
        let mut encoder = Encoder::new(&mut self.out);
        match event {
            Event::RegularStart { executable, size, offset } => {
                self.size = *size;
                encoder.regular_start(*executable, *size);
                assert_eq!(self.out.len() as u64, *offset);
            }
            Event::Content(bytes) => self.out.extend_from_slice(bytes),
            Event::RegularEnd => {
                encoder.regular_end(self.size);
                self.end_of_node();
            }
            Event::Symlink { target } => {
                encoder.symlink(target);
                self.end_of_node();
            }
            Event::DirectoryStart => {
                encoder.directory_start();
                self.depth += 1;
            }
            Event::Entry { name } => encoder.entry_start(name),
            Event::DirectoryEnd => {
                encoder.directory_end();
                self.depth -= 1;
                self.end_of_node();
            }
            Event::End => assert_eq!(self.depth, 0),
        }
    }

    fn end_of_node(&mut self) {
        if self.depth > 0 {
            Encoder::new(&mut self.out).entry_end();
        }
    }
}

fn check_listing(listing: &Listing, nar_len: u64) {
    use larder_formats::nar::ListingNode;
    for (_, node) in listing.entries("") {
        if let ListingNode::Regular { size, nar_offset, .. } = node {
            let end = nar_offset.and_then(|offset| offset.checked_add(*size));
            assert!(end.is_some_and(|end| end < nar_len));
        }
    }
}
