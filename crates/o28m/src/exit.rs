//! Exit codes and the one place that prints why a command failed.

use std::process::ExitCode;

/// Why a command ends without success.
#[derive(Debug)]
pub enum Failure {
    /// It could not be done: exit 1.
    Error(anyhow::Error),
    /// It was asked for something meaningless: exit 2, as for wrong usage.
    Usage(anyhow::Error),
    /// A check found something: exit 3.
    CheckFailed(String),
    /// It would destroy something without `--force`: exit 4.
    WouldOverwrite(String),
    /// A state with a code of its own, such as those of `migrate list`.
    State(u8),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

/// What a command returns.
pub type Outcome = Result<(), Failure>;

/// Prints the reason of a failure to standard error and gives the exit code.
#[must_use]
pub fn code(outcome: Outcome) -> ExitCode {
    let failure = match outcome {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::State(code)) => return ExitCode::from(code),
        Err(failure) => failure,
    };
    let code = match &failure {
        Failure::Error(_) => 1,
        Failure::Usage(_) => 2,
        Failure::CheckFailed(_) => 3,
        Failure::WouldOverwrite(_) => 4,
        Failure::State(code) => *code,
    };
    crate::terminal::error(&text(failure));
    ExitCode::from(code)
}

/// The reason of a failure, with its causes.
#[must_use]
pub fn text(failure: Failure) -> String {
    match failure {
        Failure::Error(error) | Failure::Usage(error) => chain(&error),
        Failure::CheckFailed(text) | Failure::WouldOverwrite(text) => text,
        Failure::State(_) => String::new(),
    }
}

/// The error and its causes on one line, without causes that repeat the text before them.
fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}
