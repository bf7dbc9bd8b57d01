//! A NAR on its way, and what is found in its files.

use std::fmt;

use jiff::Timestamp;
use larder_formats::{
    nar::{Decoder, Event, NarError},
    store_path::StorePath,
};

use super::{
    allow_list::AllowList,
    finding::Finding,
    view::Found,
    window::{self, Window},
};

/// How many findings are told of one store path. There may be more; whoever looks at these finds them.
pub const MAX_FINDINGS: usize = 1000;

/// Bytes of a file's path that are told: `PATH_MAX`.
const MAX_FILE: usize = 4096;

/// Looks for secrets in one store path, while its NAR passes by.
pub struct Scanner {
    decoder: Decoder,
    now: Timestamp,
    /// The names that lead to where the NAR is, with slashes between.
    place: Place,
    /// How large the file is that is being read, of which nothing was seen yet.
    unseen: Option<u64>,
    window: Window,
    findings: Findings,
}

/// A way through the directories of a NAR.
#[derive(Default)]
struct Place {
    path: Vec<u8>,
    /// How long `path` was before each of its names.
    names: Vec<usize>,
}

struct Findings {
    path: StorePath,
    allowed: AllowList,
    found: Vec<Finding>,
}

impl Scanner {
    /// Will look at this store path's NAR. Tokens that say of themselves that they ran out before `now` are none.
    #[must_use]
    pub fn new(path: &StorePath, allowed: &AllowList, now: Timestamp) -> Self {
        let findings = Findings { path: path.clone(), allowed: allowed.clone(), found: Vec::new() };
        Self {
            decoder: Decoder::new(),
            now,
            place: Place::default(),
            unseen: None,
            window: Window::default(),
            findings,
        }
    }

    /// Takes the next bytes of the NAR.
    ///
    /// # Errors
    /// When it is not one, and after an error.
    pub fn feed(&mut self, mut nar: &[u8]) -> Result<(), NarError> {
        let Self { decoder, now, place, unseen, window, findings } = self;
        while let Some(event) = decoder.next_event(&mut nar)? {
            let found = |offset, found| findings.add(place, offset, found);
            match event {
                Event::RegularStart { size, .. } => *unseen = Some(size),
                Event::Content(bytes) => {
                    if unseen.take() == Some(bytes.len() as u64) {
                        window::whole(bytes, *now, found);
                    } else {
                        window.feed(bytes, *now, found);
                    }
                }
                Event::RegularEnd => {
                    window.finish(*now, found);
                    place.leave();
                }
                Event::Symlink { .. } | Event::DirectoryEnd => place.leave(),
                Event::Entry { name } => place.enter(name),
                Event::DirectoryStart | Event::End => {}
            }
        }
        Ok(())
    }

    /// What was found and is not allowed, by file and place.
    ///
    /// # Errors
    /// When the NAR was not whole: then nothing is known of the rest.
    pub fn finish(self) -> Result<Vec<Finding>, NarError> {
        self.decoder.finish()?;
        let mut found = self.findings.found;
        found.sort();
        // A secret that has two marks is one. (Two files may look alike: what is not UTF-8 in a name is replaced.)
        let what = |finding: &Finding| (finding.offset, finding.fingerprint);
        found.dedup_by(|one, other| one.file == other.file && what(one) == what(other));
        Ok(found)
    }
}

impl fmt::Debug for Scanner {
    /// Nothing of what was read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scanner").field("path", &self.findings.path).finish_non_exhaustive()
    }
}

impl Place {
    fn enter(&mut self, name: &[u8]) {
        self.names.push(self.path.len());
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(name);
    }

    /// The node at the top has no name to leave.
    fn leave(&mut self) {
        if let Some(len) = self.names.pop() {
            self.path.truncate(len);
        }
    }
}

impl Findings {
    fn add(&mut self, place: &Place, offset: u64, found: Found) {
        if self.found.len() == MAX_FINDINGS {
            return;
        }
        let file = &place.path[..place.path.len().min(MAX_FILE)];
        let finding = Finding {
            path: self.path.clone(),
            file: String::from_utf8_lossy(file).into_owned(),
            offset,
            kind: found.kind,
            fingerprint: found.fingerprint,
        };
        if !self.allowed.allows(&finding) {
            self.found.push(finding);
        }
    }
}
