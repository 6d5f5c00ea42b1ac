//! Keys and certificates for tests, made once.

use std::sync::OnceLock;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256,
    PKCS_ED25519, PKCS_RSA_SHA256, SignatureAlgorithm, date_time_ymd,
};

/// A key pair and a certificate over it, in PEM.
pub(crate) struct Material {
    pub(crate) cert: String,
    pub(crate) key: String,
    pub(crate) public: String,
}

fn make(algorithm: &'static SignatureAlgorithm, change: fn(&mut CertificateParams)) -> Material {
    let key = KeyPair::generate_for(algorithm).unwrap();
    let mut params = CertificateParams::new(vec!["api.example.com".to_owned()]).unwrap();
    change(&mut params);
    let cert: Certificate = params.self_signed(&key).unwrap();
    Material {
        cert: cert.pem(),
        key: key.serialize_pem(),
        public: key.public_key_pem(),
    }
}

macro_rules! once {
    ($name:ident, $algorithm:expr, $change:expr) => {
        pub(crate) fn $name() -> &'static Material {
            static MADE: OnceLock<Material> = OnceLock::new();
            MADE.get_or_init(|| make($algorithm, $change))
        }
    };
}

fn authority(params: &mut CertificateParams) {
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
}

once!(rsa, &PKCS_RSA_SHA256, |_| {});
once!(ec, &PKCS_ECDSA_P256_SHA256, |_| {});
once!(other_ec, &PKCS_ECDSA_P256_SHA256, |_| {});
once!(ed25519, &PKCS_ED25519, |_| {});
once!(ca, &PKCS_ECDSA_P256_SHA256, authority);
once!(expired_ca, &PKCS_ECDSA_P256_SHA256, |params| {
    authority(params);
    params.not_before = date_time_ymd(2000, 1, 1);
    params.not_after = date_time_ymd(2001, 1, 1);
});

/// A text with generated keys and certificates in the place of `@name.part@`.
pub(crate) fn fill(text: &str) -> String {
    let mut text = text.to_owned();
    for (name, material) in [("rsa", rsa()), ("ec", ec()), ("ca", ca())] {
        let parts = [
            ("cert", &material.cert),
            ("key", &material.key),
            ("public", &material.public),
        ];
        for (part, pem) in parts {
            let escaped = pem.replace('\n', "\\n").replace('\r', "");
            text = text.replace(&format!("@{name}.{part}@"), &escaped);
        }
    }
    text
}
