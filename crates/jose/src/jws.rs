use crate::{SigningKey, base64url, from_base64url};

/// A JWS in compact serialization (RFC 7515 section 7.1), split and decoded but not verified.
#[derive(Debug)]
pub struct CompactJws<'token> {
    /// The decoded protected header: JSON text, not yet parsed.
    pub header: Vec<u8>,
    /// The decoded payload.
    pub payload: Vec<u8>,
    /// The decoded signature.
    pub signature: Vec<u8>,
    /// What the signature covers: the first two parts as sent.
    pub signing_input: &'token str,
}

/// Why a token is not a compact JWS.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Not exactly three parts.
    #[error("token does not have three parts")]
    Parts,
    /// Header or payload is not base64url.
    #[error("token header or payload is not base64url")]
    Encoding,
    /// The signature is not base64url.
    #[error("token signature is not base64url")]
    Signature,
}

impl<'token> CompactJws<'token> {
    /// Splits and decodes `token`.
    ///
    /// # Errors
    /// [`Malformed`] when the token has not three parts of base64url without padding.
    pub fn parse(token: &'token str) -> Result<Self, Malformed> {
        let (signing_input, signature) = token.rsplit_once('.').ok_or(Malformed::Parts)?;
        let (header, payload) = signing_input.split_once('.').ok_or(Malformed::Parts)?;
        if payload.contains('.') {
            return Err(Malformed::Parts);
        }
        Ok(Self {
            header: from_base64url(header).ok_or(Malformed::Encoding)?,
            payload: from_base64url(payload).ok_or(Malformed::Encoding)?,
            signature: from_base64url(signature).ok_or(Malformed::Signature)?,
            signing_input,
        })
    }
}

/// The signing input of a compact JWS: `base64url(header).base64url(payload)`.
#[must_use]
pub fn encode(header: &[u8], payload: &[u8]) -> String {
    let mut text = base64url(header);
    text.push('.');
    text.push_str(&base64url(payload));
    text
}

/// A signed compact JWS over the given JSON texts. The header must already name `key`'s algorithm.
#[must_use]
pub fn sign(header: &[u8], payload: &[u8], key: &SigningKey) -> String {
    let mut token = encode(header, payload);
    let signature = key.sign(token.as_bytes());
    token.push('.');
    token.push_str(&base64url(&signature));
    token
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_into_three_decoded_parts() {
        let token = CompactJws::parse("e30.e30.AQ").unwrap();
        assert_eq!(
            (token.header.as_slice(), token.payload.as_slice()),
            (&b"{}"[..], &b"{}"[..])
        );
        assert_eq!(
            (token.signature.as_slice(), token.signing_input),
            (&[1][..], "e30.e30")
        );
    }

    #[test]
    fn names_what_is_malformed() {
        assert_eq!(CompactJws::parse("e30.e30").unwrap_err(), Malformed::Parts);
        assert_eq!(
            CompactJws::parse("e30.e30.AQ.AQ").unwrap_err(),
            Malformed::Parts
        );
        assert_eq!(
            CompactJws::parse("e3=.e30.AQ").unwrap_err(),
            Malformed::Encoding
        );
        assert_eq!(
            CompactJws::parse("e30.e30.A").unwrap_err(),
            Malformed::Signature
        );
    }
}
