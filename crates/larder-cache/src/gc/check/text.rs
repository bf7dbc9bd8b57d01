//! What was found, as people read it.

use std::fmt;

use super::{Broken, Problem};

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.info {
            Some(info) => info.store_path.fmt(f)?,
            None => write!(f, "{}.narinfo", self.hash)?,
        }
        for (number, problem) in self.problems.iter().enumerate() {
            write!(f, "{}{problem}", if number == 0 { ": " } else { "; " })?;
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Narinfo(text) => write!(f, "the narinfo cannot be used: {text}"),
            Self::NoNar(url) => write!(f, "its NAR, {url}, is not there"),
            Self::FileSize { said, found } => {
                write!(f, "the file of its NAR should have {said} bytes, and has {found}")
            }
            Self::Contents(text) => write!(f, "its NAR is wrong: {text}"),
            Self::Reference(path) => write!(f, "it refers to {path}, which is not there"),
        }
    }
}
