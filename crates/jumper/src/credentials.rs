//! Which credentials a consumer's request has at an external identity provider.

use aws_lc_rs::digest::{Context, SHA256};
use aws_lc_rs::rsa::KeyPair;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use o28m_core::Secret;
use o28m_jose::{Algorithm, SigningKey, x509};

use crate::config::{LENIENT, OauthCredentials, base64_reason};
use crate::external::ExternalError;
use crate::plan::Plan;
use crate::signer::SignError;

/// Names one token among those that are kept: a digest of everything it depends on.
pub(crate) type TokenKey = [u8; 32];

/// A question to an identity provider.
pub(crate) struct TokenRequest {
    pub(crate) endpoint: String,
    form: Vec<(&'static str, Secret<String>)>,
    pub(crate) basic: Option<Secret<String>>,
    pub(crate) assertion: Option<(String, Secret<String>)>,
}

impl TokenRequest {
    /// The question for a consumer's request.
    ///
    /// # Errors
    /// [`ExternalError::NoCredentials`].
    pub(crate) fn of(
        plan: &Plan,
        endpoint: &str,
        consumer: Option<&str>,
    ) -> Result<Self, ExternalError> {
        let credentials = plan.config.oauth_for(consumer);
        let grant_type = credentials.as_ref().and_then(|it| present(&it.grant_type));
        match (&credentials, grant_type) {
            (Some(credentials), Some(grant_type)) => {
                Ok(Self::with_grant_type(endpoint, credentials, grant_type))
            }
            _ => Self::with_client(plan, endpoint, credentials.as_ref(), consumer),
        }
    }

    /// Client credentials from the consumer's headers, the configuration, or the provider's
    /// headers.
    fn with_client(
        plan: &Plan,
        endpoint: &str,
        credentials: Option<&OauthCredentials>,
        consumer: Option<&str>,
    ) -> Result<Self, ExternalError> {
        let (own, provider) = (&plan.consumer_client, &plan.provider_client);
        let id = present(&own.id)
            .or(credentials.and_then(|it| present(&it.client_id)))
            .or(present(&provider.id));
        let secret = own
            .secret
            .as_ref()
            .or(credentials.and_then(|it| present_secret(&it.client_secret)))
            .or(present_secret(&provider.secret));
        let (Some(id), Some(secret)) = (id, secret) else {
            let consumer = consumer.unwrap_or_default().to_owned();
            return Err(ExternalError::NoCredentials { consumer });
        };
        let scope = own
            .scope
            .as_deref()
            .or(credentials.and_then(|it| present(&it.scopes)))
            .or(present(&provider.scope));
        let mut form = vec![
            ("client_id", plain(id)),
            ("client_secret", secret.clone()),
            ("grant_type", plain("client_credentials")),
        ];
        form.extend(scope.map(|scope| ("scope", plain(scope))));
        Ok(Self {
            endpoint: endpoint.to_owned(),
            form,
            basic: None,
            assertion: None,
        })
    }

    /// Whatever the configured grant type needs; the grant type itself is passed on unchecked.
    fn with_grant_type(endpoint: &str, credentials: &OauthCredentials, grant_type: &str) -> Self {
        let mut form = Vec::new();
        let (id, secret) = (
            present(&credentials.client_id),
            present_secret(&credentials.client_secret),
        );
        let key = present_secret(&credentials.client_key);
        let assertion = key.map(|key| (id.unwrap_or_default().to_owned(), key.clone()));
        let mut basic = None;
        if let (Some(id), Some(secret)) = (id, secret) {
            let in_body = credentials.token_request.as_deref();
            if in_body.is_some_and(|place| place.eq_ignore_ascii_case("body")) {
                form.push(("client_id", plain(id)));
                form.push(("client_secret", secret.clone()));
            } else {
                let pair = STANDARD.encode(format!("{id}:{}", secret.expose()));
                basic = Some(Secret::new(format!("Basic {pair}")));
            }
        }
        if let (Some(username), Some(password)) = (
            present(&credentials.username),
            present_secret(&credentials.password),
        ) {
            form.push(("username", plain(username)));
            form.push(("password", password.clone()));
        }
        if let Some(token) = present_secret(&credentials.refresh_token) {
            form.push(("refresh_token", token.clone()));
        }
        let scope = credentials.scopes.as_deref().filter(|it| !it.is_empty());
        form.extend(scope.map(|scope| ("scope", plain(scope))));
        form.push(("grant_type", plain(grant_type)));
        Self {
            endpoint: endpoint.to_owned(),
            form,
            basic,
            assertion,
        }
    }

    /// Under which name the answer is kept. Every credential is part of it, so that no consumer
    /// ever gets another one's token.
    pub(crate) fn key(&self) -> TokenKey {
        let mut context = Context::new(&SHA256);
        let mut add = |text: &str| {
            context.update(&(text.len() as u64).to_be_bytes());
            context.update(text.as_bytes());
        };
        add(&self.endpoint);
        add(self.basic.as_ref().map_or("", |it| it.expose()));
        if let Some((id, key)) = &self.assertion {
            add(id);
            add(key.expose());
        }
        add("\n");
        for (name, value) in &self.form {
            add(name);
            add(value.expose());
        }
        context.finish().as_ref().try_into().unwrap_or_default()
    }

    /// The form, in the order that identity providers have seen so far.
    pub(crate) fn body(&self, assertion: Option<&str>) -> String {
        let mut form = form_urlencoded::Serializer::new(String::new());
        if let (Some(assertion), Some((id, _))) = (assertion, &self.assertion) {
            form.append_pair("client_id", id);
            form.append_pair("client_assertion", assertion);
            form.append_pair(
                "client_assertion_type",
                "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            );
        }
        for (name, value) in &self.form {
            form.append_pair(name, value.expose());
        }
        form.finish()
    }
}

fn present(value: &Option<String>) -> Option<&str> {
    value.as_deref().filter(|value| !value.trim().is_empty())
}

fn present_secret(value: &Option<Secret<String>>) -> Option<&Secret<String>> {
    value
        .as_ref()
        .filter(|value| !value.expose().trim().is_empty())
}

fn plain(value: &str) -> Secret<String> {
    Secret::new(value.to_owned())
}

/// A client's private key: PEM, or the base64 of its PKCS#8 form.
pub(crate) fn client_key(text: &str) -> Result<SigningKey, ExternalError> {
    let invalid = |reason: &str| ExternalError::InvalidKey(reason.to_owned());
    let der = if text.contains("-----BEGIN") {
        x509::private_key_der(text).ok_or_else(|| invalid("no private key found in PEM text"))?
    } else {
        let compact: String = text.split_ascii_whitespace().collect();
        LENIENT
            .decode(compact)
            .map_err(|error| invalid(&base64_reason(&error)))?
    };
    // Told apart before: short keys are refused with a text of their own.
    if let Err(error) = KeyPair::from_pkcs8(&der)
        && error.to_string() == "TooSmall"
    {
        return Err(SignError::Weak.into());
    }
    SigningKey::from_pkcs8("", Algorithm::RS256, &der).map_err(|error| invalid(&error.to_string()))
}
