//! Whatever a peer sends, parsers answer and never panic.

use proptest::prelude::*;

use crate::jwt_keycloak::decodes;
use crate::request_transformer::{renders, round_trip};

proptest! {
    #[test]
    fn any_text_is_a_token_or_refused(token in ".{0,200}") {
        decodes(&token);
    }

    #[test]
    fn any_json_in_a_token_is_read_or_refused(header in ".{0,60}", payload in ".{0,200}") {
        let part = |text: &str| o28m_jose::base64url(text.as_bytes());
        decodes(&format!("{}.{}.AQ", part(&header), part(&payload)));
        let known = part(r#"{"alg":"RS256"}"#);
        decodes(&format!("{known}.{}.AQ", part(&payload)));
    }

    #[test]
    fn any_template_compiles_and_renders_or_is_refused(
        words in prop::collection::vec(
            prop::sample::select(vec![
                "headers", "query_params", ".a", "['x']", "(", ")", "or", "and", "not", "==", "..",
                "+", "-", "#", "1", "'t'", "string.sub", ",", ":upper()", "nil", "tostring(", "%",
            ]),
            0..24,
        ),
        tail in ".{0,20}",
    ) {
        renders(&format!("a$({}){tail}", words.join(" ")));
    }

    #[test]
    fn any_multipart_body_is_read_or_left_alone(
        pieces in prop::collection::vec(
            prop::sample::select(vec![
                "--b", "\r\n", "--", "\n", "Content-Disposition: form-data; name=\"a\"", "x", "\r",
            ]),
            0..30,
        ),
    ) {
        round_trip(pieces.concat().as_bytes());
    }
}
