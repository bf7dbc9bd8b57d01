//! A range of a dump is that slice of the whole, and costs no reading of what comes before it.

use std::{mem::MaybeUninit, path::Path};

use larder_nix::dump::{self, Dump};
use larder_testkit::{Tree, scratch::scratch, tree::random_bytes};
use proptest::{collection::vec, prelude::*};
use rustix::{
    fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags},
    io::Errno,
};

use crate::support::{nix_dump, read};

#[derive(Clone, Debug)]
enum Node {
    File(usize, bool),
    Link(String),
    Folder,
}

fn trees() -> impl Strategy<Value = Vec<(String, Node)>> {
    let name = "[a-c]{1,3}(/[a-c.]{0,4}[a-c]){0,3}";
    let node = prop_oneof![
        4 => (0_usize..100, any::<bool>()).prop_map(|(size, run)| Node::File(size, run)),
        1 => (250_000_usize..600_000, any::<bool>()).prop_map(|(size, run)| Node::File(size, run)),
        1 => "[a-z/]{1,20}".prop_map(Node::Link),
        1 => Just(Node::Folder),
    ];
    vec((name, node), 0..12)
}

/// Writes what fits together of it: a name that would lie inside of a file is left out.
fn write(tree: &[(String, Node)], to: &Path) {
    std::fs::create_dir(to).unwrap();
    for (name, node) in tree {
        let path = to.join(name);
        let fits = path.parent().is_some_and(|above| {
            std::fs::symlink_metadata(above).map_or(true, |m| m.is_dir())
                && std::fs::create_dir_all(above).is_ok()
        });
        if !fits || path.symlink_metadata().is_ok() {
            continue;
        }
        let file = |tree: Tree| tree.write(path.parent().unwrap());
        let own = path.file_name().unwrap().to_str().unwrap();
        match node {
            Node::Folder => std::fs::create_dir(&path).unwrap(),
            Node::Link(target) => std::os::unix::fs::symlink(target, &path).unwrap(),
            Node::File(size, true) => file(Tree::new().executable(own, random_bytes(1, *size))),
            Node::File(size, false) => file(Tree::new().file(own, random_bytes(2, *size))),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_range_of_a_dump_is_that_slice_of_the_whole(
        tree in trees(),
        cuts in vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 12),
    ) {
        let folder = scratch("ranges");
        let path = folder.path().join("tree");
        write(&tree, &path);
        let nix = nix_dump(&path);
        for (first, second) in cuts {
            let (first, second) = (first.index(nix.len() + 1), second.index(nix.len() + 1));
            let (start, end) = (first.min(second), first.max(second));
            let (part, _) = read(Dump::new(&path, start as u64..end as u64)).unwrap();
            prop_assert!(part == nix[start..end], "{start}..{end} of {}", nix.len());
        }
    }
}

#[test]
fn every_single_range_of_a_small_dump_is_right() {
    let folder = scratch("ranges");
    let path = folder.path().join("tree");
    Tree::new()
        .file("a", b"twelve bytes".as_slice())
        .executable("b/c", b"".as_slice())
        .symlink("d", "a")
        .write(&path);
    let nix = nix_dump(&path);
    for start in 0..=nix.len() {
        for end in [start, start + 1, (start + 9).min(nix.len()), nix.len()] {
            let end = end.min(nix.len());
            let (part, _) = read(Dump::new(&path, start as u64..end as u64)).unwrap();
            assert_eq!(part, nix[start..end], "{start}..{end}");
        }
    }
}

#[test]
fn a_range_behind_the_end_is_an_error() {
    let folder = scratch("ranges");
    let path = folder.path().join("file");
    std::fs::write(&path, b"content").unwrap();
    let size = nix_dump(&path).len() as u64;
    assert!(read(Dump::new(&path, 0..size + 1)).is_err());
    assert!(read(Dump::new(&path, size + 10..size + 11)).is_err());
}

#[test]
fn no_file_that_lies_wholly_outside_of_the_range_is_opened() {
    let folder = scratch("ranges");
    let path = folder.path().join("tree");
    let names = ["a", "b", "c", "d", "e"];
    let tree = names
        .iter()
        .fold(Tree::new(), |tree, name| tree.file(*name, random_bytes(name.len() as u64, 400_000)));
    tree.write(&path);
    let nix = nix_dump(&path);
    let listing = dump::list(&path).unwrap();
    let Some(larder_formats::nar::ListingNode::Regular { nar_offset: Some(c), .. }) =
        listing.get("c")
    else {
        panic!("a file with its offset")
    };
    let range = c + 10..c + 400_010;
    let watch = Watch::opened_files(&path);
    let (part, _) = read(Dump::new(&path, range.clone())).unwrap();
    assert!(part == nix[range.start as usize..range.end as usize]);
    assert_eq!(watch.names(), ["c"]);
    // So that the silence about the others means something.
    read(Dump::new(&path, 0..nix.len() as u64)).unwrap();
    assert_eq!(watch.names(), names);
}

/// Tells which files of a folder were opened, by the kernel's own word.
struct Watch(rustix::fd::OwnedFd);

impl Watch {
    fn opened_files(folder: &Path) -> Self {
        let watch = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
        inotify::add_watch(&watch, folder, WatchFlags::OPEN).unwrap();
        Self(watch)
    }

    fn names(&self) -> Vec<String> {
        let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
        let mut reader = Reader::new(&self.0, &mut buffer);
        let mut names = Vec::new();
        loop {
            match reader.next() {
                Ok(event) if event.events().contains(ReadFlags::ISDIR) => {}
                Ok(event) => names.push(event.file_name().unwrap().to_str().unwrap().to_owned()),
                Err(Errno::AGAIN) => return names,
                Err(error) => panic!("{error}"),
            }
        }
    }
}
