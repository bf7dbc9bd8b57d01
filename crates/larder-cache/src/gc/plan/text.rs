//! A plan as people read it.

use std::fmt;

use super::{Plan, Reason, Removal, What};

/// Bytes as people read them.
pub(super) struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
        if self.0 < 1024 {
            return write!(f, "{} bytes", self.0);
        }
        let (mut tenths, mut unit) = (u128::from(self.0) * 10 / 1024, 0);
        while tenths >= 10240 && unit + 1 < UNITS.len() {
            tenths /= 1024;
            unit += 1;
        }
        write!(f, "{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
    }
}

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
            Bytes(self.size),
            Bytes(self.size_after),
            Bytes(nars),
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
            What::Nar(_) | What::Object(..) => write!(f, ", {}", Bytes(self.size)),
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
        let date = |time: &jiff::Timestamp| time.strftime("%Y-%m-%d");
        match self {
            Self::Unused(since) => write!(f, "unused since {}", date(since)),
            Self::TooLarge(since) => {
                write!(f, "the cache is too large; last used {}", date(since))
            }
            Self::NotNeeded(since) => write!(f, "not needed since {}", date(since)),
            Self::BrokenOff(at) => write!(f, "broken off {}", date(at)),
            Self::Wrong => f.write_str("wrong"),
            Self::RefersTo(path) => write!(f, "refers to {path}, which is wrong"),
        }
    }
}
