//! The shell: statements end with a semicolon, commands begin with a backslash. A refused statement ends nothing.

use std::path::PathBuf;

use rustyline::error::ReadlineError;
use rustyline::history::DefaultHistory;
use rustyline::{Config, Editor};

use super::{Format, SqlArgs, answer};
use crate::commands::{Client, Output};
use crate::failure::Failure;

const HELP: &str = "\
Statements end with a semicolon and may take several lines.
  \\d          the tables
  \\d NAME     a table's columns
  \\q          leave (so does Ctrl-D)
  \\?          this text";

/// What a line asks for.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Statement(String),
    Help,
    Leave,
    Nothing,
}

/// Runs the shell.
pub(super) fn shell(args: &SqlArgs, format: Format, client: &Client, output: &mut Output) -> Result<(), Failure> {
    let config = Config::builder().auto_add_history(false).build();
    let mut editor: Editor<(), DefaultHistory> = Editor::with_config(config).map_err(broken)?;
    let history = history();
    if let Some(path) = &history {
        // There is none before the first time.
        let _ = editor.load_history(path);
    }
    let mut text = String::new();
    loop {
        let prompt = if text.is_empty() { "lakefall> " } else { "      ... " };
        let line = match editor.readline(prompt) {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => {
                text.clear();
                continue;
            }
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(broken(error)),
        };
        match read(&mut text, &line) {
            Asked::Leave => break,
            Asked::Nothing => {}
            Asked::Help => output.line(HELP)?,
            Asked::Statement(statement) => {
                // Kept as it can be given again: with what ended it.
                let again = if line.trim_start().starts_with('\\') { line.trim().to_owned() } else { format!("{statement};") };
                // A history that cannot be kept is no reason to stop.
                let _ = editor.add_history_entry(again);
                match client.blocking(answer(args, &statement, format, client, output)) {
                    Err(failure @ (Failure::Refused(_) | Failure::Unreachable(_))) => output.line(&failure.to_string())?,
                    answered => answered?,
                }
            }
        }
    }
    if let Some(path) = &history {
        // As above.
        let _ = editor.save_history(path);
    }
    Ok(())
}

/// Takes a line; a statement is what was gathered, once its semicolon came.
fn read(text: &mut String, line: &str) -> Asked {
    let trimmed = line.trim();
    if text.is_empty() {
        match trimmed.split_once(char::is_whitespace).unwrap_or((trimmed, "")) {
            ("", _) => return Asked::Nothing,
            ("\\q" | "exit" | "quit", "") => return Asked::Leave,
            ("\\d", "") => return Asked::Statement("SHOW TABLES".to_owned()),
            ("\\d", name) => return Asked::Statement(format!("DESCRIBE {}", quoted(name.trim()))),
            (command, _) if command.starts_with('\\') => return Asked::Help,
            _ => {}
        }
    } else {
        text.push('\n');
    }
    text.push_str(line);
    match text.trim_end().strip_suffix(';') {
        Some(statement) => {
            let statement = statement.to_owned();
            text.clear();
            Asked::Statement(statement)
        }
        None => Asked::Nothing,
    }
}

/// A table's name as it was typed; one that could not stand in a statement gets its quotes.
fn quoted(name: &str) -> String {
    let plain = name.starts_with('"') || name.starts_with("system.") || name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// Where statements are remembered.
fn history() -> Option<PathBuf> {
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty())?;
    Some(PathBuf::from(home).join(".lakefall_history"))
}

fn broken(error: ReadlineError) -> Failure {
    Failure::Failed(format!("the terminal: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_ends_with_its_semicolon() {
        let mut text = String::new();
        assert_eq!(read(&mut text, "SELECT 1,"), Asked::Nothing);
        assert_eq!(read(&mut text, "  2 ; "), Asked::Statement("SELECT 1,\n  2 ".to_owned()));
        assert_eq!(text, "");
        assert_eq!(read(&mut text, "   "), Asked::Nothing);
        assert_eq!(text, "");
    }

    #[test]
    fn commands_begin_with_a_backslash() {
        let asked = |line: &str| read(&mut String::new(), line);
        assert_eq!(asked("\\q"), Asked::Leave);
        assert_eq!(asked("\\d"), Asked::Statement("SHOW TABLES".to_owned()));
        assert_eq!(asked("\\d  web.logs"), Asked::Statement("DESCRIBE \"web.logs\"".to_owned()));
        assert_eq!(asked("\\d system.topics"), Asked::Statement("DESCRIBE system.topics".to_owned()));
        assert_eq!(asked("\\x"), Asked::Help);
    }
}
