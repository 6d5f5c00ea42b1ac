//! Proof keys for code exchange (RFC 7636).

use aws_lc_rs::{constant_time, digest};
use o28m_jose::base64url;
use serde::{Deserialize, Serialize};

use crate::error::CodeProblem;

/// Characters of a challenge or verifier (RFC 7636 section 4.1).
const LENGTH: std::ops::RangeInclusive<usize> = 43..=128;

/// A challenge of an authorization request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Challenge {
    value: String,
    /// It is the SHA-256 of the verifier, not the verifier itself.
    hashed: bool,
}

/// Whether a text has the form of challenges and verifiers.
fn is_sound(text: &str) -> bool {
    let unreserved = |it: u8| it.is_ascii_alphanumeric() || b"-._~".contains(&it);
    LENGTH.contains(&text.len()) && text.bytes().all(unreserved)
}

impl Challenge {
    /// The challenge of a request; `required` is the method the client must use. The error is the text
    /// that Keycloak 26.5 gives.
    pub(crate) fn check(
        value: Option<&str>,
        method: Option<&str>,
        required: Option<&str>,
    ) -> Result<Option<Self>, &'static str> {
        match (method, required) {
            (None, Some(_)) => return Err("Missing parameter: code_challenge_method"),
            (Some(sent), Some(required)) if sent != required => {
                return Err(
                    "Invalid parameter: code challenge method is not matching the configured one",
                );
            }
            _ => {}
        }
        let Some(value) = value else {
            return if method.is_some() {
                Err("Missing parameter: code_challenge")
            } else {
                Ok(None)
            };
        };
        let hashed = match method {
            Some("S256") => true,
            None | Some("plain") => false,
            Some(_) => return Err("Invalid parameter: code_challenge_method"),
        };
        if !is_sound(value) {
            return Err("Invalid parameter: code_challenge");
        }
        Ok(Some(Self {
            value: value.to_owned(),
            hashed,
        }))
    }

    fn fits(&self, verifier: &str) -> bool {
        let sent = if self.hashed {
            base64url(digest::digest(&digest::SHA256, verifier.as_bytes()).as_ref())
        } else {
            verifier.to_owned()
        };
        constant_time::verify_slices_are_equal(sent.as_bytes(), self.value.as_bytes()).is_ok()
    }
}

/// Checks the verifier of a token request. A verifier without a challenge is refused too: somebody
/// took the challenge out of the authorization request (RFC 9700 section 2.1.1).
pub(crate) fn verify(challenge: Option<&Challenge>, sent: Option<&str>) -> Result<(), CodeProblem> {
    match (challenge, sent) {
        (None, None) => Ok(()),
        (None, Some(_)) => Err(CodeProblem::VerifierUnexpected),
        (Some(_), None) => Err(CodeProblem::VerifierMissing),
        (Some(_), Some(sent)) if !is_sound(sent) => Err(CodeProblem::VerifierMalformed),
        (Some(challenge), Some(sent)) if challenge.fits(sent) => Ok(()),
        (Some(_), Some(_)) => Err(CodeProblem::VerifierMismatch),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7636 appendix B.
    const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    const HASHED: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

    #[test]
    fn the_example_of_the_standard_fits() {
        let found = Challenge::check(Some(HASHED), Some("S256"), None).unwrap();
        assert_eq!(verify(found.as_ref(), Some(VERIFIER)), Ok(()));
        let wrong = verify(found.as_ref(), Some(HASHED));
        assert_eq!(wrong, Err(CodeProblem::VerifierMismatch));
        let short = verify(found.as_ref(), Some("short"));
        assert_eq!(short, Err(CodeProblem::VerifierMalformed));
        assert_eq!(
            verify(found.as_ref(), None),
            Err(CodeProblem::VerifierMissing)
        );
        assert_eq!(
            verify(None, Some(VERIFIER)),
            Err(CodeProblem::VerifierUnexpected)
        );
        let plain = Challenge::check(Some(VERIFIER), None, None).unwrap();
        assert_eq!(verify(plain.as_ref(), Some(VERIFIER)), Ok(()));
    }

    #[test]
    fn refusals_have_keycloaks_texts() {
        let check =
            |value, method, required| Challenge::check(value, method, required).unwrap_err();
        assert_eq!(
            check(Some(HASHED), None, Some("S256")),
            "Missing parameter: code_challenge_method"
        );
        assert_eq!(
            check(Some(HASHED), Some("plain"), Some("S256")),
            "Invalid parameter: code challenge method is not matching the configured one"
        );
        assert_eq!(
            check(None, Some("S256"), Some("S256")),
            "Missing parameter: code_challenge"
        );
        assert_eq!(
            check(Some("short"), Some("S256"), None),
            "Invalid parameter: code_challenge"
        );
        assert_eq!(
            check(Some(HASHED), Some("S512"), None),
            "Invalid parameter: code_challenge_method"
        );
        assert_eq!(Challenge::check(None, None, None), Ok(None));
    }
}
