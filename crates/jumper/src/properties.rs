//! Nothing a peer sends may break a parser.

use http::{HeaderMap, HeaderValue, Method};
use o28m_core::Timestamp;
use o28m_jose::base64url;
use proptest::prelude::*;

use crate::admission;
use crate::capture::payload;
use crate::config::{Decoder, LENIENT};
use crate::headers::{last, last_line, last_url, remove_hop_by_hop};
use crate::incoming;
use crate::spectre::{renamed, take_listener};
use crate::target::{destination, host_of};
use base64::Engine as _;

const NOW: Timestamp = Timestamp::from_seconds(1_789_000_000);

proptest! {
    #[test]
    fn header_values_of_any_kind_are_read(lines in prop::collection::vec("[ -~\u{80}-\u{ff}]{0,30}", 0..4)) {
        let mut headers = HeaderMap::new();
        for line in &lines {
            if let Ok(value) = HeaderValue::from_bytes(line.as_bytes()) {
                headers.append("connection", value);
            }
        }
        for found in [last(&headers, "connection"), last_line(&headers, "connection")] {
            prop_assert!(found.is_none_or(|found| !found.trim().is_empty()));
        }
        drop(last_url(&headers, "connection"));
        remove_hop_by_hop(&mut headers);
        prop_assert!(headers.is_empty());
    }

    #[test]
    fn a_plain_value_stands_for_itself(value in "[a-zA-Z0-9._/:-]{1,40}") {
        let mut headers = HeaderMap::new();
        headers.append("h", HeaderValue::from_str(&value).unwrap());
        for found in [last(&headers, "h"), last_url(&headers, "h"), last_line(&headers, "h")] {
            prop_assert_eq!(found.as_deref(), Some(value.as_str()));
        }
    }

    #[test]
    fn tokens_of_any_kind_are_refused_or_read(token in ".{0,60}", payload in ".{0,60}") {
        drop(incoming::parse(Some(&token), NOW));
        drop(incoming::parse(Some(&format!("Bearer {token}")), NOW));
        let encoded = base64url(payload.as_bytes());
        drop(incoming::parse(Some(&format!("Bearer a.{encoded}.c")), NOW));
    }

    #[test]
    fn configurations_of_any_kind_are_refused_or_read(text in ".{0,60}", json in "[\\[\\]{}\":,a-z0-9]{0,40}") {
        let decoder = Decoder::new();
        for text in [text, LENIENT.encode(json)] {
            drop(decoder.object(Some(&text), NOW));
            drop(decoder.array(Some(&text), NOW));
        }
    }

    #[test]
    fn an_admitted_path_never_leaves_the_target(path in "[a-z/.%2eEfF5cC;\\\\\"{}\\[\\] ]{0,30}", query in "[ -~]{0,30}") {
        let path = format!("/proxy/{path}");
        if admission::check(&Method::GET, &path, Some(&query)).is_err() {
            return Ok(());
        }
        let rest = path.strip_prefix("/proxy").unwrap();
        let found = destination("http://provider/base", rest, Some(&query), false).unwrap();
        prop_assert_eq!(found.target.host.as_ref(), "provider");
        let sent = found.path_and_query.path();
        prop_assert!(sent.starts_with("/base/"));
        let decoded = admission::decode(sent.as_bytes());
        let mut segments = decoded.split(|byte| *byte == b'/');
        prop_assert!(!segments.any(|segment| segment == b".." || segment == b"."));
    }

    #[test]
    fn urls_of_any_kind_are_refused_or_read(remote in ".{0,40}", rest in "(/[ -~]{0,20})?") {
        if let Ok(found) = destination(&remote, &rest, None, false) {
            prop_assert!(found.path_and_query.as_str().starts_with('/'));
        }
        drop(host_of(&remote));
    }

    #[test]
    fn events_of_any_kind_are_refused_or_read(body in ".{0,60}", query in ".{0,40}") {
        drop(renamed(body.as_bytes(), "x"));
        drop(take_listener(&query));
        drop(payload(body.as_bytes(), Some(&query)));
    }
}
