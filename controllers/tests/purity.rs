//! The deciding layer stays pure: invariant 1 of ARCHITECTURE.md, held by reading the source.

use std::path::{Path, PathBuf};

/// Words that have no place where decisions are made, and what to do instead.
const BANNED: [(&str, &str); 6] = [
    ("async ", "observe reads and act does; decide is told"),
    (".await", "observe reads and act does; decide is told"),
    ("now()", "take the time as an argument"),
    ("fresh_id()", "take the identifier from the view"),
    ("Client", "a view is plain data"),
    ("rand::", "chance is drawn outside"),
];

fn deciding_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of this crate") {
        let path = entry.expect("readable").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_string();
        let inside = path.parent().is_some_and(|parent| parent.ends_with("decide"));
        if path.is_dir() {
            deciding_files(&path, found);
        } else if !name.contains("tests") && (inside || ["decide.rs", "view.rs", "place.rs"].contains(&name.as_str())) {
            found.push(path);
        }
    }
}

#[test]
fn nothing_that_decides_waits_reads_a_clock_or_draws_chance() {
    let mut files = Vec::new();
    deciding_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    assert!(files.len() >= 10, "the deciding files were not found: {files:?}");
    let mut faults = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).expect("readable");
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            for (word, instead) in BANNED.iter().filter(|(word, _)| line.contains(word)) {
                faults.push(format!("{}:{}: `{}`: {instead}", file.display(), number + 1, word.trim()));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
