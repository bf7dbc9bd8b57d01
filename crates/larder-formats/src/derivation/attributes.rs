//! What the author of a derivation wrote into it.

use std::collections::BTreeMap;

use serde_json::Value;

/// The variable that holds everything as JSON, when a derivation asks for that (`__structuredAttrs`).
const STRUCTURED: &str = "__json";

/// A derivation's attributes, however they are written: each as a variable of its own, in which a flag is `1`
/// or empty, or all of them as JSON in one.
#[derive(Debug)]
pub struct Attributes<'a> {
    variables: &'a BTreeMap<String, String>,
    structured: Option<Value>,
}

impl<'a> Attributes<'a> {
    pub(super) fn of(variables: &'a BTreeMap<String, String>) -> Self {
        // What is no JSON here, Nix would refuse to build: no flag is seen in it.
        let read = |text: &String| serde_json::from_str(text).unwrap_or(Value::Null);
        Self { variables, structured: variables.get(STRUCTURED).map(read) }
    }

    /// A flag, as Nix reads it. `None` when it is not there.
    #[must_use]
    pub fn flag(&self, name: &str) -> Option<bool> {
        match &self.structured {
            Some(structured) => structured.get(name)?.as_bool(),
            None => Some(self.variables.get(name)? == "1"),
        }
    }

    /// The words of an attribute, or of a list. None when it is not there, or empty.
    #[must_use]
    pub fn words(&self, name: &str) -> Vec<String> {
        match &self.structured {
            Some(structured) => structured.get(name).map(words).unwrap_or_default(),
            None => self.variables.get(name).map(|text| split(text)).unwrap_or_default(),
        }
    }
}

fn words(value: &Value) -> Vec<String> {
    match value {
        Value::Null => Vec::new(),
        Value::String(text) => split(text),
        Value::Array(list) => list.iter().flat_map(words).collect(),
        other => vec![other.to_string()],
    }
}

fn split(text: &str) -> Vec<String> {
    text.split_ascii_whitespace().map(str::to_owned).collect()
}
