//! The entities as the data plane reads them: typed views of stored, validated documents.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// A pointer to another entity.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ForeignKey {
    /// Id of the entity.
    pub id: String,
}

/// A Kong Service.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[expect(
    missing_docs,
    reason = "the fields are Kong's, described in its Admin API reference"
)]
pub struct Service {
    pub id: String,
    pub name: Option<String>,
    pub enabled: bool,
    pub protocol: String,
    pub host: String,
    pub port: u16,
    pub path: Option<String>,
    pub retries: u32,
    /// Milliseconds.
    pub connect_timeout: u64,
    /// Milliseconds.
    pub write_timeout: u64,
    /// Milliseconds.
    pub read_timeout: u64,
    pub client_certificate: Option<ForeignKey>,
    pub tls_verify: Option<bool>,
    pub tls_verify_depth: Option<u32>,
    pub ca_certificates: Option<Vec<String>>,
    /// What traces call the environment: the end of a tag that names one. The other tags are of no use
    /// to the data plane.
    #[serde(default, rename = "tags", deserialize_with = "environment")]
    pub environment: Option<Box<str>>,
}

/// The first tag that speaks of an environment, without the platform's prefix.
fn environment<'de, D: Deserializer<'de>>(tags: D) -> Result<Option<Box<str>>, D::Error> {
    const PREFIX: &str = "ei__telekom__de--environment---";
    let tags = Option::<Vec<String>>::deserialize(tags)?;
    let mut tags = tags.iter().flatten();
    let tag = tags.find(|tag| tag.contains("environment"));
    Ok(tag.map(|tag| Box::from(tag.replace(PREFIX, ""))))
}

/// An end of a connection, as routes name it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Endpoint {
    /// An address, or a block of them with a slash.
    pub ip: Option<String>,
    /// Its port.
    pub port: Option<u16>,
}

/// How the path of a service and that of a request are put together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PathHandling {
    /// With a slash between them.
    #[default]
    V0,
    /// As they are; only in the flavour `traditional` of the router.
    V1,
}

/// A Kong Route.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[expect(
    missing_docs,
    reason = "the fields are Kong's, described in its Admin API reference"
)]
pub struct Route {
    pub id: String,
    pub name: Option<String>,
    pub protocols: Vec<String>,
    pub methods: Option<Vec<String>>,
    pub hosts: Option<Vec<String>>,
    pub paths: Option<Vec<String>>,
    pub headers: Option<BTreeMap<String, Vec<String>>>,
    pub snis: Option<Vec<String>>,
    #[serde(default)]
    pub sources: Option<Vec<Endpoint>>,
    #[serde(default)]
    pub destinations: Option<Vec<Endpoint>>,
    /// With it none of the conditions before.
    #[serde(default)]
    pub expression: Option<String>,
    /// Counts with an expression only.
    #[serde(default)]
    pub priority: Option<u64>,
    /// Seconds.
    #[serde(default)]
    pub created_at: i64,
    #[serde(default)]
    pub path_handling: Option<PathHandling>,
    pub https_redirect_status_code: u16,
    pub regex_priority: i64,
    pub strip_path: bool,
    pub preserve_host: bool,
    pub request_buffering: bool,
    pub response_buffering: bool,
    pub service: Option<ForeignKey>,
}

/// A Kong Consumer.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[expect(
    missing_docs,
    reason = "the fields are Kong's, described in its Admin API reference"
)]
pub struct Consumer {
    pub id: String,
    pub username: Option<String>,
    pub custom_id: Option<String>,
}

/// A Kong ACL group membership.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[expect(
    missing_docs,
    reason = "the fields are Kong's, described in its Admin API reference"
)]
pub struct Acl {
    pub id: String,
    pub group: String,
    pub consumer: ForeignKey,
}

/// A Kong Plugin: an instance of a plugin on a scope.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[expect(
    missing_docs,
    reason = "the fields are Kong's, described in its Admin API reference"
)]
pub struct PluginEntity {
    pub id: String,
    pub name: String,
    pub enabled: bool,
    pub config: Value,
    pub service: Option<ForeignKey>,
    pub route: Option<ForeignKey>,
    pub consumer: Option<ForeignKey>,
}

/// A Kong Certificate, its texts in PEM.
#[derive(Clone, PartialEq, Deserialize)]
#[expect(
    missing_docs,
    reason = "the fields are Kong's, described in its Admin API reference"
)]
pub struct Certificate {
    pub id: String,
    pub cert: String,
    pub key: String,
    pub cert_alt: Option<String>,
    pub key_alt: Option<String>,
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Keys stay out of logs.
        write!(formatter, "Certificate({})", self.id)
    }
}

/// A Kong SNI: a server name, or one with a wildcard, and the certificate to show for it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[expect(
    missing_docs,
    reason = "the fields are Kong's, described in its Admin API reference"
)]
pub struct Sni {
    pub id: String,
    pub name: String,
    pub certificate: ForeignKey,
}

/// A Kong CA Certificate in PEM.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[expect(
    missing_docs,
    reason = "the fields are Kong's, described in its Admin API reference"
)]
pub struct CaCertificate {
    pub id: String,
    pub cert: String,
}

/// A Kong Vault.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[expect(
    missing_docs,
    reason = "the fields are Kong's, described in its Admin API reference"
)]
pub struct Vault {
    pub id: String,
    pub prefix: String,
    pub name: String,
    pub config: Option<Value>,
}
