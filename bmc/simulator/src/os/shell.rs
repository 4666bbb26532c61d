//! Reads the shell that user-data is written in: words, quotes, variables, `&&`, `||`, `;` and redirections to files.
//!
//! Pure: text in, steps out. What it does not know (pipes, substitutions, `if`, `for`, background) is an error that
//! names the token, never something that is passed over: a line that half runs would make a node that half works.

use std::collections::BTreeMap;

/// A construct that is not understood.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShellError {
    /// Valid shell, but more than a simulated machine speaks.
    #[error("{0} is not supported by the simulated shell")]
    Unsupported(String),
    /// No valid shell.
    #[error("syntax error: {0}")]
    Syntax(&'static str),
}

/// When a step runs, seen from the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// After `;`, a new line, or at the start.
    Always,
    /// After `&&`.
    Succeeded,
    /// After `||`.
    Failed,
}

/// One simple command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// When it runs.
    pub when: When,
    /// Its words, not yet expanded.
    pub words: Vec<Word>,
    /// Where its output goes, when not to the console.
    pub output: Option<Output>,
}

/// A redirection of standard output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The file.
    pub path: Word,
    /// `>>` and not `>`.
    pub append: bool,
}

/// A word: text and variables, side by side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Word(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Variable(String),
}

impl Word {
    /// The word with its variables filled in; one that is not set is empty, as in a shell.
    pub fn expand(&self, variables: &BTreeMap<String, String>) -> String {
        let value = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Variable(name) => variables.get(name).cloned().unwrap_or_default(),
        };
        self.0.iter().map(value).collect()
    }

    fn push(&mut self, char: char) {
        match self.0.last_mut() {
            Some(Piece::Text(text)) => text.push(char),
            _ => self.0.push(Piece::Text(char.into())),
        }
    }

    fn is(&self, text: &str) -> bool {
        matches!(self.0.as_slice(), [Piece::Text(own)] if own == text)
    }

    fn text(&self) -> Option<&str> {
        match self.0.as_slice() {
            [Piece::Text(text)] => Some(text),
            _ => None,
        }
    }
}

const KEYWORDS: &[&str] = &["if", "for", "while", "until", "case", "function", "select", "{", "}", "!", "[["];

/// Reads a script into its steps.
pub fn parse(script: &str) -> Result<Vec<Step>, ShellError> {
    let mut steps = Vec::new();
    let mut step = Step { when: When::Always, words: Vec::new(), output: None };
    let mut redirect = None;
    for token in tokens(script)? {
        match token {
            Token::Word(word) => match redirect.take() {
                Some(Redirect { standard_error: true, .. }) => {}
                Some(Redirect { append, .. }) => step.output = Some(Output { path: word, append }),
                None => step.words.push(word),
            },
            Token::Redirect(_) if redirect.is_some() => return Err(ShellError::Syntax("a redirection without a file")),
            Token::Redirect(next) => redirect = Some(next),
            Token::Then(when) => {
                if redirect.is_some() {
                    return Err(ShellError::Syntax("a redirection without a file"));
                }
                finish(&mut steps, &mut step, when)?;
            }
        }
    }
    if redirect.is_some() {
        return Err(ShellError::Syntax("a redirection without a file"));
    }
    if step.when != When::Always && step.words.is_empty() {
        return Err(ShellError::Syntax("nothing follows && or ||"));
    }
    finish(&mut steps, &mut step, When::Always)?;
    Ok(steps)
}

fn finish(steps: &mut Vec<Step>, step: &mut Step, next: When) -> Result<(), ShellError> {
    let Some(first) = step.words.first() else {
        // An empty line between steps is nothing; after && a line break goes on with the same list.
        return match (next, step.when) {
            (When::Always, _) if step.output.is_none() => Ok(()),
            _ => Err(ShellError::Syntax("a command is missing")),
        };
    };
    if let Some(keyword) = KEYWORDS.iter().find(|keyword| first.is(keyword)) {
        return Err(ShellError::Unsupported(format!("{keyword:?}")));
    }
    let fresh = Step { when: next, words: Vec::new(), output: None };
    steps.push(std::mem::replace(step, fresh));
    Ok(())
}

enum Token {
    Word(Word),
    Redirect(Redirect),
    Then(When),
}

struct Redirect {
    append: bool,
    standard_error: bool,
}

fn tokens(script: &str) -> Result<Vec<Token>, ShellError> {
    let mut tokens = Vec::new();
    let mut word: Option<Word> = None;
    let mut chars = script.chars().peekable();
    let unsupported = |what: &str| Err(ShellError::Unsupported(what.into()));
    while let Some(char) = chars.next() {
        match char {
            '#' if word.is_none() => while chars.next_if(|next| *next != '\n').is_some() {},
            ' ' | '\t' | '\r' => tokens.extend(word.take().map(Token::Word)),
            '\n' | ';' => {
                tokens.extend(word.take().map(Token::Word));
                tokens.push(Token::Then(When::Always));
            }
            '&' if chars.next_if_eq(&'&').is_some() => {
                tokens.extend(word.take().map(Token::Word));
                tokens.push(Token::Then(When::Succeeded));
            }
            '|' if chars.next_if_eq(&'|').is_some() => {
                tokens.extend(word.take().map(Token::Word));
                tokens.push(Token::Then(When::Failed));
            }
            '>' => redirect(&mut tokens, word.take(), &mut chars)?,
            '&' => return unsupported("\"&\""),
            '|' => return unsupported("a pipe"),
            '<' => return unsupported("\"<\""),
            '(' | ')' => return unsupported("a subshell"),
            '`' => return unsupported("a command substitution"),
            '\'' => quoted(word.get_or_insert_default(), &mut chars)?,
            '"' => double_quoted(word.get_or_insert_default(), &mut chars)?,
            '\\' => match chars.next() {
                Some('\n') | None => {}
                Some(next) => word.get_or_insert_default().push(next),
            },
            '$' => variable(word.get_or_insert_default(), &mut chars)?,
            other => word.get_or_insert_default().push(other),
        }
    }
    tokens.extend(word.map(Token::Word));
    Ok(tokens)
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

/// `>`, `>>`, `1>`, `2>`, `2>&1`. What goes to standard error is shown on the console either way.
fn redirect(tokens: &mut Vec<Token>, before: Option<Word>, chars: &mut Chars) -> Result<(), ShellError> {
    let standard_error = match before.as_ref().and_then(Word::text) {
        Some("2") => true,
        Some("1") | None => false,
        Some(_) => {
            tokens.extend(before.map(Token::Word));
            false
        }
    };
    let append = chars.next_if_eq(&'>').is_some();
    if chars.next_if_eq(&'&').is_some() {
        return match (standard_error, chars.next()) {
            (true, Some('1')) | (false, Some('2')) => Ok(()),
            _ => Err(ShellError::Unsupported("this redirection".into())),
        };
    }
    tokens.push(Token::Redirect(Redirect { append, standard_error }));
    Ok(())
}

fn quoted(word: &mut Word, chars: &mut Chars) -> Result<(), ShellError> {
    word.0.push(Piece::Text(String::new()));
    for char in chars.by_ref() {
        if char == '\'' {
            merge(word);
            return Ok(());
        }
        word.push(char);
    }
    Err(ShellError::Syntax("a quote is not closed"))
}

fn double_quoted(word: &mut Word, chars: &mut Chars) -> Result<(), ShellError> {
    word.0.push(Piece::Text(String::new()));
    while let Some(char) = chars.next() {
        match char {
            '"' => {
                merge(word);
                return Ok(());
            }
            '`' => return Err(ShellError::Unsupported("a command substitution".into())),
            '$' => variable(word, chars)?,
            '\\' => match chars.next() {
                Some(next @ ('"' | '\\' | '$' | '`')) => word.push(next),
                Some('\n') | None => {}
                Some(next) => {
                    word.push('\\');
                    word.push(next);
                }
            },
            other => word.push(other),
        }
    }
    Err(ShellError::Syntax("a quote is not closed"))
}

fn variable(word: &mut Word, chars: &mut Chars) -> Result<(), ShellError> {
    let braced = chars.next_if_eq(&'{').is_some();
    let mut name = String::new();
    while let Some(char) = chars.next_if(|next| next.is_ascii_alphanumeric() || *next == '_') {
        name.push(char);
    }
    if braced && chars.next() != Some('}') {
        return Err(ShellError::Unsupported("a parameter expansion".into()));
    }
    if !name.is_empty() {
        word.0.push(Piece::Variable(name));
    } else if braced || chars.peek().is_some_and(|next| matches!(next, '(' | '?' | '@' | '*' | '#' | '$' | '!')) {
        return Err(ShellError::Unsupported("this use of \"$\"".into()));
    } else {
        word.push('$');
    }
    Ok(())
}

/// Joins neighbouring texts, so that `a'b'` and `ab` are the same word.
fn merge(word: &mut Word) {
    let mut merged: Vec<Piece> = Vec::with_capacity(word.0.len());
    for piece in word.0.drain(..) {
        match (merged.last_mut(), piece) {
            (Some(Piece::Text(text)), Piece::Text(more)) => text.push_str(&more),
            (_, piece) => merged.push(piece),
        }
    }
    word.0 = merged;
}

#[cfg(test)]
#[path = "shell_tests.rs"]
mod tests;
