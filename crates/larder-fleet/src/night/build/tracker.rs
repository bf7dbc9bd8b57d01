//! Following a run of Nix, line by line.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use larder_formats::{
    internal_json::{self, ActivityKind, Event, Field, Line, ResultKind},
    store_path::{StoreDir, StorePath},
};
use larder_nix::database::{Database, DatabaseError};

use super::realised::{Failed, Realised};
use crate::night::progress::{Notice, Observer};

/// Lines kept of each build's log, for the report; Nix itself keeps the whole.
const LAST_LINES: usize = 25;

/// Follows Nix's own report of what it does, line by line.
pub(crate) struct Tracker<'a> {
    store_dir: StoreDir,
    observer: &'a mut dyn Observer,
    building: HashMap<u64, StorePath>,
    fetching: HashMap<u64, StorePath>,
    transfers: HashMap<u64, u64>,
    tried: BTreeMap<StorePath, VecDeque<String>>,
    fetched: BTreeSet<StorePath>,
    errors: Vec<String>,
    /// What Nix said of a build that has not ended, without naming it.
    unnamed: Vec<String>,
    said: BTreeMap<StorePath, String>,
}

impl<'a> Tracker<'a> {
    pub(crate) fn new(store_dir: StoreDir, observer: &'a mut dyn Observer) -> Self {
        Self {
            store_dir,
            observer,
            building: HashMap::new(),
            fetching: HashMap::new(),
            transfers: HashMap::new(),
            tried: BTreeMap::new(),
            fetched: BTreeSet::new(),
            errors: Vec::new(),
            unnamed: Vec::new(),
            said: BTreeMap::new(),
        }
    }

    pub(crate) fn line(&mut self, line: &str) {
        match internal_json::parse_line(line) {
            Line::Plain(text) if text.trim().is_empty() => {}
            Line::Plain(text) => self.observer.notice(Notice::Message(text)),
            Line::Event(Event::Start { id, kind, fields, .. }) => self.start(id, kind, &fields),
            Line::Event(Event::Stop { id }) => self.stop(id),
            Line::Event(Event::Result { id, kind: ResultKind::BuildLogLine, fields }) => {
                if let (Some(derivation), Some(text)) =
                    (self.building.get(&id), fields.first().and_then(Field::as_text))
                {
                    let lines = self.tried.entry(derivation.clone()).or_default();
                    if lines.len() == LAST_LINES {
                        lines.pop_front();
                    }
                    lines.push_back(text.to_owned());
                    self.observer.notice(Notice::BuildLine { derivation, line: text });
                }
            }
            Line::Event(Event::Result { id, kind: ResultKind::Progress, fields }) => {
                if let (Some(so_far), Some(done)) =
                    (self.transfers.get_mut(&id), fields.first().and_then(Field::as_int))
                {
                    *so_far = done;
                }
            }
            Line::Event(Event::Msg { level: 0, msg }) => {
                let text = internal_json::strip_ansi(&msg).into_owned();
                self.observer.notice(Notice::Message(&text));
                self.attribute(&text);
                self.errors.push(text);
            }
            Line::Event(Event::Msg { level: 1, msg }) => {
                self.observer.notice(Notice::Message(&internal_json::strip_ansi(&msg)));
            }
            Line::Event(_) => {}
        }
    }

    fn start(&mut self, id: u64, kind: ActivityKind, fields: &[Field]) {
        if kind == ActivityKind::FileTransfer {
            self.transfers.insert(id, 0);
        }
        let text = |index: usize| fields.get(index).and_then(Field::as_text).unwrap_or_default();
        let Ok(path) = self.store_dir.parse(text(0)) else { return };
        match kind {
            ActivityKind::Build => {
                self.observer.notice(Notice::BuildStarted { derivation: &path, machine: text(1) });
                self.tried.entry(path.clone()).or_default();
                self.building.insert(id, path);
            }
            ActivityKind::Substitute => {
                self.observer.notice(Notice::FetchStarted { path: &path, from: text(1) });
                self.fetching.insert(id, path);
            }
            _ => {}
        }
    }

    fn stop(&mut self, id: u64) {
        if let Some(derivation) = self.building.remove(&id) {
            self.observer.notice(Notice::BuildEnded(&derivation));
            let said = self.said.entry(derivation).or_default();
            self.unnamed.drain(..).for_each(|text| add(said, &text));
        } else if let Some(path) = self.fetching.remove(&id) {
            self.observer.notice(Notice::FetchEnded(&path));
            self.fetched.insert(path);
        } else if let Some(bytes) = self.transfers.remove(&id) {
            self.observer.notice(Notice::Transferred(bytes));
        }
    }

    /// Remembers which derivation an error is about. Since 2.34 some name none, and come right before its end.
    fn attribute(&mut self, text: &str) {
        let named = |derivation: &&StorePath| text.contains(&derivation.to_string());
        let mut about: Vec<StorePath> = self.tried.keys().filter(named).cloned().collect();
        match (about.pop(), about.is_empty()) {
            (Some(derivation), true) => add(self.said.entry(derivation).or_default(), text),
            // The last word on all that failed.
            (Some(_), false) => {}
            // About what depends on it, or could not even begin.
            (None, _) if text.contains(".drv'") => {}
            (None, _) => self.unnamed.push(text.to_owned()),
        }
    }

    /// What Nix said of each derivation.
    pub(super) fn said(&self) -> BTreeMap<StorePath, String> {
        self.said.clone()
    }

    /// Everything that was built or downloaded, as far as Nix said when it began.
    pub(super) fn touched(&self) -> (BTreeSet<StorePath>, BTreeSet<StorePath>) {
        (self.tried.keys().cloned().collect(), self.fetched.clone())
    }

    /// Nix's texts about failures differ from version to version; whether what was tried is there
    /// now does not.
    pub(crate) fn finish(self, database: &Database) -> Result<Realised, DatabaseError> {
        let mut realised = Realised { errors: self.errors, ..Realised::default() };
        for (derivation, lines) in self.tried {
            // Where the database cannot tell, what Nix said does.
            let is_well = || self.said.get(&derivation).is_none_or(String::is_empty);
            if database.is_built(&derivation)?.unwrap_or_else(is_well) {
                realised.built += 1;
            } else {
                let failed = Failed { lines: lines.into(), ..Failed::default() };
                realised.failed.insert(derivation, failed);
            }
        }
        for path in self.fetched {
            match database.is_valid(&path)? {
                true => realised.fetched += 1,
                false => drop(realised.unfetched.insert(path)),
            }
        }
        Ok(realised)
    }
}

fn add(said: &mut String, text: &str) {
    if !said.is_empty() {
        said.push('\n');
    }
    said.push_str(text);
}
