//! Who calls: the consumer of a request and the headers that tell the upstream (Kong 3.9.3).

use std::sync::Arc;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::header::{HeaderMap, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use http::{Response, StatusCode};
use o28m_gateway::{BadConfig, Credential, Exchange, Snapshot, Verdict, errors};
use o28m_kong::Consumer;
use o28m_net::Body;

const CONSUMER_ID: HeaderName = HeaderName::from_static("x-consumer-id");
const CONSUMER_CUSTOM_ID: HeaderName = HeaderName::from_static("x-consumer-custom-id");
const CONSUMER_USERNAME: HeaderName = HeaderName::from_static("x-consumer-username");
const CREDENTIAL_IDENTIFIER: HeaderName = HeaderName::from_static("x-credential-identifier");
const ANONYMOUS_CONSUMER: HeaderName = HeaderName::from_static("x-anonymous-consumer");

/// Makes `consumer` the caller of this request and tells the upstream. Without a credential the
/// upstream also reads `X-Anonymous-Consumer: true`.
pub(crate) fn authenticate(
    exchange: &mut Exchange,
    consumer: Arc<Consumer>,
    credential: Option<Credential>,
) {
    let headers = &mut exchange.request.headers;
    put(headers, CONSUMER_ID, Some(&consumer.id));
    put(headers, CONSUMER_CUSTOM_ID, consumer.custom_id.as_deref());
    put(headers, CONSUMER_USERNAME, consumer.username.as_deref());
    let identifier = credential.as_ref().and_then(|it| it.identifier.as_deref());
    put(headers, CREDENTIAL_IDENTIFIER, identifier);
    if credential.is_some() {
        headers.remove(ANONYMOUS_CONSUMER);
    } else {
        headers.insert(ANONYMOUS_CONSUMER, HeaderValue::from_static("true"));
    }
    exchange.consumer = Some(consumer);
    exchange.credential = credential;
}

/// The consumer of that id or, failing that, of that user name.
pub(crate) fn by_id_or_username<'a>(
    snapshot: &'a Snapshot,
    name: &str,
) -> Option<&'a Arc<Consumer>> {
    snapshot
        .consumer(name)
        .or_else(|| snapshot.consumer_by_username(name))
}

/// What an authentication plugin does instead of refusing when `anonymous` names a consumer.
pub(crate) fn fall_back(exchange: &mut Exchange, anonymous: &str) -> Verdict {
    let consumer = by_id_or_username(&exchange.snapshot, anonymous).cloned();
    let Some(consumer) = consumer else {
        let message = format!("anonymous consumer {anonymous} is configured but doesn't exist");
        return Verdict::Respond(error(exchange, StatusCode::INTERNAL_SERVER_ERROR, &message));
    };
    authenticate(exchange, consumer, None);
    Verdict::Continue
}

/// A refusal in the form that the request's `Accept` asks for (style E).
pub(crate) fn error(exchange: &Exchange, status: StatusCode, message: &str) -> Response<Body> {
    errors::respond(
        status,
        message,
        &exchange.request.headers,
        &exchange.request_id,
    )
}

/// A 401 with a challenge.
pub(crate) fn unauthorized(
    exchange: &Exchange,
    message: &str,
    challenge: &HeaderValue,
) -> Response<Body> {
    let mut response = error(exchange, StatusCode::UNAUTHORIZED, message);
    let headers = response.headers_mut();
    headers.insert(WWW_AUTHENTICATE, challenge.clone());
    response
}

/// The value of `WWW-Authenticate`.
///
/// # Errors
/// [`BadConfig`] for a realm that a header cannot carry.
pub(crate) fn challenge(scheme: &str, realm: Option<&str>) -> Result<HeaderValue, BadConfig> {
    let text = match realm {
        None => scheme.to_owned(),
        Some(realm) => {
            let realm = realm.replace('\\', r"\\").replace('"', "\\\"");
            format!("{scheme} realm=\"{realm}\"")
        }
    };
    HeaderValue::try_from(text).map_err(|_| BadConfig("realm cannot be sent in a header".into()))
}

/// Decodes base64, with or without padding.
pub(crate) fn base64(text: &str) -> Option<Vec<u8>> {
    const ENGINE: GeneralPurpose = GeneralPurpose::new(
        &STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    ENGINE.decode(text).ok()
}

/// Sets a header, or removes it when there is no value that a header can carry.
fn put(headers: &mut HeaderMap, name: HeaderName, value: Option<&str>) {
    match value.and_then(|value| HeaderValue::from_str(value).ok()) {
        Some(value) => drop(headers.insert(name, value)),
        None => drop(headers.remove(name)),
    }
}
