//! What the bytes of a packed NAR depend on, besides the NAR.

use std::{fmt, str::FromStr};

/// Changed with whatever else changes the bytes: the parameters of the encoder.
const PARAMETERS: u32 = 1;

/// How a NAR is packed: the same NAR by the same recipe is the same bytes. It stands in a packed NAR's URL,
/// since Nix resumes a download without asking whether the rest belongs to what it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Recipe {
    parameters: u32,
    level: u8,
    library: u32,
}

/// A text that names no recipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a recipe for a packed NAR")]
pub struct NotARecipe;

impl Recipe {
    /// The one of this program for a level of zstd, from 1 to 19.
    #[must_use]
    pub fn of(level: u8) -> Self {
        Self { parameters: PARAMETERS, level, library: zstd::zstd_safe::version_number() }
    }

    pub(super) fn level(self) -> u8 {
        self.level
    }
}

impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { parameters, level, library } = self;
        write!(f, "{parameters}.{level}.{library}")
    }
}

impl FromStr for Recipe {
    type Err = NotARecipe;

    fn from_str(text: &str) -> Result<Self, NotARecipe> {
        let mut parts = text.split('.');
        let mut next = || parts.next()?.parse().ok();
        let (Some(parameters), Some(level), Some(library)) = (next(), next(), next()) else {
            return Err(NotARecipe);
        };
        let level = u8::try_from(level).map_err(|_| NotARecipe)?;
        let recipe = Self { parameters, level, library };
        // Written in no other way: no signs, no zeros before it, nothing behind it.
        if recipe.to_string() == text { Ok(recipe) } else { Err(NotARecipe) }
    }
}
