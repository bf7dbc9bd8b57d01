//! Takes typed values out of a parsed file and notes what is wrong on the way.
//!
//! Promises that reading goes on after a problem, so that all are found in one go. It deliberately
//! does not know what a value means; the functions it is given do.

use std::ops::{Range, RangeInclusive};

use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use super::keys::{self, Section};
use super::problem::{ValueError, quoted};
use super::syntax::Located;

/// How much of a name must be right for it to be taken as a slip of the pen.
const ALIKE: f64 = 0.6;

/// A parsed file and what was found wrong in it so far.
pub(super) struct Document<'a, 'i> {
    root: &'a DeTable<'i>,
    problems: Vec<Located>,
}

/// One section of a file, which may be missing.
pub(super) struct SectionReader<'d, 'a, 'i> {
    section: Section,
    /// Which of several it is, as a problem says it, and where it begins.
    which: Option<(String, Range<usize>)>,
    table: Option<&'a DeTable<'i>>,
    problems: &'d mut Vec<Located>,
}

impl<'a, 'i> Document<'a, 'i> {
    pub(super) fn new(root: &'a DeTable<'i>) -> Self {
        Self { root, problems: Vec::new() }
    }

    /// A section, after its keys' names have been checked.
    pub(super) fn section<'d>(&'d mut self, section: Section) -> SectionReader<'d, 'a, 'i> {
        let table = match section.name() {
            None => Some(self.root),
            Some(name) => self.subtable(name),
        };
        let mut reader =
            SectionReader { section, which: None, table, problems: &mut self.problems };
        reader.check_names();
        reader
    }

    /// Each of a section that may be there several times, in the order of the file.
    pub(super) fn each<T>(
        &mut self,
        section: Section,
        mut read: impl FnMut(&mut SectionReader<'_, 'a, 'i>) -> T,
    ) -> Vec<T> {
        let name = section.name().unwrap_or_default();
        let mut results = Vec::new();
        for (index, item) in self.items(name).iter().enumerate() {
            let DeValue::Table(table) = item.get_ref() else {
                self.problems.push((item.span(), single(name, item.get_ref())));
                continue;
            };
            let named = table.get("name").and_then(|name| name.get_ref().as_str());
            let which = named.map_or(format!("{name} {}", index + 1), |named| {
                format!("{name} {}", quoted(named))
            });
            let mut reader = SectionReader {
                section,
                which: Some((which, item.span())),
                table: Some(table),
                problems: &mut self.problems,
            };
            reader.check_names();
            results.push(read(&mut reader));
        }
        results
    }

    pub(super) fn into_problems(self) -> Vec<Located> {
        self.problems
    }

    fn items(&mut self, name: &str) -> &'a [Spanned<DeValue<'i>>] {
        let Some((key, value)) = self.root.get_key_value(name) else { return &[] };
        if let DeValue::Array(items) = value.get_ref() {
            return items;
        }
        self.problems.push((key.span(), single(name, value.get_ref())));
        &[]
    }

    fn subtable(&mut self, name: &str) -> Option<&'a DeTable<'i>> {
        let (key, value) = self.root.get_key_value(name)?;
        if let DeValue::Table(table) = value.get_ref() {
            return Some(table);
        }
        let what = format!("`{name}` is a section, not {}", kind_of(value.get_ref()));
        let remedy = format!("write `[{name}]` on a line of its own, once, with its keys below");
        self.problems.push((key.span(), ValueError::new(what, remedy)));
        None
    }
}

impl<'a, 'i> SectionReader<'_, 'a, 'i> {
    /// A key whose value is text, and without which there is no such section.
    pub(super) fn required<T, F>(&mut self, name: &str, read: F) -> Option<T>
    where
        F: Fn(&str) -> Result<T, ValueError>,
    {
        self.miss(name);
        self.text(name, read)
    }

    /// A key whose value is a list that is not empty, and without which there is no such section.
    pub(super) fn required_list<T, F>(&mut self, name: &str, read: F) -> Option<Vec<T>>
    where
        T: PartialEq,
        F: Fn(&str) -> Result<T, ValueError>,
    {
        self.miss(name);
        let list = self.list(name, read)?;
        if list.is_empty() {
            let at = self.value(name).map_or(0..0, Spanned::span);
            let what = ValueError::new(format!("`{name}` is empty"), "name at least one");
            self.note(at, what);
        }
        Some(list).filter(|list| !list.is_empty())
    }

    /// Whether a key is there.
    pub(super) fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    /// Notes that a key is not there.
    fn miss(&mut self, name: &str) {
        if self.value(name).is_none() {
            let at = self.which.as_ref().map_or(0..0, |(_, at)| at.clone());
            let example = keys::find(self.section, name).map_or("", |key| key.example);
            let error = ValueError::new(
                format!("there is no `{name}`"),
                format!("add it, for example `{name} = {example}`"),
            );
            self.note(at, error);
        }
    }

    /// A key that has no meaning beside the others that are there.
    pub(super) fn useless(&mut self, name: &str, why: &str) {
        if let Some(value) = self.value(name) {
            let what = format!("`{name}` means nothing here: {why}");
            self.note(value.span(), ValueError::new(what, "take it out"));
        }
    }

    /// A key whose value is text.
    pub(super) fn text<T, F>(&mut self, name: &str, read: F) -> Option<T>
    where
        F: Fn(&str) -> Result<T, ValueError>,
    {
        let value = self.value(name)?;
        match value.get_ref() {
            DeValue::String(text) => self.keep(value.span(), read(text)),
            other => self.wrong_kind(name, value.span(), other),
        }
    }

    /// A key whose value is a list of texts, no two of which mean the same.
    pub(super) fn list<T, F>(&mut self, name: &str, read: F) -> Option<Vec<T>>
    where
        T: PartialEq,
        F: Fn(&str) -> Result<T, ValueError>,
    {
        let value = self.value(name)?;
        let DeValue::Array(items) = value.get_ref() else {
            return self.wrong_kind(name, value.span(), value.get_ref());
        };
        let mut list = Vec::new();
        for item in items.iter() {
            let DeValue::String(text) = item.get_ref() else {
                let found = kind_of(item.get_ref());
                let what = format!("wrong type in `{name}`: expected text, found {found}");
                self.note(item.span(), ValueError::new(what, "put it in quotes, or take it out"));
                continue;
            };
            match self.keep(item.span(), read(text)) {
                Some(again) if list.contains(&again) => {
                    let what = format!("{} is in `{name}` twice", quoted(text));
                    self.note(item.span(), ValueError::new(what, "take one of them out"));
                }
                Some(new) => list.push(new),
                None => {}
            }
        }
        Some(list)
    }

    /// Like [`Self::list`], for keys where an empty list would leave nothing to do.
    pub(super) fn filled_list<T, F>(&mut self, name: &str, read: F, without: &str) -> Option<Vec<T>>
    where
        T: PartialEq,
        F: Fn(&str) -> Result<T, ValueError>,
    {
        let value = self.value(name)?;
        if value.get_ref().as_array().is_some_and(|items| items.is_empty()) {
            let remedy = format!("name at least one, or leave the key out for {without}");
            self.note(value.span(), ValueError::new(format!("`{name}` is empty"), remedy));
        }
        self.list(name, read)
    }

    /// A key whose value is a whole number.
    pub(super) fn number(&mut self, name: &str, allowed: RangeInclusive<u32>) -> Option<u32> {
        let value = self.value(name)?;
        let DeValue::Integer(integer) = value.get_ref() else {
            return self.wrong_kind(name, value.span(), value.get_ref());
        };
        let read = to_u32(integer).filter(|number| allowed.contains(number)).ok_or_else(|| {
            let (least, most) = (allowed.start(), allowed.end());
            let what = format!("`{name}` cannot be {integer}");
            ValueError::new(what, format!("write a whole number from {least} to {most}"))
        });
        self.keep(value.span(), read)
    }

    /// A key whose value is `true` or `false`.
    pub(super) fn truth(&mut self, name: &str) -> Option<bool> {
        let value = self.value(name)?;
        match value.get_ref() {
            DeValue::Boolean(truth) => Some(*truth),
            other => self.wrong_kind(name, value.span(), other),
        }
    }

    /// A key that means nothing without these others.
    pub(super) fn together(&mut self, name: &str, others: &[&str]) {
        let Some(value) = self.value(name) else { return };
        let missing = others.iter().filter(|other| self.value(other).is_none()).collect::<Vec<_>>();
        for other in missing {
            let what = format!("`{name}` needs `{other}` as well");
            let remedy = match keys::find(self.section, other) {
                Some(key) => format!("for example `{other} = {}`", key.example),
                None => "add it".to_owned(),
            };
            self.note(value.span(), ValueError::new(what, remedy));
        }
    }

    fn check_names(&mut self) {
        for (key, value) in self.table.into_iter().flat_map(DeTable::iter) {
            let name = key.get_ref();
            let is_section = self.section == Section::Top && section_named(name).is_some();
            if !is_section && keys::find(self.section, name).is_none() {
                self.note(key.span(), unknown(self.section, name, is_table(value.get_ref())));
            }
        }
    }

    fn value(&self, name: &str) -> Option<&'a Spanned<DeValue<'i>>> {
        debug_assert!(keys::find(self.section, name).is_some(), "{name} is not in KEYS");
        self.table.and_then(|table| table.get(name))
    }

    fn keep<T>(&mut self, span: Range<usize>, read: Result<T, ValueError>) -> Option<T> {
        read.map_err(|error| self.note(span, error)).ok()
    }

    fn note(&mut self, span: Range<usize>, mut error: ValueError) {
        if let Some((which, _)) = &self.which {
            error.what = format!("{which}: {}", error.what);
        }
        self.problems.push((span, error));
    }

    fn wrong_kind<T>(&mut self, name: &str, span: Range<usize>, found: &DeValue<'_>) -> Option<T> {
        let key = keys::find(self.section, name)?;
        let (kind, found) = (key.kind, kind_of(found));
        let what = format!("wrong type for `{name}`: expected {kind}, found {found}");
        self.note(span, ValueError::new(what, format!("for example `{name} = {}`", key.example)));
        None
    }
}

fn to_u32(integer: &DeInteger<'_>) -> Option<u32> {
    u32::from_str_radix(integer.as_str(), integer.radix()).ok()
}

fn section_named(name: &str) -> Option<Section> {
    Section::ALL.into_iter().find(|section| section.name() == Some(name))
}

/// A section, or several of one name.
fn is_table(value: &DeValue<'_>) -> bool {
    match value {
        DeValue::Table(_) => true,
        DeValue::Array(items) => {
            items.first().is_some_and(|item| matches!(item.get_ref(), DeValue::Table(_)))
        }
        _ => false,
    }
}

fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// What to say about something else than a list of tables.
fn single(name: &str, found: &DeValue<'_>) -> ValueError {
    let what = match found {
        DeValue::Table(_) => format!("`[{name}]` needs a second pair of brackets"),
        other => format!("`{name}` is a section, not {}", kind_of(other)),
    };
    let remedy = format!("write `[[{name}]]` before the keys of each, since there may be several");
    ValueError::new(what, remedy)
}

/// What to say about a name that is not a key there. The right key in the wrong place comes first,
/// then the nearest name in the same place, then the nearest anywhere.
fn unknown(section: Section, name: &str, is_table: bool) -> ValueError {
    if is_table && section == Section::Top {
        return unknown_section(name);
    }
    let what = format!("there is no key {} {}", quoted(name), section.place());
    let homes: Vec<&str> =
        keys::all().filter(|key| key.name == name).map(|key| key.section.place()).collect();
    if !homes.is_empty() {
        return ValueError::new(what, format!("`{name}` belongs {}", homes.join(" or ")));
    }
    let remedy = match (
        nearest(section.keys(), name, |key| key.name),
        nearest(keys::all(), name, |key| key.name),
    ) {
        (Some(here), _) => format!("did you mean `{}`?", here.name),
        (None, Some(key)) => format!("did you mean `{}` {}?", key.name, key.section.place()),
        (None, None) => {
            let names: Vec<String> = section.keys().map(|key| format!("`{}`", key.name)).collect();
            format!("the keys there: {}", names.join(", "))
        }
    };
    ValueError::new(what, remedy)
}

fn unknown_section(name: &str) -> ValueError {
    let what = format!("there is no section {}", quoted(name));
    let sections = || Section::ALL.into_iter().filter(|section| section.name().is_some());
    let near = nearest(sections(), name, |real| real.name().unwrap_or_default());
    let shown = |section: Section| section.header().map(|header| format!("`{header}`"));
    let remedy = match near.and_then(shown) {
        Some(header) => format!("did you mean {header}?"),
        None => {
            let all: Vec<String> = sections().filter_map(shown).collect();
            format!("the sections: {}", all.join(", "))
        }
    };
    ValueError::new(what, remedy)
}

/// The one whose name was probably meant.
pub(super) fn nearest<T>(
    all: impl Iterator<Item = T>,
    written: &str,
    name: fn(&T) -> &str,
) -> Option<T> {
    all.map(|it| (likeness(name(&it), written), it))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, it)| it)
}

/// From 0 (nothing in common) to 1 (the same), blind to case and to `_` for `-`. What a real name
/// begins with is like it too, however short.
fn likeness(real: &str, written: &str) -> f64 {
    // The measure's cost is the product of both lengths, and the file may hold anything.
    let written: String = written.chars().take(64).collect();
    let written = written.to_lowercase().replace('_', "-");
    let likeness = strsim::normalized_damerau_levenshtein(real, &written);
    let is_beginning = written.chars().count() > 2 && real.starts_with(&written);
    if is_beginning { likeness.max(ALIKE) } else { likeness }
}
