//! Everything the program prints: data to standard output, progress and errors to standard error,
//! with colour only on a terminal.

use std::io::{IsTerminal as _, Write as _};

/// Whether standard error is a terminal.
#[must_use]
pub fn is_terminal() -> bool {
    std::io::stderr().is_terminal()
}

fn line(text: &str, colour: &str) {
    let mut out = std::io::stderr().lock();
    // Nobody is left to be told when standard error is closed.
    let _closed = if out.is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        writeln!(out, "{colour}{text}\x1b[0m")
    } else {
        writeln!(out, "{text}")
    };
}

/// An error, for people.
pub fn error(text: &str) {
    line(&format!("error: {text}"), "\x1b[31m");
}

/// An error in the words of a program we stand in for.
pub fn plain_error(text: &str) {
    line(text, "\x1b[31m");
}

/// A hint or warning, for people.
pub fn warning(text: &str) {
    line(&format!("warning: {text}"), "\x1b[33m");
}

/// Progress, for people.
pub fn progress(text: &str) {
    line(text, "\x1b[2m");
}

/// The result of a command. A closed pipe (`o28m … | head`) ends the output, it is no error.
pub fn data(text: &str) {
    let mut out = std::io::stdout().lock();
    let _closed = out.write_all(text.as_bytes()).and_then(|()| {
        if text.ends_with('\n') {
            Ok(())
        } else {
            out.write_all(b"\n")
        }
    });
    let _closed = out.flush();
}

/// A JSON document as the result of a command.
pub fn json(value: &serde_json::Value) {
    data(&serde_json::to_string_pretty(value).unwrap_or_default());
}
