//! Reads systemd unit files as far as a kubelet's command line needs them.
//!
//! Pure: files in, words out. Knows `[Service]`'s `Environment=`, `EnvironmentFile=` and `ExecStart=` with line
//! continuations, quotes, `$NAME` (split at white space), `${NAME}` (one word) and an empty assignment that resets a list.

use std::collections::BTreeMap;

/// A unit or drop-in that cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// `ExecStart=` is missing.
    #[error("the unit has no ExecStart=")]
    NoExecStart,
    /// More than one command, for a service that may have one only.
    #[error("the unit has more than one ExecStart=; a drop-in must reset it with an empty one first")]
    SeveralExecStart,
    /// A quote that is not closed.
    #[error("a quote is not closed in {0:?}")]
    Quote(String),
}

/// `[Service]` of a unit with its drop-ins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    environment: BTreeMap<String, String>,
    environment_files: Vec<String>,
    exec_start: Vec<String>,
}

/// An `EnvironmentFile=`, the `-` of one that may be missing taken off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvironmentFile<'a> {
    /// Path on the machine.
    pub path: &'a str,
    /// Whether the service starts without it.
    pub optional: bool,
}

impl Service {
    /// Takes in a unit file, or a drop-in after it.
    pub fn read(&mut self, text: &str) -> Result<(), UnitError> {
        let joined = text.replace("\\\n", " ");
        let mut section = "";
        for line in joined.lines().map(str::trim) {
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if line.starts_with('[') {
                section = line;
            } else if section == "[Service]"
                && let Some((key, value)) = line.split_once('=')
            {
                self.assign(key.trim(), value.trim())?;
            }
        }
        Ok(())
    }

    fn assign(&mut self, key: &str, value: &str) -> Result<(), UnitError> {
        match (key, value) {
            ("Environment", "") => self.environment.clear(),
            ("EnvironmentFile", "") => self.environment_files.clear(),
            ("ExecStart", "") => self.exec_start.clear(),
            ("Environment", _) => self.environment.extend(words(value)?.iter().filter_map(|word| assignment(word))),
            ("EnvironmentFile", _) => self.environment_files.push(value.into()),
            ("ExecStart", _) => self.exec_start.push(value.into()),
            _ => {}
        }
        Ok(())
    }

    /// Files whose text [`Service::command`] wants, in order.
    pub fn environment_files(&self) -> impl Iterator<Item = EnvironmentFile<'_>> {
        self.environment_files.iter().map(|path| match path.strip_prefix('-') {
            Some(path) => EnvironmentFile { path, optional: true },
            None => EnvironmentFile { path, optional: false },
        })
    }

    /// The command line, with `environment_files` being the texts of those that exist.
    pub fn command(&self, environment_files: &[String]) -> Result<Vec<String>, UnitError> {
        let line = match self.exec_start.as_slice() {
            [] => return Err(UnitError::NoExecStart),
            [line] => line.trim_start_matches(['-', '@', ':', '+', '!']),
            _ => return Err(UnitError::SeveralExecStart),
        };
        let mut environment = self.environment.clone();
        for text in environment_files {
            environment.extend(read_environment_file(text)?);
        }
        let mut command = Vec::new();
        for word in words(line)? {
            match word.strip_prefix('$').filter(|name| !name.starts_with(['{', '$'])) {
                Some(name) => {
                    let value = environment.get(name).map(String::as_str).unwrap_or_default();
                    command.extend(words(value)?);
                }
                None => command.push(expand_braced(&word, &environment)),
            }
        }
        Ok(command)
    }
}

fn read_environment_file(text: &str) -> Result<BTreeMap<String, String>, UnitError> {
    let joined = text.replace("\\\n", "");
    let lines = joined.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';']));
    let mut variables = BTreeMap::new();
    for line in lines {
        if let Some((name, value)) = line.split_once('=') {
            variables.insert(name.trim().to_string(), words_with(value.trim(), true)?.concat());
        }
    }
    Ok(variables)
}

fn assignment(word: &str) -> Option<(String, String)> {
    word.split_once('=').map(|(name, value)| (name.to_string(), value.to_string()))
}

fn expand_braced(word: &str, environment: &BTreeMap<String, String>) -> String {
    let mut out = String::new();
    let mut rest = word;
    while let Some((before, after)) = rest.split_once("${") {
        let Some((name, after)) = after.split_once('}') else { break };
        out.push_str(before);
        out.push_str(environment.get(name).map(String::as_str).unwrap_or_default());
        rest = after;
    }
    out + &rest.replace("$$", "$")
}

fn words(text: &str) -> Result<Vec<String>, UnitError> {
    words_with(text, false)
}

/// Splits at white space outside quotes; with `whole`, the text is one value and only its quotes are taken off.
fn words_with(text: &str, whole: bool) -> Result<Vec<String>, UnitError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        match (char, quote) {
            (_, Some(open)) if char == open => quote = None,
            ('\\', quote) if quote != Some('\'') => word.get_or_insert_default().extend(chars.next()),
            ('"' | '\'', None) => {
                quote = Some(char);
                word.get_or_insert_default();
            }
            (_, None) if char.is_whitespace() && !whole => words.extend(word.take()),
            _ => word.get_or_insert_default().push(char),
        }
    }
    if quote.is_some() {
        return Err(UnitError::Quote(text.into()));
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(unit: &[&str], environment_files: &[&str]) -> Result<Vec<String>, UnitError> {
        let mut service = Service::default();
        for text in unit {
            service.read(text)?;
        }
        service.command(&environment_files.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn a_plain_unit_with_line_continuations_gives_its_words() {
        let unit = "[Unit]\nDescription=x\n[Service]\nExecStart=/usr/bin/kubelet \\\n  --config=/a \\\n  --node-labels=x=y,z=\"a b\"\nRestart=always\n";
        assert_eq!(
            command(&[unit], &[]).expect("readable"),
            ["/usr/bin/kubelet", "--config=/a", "--node-labels=x=y,z=a b"]
        );
    }

    #[test]
    fn variables_are_split_when_bare_and_kept_whole_in_braces() {
        let unit = "[Service]\nEnvironment=\"A=--x=1 --y=2\" B=3\nExecStart=k $A --b=${B} $NONE ${A}";
        assert_eq!(command(&[unit], &[]).expect("readable"), ["k", "--x=1", "--y=2", "--b=3", "--x=1 --y=2"]);
    }

    #[test]
    fn environment_files_come_after_the_units_own_variables() {
        let unit = "[Service]\nEnvironment=A=1\nEnvironmentFile=-/e\nExecStart=k $A $B";
        let file = "# c\nA=\"--q=2 --r=3\"\nB=--s=4\n";
        assert_eq!(command(&[unit], &[file]).expect("readable"), ["k", "--q=2", "--r=3", "--s=4"]);
    }

    #[test]
    fn environment_files_say_whether_they_may_be_missing() {
        let mut service = Service::default();
        service.read("[Service]\nEnvironmentFile=-/a\nEnvironmentFile=/b\n").expect("readable");
        let files: Vec<_> = service.environment_files().map(|file| (file.path, file.optional)).collect();
        assert_eq!(files, [("/a", true), ("/b", false)]);
    }

    #[test]
    fn a_drop_in_resets_the_command_with_an_empty_one() {
        let unit = "[Service]\nExecStart=/usr/bin/kubelet\n";
        assert_eq!(command(&[unit, "[Service]\nExecStart=\nExecStart=k --a\n"], &[]).expect("readable"), ["k", "--a"]);
        assert_eq!(command(&[unit, "[Service]\nExecStart=k --a\n"], &[]), Err(UnitError::SeveralExecStart));
    }

    #[test]
    fn a_unit_that_starts_nothing_is_refused() {
        assert_eq!(command(&["[Service]\nType=simple\n"], &[]), Err(UnitError::NoExecStart));
        assert_eq!(command(&["[Install]\nExecStart=k\n"], &[]), Err(UnitError::NoExecStart));
        assert!(matches!(command(&["[Service]\nExecStart=k 'a\n"], &[]), Err(UnitError::Quote(_))));
    }
}
