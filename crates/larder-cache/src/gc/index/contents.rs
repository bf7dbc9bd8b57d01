//! What small objects say that a collection needs to know.
//!
//! What cannot be read properly is read as far as it can be: a narinfo that we do not understand may be
//! understood by somebody else, and what it needs is not to be taken from under it.

use larder_formats::{
    nar_file::NarFile,
    narinfo::NarInfo,
    store_path::{StoreDir, StorePath, StorePathHash},
};
use serde::Deserialize;

/// What a narinfo says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub path: Option<StorePath>,
    pub nar: Option<NarFile>,
    pub file_size: Option<u64>,
    pub deriver: Option<StorePathHash>,
    pub references: Vec<StorePathHash>,
    /// What is wrong with it.
    pub problem: Option<String>,
}

/// What another small object is about; nothing where that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Realisation(Option<StorePathHash>),
    Debuginfo(Option<NarFile>),
}

pub(super) fn narinfo(hash: StorePathHash, text: &[u8], store_dir: &StoreDir) -> Said {
    let text = String::from_utf8_lossy(text);
    match NarInfo::parse(&text, store_dir) {
        Ok(info) if info.store_path.hash() == hash => Said {
            nar: nar_file(&info.url),
            file_size: info.file_size,
            deriver: info.deriver.as_ref().map(StorePath::hash),
            references: info.references.iter().map(StorePath::hash).collect(),
            problem: None,
            path: Some(info.store_path),
        },
        Ok(info) => guessed(&text, format!("it says that it is {}'s", info.store_path)),
        Err(error) => guessed(&text, error.to_string()),
    }
}

fn guessed(text: &str, problem: String) -> Said {
    let field = |name| field(text, name);
    let references = field("References").flat_map(str::split_whitespace);
    let hash = |path: &str| path.parse::<StorePath>().ok().map(|path| path.hash());
    Said {
        path: None,
        nar: field("URL").find_map(nar_file),
        file_size: None,
        deriver: field("Deriver").find_map(hash),
        references: references.filter_map(hash).collect(),
        problem: Some(problem),
    }
}

/// The values of a field, which may be there several times.
fn field<'a>(text: &'a str, name: &'static str) -> impl Iterator<Item = &'a str> {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.filter_map(move |(key, value)| (key == name).then_some(value.trim()))
}

/// The file behind a URL, if its name is that of one: with folders before it or a query behind it, too.
fn nar_file(url: &str) -> Option<NarFile> {
    let path = url.split(['?', '#']).next()?;
    NarFile::parse(path.rsplit('/').next()?)
}

/// The path that a realisation leads to.
pub(super) fn realisation(text: &[u8]) -> Option<StorePathHash> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Realisation {
        out_path: String,
    }
    let Realisation { out_path } = serde_json::from_slice(text).ok()?;
    let base = out_path.rsplit('/').next()?;
    base.parse::<StorePath>().ok().map(|path| path.hash())
}

/// The NAR file that a build id's debug information is in.
pub(super) fn debuginfo(text: &[u8]) -> Option<NarFile> {
    #[derive(Deserialize)]
    struct Link {
        archive: String,
    }
    let Link { archive } = serde_json::from_slice(text).ok()?;
    nar_file(&archive)
}
