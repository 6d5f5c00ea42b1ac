//! Password policies: the text of a realm's `passwordPolicy`, what it asks of new passwords and how
//! they are hashed (Keycloak 26.5 `PasswordPolicy` and its providers).

use crate::password::{Pbkdf2, Plan};

/// Regular expressions may compile to this many bytes.
const REGEX_BYTES_MAX: usize = 1 << 20;
/// Earlier passwords that are remembered at most.
pub(crate) const HISTORY_MAX: usize = 50;
/// Rounds of PBKDF2, or passes of Argon2, that a policy may ask for.
const PBKDF2_ROUNDS_MAX: u32 = 10_000_000;
const ARGON2_PASSES_MAX: u32 = 64;
/// Seconds of a day.
const DAY_S: i64 = 86_400;

/// Why a password or a policy is not acceptable: Keycloak's key of the message, and the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PasswordProblem {
    /// Key, such as `invalidPasswordMinLengthMessage`.
    pub code: &'static str,
    /// Message in English.
    pub text: String,
}

fn problem(code: &'static str, text: impl Into<String>) -> PasswordProblem {
    PasswordProblem {
        code,
        text: format!("Invalid password: {}", text.into()),
    }
}

#[derive(Debug)]
enum Rule {
    Length(usize),
    MaxLength(usize),
    Digits(usize),
    LowerCase(usize),
    UpperCase(usize),
    SpecialChars(usize),
    NotUsername,
    NotContainsUsername,
    NotEmail,
    Regex(regex::Regex),
}

/// A compiled policy.
#[derive(Debug, Default)]
pub(crate) struct Policy {
    rules: Vec<Rule>,
    /// Earlier passwords, the current one included, that a new one must differ from.
    pub(crate) history: usize,
    /// Seconds after which a password must be changed.
    pub(crate) expires_after_s: Option<i64>,
    /// How passwords are hashed.
    pub(crate) plan: Plan,
}

/// The parts of a policy: names with what is in their parentheses.
fn parts(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split(" and ")
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(|part| match part.split_once('(') {
            Some((name, inside)) => (
                name.trim(),
                inside.strip_suffix(')').unwrap_or(inside).trim(),
            ),
            None => (part, ""),
        })
}

impl Policy {
    /// Reads a policy.
    ///
    /// # Errors
    /// What is wrong with it, in one sentence.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut policy = Self::default();
        let mut algorithm = None;
        let mut rounds = None;
        for (name, value) in parts(text) {
            let number = |default: u32| -> Result<u32, String> {
                if matches!(value, "" | "undefined") {
                    return Ok(default);
                }
                let parsed = value.parse::<u32>();
                parsed.map_err(|_| format!("Invalid config for {name}: must be a number"))
            };
            let count = |default: u32| number(default).map(|count| count as usize);
            match name {
                "length" => policy.rules.push(Rule::Length(count(8)?)),
                "maxLength" => policy.rules.push(Rule::MaxLength(count(64)?)),
                "digits" => policy.rules.push(Rule::Digits(count(1)?)),
                "lowerCase" => policy.rules.push(Rule::LowerCase(count(1)?)),
                "upperCase" => policy.rules.push(Rule::UpperCase(count(1)?)),
                "specialChars" => policy.rules.push(Rule::SpecialChars(count(1)?)),
                "notUsername" => policy.rules.push(Rule::NotUsername),
                "notContainsUsername" => policy.rules.push(Rule::NotContainsUsername),
                "notEmail" => policy.rules.push(Rule::NotEmail),
                "regexPattern" => policy.rules.push(Rule::Regex(pattern(value)?)),
                "passwordHistory" => policy.history = count(3)?.min(HISTORY_MAX),
                "forceExpiredPasswordChange" => {
                    policy.expires_after_s = Some(i64::from(number(365)?).saturating_mul(DAY_S));
                }
                "hashAlgorithm" => algorithm = Some(value),
                "hashIterations" => rounds = Some(number(0)?).filter(|rounds| *rounds > 0),
                "maxAuthAge" | "recoveryCodesWarningThreshold" => {}
                other => return Err(format!("Password policy {other} is not supported")),
            }
        }
        policy.plan = plan(algorithm.unwrap_or_default(), rounds)?;
        Ok(policy)
    }

    /// Refuses passwords that the policy does not allow; the history is looked at elsewhere.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub(crate) fn check(
        &self,
        password: &str,
        username: &str,
        email: &str,
    ) -> Result<(), PasswordProblem> {
        let lower = password.to_lowercase();
        let count = |wanted: fn(char) -> bool| password.chars().filter(|it| wanted(*it)).count();
        for rule in &self.rules {
            let broken = match rule {
                Rule::Length(least) => (password.chars().count() < *least).then(|| {
                    let text = format!("minimum length {least}.");
                    problem("invalidPasswordMinLengthMessage", text)
                }),
                Rule::MaxLength(most) => (password.chars().count() > *most).then(|| {
                    let text = format!("maximum length {most}.");
                    problem("invalidPasswordMaxLengthMessage", text)
                }),
                Rule::Digits(least) => (count(|it| it.is_numeric()) < *least).then(|| {
                    let text = format!("must contain at least {least} numerical digits.");
                    problem("invalidPasswordMinDigitsMessage", text)
                }),
                Rule::LowerCase(least) => (count(char::is_lowercase) < *least).then(|| {
                    let text = format!("must contain at least {least} lower case characters.");
                    problem("invalidPasswordMinLowerCaseCharsMessage", text)
                }),
                Rule::UpperCase(least) => (count(char::is_uppercase) < *least).then(|| {
                    let text = format!("must contain at least {least} upper case characters.");
                    problem("invalidPasswordMinUpperCaseCharsMessage", text)
                }),
                Rule::SpecialChars(least) => {
                    (count(|it| !it.is_alphanumeric()) < *least).then(|| {
                        let text = format!("must contain at least {least} special characters.");
                        problem("invalidPasswordMinSpecialCharsMessage", text)
                    })
                }
                Rule::NotUsername => (lower == username).then(|| {
                    let text = "must not be equal to the username.";
                    problem("invalidPasswordNotUsernameMessage", text)
                }),
                Rule::NotContainsUsername => (!username.is_empty() && lower.contains(username))
                    .then(|| {
                        let text = "Can not contain the username.";
                        problem("invalidPasswordNotContainsUsernameMessage", text)
                    }),
                Rule::NotEmail => (!email.is_empty() && lower == email).then(|| {
                    let text = "must not be equal to the email.";
                    problem("invalidPasswordNotEmailMessage", text)
                }),
                Rule::Regex(pattern) => (!pattern.is_match(password)).then(|| {
                    let text = "fails to match regex pattern(s).";
                    problem("invalidPasswordRegexPatternMessage", text)
                }),
            };
            if let Some(broken) = broken {
                return Err(broken);
            }
        }
        Ok(())
    }
}

/// The new password is one of the last ones.
pub(crate) fn used_before(history: usize) -> PasswordProblem {
    let text = format!("must not be equal to any of last {history} passwords.");
    problem("invalidPasswordHistoryMessage", text)
}

/// A pattern that the whole password must match.
fn pattern(text: &str) -> Result<regex::Regex, String> {
    regex::RegexBuilder::new(&format!("^(?:{text})$"))
        .size_limit(REGEX_BYTES_MAX)
        .build()
        .map_err(|_| "Invalid config for regexPattern: not a valid regular expression".to_owned())
}

fn plan(algorithm: &str, rounds: Option<u32>) -> Result<Plan, String> {
    let pbkdf2 = match algorithm {
        "" | "argon2" | "undefined" => {
            let default = Plan::default();
            return match (rounds, default) {
                (Some(passes), _) if passes <= ARGON2_PASSES_MAX => Ok(Plan::Argon2 { passes }),
                (Some(_), _) => Err("Invalid config for hashIterations: too many".to_owned()),
                (None, default) => Ok(default),
            };
        }
        "pbkdf2" => Pbkdf2::Sha1,
        "pbkdf2-sha256" => Pbkdf2::Sha256,
        "pbkdf2-sha512" => Pbkdf2::Sha512,
        other => {
            return Err(format!(
                "Password hashing provider {other} is not supported"
            ));
        }
    };
    let rounds = rounds.unwrap_or_else(|| pbkdf2.default_rounds());
    if rounds > PBKDF2_ROUNDS_MAX {
        return Err("Invalid config for hashIterations: too many".to_owned());
    }
    Ok(Plan::Pbkdf2 { of: pbkdf2, rounds })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(policy: &str, password: &str) -> &'static str {
        let policy = Policy::parse(policy).unwrap();
        let checked = policy.check(password, "anna", "a@b.c");
        checked.map_or_else(|problem| problem.code, |()| "")
    }

    #[test]
    fn each_rule_says_what_is_missing() {
        for (policy, bad, good, wanted) in [
            (
                "length(8)",
                "1234567",
                "12345678",
                "invalidPasswordMinLengthMessage",
            ),
            (
                "maxLength(3)",
                "1234",
                "123",
                "invalidPasswordMaxLengthMessage",
            ),
            ("digits(2)", "a1", "12", "invalidPasswordMinDigitsMessage"),
            (
                "lowerCase(1)",
                "A",
                "a",
                "invalidPasswordMinLowerCaseCharsMessage",
            ),
            (
                "upperCase",
                "a",
                "A",
                "invalidPasswordMinUpperCaseCharsMessage",
            ),
            (
                "specialChars(1)",
                "a1",
                "a!",
                "invalidPasswordMinSpecialCharsMessage",
            ),
            (
                "notUsername(undefined)",
                "Anna",
                "bob",
                "invalidPasswordNotUsernameMessage",
            ),
            (
                "notContainsUsername",
                "xAnna1",
                "an",
                "invalidPasswordNotContainsUsernameMessage",
            ),
            (
                "notEmail(undefined)",
                "A@b.c",
                "x",
                "invalidPasswordNotEmailMessage",
            ),
            (
                "regexPattern([a-c]+)",
                "abcd",
                "abc",
                "invalidPasswordRegexPatternMessage",
            ),
        ] {
            assert_eq!(code(policy, bad), wanted, "{policy}");
            assert_eq!(code(policy, good), "", "{policy}");
        }
        assert_eq!(
            code("length(8) and digits(1)", "abcdefgh"),
            "invalidPasswordMinDigitsMessage"
        );
    }

    #[test]
    fn what_it_does_not_know_is_refused() {
        for bad in [
            "nosuch(1)",
            "length(x)",
            "regexPattern(()",
            "hashAlgorithm(md5)",
        ] {
            assert!(Policy::parse(bad).is_err(), "{bad}");
        }
        let policy = Policy::parse("hashAlgorithm(pbkdf2-sha256) and hashIterations(5000)");
        assert!(matches!(
            policy.unwrap().plan,
            Plan::Pbkdf2 {
                of: Pbkdf2::Sha256,
                rounds: 5000
            }
        ));
        assert!(Policy::parse("").unwrap().rules.is_empty());
    }
}
