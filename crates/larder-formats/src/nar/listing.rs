//! Listings: the tree of a NAR without its contents (`.ls` of a cache).
//!
//! Promise: a listing says for every file where its contents lie in the NAR. It is kept flat,
//! nodes numbered in the order of the NAR, so that no depth of directories costs stack.

use super::event::Event;

/// The tree of a NAR.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// In the order of the NAR; the first is the root.
    pub(super) nodes: Vec<Node>,
}

/// One file, symlink or directory of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListingNode {
    /// A regular file.
    Regular {
        /// Whether it may be executed.
        executable: bool,
        /// Its size in bytes.
        size: u64,
        /// Where its contents begin, in bytes from the start of the NAR. Some listings lack it.
        nar_offset: Option<u64>,
    },
    /// A symlink.
    Symlink {
        /// Where it points.
        target: String,
    },
    /// A directory.
    Directory,
}

/// Builds a [`Listing`] from the events of a NAR, decoded or about to be written.
#[derive(Debug, Default)]
pub struct ListingBuilder {
    nodes: Vec<Node>,
    /// The directories begun and not ended.
    open: Vec<usize>,
    /// The name of the node that begins next.
    name: Option<String>,
}

/// Why there is no listing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListingError {
    /// A name or target is not UTF-8, which JSON can't hold. Nix makes no listing then, either.
    #[error("{:?} is not UTF-8, so the path has no listing", .0.escape_ascii().to_string())]
    NotUtf8(Vec<u8>),
    /// The events do not come in the order of a NAR, or end too soon.
    #[error("the events given do not make up a NAR")]
    Events,
    /// The text is not the JSON of a listing.
    #[error("not a listing: {0}")]
    Malformed(#[from] serde_json::Error),
    /// A version this program does not know.
    #[error("the listing has version {0}; version 1 is understood")]
    Version(u64),
    /// A node lacks what its type needs, or has a type that no file has.
    #[error("the listing has an incomplete node, or one of unknown type: {0:?}")]
    Node(String),
    /// A name that no file can have.
    #[error("the listing has an entry {0:?}, which can't be a file's name")]
    Name(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    /// Empty for the root.
    pub(super) name: String,
    pub(super) node: ListingNode,
    /// Where this node's subtree ends: the number after its last descendant.
    pub(super) end: usize,
}

impl Listing {
    /// The root.
    #[must_use]
    pub fn root(&self) -> &ListingNode {
        // A listing is only made with a root.
        &self.nodes[0].node
    }

    /// The node at a path relative to the root, such as `bin/bash`; the empty path is the root.
    /// Symlinks are not followed.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&ListingNode> {
        self.find(path).map(|index| &self.nodes[index].node)
    }

    /// The names and nodes in a directory, in order; empty for what is no directory.
    pub fn entries(&self, path: &str) -> impl Iterator<Item = (&str, &ListingNode)> {
        let children = self.find(path).map(|index| self.children(index));
        children.into_iter().flatten().map(|index| {
            let child = &self.nodes[index];
            (child.name.as_str(), &child.node)
        })
    }

    /// How many files, symlinks and directories there are, the root included.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn children(&self, index: usize) -> impl Iterator<Item = usize> {
        let end = self.nodes[index].end;
        let mut next = index + 1;
        std::iter::from_fn(move || {
            let child = next;
            (child < end).then(|| {
                next = self.nodes[child].end;
                child
            })
        })
    }

    fn find(&self, path: &str) -> Option<usize> {
        let parts = path.split('/').filter(|part| !part.is_empty());
        parts
            .into_iter()
            .try_fold(0, |at, part| self.children(at).find(|index| self.nodes[*index].name == part))
    }
}

impl ListingBuilder {
    /// A builder that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many files, symlinks and directories there are so far.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.nodes.len()
    }

    /// Takes the next event. Those about contents and ends of files may be left out.
    ///
    /// # Errors
    /// [`ListingError::NotUtf8`] and [`ListingError::Events`].
    pub fn push(&mut self, event: &Event<'_>) -> Result<(), ListingError> {
        match event {
            Event::Content(_) | Event::RegularEnd | Event::End => Ok(()),
            Event::RegularStart { executable, size, offset } => self.add(ListingNode::Regular {
                executable: *executable,
                size: *size,
                nar_offset: Some(*offset),
            }),
            Event::Symlink { target } => self.add(ListingNode::Symlink { target: text(target)? }),
            Event::DirectoryStart => {
                self.add(ListingNode::Directory)?;
                self.open.push(self.nodes.len() - 1);
                Ok(())
            }
            Event::Entry { name } if !self.open.is_empty() && self.name.is_none() => {
                self.name = Some(text(name)?);
                Ok(())
            }
            Event::Entry { .. } => Err(ListingError::Events),
            Event::DirectoryEnd => {
                let directory = self.open.pop().filter(|_| self.name.is_none());
                let directory = directory.ok_or(ListingError::Events)?;
                self.nodes[directory].end = self.nodes.len();
                Ok(())
            }
        }
    }

    /// The listing.
    ///
    /// # Errors
    /// [`ListingError::Events`] when the tree is not complete.
    pub fn finish(self) -> Result<Listing, ListingError> {
        if self.nodes.is_empty() || !self.open.is_empty() {
            return Err(ListingError::Events);
        }
        Ok(Listing { nodes: self.nodes })
    }

    pub(super) fn add(&mut self, node: ListingNode) -> Result<(), ListingError> {
        let name = match (self.nodes.is_empty(), self.open.is_empty(), self.name.take()) {
            (true, _, None) => String::new(),
            (false, false, Some(name)) => name,
            _ => return Err(ListingError::Events),
        };
        let end = self.nodes.len() + 1;
        self.nodes.push(Node { name, node, end });
        Ok(())
    }
}

fn text(bytes: &[u8]) -> Result<String, ListingError> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err(ListingError::NotUtf8(bytes.to_vec())),
    }
}
