//! Keycloak's key providers: what each holds, and how its components are spelled (Keycloak 26.5
//! `org.keycloak.keys`).

use o28m_jose::Algorithm;

use super::Usage;

/// A key provider.
pub(crate) struct Provider {
    /// `providerId`.
    pub(crate) id: &'static str,
    /// JWK key type of its keys.
    pub(crate) key_type: &'static str,
    pub(crate) usage: Usage,
    /// Of a key whose component names none.
    pub(crate) algorithm: &'static str,
    /// Whether it makes keys; others only take them.
    pub(crate) generates: bool,
    /// Configuration entry with the private key or the secret.
    pub(crate) material: &'static str,
    pub(crate) curve: Option<Curve>,
}

/// How a provider's components tell their curve.
pub(crate) struct Curve {
    /// Configuration entry with its name.
    pub(crate) name: &'static str,
    /// Configuration entry with the public key.
    pub(crate) public: &'static str,
    /// Why another curve is refused.
    refusal: &'static str,
}

/// Every provider; the first that generates signing keys of a type makes those that a realm lacks.
pub(crate) const PROVIDERS: &[Provider] = &[
    Provider::rsa("rsa", Usage::Sig, "RS256", false),
    Provider::rsa("rsa-generated", Usage::Sig, "RS256", true),
    Provider::rsa("rsa-enc", Usage::Enc, "RSA-OAEP", false),
    Provider::rsa("rsa-enc-generated", Usage::Enc, "RSA-OAEP", true),
    Provider {
        id: "ecdsa-generated",
        key_type: "EC",
        usage: Usage::Sig,
        algorithm: "ES256",
        generates: true,
        material: "ecdsaPrivateKey",
        curve: Some(Curve {
            name: "ecdsaEllipticCurveKey",
            public: "ecdsaPublicKey",
            refusal: "'Elliptic Curve' must be P-256, P-384 or P-521",
        }),
    },
    Provider {
        id: "eddsa-generated",
        key_type: "OKP",
        usage: Usage::Sig,
        algorithm: "EdDSA",
        generates: true,
        material: "eddsaPrivateKey",
        curve: Some(Curve {
            name: "eddsaEllipticCurveKey",
            public: "eddsaPublicKey",
            refusal: "'Elliptic Curve' must be Ed25519; Ed448 is not supported",
        }),
    },
    Provider::symmetric("hmac-generated", Usage::Sig, "HS256"),
    Provider::symmetric("hmac-generated-hs512", Usage::Sig, "HS512"),
    Provider::symmetric("aes-generated", Usage::Enc, "AES"),
];

impl Provider {
    const fn rsa(id: &'static str, usage: Usage, algorithm: &'static str, generates: bool) -> Self {
        Self {
            id,
            key_type: "RSA",
            usage,
            algorithm,
            generates,
            material: "privateKey",
            curve: None,
        }
    }

    const fn symmetric(id: &'static str, usage: Usage, algorithm: &'static str) -> Self {
        Self {
            id,
            key_type: "oct",
            usage,
            algorithm,
            generates: true,
            material: "secret",
            curve: None,
        }
    }

    /// The provider of that id.
    pub(crate) fn named(id: &str) -> Option<&'static Self> {
        PROVIDERS.iter().find(|it| it.id == id)
    }

    /// The provider that makes keys for `algorithm`.
    pub(crate) fn making(algorithm: Algorithm) -> Option<&'static Self> {
        PROVIDERS.iter().find(|it| {
            it.generates && it.usage == Usage::Sig && it.key_type == algorithm.key_type()
        })
    }

    /// The algorithm of a key whose component names this algorithm and this curve.
    ///
    /// # Errors
    /// What is wrong with the names.
    pub(crate) fn algorithm(
        &self,
        algorithm: Option<&str>,
        curve: Option<&str>,
    ) -> Result<String, &'static str> {
        let of_curve = match (&self.curve, curve) {
            (Some(entry), Some(curve)) => {
                let fits =
                    |it: &Algorithm| it.key_type() == self.key_type && it.curve() == Some(curve);
                let found = Algorithm::ALL.into_iter().find(fits);
                Some(found.ok_or(entry.refusal)?.name())
            }
            _ => None,
        };
        let name = algorithm.or(of_curve).unwrap_or(self.algorithm);
        if !self.takes(name) || of_curve.is_some_and(|it| it != name) {
            return Err("'Algorithm' does not fit the provider");
        }
        Ok(name.to_owned())
    }

    fn takes(&self, name: &str) -> bool {
        match (self.usage, self.key_type) {
            (Usage::Enc, "RSA") => name.starts_with("RSA-OAEP"),
            (Usage::Enc, _) => name == self.algorithm,
            (Usage::Sig, key_type) => {
                let parsed = name.parse::<Algorithm>();
                parsed.is_ok_and(|algorithm| algorithm.key_type() == key_type)
            }
        }
    }
}

/// Ids of the key providers.
pub fn ids() -> impl Iterator<Item = &'static str> {
    PROVIDERS.iter().map(|provider| provider.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_algorithm_has_a_maker_that_takes_it() {
        for algorithm in Algorithm::ALL {
            let provider = Provider::making(algorithm).unwrap();
            let name = provider.algorithm(Some(algorithm.name()), None).unwrap();
            assert_eq!(name, algorithm.name());
            let Some(curve) = algorithm.curve() else {
                continue;
            };
            assert_eq!(
                provider.algorithm(None, Some(curve)).as_deref(),
                Ok(algorithm.name())
            );
        }
        for provider in PROVIDERS {
            assert_eq!(
                provider.algorithm(None, None).as_deref(),
                Ok(provider.algorithm)
            );
        }
    }

    #[test]
    fn curves_and_algorithms_that_do_not_fit_are_refused() {
        let of = |id, algorithm, curve| Provider::named(id).unwrap().algorithm(algorithm, curve);
        assert!(of("eddsa-generated", None, Some("Ed448")).is_err());
        assert!(of("eddsa-generated", None, Some("P-256")).is_err());
        assert!(of("ecdsa-generated", None, Some("Ed25519")).is_err());
        assert!(of("ecdsa-generated", Some("ES256"), Some("P-384")).is_err());
        assert!(of("ecdsa-generated", Some("RS256"), None).is_err());
        assert!(of("rsa-enc", Some("RS256"), None).is_err());
        assert!(of("rsa", Some("RSA-OAEP"), None).is_err());
        assert!(of("aes-generated", Some("HS256"), None).is_err());
        assert!(Provider::named("ecdh-generated").is_none());
    }
}
