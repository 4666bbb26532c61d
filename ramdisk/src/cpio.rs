//! Archives in the kernel's initramfs format (`newc`, Documentation/driver-api/early-userspace/buffer-format.rst).
//!
//! Everything belongs to root and has no time; entries are sorted and folders come before what is in them. So the same
//! tree gives the same bytes.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Type bits of a mode.
const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
/// Size of an entry's header, bytes.
const HEADER: usize = 110;
/// Name of the entry that ends an archive.
const TRAILER: &str = "TRAILER!!!";

#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    Folder,
    File { mode: u32, data: Vec<u8> },
    Link(String),
}

/// A tree of files. Paths are relative, without a leading slash.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree(BTreeMap<String, Node>);

impl Tree {
    /// A tree with nothing in it.
    pub fn new() -> Tree {
        Tree::default()
    }

    /// Adds a folder, and those above it.
    pub fn folder(&mut self, path: &str) {
        self.parents(path);
        self.0.insert(path.to_string(), Node::Folder);
    }

    /// Adds a file that root may read (and run, when `mode` says so), and the folders above it.
    pub fn file(&mut self, path: &str, mode: u32, data: Vec<u8>) {
        self.parents(path);
        self.0.insert(path.to_string(), Node::File { mode, data });
    }

    /// Adds a symbolic link, and the folders above it.
    pub fn link(&mut self, path: &str, target: &str) {
        self.parents(path);
        self.0.insert(path.to_string(), Node::Link(target.to_string()));
    }

    fn parents(&mut self, path: &str) {
        for (at, _) in path.match_indices('/') {
            self.0.entry(path[..at].to_string()).or_insert(Node::Folder);
        }
    }

    /// The archive. Each file's data begins on a multiple of `align` (at least 4, a power of two), and the archive
    /// ends on one.
    pub fn archive(&self, align: usize) -> Vec<u8> {
        let mut out = Vec::new();
        for (inode, (path, node)) in (1..).zip(&self.0) {
            match node {
                Node::Folder => entry(&mut out, inode, path, FOLDER | 0o755, &[], 4),
                Node::File { mode, data } => entry(&mut out, inode, path, FILE | mode, data, align),
                Node::Link(target) => entry(&mut out, inode, path, LINK | 0o777, target.as_bytes(), 4),
            }
        }
        entry(&mut out, 0, TRAILER, 0, &[], 4);
        out.resize(out.len().next_multiple_of(align), 0);
        out
    }
}

fn entry(out: &mut Vec<u8>, inode: u32, path: &str, mode: u32, data: &[u8], align: usize) {
    // A name may end in any number of NULs; that is how data gets to where it shall begin.
    let named = out.len() + HEADER + path.len() + 1;
    let name = path.len() + 1 + if align > 4 { named.next_multiple_of(align) - named } else { 0 };
    let links = if mode & FOLDER == FOLDER { 2 } else { 1 };
    let mut header = String::from("070701");
    for field in [inode, mode, 0, 0, links, 0, data.len() as u32, 0, 0, 0, 0, name as u32, 0] {
        let _ = write!(header, "{field:08x}"); // to a string: cannot fail
    }
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(path.as_bytes());
    out.resize(out.len() + name - path.len(), 0);
    out.resize(out.len().next_multiple_of(4), 0);
    out.extend_from_slice(data);
    out.resize(out.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Name, mode, where the data begins, data. A reader of its own: the kernel's rules, not the writer's.
    fn list(archive: &[u8]) -> Vec<(String, u32, usize, Vec<u8>)> {
        let (mut at, mut found) = (0, Vec::new());
        loop {
            assert_eq!(&archive[at..at + 6], b"070701");
            let field = |n: usize| {
                let from = at + 6 + n * 8;
                let text = std::str::from_utf8(&archive[from..from + 8]).expect("hex");
                usize::from_str_radix(text, 16).expect("hex")
            };
            let (mode, size, name_size) = (field(1) as u32, field(6), field(11));
            let name = &archive[at + HEADER..at + HEADER + name_size];
            assert_eq!(name.last(), Some(&0));
            let name = std::str::from_utf8(name).expect("text").trim_end_matches('\0').to_string();
            let data = (at + HEADER + name_size).next_multiple_of(4);
            if name == TRAILER {
                return found;
            }
            found.push((name, mode, data, archive[data..data + size].to_vec()));
            at = (data + size).next_multiple_of(4);
        }
    }

    #[test]
    fn folders_come_before_what_is_in_them_and_links_keep_their_target() {
        let mut tree = Tree::new();
        tree.link("bin/sh", "busybox");
        tree.file("bin/busybox", 0o755, b"elf".to_vec());
        let found = list(&tree.archive(4));
        let names: Vec<_> = found.iter().map(|(name, mode, _, data)| (name.as_str(), *mode, data.as_slice())).collect();
        assert_eq!(
            names,
            [
                ("bin", 0o40755, &b""[..]),
                ("bin/busybox", 0o100_755, &b"elf"[..]),
                ("bin/sh", 0o120_777, &b"busybox"[..])
            ]
        );
    }

    #[test]
    fn a_folder_that_is_named_after_its_content_keeps_it() {
        let mut tree = Tree::new();
        tree.file("a/b", 0o644, vec![1]);
        tree.folder("a");
        assert_eq!(list(&tree.archive(4)).len(), 2);
    }

    proptest! {
        #[test]
        fn what_went_in_comes_out_and_data_begins_where_it_was_asked_to(
            files in proptest::collection::btree_map("[a-z]{1,9}", proptest::collection::vec(any::<u8>(), 0..700), 0..6),
            align in prop_oneof![Just(4_usize), Just(16), Just(512), Just(2048)],
        ) {
            let mut tree = Tree::new();
            for (name, data) in &files {
                tree.file(name, 0o644, data.clone());
            }
            let archive = tree.archive(align);
            prop_assert_eq!(archive.len() % align, 0);
            let found = list(&archive);
            prop_assert!(found.iter().all(|(_, _, at, _)| at % align == 0));
            prop_assert_eq!(found.into_iter().map(|(name, _, _, data)| (name, data)).collect::<BTreeMap<_, _>>(), files);
        }
    }
}
