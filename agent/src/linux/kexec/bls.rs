//! Boot Loader Specification, type 1: a file per entry in `loader/entries`.

use super::{Entry, grub};
use crate::linux::{names, text};
use std::path::Path;

/// The entry that a boot loader would take: the one that `loader.conf` or GRUB's environment names, or else the newest.
pub fn default(folder: &Path) -> Option<Entry> {
    for base in [folder.to_owned(), folder.join("boot")] {
        let entries = base.join("loader/entries");
        let mut files: Vec<String> = names(&entries).into_iter().filter(|name| name.ends_with(".conf")).collect();
        files.sort_by_key(|name| version_key(name));
        let environment = grub::environment(&base);
        let configured = text(base.join("loader/loader.conf")).and_then(|text| setting(&text, "default"));
        let wanted = configured.or_else(|| environment.get("saved_entry").cloned()).unwrap_or_default();
        let named = files.iter().find(|name| !wanted.is_empty() && is_named(name, &wanted));
        let Some(file) = named.or(files.last()) else { continue };
        if let Some(entry) = text(entries.join(file)).and_then(|text| parse(&text)) {
            return Some(Entry { options: grub::expand(&entry.options, &environment), ..entry });
        }
    }
    None
}

fn is_named(file: &str, wanted: &str) -> bool {
    let name = file.trim_end_matches(".conf");
    let wanted = wanted.trim_end_matches(".conf");
    // A counter of tries may stand between (`+3`); patterns in loader.conf are prefixes with a star in practice.
    let bare = name.split('+').next().unwrap_or(name);
    wanted == name || wanted == bare || wanted.strip_suffix('*').is_some_and(|prefix| name.starts_with(prefix))
}

/// Names with their numbers by value, so that 6.10 is newer than 6.9.
pub(super) fn version_key(name: &str) -> Vec<(u64, String)> {
    let mut key = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let text = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (word, behind) = rest.split_at(text);
        let digits = behind.find(|c: char| !c.is_ascii_digit()).unwrap_or(behind.len());
        let (number, behind) = behind.split_at(digits);
        key.push((number.parse().unwrap_or(u64::MAX), word.to_owned()));
        rest = behind;
    }
    key.iter_mut().zip(0..).for_each(|((number, word), _)| {
        if word.is_empty() && *number == u64::MAX {
            *number = 0;
        }
    });
    key
}

fn setting(text: &str, wanted: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (key, value) = line.trim().split_once(char::is_whitespace)?;
        (key == wanted).then(|| value.trim().to_owned())
    })
}

fn parse(text: &str) -> Option<Entry> {
    let mut entry = Entry::default();
    for line in text.lines() {
        let Some((key, value)) = line.trim().split_once(char::is_whitespace) else { continue };
        match key {
            "linux" => entry.kernel = value.trim().to_owned(),
            // GRUB's dialect puts several on a line, and variables for what may be missing.
            "initrd" => {
                entry.initrds.extend(value.split_whitespace().filter(|p| !p.starts_with('$')).map(str::to_owned))
            }
            "options" if entry.options.is_empty() => entry.options = value.trim().to_owned(),
            "options" => entry.options = format!("{} {}", entry.options, value.trim()),
            _ => {}
        }
    }
    (!entry.kernel.is_empty()).then_some(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (path, content) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            std::fs::write(path, content).expect("a file");
        }
        folder
    }

    #[test]
    fn the_newest_entry_is_taken_unless_one_is_named() {
        let mut files = vec![
            ("boot/loader/entries/m-6.9.4.conf", "linux /vmlinuz-6.9.4\n"),
            ("boot/loader/entries/m-6.10.1.conf", "title Ten\nlinux /vmlinuz-6.10.1\n"),
        ];
        let taken = |files: &[(&str, &str)]| default(folder(files).path()).expect("an entry").kernel;
        assert_eq!(taken(&files), "/vmlinuz-6.10.1");
        files.push(("boot/grub2/grubenv", "# GRUB Environment Block\nsaved_entry=m-6.9.4\n####"));
        assert_eq!(taken(&files), "/vmlinuz-6.9.4");
        files.push(("boot/loader/loader.conf", "timeout 3\ndefault m-6.10*\n"));
        assert_eq!(taken(&files), "/vmlinuz-6.10.1");
    }

    #[test]
    fn variables_of_grubs_environment_are_put_in() {
        let folder = folder(&[
            ("loader/entries/a.conf", "linux /vmlinuz\ninitrd /initrd $tuned_initrd\noptions $kernelopts quiet\n"),
            ("grub2/grubenv", "kernelopts=root=/dev/vda3 ro\n"),
        ]);
        let entry = default(folder.path()).expect("an entry");
        assert_eq!((entry.options.as_str(), entry.initrds), ("root=/dev/vda3 ro quiet", vec!["/initrd".to_owned()]));
    }

    #[test]
    fn a_file_without_a_kernel_is_no_entry() {
        assert_eq!(default(folder(&[("loader/entries/a.conf", "title x\nefi /shell.efi\n")]).path()), None);
        assert_eq!(default(folder(&[]).path()), None);
    }
}
