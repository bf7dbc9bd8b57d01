//! What a client may send to the server, one parser at a time.
//!
//! Promise: what a parser yields can be written again so that it reads back the same, and keeps what its
//! type says of it. The server as a whole is in [`crate::server`].

use std::os::unix::ffi::OsStrExt;

use hyper::{
    HeaderMap, Uri,
    header::{HOST, HeaderName, HeaderValue},
};
use larder_web::base_path::BasePath;
use larder_web::forwarded::{Client, Origin, TrustedProxies};
use larder_web::request::{
    build_file::{self, BuildFile},
    encoding::accepts_zstd,
    id::RequestId,
    info_file::{InfoFile, LogName},
    inner_path::InnerPath,
    nar_name::NarName,
    packed_name::PackedName,
    range::{self, ByteRange, Unsatisfiable},
    realisation_file,
    revision_file::RevisionFile,
};
use larder_web::server::peer::Peer;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, percent_encode};

/// The values of headers: encodings are accepted one by one, and a request's name can stand anywhere.
pub fn headers(bytes: &[u8]) {
    let accepted = accepts_zstd(bytes);
    assert_eq!(accepts_zstd(&bytes.to_ascii_uppercase()), accepted);
    assert_eq!(bytes.split(|byte| *byte == b',').any(accepts_zstd), accepted);
    assert!(accepts_zstd(&[bytes, b", zstd;q=0.5"].concat()));
    assert_eq!(accepts_zstd(&[bytes, b", zstd;q=0"].concat()), accepted);
    if accepted {
        assert!(bytes.windows(4).any(|name| name.eq_ignore_ascii_case(b"zstd")));
    }
    if let Some(id) = RequestId::parse(bytes) {
        let header = id.clone().into_header();
        assert_eq!(header.to_str().map(str::as_bytes).ok(), Some(bytes));
        assert!((1..=128).contains(&bytes.len()));
        assert!(!bytes.iter().any(|byte| byte.is_ascii_whitespace() || byte.is_ascii_control()));
        assert_eq!(RequestId::parse(header.as_bytes()), Some(id));
    }
}

/// What proxies say: a header a line, `name: value`. A stranger changes nothing by it, whatever it is; and
/// the address that is shown to people never holds what would have to be escaped in a page.
pub fn forwarded(bytes: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let value = line[colon + 1..].trim_ascii();
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(&line[..colon]), HeaderValue::from_bytes(value))
        {
            headers.append(name, value);
        }
    }
    let stranger = Peer { address: Some(([192, 0, 2, 1], 1).into()), secure: false };
    let proxy = Peer { address: None, secure: false };
    let (proxies, uri) = (TrustedProxies::default(), Uri::from_static("/"));
    let unsaid = {
        let mut own = HeaderMap::new();
        own.extend(headers.get(HOST).map(|host| (HOST, host.clone())));
        Origin::of(stranger, &uri, &own, &proxies)
    };
    assert_eq!(Origin::of(stranger, &uri, &headers, &proxies), unsaid);
    let believed = Origin::of(proxy, &uri, &headers, &proxies);
    assert!(matches!(believed.client, Client::Behind(_)) || believed.client == Client::Peer(proxy));
    if let Some(address) = believed.address(&BasePath::default()) {
        assert!(address.starts_with("http://") || address.starts_with("https://"));
        assert!(!address.ends_with('/') && !address.contains("/../") && address.len() < 1024);
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._~:/[]".contains(c);
        assert!(address.chars().all(plain), "{address}");
    }
}

/// Ranges: the part that is chosen is never empty, and lies within what there is.
///
/// The first line says what size there is, the second is the `If-Range` unless it is empty, and the rest is
/// the `Range`.
pub fn range(bytes: &[u8]) {
    const ETAG: &str = "\"etag\"";
    let mut lines = bytes.splitn(3, |byte| *byte == b'\n');
    let size: Option<u64> = lines.next().and_then(|line| str::from_utf8(line).ok()?.parse().ok());
    let (Some(size), Some(if_range), Some(value)) = (size, lines.next(), lines.next()) else {
        return;
    };
    let if_range = (!if_range.is_empty()).then_some(if_range);
    let parsed = ByteRange::parse(value);
    let first = match parsed {
        None => None,
        Some(ByteRange::From(first) | ByteRange::Between(first, _)) => Some(first),
        Some(ByteRange::Last(length)) => Some(size - size.min(length)),
    };
    match range::requested(Some(value), if_range, size, ETAG) {
        Ok(Some(part)) => {
            assert!(part.start < part.end && part.end <= size);
            assert_eq!(Some(part.start), first);
            assert!(if_range.is_none_or(|known| known == ETAG.as_bytes()));
        }
        Ok(None) => assert!(parsed.is_none() || if_range.is_some() || size == 0),
        Err(Unsatisfiable) => assert!(first.is_some_and(|first| first >= size)),
    }
    if let Some(parsed) = parsed {
        let again = match parsed {
            ByteRange::From(first) => format!("bytes={first}-"),
            ByteRange::Between(first, last) => format!("bytes={first}-{last}"),
            ByteRange::Last(length) => format!("bytes=-{length}"),
        };
        assert_eq!(ByteRange::parse(again.as_bytes()), Some(parsed));
    }
}

/// Targets: `/<route>/<file>?<query>`. Whatever is named reads back the same from the name we would give it.
pub fn target(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let (path, query) = match text.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (text, None),
    };
    if let Some(place) = path.strip_prefix("/serve/") {
        inner_path(place);
        return;
    }
    // The router decodes each segment, and refuses what is not UTF-8 then.
    let decode = |segment: &str| percent_decode_str(segment).decode_utf8().ok().map(String::from);
    let segments: Option<Vec<String>> = path.split('/').map(decode).collect();
    let segments: Vec<&str> = segments.iter().flatten().map(String::as_str).collect();
    match segments.as_slice() {
        ["", "builds"] => {
            let before = build_file::before(query.unwrap_or_default());
            assert!(before.is_none_or(|run| run > 0));
        }
        ["", file] => info_file(file, query),
        ["", "nar", file] => {
            nar_name(file, query);
            packed_name(file, query);
        }
        ["", "log", name] => log_name(name),
        ["", "realisations", file] => realisation_by_hash(file),
        ["", "build-trace-v2", derivation, file] => realisation_by_path(derivation, file),
        ["", "fleet", file] => revision_file(file),
        ["", "builds", file] => build_file(file),
        _ => {}
    }
}

fn inner_path(place: &str) {
    let Some(inner) = InnerPath::parse(place) else { return };
    let mut again = inner.hash.to_string();
    for name in &inner.names {
        let name = name.as_bytes();
        assert!(!matches!(name, b"" | b"." | b".."));
        assert!(!name.iter().any(|byte| matches!(byte, b'/' | 0)));
        again = format!("{again}/{}", percent_encode(name, NON_ALPHANUMERIC));
    }
    again.push_str(if inner.folder { "/" } else { "" });
    assert!(inner.folder == place.ends_with('/'));
    assert_eq!(InnerPath::parse(&again), Some(inner));
}

fn info_file(file: &str, query: Option<&str>) {
    let parsed = InfoFile::parse(file, query);
    let again = match parsed {
        None => return,
        Some(InfoFile::Narinfo(hash)) => (format!("{hash}.narinfo"), None),
        Some(InfoFile::NarinfoAsJson(hash)) => (format!("{hash}.narinfo"), Some("json")),
        Some(InfoFile::Listing(hash)) => (format!("{hash}.ls"), None),
    };
    assert_eq!(again.0, file);
    assert_eq!(InfoFile::parse(&again.0, again.1), parsed);
}

fn nar_name(file: &str, query: Option<&str>) {
    let Some(name) = NarName::parse(file, query) else { return };
    let path = name.path;
    match name.nar_hash.map(|hash| hash.to_nix32()) {
        Some(hash) => {
            let (ours, other) = (format!("{hash}.nar"), format!("{path}-{hash}.nar"));
            assert_eq!(NarName::parse(&ours, Some(&format!("hash={path}"))), Some(name));
            assert_eq!(NarName::parse(&other, query), Some(name));
            assert!(file == ours || file == other);
        }
        None => assert_eq!(file, format!("{path}.nar")),
    }
}

fn packed_name(file: &str, query: Option<&str>) {
    let Some(name) = PackedName::parse(file, query) else { return };
    assert!(NarName::parse(file, query).is_none());
    let PackedName { path, nar_hash, recipe } = name;
    assert_eq!(format!("{}.nar.zst", nar_hash.to_nix32()), file);
    let packing = recipe.map(|recipe| format!("&packing={recipe}")).unwrap_or_default();
    assert_eq!(PackedName::parse(file, Some(&format!("hash={path}{packing}"))), Some(name));
}

fn log_name(name: &str) {
    match LogName::parse(name) {
        Some(LogName::Derivation(path)) => {
            assert!(path.is_derivation());
            assert_eq!(path.to_string(), name);
        }
        Some(LogName::Hash(hash)) => {
            assert!(name.starts_with(&hash.to_string()));
            assert_eq!(LogName::parse(&hash.to_string()), Some(LogName::Hash(hash)));
        }
        None => {}
    }
}

fn realisation_by_hash(file: &str) {
    if let Some(key) = realisation_file::by_hash(file) {
        assert_eq!(realisation_file::by_hash(&format!("{key}.doi")), Some(key));
    }
}

fn realisation_by_path(derivation: &str, file: &str) {
    if let Some(key) = realisation_file::by_path(derivation, file) {
        assert_eq!(format!("{key}.doi"), format!("{derivation}^{file}"));
    }
}

fn build_file(file: &str) {
    match BuildFile::parse(file) {
        None => {}
        Some(BuildFile::Page(run)) => assert!(run > 0 && run.to_string() == file),
        Some(BuildFile::Document(run)) => assert!(run > 0 && format!("{run}.json") == file),
    }
}

fn revision_file(file: &str) {
    let (host, ending) = match RevisionFile::parse(file) {
        None => return,
        Some(RevisionFile::Sealed(host)) => (host, "json"),
        Some(RevisionFile::Nixpkgs(host)) => (host, "rev"),
    };
    assert_eq!(format!("{}.{ending}", host.as_str()), file);
    assert!(!file.starts_with(['.', '-']) && !file.contains(['/', '\\', '\0', '"', '$']));
}
