//! Nix's ATerm, as far as derivations use it: lists, tuples and strings, by their places in the text.

use std::ops::Range;

use super::DerivationError;

/// Passes over the text from its beginning to its end, and copies nothing.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Refuses what comes behind the end.
    pub(super) fn end(&self) -> Result<(), DerivationError> {
        if self.at == self.bytes.len() { Ok(()) } else { Err(self.here()) }
    }

    /// This place, as an error.
    pub(super) fn here(&self) -> DerivationError {
        DerivationError(self.at)
    }

    pub(super) fn token(&mut self, token: &[u8]) -> Result<(), DerivationError> {
        if !self.starts_with(token) {
            return Err(self.here());
        }
        self.at += token.len();
        Ok(())
    }

    /// A string, as the place of what is between its quotes, escapes and all.
    pub(super) fn string(&mut self) -> Result<Range<usize>, DerivationError> {
        self.token(b"\"")?;
        let start = self.at;
        loop {
            match self.bytes.get(self.at) {
                Some(b'"') => break,
                Some(b'\\') => self.at += 2,
                Some(_) => self.at += 1,
                None => return Err(DerivationError(self.bytes.len())),
            }
        }
        self.at += 1;
        Ok(start..self.at - 1)
    }

    /// A string as Nix means it, which is UTF-8.
    pub(super) fn text(&mut self) -> Result<String, DerivationError> {
        let range = self.string()?;
        let start = DerivationError(range.start);
        let escaped = std::str::from_utf8(self.slice(range)).map_err(|_| start)?;
        Ok(unescaped(escaped))
    }

    /// A string that may hold anything. What is not UTF-8 in it is replaced.
    pub(super) fn any_text(&mut self) -> Result<String, DerivationError> {
        let range = self.string()?;
        Ok(unescaped(&String::from_utf8_lossy(self.slice(range))))
    }

    /// A tuple of texts.
    pub(super) fn texts<const LENGTH: usize>(
        &mut self,
    ) -> Result<[String; LENGTH], DerivationError> {
        let mut texts = [const { String::new() }; LENGTH];
        for (n, text) in texts.iter_mut().enumerate() {
            self.token(if n == 0 { b"(" } else { b"," })?;
            *text = self.text()?;
        }
        self.token(b")")?;
        Ok(texts)
    }

    pub(super) fn tuple<const LENGTH: usize>(
        &mut self,
    ) -> Result<[Range<usize>; LENGTH], DerivationError> {
        let mut strings = [const { 0..0 }; LENGTH];
        for (n, string) in strings.iter_mut().enumerate() {
            self.token(if n == 0 { b"(" } else { b"," })?;
            *string = self.string()?;
        }
        self.token(b")")?;
        Ok(strings)
    }

    pub(super) fn strings(&mut self) -> Result<(), DerivationError> {
        self.list(|reader| reader.string().map(drop))
    }

    pub(super) fn list(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<(), DerivationError>,
    ) -> Result<(), DerivationError> {
        self.token(b"[")?;
        let mut first = true;
        while !self.starts_with(b"]") {
            if !first {
                self.token(b",")?;
            }
            first = false;
            item(self)?;
        }
        self.token(b"]")
    }

    fn starts_with(&self, token: &[u8]) -> bool {
        self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(token))
    }

    pub(super) fn slice(&self, range: Range<usize>) -> &'a [u8] {
        self.bytes.get(range).unwrap_or_default()
    }
}

fn unescaped(escaped: &str) -> String {
    let mut text = String::with_capacity(escaped.len());
    let mut characters = escaped.chars();
    while let Some(character) = characters.next() {
        text.push(match character {
            // A string does not end in one: what follows is part of it.
            '\\' => match characters.next().unwrap_or('\\') {
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                other => other,
            },
            other => other,
        });
    }
    text
}
