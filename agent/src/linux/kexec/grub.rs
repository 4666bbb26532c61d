//! GRUB's configuration, as far as distributions write it: variables, menu entries and which of them is the default.
//!
//! Not a shell: conditions are not evaluated. A default that is set from a variable that is empty counts as not set,
//! which is what the usual condition around it means.

use super::Entry;
use std::collections::BTreeMap;
use std::path::Path;

/// Where configurations are, on a root file system and on a boot partition.
const FOLDERS: [&str; 4] = ["boot/grub", "boot/grub2", "grub", "grub2"];

/// The default entry of the system on this file system.
pub fn default(folder: &Path) -> Option<Entry> {
    FOLDERS.iter().find_map(|place| {
        let text = std::fs::read_to_string(folder.join(place).join("grub.cfg")).ok()?;
        let environment = read_environment(&folder.join(place));
        Menu::parse(&text, environment).default()
    })
}

/// GRUB's saved variables on a boot file system.
pub fn environment(boot: &Path) -> BTreeMap<String, String> {
    let found = ["grub", "grub2"].map(|place| read_environment(&boot.join(place)));
    found.into_iter().flatten().collect()
}

fn read_environment(folder: &Path) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(folder.join("grubenv")).unwrap_or_default();
    let lines = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
    lines.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// `text` with `$name` and `${name}` replaced; unknown ones by nothing.
pub fn expand(text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('$') {
        expanded.push_str(before);
        let braced = behind.strip_prefix('{').and_then(|inner| inner.split_once('}'));
        let (name, after) = braced.unwrap_or_else(|| {
            behind.split_at(behind.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(behind.len()))
        });
        expanded.push_str(variables.get(name).map_or("", String::as_str));
        rest = after;
    }
    expanded.push_str(rest);
    expanded.trim().to_owned()
}

struct Item {
    title: String,
    id: String,
    entry: Entry,
}

struct Menu {
    /// Entries that stand at the top, in order; `None` for a submenu.
    top: Vec<Option<Item>>,
    /// Entries of submenus.
    below: Vec<Item>,
    default: String,
}

impl Menu {
    fn parse(text: &str, mut variables: BTreeMap<String, String>) -> Menu {
        let mut menu = Menu { top: Vec::new(), below: Vec::new(), default: String::new() };
        let mut open: Option<Item> = None;
        let mut submenus = 0;
        for line in text.replace("\\\n", " ").lines() {
            let words = words(line);
            let Some((command, arguments)) = words.split_first() else { continue };
            match (command.as_str(), arguments) {
                ("set", [assignment, ..]) if open.is_none() => {
                    let Some((name, value)) = assignment.split_once('=') else { continue };
                    let value = expand(value, &variables);
                    if name != "default" {
                        variables.insert(name.to_owned(), value);
                    } else if !value.is_empty() {
                        menu.default = value;
                    }
                }
                ("submenu", _) => {
                    submenus += 1;
                    menu.top.push(None);
                }
                ("menuentry", [title, options @ ..]) => {
                    let id = options.windows(2).find(|pair| is_id(&pair[0])).map(|pair| pair[1].clone());
                    let entry = Entry::default();
                    open = Some(Item { title: title.clone(), id: id.unwrap_or_default(), entry });
                }
                ("}", _) => match open.take() {
                    Some(item) if submenus == 0 => menu.top.push(Some(item)),
                    Some(item) => menu.below.push(item),
                    None => submenus = usize::saturating_sub(submenus, 1),
                },
                ("linux" | "linux16" | "linuxefi", [kernel, options @ ..]) => {
                    if let Some(item) = &mut open {
                        item.entry.kernel = path(kernel, &variables);
                        item.entry.options = expand(&options.join(" "), &variables);
                    }
                }
                ("initrd" | "initrd16" | "initrdefi", files) => {
                    if let Some(item) = &mut open {
                        item.entry.initrds = files.iter().map(|file| path(file, &variables)).collect();
                    }
                }
                _ => {}
            }
        }
        menu
    }

    fn default(self) -> Option<Entry> {
        let boots = |item: &Item| !item.entry.kernel.is_empty();
        let last = self.default.rsplit('>').next().unwrap_or_default();
        let is_named = |item: &&Item| !last.is_empty() && (item.id == last || item.title == last) && boots(item);
        let named = self.top.iter().flatten().chain(&self.below).find(is_named);
        let counted = self.default.parse().ok().and_then(|index: usize| self.top.get(index)?.as_ref());
        let first = self.top.iter().flatten().chain(&self.below).find(|item| boots(item));
        named.or(counted.filter(|item| boots(item))).or(first).map(|item| item.entry.clone())
    }
}

/// Debian passes the option's name in a variable, for GRUBs that do not know it.
fn is_id(word: &str) -> bool {
    matches!(word, "--id" | "$menuentry_id_option" | "${menuentry_id_option}")
}

/// A path without the device in front of it.
fn path(word: &str, variables: &BTreeMap<String, String>) -> String {
    let bare = if word.starts_with('(') { word.split_once(')').map_or(word, |(_, path)| path) } else { word };
    expand(bare, variables)
}

/// Words of a line, without quotes and comments. A brace at a line's end is no word of its own, one alone is.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote, mut any) = (Vec::new(), String::new(), None, false);
    let mut characters = line.chars();
    while let Some(c) = characters.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => (quote, any) = (Some(c), true),
            (None, '\\') | (Some('"'), '\\') => word.extend(characters.next()),
            (None, '#') if word.is_empty() => break,
            (None, c) if c.is_whitespace() || c == ';' => {
                if any || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                any = false;
            }
            (_, c) => word.push(c),
        }
    }
    if any || !word.is_empty() {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DEBIAN: &str = r#"
if [ -s $prefix/grubenv ]; then
  set have_grubenv=true
  load_env
fi
if [ "${next_entry}" ] ; then
   set default="${next_entry}"
else
   set default="0"
fi
menuentry 'Debian GNU/Linux' --class debian $menuentry_id_option 'gnulinux-simple-1' {
	insmod ext2
	if [ x$feature_platform_search_hint = xy ]; then
	  search --no-floppy --fs-uuid --set=root 1
	else
	  search --no-floppy --fs-uuid --set=root 1
	fi
	echo	'Loading Linux 6.1 ...'
	linux	/boot/vmlinuz-6.1 root=UUID=1 ro  console=ttyS0,115200 "quoted arg"
	initrd	/boot/microcode.img /boot/initrd.img-6.1
}
submenu 'Advanced options' $menuentry_id_option 'gnulinux-advanced-1' {
	menuentry 'Debian, with Linux 6.0' $menuentry_id_option 'gnulinux-6.0' {
		linux	($root)/boot/vmlinuz-6.0 root=UUID=1 single
	}
}
menuentry 'UEFI Firmware Settings' {
	fwsetup
}
"#;

    fn taken(text: &str, environment: &[(&str, &str)]) -> Option<Entry> {
        let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Menu::parse(text, environment).default()
    }

    #[test]
    fn the_default_of_a_debian_is_its_first_entry() {
        let entry = taken(DEBIAN, &[]).expect("an entry");
        assert_eq!(entry.kernel, "/boot/vmlinuz-6.1");
        assert_eq!(entry.options, "root=UUID=1 ro console=ttyS0,115200 quoted arg");
        assert_eq!(entry.initrds, ["/boot/microcode.img", "/boot/initrd.img-6.1"]);
    }

    #[test]
    fn an_entry_can_be_named_and_one_that_boots_nothing_is_not_taken() {
        let named = |name| taken(DEBIAN, &[("next_entry", name)]).expect("an entry").kernel;
        let kernel =
            taken(&DEBIAN.replace("set default=\"0\"", ""), &[("next_entry", "gnulinux-advanced-1>gnulinux-6.0")]);
        assert_eq!(kernel.expect("an entry").kernel, "/boot/vmlinuz-6.0");
        assert_eq!(named("2"), "/boot/vmlinuz-6.1");
        assert_eq!(taken("menuentry 'x' {\n chainloader +1\n}\n", &[]), None);
    }

    #[test]
    fn variables_are_put_in() {
        let text = "set kver=6.6\nset args=\"root=/dev/vda2 ro\"\nmenuentry x {\nlinux (hd0,gpt2)/vmlinuz-${kver} $args $none\n}";
        let entry = taken(text, &[]).expect("an entry");
        assert_eq!((entry.kernel.as_str(), entry.options.as_str()), ("/vmlinuz-6.6", "root=/dev/vda2 ro"));
    }

    proptest! {
        #[test]
        fn no_configuration_is_a_panic(text in "[a-z '\"{}$=\\\\\n>#]{0,120}") {
            let _ = taken(&text, &[("a", "b")]);
        }
    }
}
