//! Following `follows`.
//!
//! Promise: each input is resolved once, so a lock file made to branch without end takes time
//! linear in its size; chains are bounded, so none can exhaust the stack.

use std::collections::BTreeMap;

use super::{Graph, Input, LockFileError};

/// Real chains are two or three long; each step takes a stack frame.
const MAX_DEPTH: usize = 64;

/// Resolves inputs to the names of nodes.
pub(super) struct Resolver<'a> {
    graph: &'a Graph,
    /// By node and input. `None` while it is being resolved: meeting that again is a circle.
    known: BTreeMap<(&'a str, &'a str), Option<&'a str>>,
}

impl<'a> Resolver<'a> {
    pub(super) const fn new(graph: &'a Graph) -> Self {
        Self { graph, known: BTreeMap::new() }
    }

    /// The node that an input of a node leads to.
    pub(super) fn input(
        &mut self,
        node: &'a str,
        input: &'a str,
    ) -> Result<&'a str, LockFileError> {
        self.step(node, input, 0)
    }

    fn step(
        &mut self,
        node: &'a str,
        input: &'a str,
        depth: usize,
    ) -> Result<&'a str, LockFileError> {
        let (node_name, input_name) = (|| node.to_owned(), || input.to_owned());
        match self.known.get(&(node, input)) {
            Some(Some(target)) => return Ok(target),
            Some(None) => {
                return Err(LockFileError::Circle { node: node_name(), input: input_name() });
            }
            None if depth > MAX_DEPTH => {
                return Err(LockFileError::TooDeep {
                    node: node_name(),
                    input: input_name(),
                    limit: MAX_DEPTH,
                });
            }
            None => {}
        }
        let graph = self.graph;
        let target = match graph.node(node)?.inputs.get(input) {
            None => {
                return Err(LockFileError::NoInput { node: node_name(), input: input_name() });
            }
            Some(Input::Node(target)) => target,
            Some(Input::Follows(path)) => {
                self.known.insert((node, input), None);
                let mut at: &'a str = &graph.root;
                for next in path {
                    at = self.step(at, next, depth + 1)?;
                }
                at
            }
        };
        graph.node(target)?;
        self.known.insert((node, input), Some(target));
        Ok(target)
    }
}
