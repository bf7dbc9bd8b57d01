//! A plan as people read it.

use std::fmt;

use super::{Plan, Reason, Removal, What};
use crate::words::{day, size};

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for removal in self.paths.iter().chain(&self.nars).chain(&self.objects) {
            writeln!(f, "{removal}")?;
        }
        let counted = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        writeln!(
            f,
            "{} of {} would go ({} kept by pins, leases and youth), {}, {}.",
            counted(self.paths.len(), "path"),
            self.count,
            self.kept,
            counted(self.nars.len(), "NAR file"),
            counted(self.objects.len(), "other object"),
        )?;
        let nars: u64 = self.nars.iter().map(|removal| removal.size).sum();
        writeln!(
            f,
            "The cache needs {}, and {} then. {} are free at once, the rest after the grace time.",
            size(self.size),
            size(self.size_after),
            size(nars),
        )?;
        if !self.orphans.is_empty() {
            let orphans = counted(self.orphans.len(), "NAR file");
            writeln!(f, "{orphans} newly found without a narinfo will go after the grace time.")?;
        }
        Ok(())
    }
}

impl fmt::Display for Removal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.reason)?;
        match &self.what {
            What::Path(..) => Ok(()),
            What::Nar(_) | What::Object(..) => write!(f, ", {}", size(self.size)),
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(_, Some(path)) => path.fmt(f),
            Self::Path(hash, None) => write!(f, "{hash}.narinfo"),
            Self::Nar(file) => f.write_str(&file.url()),
            Self::Object(key, _) => key.fmt(f),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unused(since) => write!(f, "unused since {}", day(*since)),
            Self::TooLarge(since) => {
                write!(f, "the cache is too large; last used {}", day(*since))
            }
            Self::NotNeeded(since) => write!(f, "not needed since {}", day(*since)),
            Self::BrokenOff(at) => write!(f, "broken off {}", day(*at)),
            Self::Wrong => f.write_str("wrong"),
            Self::RefersTo(path) => write!(f, "refers to {path}, which is wrong"),
        }
    }
}
