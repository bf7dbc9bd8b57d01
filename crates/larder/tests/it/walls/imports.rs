//! Which file of a crate uses which, read from its syntax.
//!
//! A file that declares another as its module, or passes its items on with `pub use`, does not import
//! it: that is how a room has a door. Everything else that names `crate::…` or `super::…` counts.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use syn::{ItemUse, Path as SynPath, UseTree, visit::Visit};

type Module = Vec<String>;

/// The circles among these files, each as the names of its modules.
pub(super) fn circles(src: &Path, files: &[PathBuf]) -> Vec<Vec<String>> {
    let modules: BTreeSet<Module> = files.iter().map(|file| module_of(src, file)).collect();
    let mut edges: BTreeMap<Module, BTreeSet<Module>> = BTreeMap::new();
    for file in files {
        let text = std::fs::read_to_string(file).expect("a source file can be read");
        let mut reader =
            Reader { here: module_of(src, file), modules: &modules, uses: BTreeSet::new() };
        reader.visit_file(&syn::parse_file(&text).expect("a source file parses"));
        edges.insert(reader.here, reader.uses);
    }
    let mut circles = Vec::new();
    for start in edges.keys() {
        // A circle is named once, by the first of its modules.
        if let Some(circle) = path_back(&edges, start)
            && circle.iter().min() == Some(start)
        {
            circles.push(circle.iter().map(|module| module.join("::")).collect());
        }
    }
    circles
}

/// A shortest way from a module back to itself.
fn path_back(edges: &BTreeMap<Module, BTreeSet<Module>>, start: &Module) -> Option<Vec<Module>> {
    let mut ways = std::collections::VecDeque::from([vec![start.clone()]]);
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop_front() {
        for next in way.last().and_then(|module| edges.get(module)).into_iter().flatten() {
            if next == start {
                return Some(way);
            }
            if seen.insert(next.clone()) {
                ways.push_back([way.clone(), vec![next.clone()]].concat());
            }
        }
    }
    None
}

/// `a/b.rs` and `a/b/mod.rs` are `a::b`; `lib.rs` is the root.
fn module_of(src: &Path, file: &Path) -> Module {
    let relative = file.strip_prefix(src).expect("below src").with_extension("");
    let mut parts: Module =
        relative.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if matches!(parts.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        parts.pop();
    }
    parts
}

struct Reader<'a> {
    here: Module,
    modules: &'a BTreeSet<Module>,
    uses: BTreeSet<Module>,
}

impl Reader<'_> {
    /// Notes a use of a path that begins at the crate or above here.
    fn note(&mut self, path: &[String]) {
        let mut module = match path.first().map(String::as_str) {
            Some("crate") => Vec::new(),
            Some("super") => self.here[..self.here.len().saturating_sub(1)].to_vec(),
            _ => return,
        };
        let supers = path.iter().skip(1).take_while(|part| *part == "super").count();
        module.truncate(module.len().saturating_sub(supers));
        for part in &path[1 + supers..] {
            module.push(part.clone());
            if !self.modules.contains(&module) {
                module.pop();
                break;
            }
        }
        if module != self.here && self.modules.contains(&module) && !module.is_empty() {
            self.uses.insert(module);
        }
    }

    fn tree(&mut self, tree: &UseTree, before: &[String]) {
        match tree {
            UseTree::Path(path) => {
                let path_so_far = [before, &[path.ident.to_string()]].concat();
                self.tree(&path.tree, &path_so_far);
            }
            UseTree::Name(name) => self.note(&[before, &[name.ident.to_string()]].concat()),
            UseTree::Rename(name) => self.note(&[before, &[name.ident.to_string()]].concat()),
            UseTree::Glob(_) => self.note(before),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.tree(tree, before)),
        }
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if matches!(item.vis, syn::Visibility::Inherited) {
            self.tree(&item.tree, &[]);
        }
    }

    fn visit_path(&mut self, path: &'ast SynPath) {
        let parts: Vec<String> = path.segments.iter().map(|part| part.ident.to_string()).collect();
        self.note(&parts);
        syn::visit::visit_path(self, path);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        // Unit tests inside a file look at their own file.
        let is_tests = item.ident == "tests";
        if !is_tests {
            syn::visit::visit_item_mod(self, item);
        }
    }
}
