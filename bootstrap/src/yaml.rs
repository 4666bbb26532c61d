//! YAML that is read twice: first by jinja, as a template, then by a YAML parser.
//!
//! No general YAML library writes for such a reader, so this small one does. Inert text never shows jinja a `{{`, `{%`
//! or `{#`: the brace is written as the YAML escape `\x7b`, which jinja passes by and every YAML parser turns back.
//! Only [`Yaml::Jinja`] reaches jinja as a template. The output is within what YAML 1.1 (cloud-init's parser) and
//! YAML 1.2 (Kubernetes') read alike: a text is plain only when neither could take it for anything else.

/// A value to write.
#[derive(Clone)]
pub(crate) enum Yaml {
    /// Keys in the order they are to appear.
    Map(Vec<(String, Yaml)>),
    /// Items.
    List(Vec<Yaml>),
    /// Text that reaches the reader exactly as it is.
    Text(String),
    /// Source of a jinja template; the reader gets what it renders to. Printable, and not starting with white space.
    Jinja(String),
    /// Integer.
    Int(i64),
    /// Boolean.
    Bool(bool),
}

impl From<&str> for Yaml {
    fn from(text: &str) -> Yaml {
        Yaml::Text(text.to_owned())
    }
}

impl From<String> for Yaml {
    fn from(text: String) -> Yaml {
        Yaml::Text(text)
    }
}

/// A map of `entries`.
pub(crate) fn map<const N: usize>(entries: [(&str, Yaml); N]) -> Yaml {
    Yaml::Map(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

/// A list of texts.
pub(crate) fn texts<T: Into<String>>(items: impl IntoIterator<Item = T>) -> Yaml {
    Yaml::List(items.into_iter().map(|item| Yaml::Text(item.into())).collect())
}

/// `value` as a document, ending in a newline. Itself the source of a jinja template.
pub(crate) fn document(value: &Yaml) -> String {
    let mut out = String::new();
    match value {
        Yaml::Map(entries) if !entries.is_empty() => write_map(&mut out, entries, 0, false),
        Yaml::List(items) if !items.is_empty() => write_list(&mut out, items, 0, false),
        scalar => write_after_indicator(&mut out, scalar, 0),
    }
    out
}

/// Writes the entries at `indent`; the first one without indentation when it follows a `- ` on the same line.
fn write_map(out: &mut String, entries: &[(String, Yaml)], indent: usize, mut inline: bool) {
    for (key, value) in entries {
        if !std::mem::take(&mut inline) {
            push_spaces(out, indent);
        }
        out.push_str(&flow_text(key));
        out.push(':');
        match value {
            Yaml::Map(entries) if !entries.is_empty() => {
                out.push('\n');
                write_map(out, entries, indent + 2, false);
            }
            Yaml::List(items) if !items.is_empty() => {
                out.push('\n');
                write_list(out, items, indent + 2, false);
            }
            scalar => {
                out.push(' ');
                write_after_indicator(out, scalar, indent + 2);
            }
        }
    }
}

fn write_list(out: &mut String, items: &[Yaml], indent: usize, mut inline: bool) {
    for item in items {
        if !std::mem::take(&mut inline) {
            push_spaces(out, indent);
        }
        out.push_str("- ");
        match item {
            Yaml::Map(entries) if !entries.is_empty() => write_map(out, entries, indent + 2, true),
            Yaml::List(items) if !items.is_empty() => write_list(out, items, indent + 2, true),
            scalar => write_after_indicator(out, scalar, indent + 2),
        }
    }
}

/// Writes a scalar or an empty collection after `key: ` or `- `; lines of a block go to `indent`.
fn write_after_indicator(out: &mut String, value: &Yaml, indent: usize) {
    match value {
        Yaml::Map(_) => out.push_str("{}"),
        Yaml::List(_) => out.push_str("[]"),
        Yaml::Int(number) => out.push_str(&number.to_string()),
        Yaml::Bool(truth) => out.push_str(if *truth { "true" } else { "false" }),
        Yaml::Text(text) if reads_well_as_block(text) => return write_block(out, text, indent),
        Yaml::Text(text) => out.push_str(&flow_text(text)),
        Yaml::Jinja(source) if source.contains(['\n', '"', '\\']) => return write_block(out, source, indent),
        Yaml::Jinja(source) => {
            out.push('"');
            out.push_str(source);
            out.push('"');
        }
    }
    out.push('\n');
}

/// A literal block: every line as it stands.
fn write_block(out: &mut String, text: &str, indent: usize) {
    out.push_str(if text.ends_with('\n') { "|\n" } else { "|-\n" });
    for line in text.lines() {
        if !line.is_empty() {
            push_spaces(out, indent);
            out.push_str(line);
        }
        out.push('\n');
    }
}

/// True when `text` has several lines and a literal block gives exactly it back, through jinja too.
fn reads_well_as_block(text: &str) -> bool {
    let last_newlines = text.len() - text.trim_end_matches('\n').len();
    text.trim_end_matches('\n').contains('\n')
        && last_newlines <= 1
        && !text.starts_with([' ', '\t', '\n'])
        && text.lines().all(|line| line.is_empty() || !line.trim_matches([' ', '\t']).is_empty())
        && text.chars().all(|c| c == '\n' || c == '\t' || is_printable(c))
        && !has_jinja(text)
}

/// `text` on one line: plain when no reader could take it for something else, else in double quotes.
fn flow_text(text: &str) -> String {
    if is_plain(text) { text.to_owned() } else { quoted(text) }
}

/// Starts with a letter or a slash, is no YAML 1.1 keyword and holds nothing that means anything to YAML or jinja.
fn is_plain(text: &str) -> bool {
    const KEYWORDS: [&str; 9] = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"];
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_./-".contains(c))
        && !KEYWORDS.contains(&text.to_ascii_lowercase().as_str())
}

fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let opens_jinja = c == '{' && matches!(chars.peek(), Some('{' | '%' | '#'));
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if is_printable(c) && !opens_jinja => out.push(c),
            c if (c as u32) < 0x100 => out.push_str(&format!("\\x{:02x}", c as u32)),
            c if (c as u32) < 0x1_0000 => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push_str(&format!("\\U{:08x}", c as u32)),
        }
    }
    out.push('"');
    out
}

/// Printable to both YAML versions and no line break to either (1.1 breaks lines at U+0085, U+2028 and U+2029).
fn is_printable(c: char) -> bool {
    matches!(c, ' '..='~' | '\u{a0}'..='\u{2027}' | '\u{202a}'..='\u{d7ff}' | '\u{e000}'..='\u{fefe}'
        | '\u{ff00}'..='\u{fffd}' | '\u{10000}'..)
}

/// True when jinja would take a part of `text` for its own.
pub(crate) fn has_jinja(text: &str) -> bool {
    ["{{", "{%", "{#"].iter().any(|mark| text.contains(mark))
}

fn push_spaces(out: &mut String, count: usize) {
    out.extend(std::iter::repeat_n(' ', count));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_yaml_could_misread_is_quoted() {
        for text in ["", "yes", "Off", "1", "0600", "1e3", "4Gi", "~", "a: b", "- a", "a #b", "@x", "null", "a\nb\n "] {
            assert!(flow_text(text).starts_with('"'), "{text:?}");
        }
        for text in ["web", "/etc/motd", "vm.max_map_count", "v1.36.3"] {
            assert_eq!(flow_text(text), text);
        }
    }

    #[test]
    fn inert_text_shows_jinja_nothing() {
        assert_eq!(quoted("a {{ b }} {% c %} {# d #} { e"), r##""a \x7b{ b }} \x7b% c %} \x7b# d #} { e""##);
        assert_eq!(quoted("{{{"), r#""\x7b\x7b{""#);
    }

    #[test]
    fn several_lines_become_a_block_only_when_it_gives_them_back() {
        for text in ["a\nb\n", "a\n\n  b", "a\n\tb\n"] {
            assert!(reads_well_as_block(text), "{text:?}");
        }
        for text in ["a", "a\n", " a\nb", "\na\nb", "a\nb\n\n", "a\n  \nb", "a\r\nb", "a\n{{ b }}", "a\n\u{2028}b"] {
            assert!(!reads_well_as_block(text), "{text:?}");
        }
    }

    #[test]
    fn nested_collections_are_written_as_people_write_them() {
        let value = map([
            ("kind", "Test".into()),
            ("empty", Yaml::List(vec![])),
            ("items", Yaml::List(vec![map([("name", "a".into()), ("count", Yaml::Int(2))]), texts(["x", "1"])])),
            ("who", Yaml::Jinja("{{ ds.meta_data.local_hostname }}".into())),
        ]);
        let expected = "kind: Test\nempty: []\nitems:\n  - name: a\n    count: 2\n  - - x\n    - \"1\"\n\
                        who: \"{{ ds.meta_data.local_hostname }}\"\n";
        assert_eq!(document(&value), expected);
    }
}
