//! The page and the document of a run, and the parts of their list.

/// A file about a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuildFile {
    /// `<number>`: the page.
    Page(i64),
    /// `<number>.json`: the report.
    Document(i64),
}

impl BuildFile {
    /// Reads a file's name, percent-decoded. Nothing, if no run's file is called so.
    pub fn parse(file: &str) -> Option<Self> {
        match file.strip_suffix(".json") {
            Some(run) => number(run).map(Self::Document),
            None => number(file).map(Self::Page),
        }
    }
}

/// Below which run a part of the list begins, as a request's query says it; none for the newest.
pub fn before(query: &str) -> Option<i64> {
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    pairs.find(|(name, _)| name == "before").and_then(|(_, value)| number(&value))
}

/// Digits only, and no zeros before them, so that each run has one address.
fn number(text: &str) -> Option<i64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    plain.then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::{BuildFile, before};

    #[test]
    fn a_list_begins_below_a_number_or_at_the_newest() {
        assert_eq!(before("before=12"), Some(12));
        for other in ["", "before", "before=", "before=x", "after=12", "before=%00"] {
            assert_eq!(before(other), None, "{other}");
        }
    }

    #[test]
    fn a_run_has_one_page_and_one_document() {
        assert_eq!(BuildFile::parse("12"), Some(BuildFile::Page(12)));
        assert_eq!(BuildFile::parse("12.json"), Some(BuildFile::Document(12)));
        for other in ["", ".json", "0", "012", "+1", "-1", "1.html", "99999999999999999999", "1/2"]
        {
            assert_eq!(BuildFile::parse(other), None, "{other}");
        }
    }
}
