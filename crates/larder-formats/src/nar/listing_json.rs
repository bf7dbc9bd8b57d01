//! The JSON of listings, as Nix writes it: `{"root":{…},"version":1}`.
//!
//! Keys are sorted and `executable` is there only when true, as in the `.ls` of newer Nix
//! versions; any order is read.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;

use super::event::Event;
use super::listing::{Listing, ListingBuilder, ListingError, ListingNode};

impl Listing {
    /// Reads the JSON of a listing. Directories may lie about sixty deep, the depth that the JSON
    /// reader allows.
    ///
    /// # Errors
    /// [`ListingError`].
    pub fn parse(json: &str) -> Result<Self, ListingError> {
        let wire: Wire<'_> = serde_json::from_str(json)?;
        if wire.version != 1 {
            return Err(ListingError::Version(wire.version));
        }
        let mut builder = ListingBuilder::new();
        add(&mut builder, &wire.root)?;
        builder.finish()
    }

    /// Writes the listing as Nix does, on one line without a newline.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut json = String::with_capacity(self.count() * 64);
        json.push_str("{\"root\":");
        // The ends of the directories that are open.
        let mut open: Vec<usize> = Vec::new();
        for (index, node) in self.nodes.iter().enumerate() {
            while open.pop_if(|end| *end == index).is_some() {
                json.push_str("},\"type\":\"directory\"}");
            }
            if index > 0 {
                if !json.ends_with("{\"entries\":{") {
                    json.push(',');
                }
                push_text(&mut json, &node.name);
                json.push(':');
            }
            match &node.node {
                ListingNode::Directory => {
                    json.push_str("{\"entries\":{");
                    open.push(node.end);
                }
                leaf => push_leaf(&mut json, leaf),
            }
        }
        for _ in open {
            json.push_str("},\"type\":\"directory\"}");
        }
        json.push_str(",\"version\":1}");
        json
    }
}

fn push_leaf(json: &mut String, node: &ListingNode) {
    match node {
        ListingNode::Regular { executable, size, nar_offset } => {
            json.push_str(if *executable { "{\"executable\":true," } else { "{" });
            if let Some(offset) = nar_offset {
                json.push_str(&format!("\"narOffset\":{offset},"));
            }
            json.push_str(&format!("\"size\":{size},\"type\":\"regular\"}}"));
        }
        ListingNode::Symlink { target } => {
            json.push_str("{\"target\":");
            push_text(json, target);
            json.push_str(",\"type\":\"symlink\"}");
        }
        ListingNode::Directory => {}
    }
}

fn push_text(json: &mut String, text: &str) {
    json.push_str(&serde_json::Value::from(text).to_string());
}

/// Recursive, which is safe: the reader that made the nodes bounds their depth.
fn add(builder: &mut ListingBuilder, node: &WireNode<'_>) -> Result<(), ListingError> {
    match (node.kind.as_ref(), node.size, &node.target, &node.entries) {
        ("regular", Some(size), _, _) => builder.add(ListingNode::Regular {
            executable: node.executable,
            size,
            nar_offset: node.nar_offset,
        }),
        ("symlink", _, Some(target), _) => {
            builder.add(ListingNode::Symlink { target: target.to_string() })
        }
        ("directory", _, _, Some(entries)) => {
            builder.push(&Event::DirectoryStart)?;
            for (name, node) in entries {
                if matches!(name.as_ref(), "" | "." | "..") || name.contains(['/', '\0']) {
                    return Err(ListingError::Name(name.to_string()));
                }
                builder.push(&Event::Entry { name: name.as_bytes() })?;
                add(builder, node)?;
            }
            builder.push(&Event::DirectoryEnd)
        }
        (kind, ..) => Err(ListingError::Node(kind.to_owned())),
    }
}

#[derive(Deserialize)]
struct Wire<'a> {
    version: u64,
    #[serde(borrow)]
    root: WireNode<'a>,
}

/// The fields of all kinds together: an enum tagged by `type` would be read into a copy first, at
/// each level anew.
#[derive(Deserialize)]
struct WireNode<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(default)]
    executable: bool,
    size: Option<u64>,
    #[serde(rename = "narOffset")]
    nar_offset: Option<u64>,
    #[serde(borrow)]
    target: Option<Cow<'a, str>>,
    #[serde(borrow)]
    entries: Option<BTreeMap<Cow<'a, str>, WireNode<'a>>>,
}
