//! Certificates of a test.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};

/// A certificate with its key, that can issue others.
pub struct Pair {
    params: CertificateParams,
    /// The private key.
    pub key: KeyPair,
    /// The certificate.
    pub pem: String,
}

impl Pair {
    /// An authority of that name.
    ///
    /// # Panics
    /// When the name is none.
    #[must_use]
    pub fn root(name: &str) -> Self {
        let mut params = params(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { params, key, pem }
    }

    /// A certificate for a server or client of that name.
    ///
    /// # Panics
    /// When the name is none.
    #[must_use]
    pub fn issue(&self, name: &str) -> Self {
        let params = params(name);
        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::from_params(&self.params, &self.key);
        let pem = params.signed_by(&key, &issuer).unwrap().pem();
        Self { params, key, pem }
    }

    /// What the Admin API is given.
    #[must_use]
    pub fn body(&self) -> Value {
        json!({"cert": self.pem, "key": self.key.serialize_pem()})
    }

    /// What a server with it is configured by.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn server(&self) -> Arc<rustls::ServerConfig> {
        let key = self.key.serialize_pem();
        o28m_net::tls::server_config(self.pem.as_bytes(), key.as_bytes()).unwrap()
    }
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
