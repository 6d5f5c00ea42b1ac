//! `o28m htpasswd`.

use std::io::Read as _;

use anyhow::{Context as _, anyhow};
use o28m_gateway_admin::htpasswd;

use crate::cli::{Htpasswd, Scheme};
use crate::exit::{Failure, Outcome};
use crate::{ambient, terminal};

/// Longest password that is read from standard input, in bytes.
const PASSWORD_BYTES_MAX: u64 = 4096;

/// Runs the command.
///
/// # Errors
/// An unreadable file, a name with a colon, or exit 3 when the password does not match.
pub fn run(command: &Htpasswd) -> Outcome {
    if command.user.is_empty() || command.user.contains([':', '\n']) {
        return Err(Failure::Usage(anyhow!(
            "user name must not be empty or contain a colon"
        )));
    }
    let password = match command.password.as_deref() {
        None | Some("-") => read_password()?,
        Some(password) => password.to_owned(),
    };
    if let Some(path) = &command.verify {
        let file = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        if htpasswd::verify(&file, &command.user, &password) {
            terminal::progress("password matches");
            return Ok(());
        }
        return Err(Failure::CheckFailed("password does not match".to_owned()));
    }
    let scheme = match command.scheme {
        Scheme::Bcrypt => htpasswd::Scheme::Bcrypt,
        Scheme::Apr1 => htpasswd::Scheme::Apr1,
        Scheme::Sha => htpasswd::Scheme::Sha,
        Scheme::Ssha => htpasswd::Scheme::Ssha,
    };
    let line = htpasswd::line(
        &command.user,
        &password,
        scheme,
        ambient::system().rng.as_ref(),
    );
    terminal::data(&line?);
    Ok(())
}

fn read_password() -> anyhow::Result<String> {
    let mut text = String::new();
    std::io::stdin()
        .take(PASSWORD_BYTES_MAX)
        .read_to_string(&mut text)
        .context("cannot read the password from standard input")?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}
