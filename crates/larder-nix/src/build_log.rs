//! The logs of builds, as Nix keeps them: `drvs/<first two characters>/<the rest>[.bz2]` below the
//! store's log folder, by the derivation's base name.

use std::{
    fs::File,
    io::{self, Read},
    path::PathBuf,
};

use bzip2::read::MultiBzDecoder;
use larder_formats::store_path::StorePath;

use crate::{
    layout::StoreLayout,
    read_ahead::{Blocking, CHUNK, Source},
};

/// One build log, unpacked as it is read.
pub struct BuildLog {
    reader: Box<dyn Read + Send>,
}

impl BuildLog {
    /// Opens the log of a derivation; `None` if Nix keeps none.
    pub fn open(layout: &StoreLayout, derivation: &StorePath) -> io::Result<Option<Self>> {
        let name = derivation.to_string();
        // A base name starts with a 32-character ASCII hash, so this cannot split a character.
        let (folder, file) = name.split_at(2);
        let plain: PathBuf = layout.log_dir.join("drvs").join(folder).join(file);
        if let Some(file) = open_if_there(&plain)? {
            return Ok(Some(Self { reader: Box::new(file) }));
        }
        let packed = plain.with_file_name(format!("{file}.bz2"));
        Ok(open_if_there(&packed)?
            .map(|file| Self { reader: Box::new(MultiBzDecoder::new(io::BufReader::new(file))) }))
    }
}

fn open_if_there(path: &PathBuf) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

impl Source for BuildLog {
    fn fill(&mut self, buffer: &mut Vec<u8>, blocking: Blocking) -> io::Result<()> {
        // Unpacking takes its time, wherever the file is.
        blocking.needed()?;
        self.reader.by_ref().take(CHUNK as u64).read_to_end(buffer)?;
        Ok(())
    }
}
