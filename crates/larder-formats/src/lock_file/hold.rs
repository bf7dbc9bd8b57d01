//! Locks between two others: the newer one, with some inputs as they were in the older.
//!
//! Promise: what comes of it says of each input, and of all that this one brings along, exactly what one of the two
//! locks said. The names of nodes mean nothing and may be others.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::{LockFile, LockFileError};

/// The flake's own inputs that differ between two locks, in themselves or in what they bring along, by name. Only
/// such that both have, and that do not just follow another: the others cannot be held.
#[must_use]
pub fn moved(old: &LockFile, new: &LockFile) -> BTreeSet<String> {
    let (Some(old), Some(new)) = (Nodes::of(old), Nodes::of(new)) else { return BTreeSet::new() };
    let root = |nodes: &Nodes| nodes.inputs(&nodes.root).cloned().unwrap_or_default();
    let after = root(&new);
    let differs = |(name, before): (&String, &Value)| {
        let after = after.get(name)?.as_str()?;
        (!same(&old, before.as_str()?, &new, after)).then(|| name.clone())
    };
    root(&old).iter().filter_map(differs).collect()
}

impl LockFile {
    /// This lock, with these inputs of the flake as they are in an older one. Names that not both locks have are
    /// passed over.
    ///
    /// # Errors
    /// [`LockFileError`], when one of the locks is broken in a place that nobody has looked at before.
    pub fn holding(&self, old: &Self, held: &BTreeSet<String>) -> Result<Self, LockFileError> {
        let mut lock: Value = serde_json::from_str(&self.text)?;
        let (Some(old), Some(new)) = (Nodes::of(old), Nodes::of(self)) else {
            return Ok(self.clone());
        };
        let mut copy = Copy::new(&old, new.all.clone());
        let mut inputs = new.inputs(&new.root).cloned().unwrap_or_default();
        let before = old.inputs(&old.root).cloned().unwrap_or_default();
        for (name, input) in &mut inputs {
            if let (true, Some(before)) = (held.contains(name), before.get(name)) {
                *input = copy.input(before);
            }
        }
        let mut nodes = Nodes { root: new.root.clone(), all: copy.finish() };
        if let Some(root) = nodes.all.get_mut(&new.root).and_then(Value::as_object_mut) {
            root.insert("inputs".to_owned(), Value::Object(inputs));
        }
        nodes.drop_unreached();
        if let Some(lock) = lock.as_object_mut() {
            lock.insert("nodes".to_owned(), Value::Object(nodes.all));
        }
        // As Nix writes it.
        Self::parse(&format!("{lock:#}\n"))
    }
}

/// The nodes of a lock with everything that stands in them, known to this program or not.
struct Nodes {
    root: String,
    all: Map<String, Value>,
}

impl Nodes {
    /// Of a lock that was read: what is missing here was missed then.
    fn of(lock: &LockFile) -> Option<Self> {
        let mut lock: Value = serde_json::from_str(&lock.text).ok()?;
        let root = lock.get("root")?.as_str()?.to_owned();
        let Value::Object(all) = lock.get_mut("nodes")?.take() else { return None };
        Some(Self { root, all })
    }

    fn inputs(&self, node: &str) -> Option<&Map<String, Value>> {
        self.all.get(node)?.get("inputs")?.as_object()
    }

    /// The nodes that a node's inputs are.
    fn next(&self, node: &str) -> impl Iterator<Item = &str> {
        self.inputs(node).into_iter().flat_map(|inputs| inputs.values().filter_map(Value::as_str))
    }

    fn drop_unreached(&mut self) {
        let mut reached = BTreeSet::from([self.root.clone()]);
        let mut pending = vec![self.root.clone()];
        while let Some(node) = pending.pop() {
            let new = self.next(&node).filter(|next| !reached.contains(*next)).map(str::to_owned);
            let new: Vec<String> = new.collect();
            reached.extend(new.iter().cloned());
            pending.extend(new);
        }
        self.all.retain(|name, _| reached.contains(name));
    }
}

/// Whether two nodes say the same, and all that they lead to. Each pair is looked at once, so that a lock made to
/// lead in circles comes to an end.
fn same(old: &Nodes, before: &str, new: &Nodes, after: &str) -> bool {
    let mut seen = BTreeSet::new();
    let mut pending = vec![(before.to_owned(), after.to_owned())];
    while let Some(pair) = pending.pop() {
        if !seen.insert(pair.clone()) {
            continue;
        }
        let (before, after) = pair;
        let own = |nodes: &Nodes, node: &str| {
            let mut own = nodes.all.get(node).cloned().unwrap_or_default();
            own.as_object_mut().map(|own| own.remove("inputs"));
            own
        };
        if own(old, &before) != own(new, &after) {
            return false;
        }
        let (none, other) = (Map::new(), Map::new());
        let (before, after) =
            (old.inputs(&before).unwrap_or(&none), new.inputs(&after).unwrap_or(&other));
        if before.len() != after.len() {
            return false;
        }
        for (name, before) in before {
            match (before, after.get(name)) {
                (Value::String(before), Some(Value::String(after))) => {
                    pending.push((before.clone(), after.clone()));
                }
                (before, after) if Some(before) == after => {}
                _ => return false,
            }
        }
    }
    true
}

/// Copies nodes of one lock into another, under names that are free there.
struct Copy<'a> {
    from: &'a Nodes,
    names: BTreeMap<String, String>,
    /// Named, and still to be copied: the node and its new name.
    pending: Vec<(String, String)>,
    into: Map<String, Value>,
}

impl<'a> Copy<'a> {
    fn new(from: &'a Nodes, into: Map<String, Value>) -> Self {
        Self { from, names: BTreeMap::new(), pending: Vec::new(), into }
    }

    /// An input of a node that is copied: a node's new name, or inputs that are followed from the root.
    fn input(&mut self, input: &Value) -> Value {
        match input.as_str() {
            Some(node) => Value::String(self.name(node)),
            None => input.clone(),
        }
    }

    fn name(&mut self, node: &str) -> String {
        if let Some(name) = self.names.get(node) {
            return name.clone();
        }
        let is_free = |name: &String| !self.into.contains_key(name);
        let mut numbered = (2..).map(|number: u64| format!("{node}_{number}"));
        let name = Some(node.to_owned()).filter(is_free).or_else(|| numbered.find(is_free));
        let name = name.unwrap_or_default();
        // Taken from now on, though what stands there comes later.
        self.into.insert(name.clone(), Value::Null);
        self.names.insert(node.to_owned(), name.clone());
        self.pending.push((node.to_owned(), name.clone()));
        name
    }

    /// Copies what was named, and what that names.
    fn finish(mut self) -> Map<String, Value> {
        while let Some((node, name)) = self.pending.pop() {
            let mut content = self.from.all.get(&node).cloned().unwrap_or_default();
            if let Some(inputs) = content.get_mut("inputs").and_then(Value::as_object_mut) {
                for input in inputs.values_mut() {
                    *input = self.input(input);
                }
            }
            self.into.insert(name, content);
        }
        self.into
    }
}
