//! Protocols and cipher suites by the names that OpenSSL and nginx give them.

use rustls::crypto::aws_lc_rs::{DEFAULT_CIPHER_SUITES, cipher_suite as suite};
use rustls::{CipherSuite, SupportedCipherSuite};

/// A set of protocols and cipher suites with a name (Kong `ssl_cipher_suite`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// TLS 1.3 alone.
    Modern,
    /// TLS 1.2 and 1.3 with everything there is.
    #[default]
    Intermediate,
    /// What Kong offers to old clients; here the same as [`Profile::Intermediate`], since nothing older
    /// is spoken.
    Old,
    /// AES-GCM alone.
    Fips,
    /// Given one by one.
    Custom,
}

impl std::str::FromStr for Profile {
    type Err = SettingsError;

    fn from_str(name: &str) -> Result<Self, SettingsError> {
        match name {
            "modern" => Ok(Self::Modern),
            "intermediate" => Ok(Self::Intermediate),
            "old" => Ok(Self::Old),
            "fips" => Ok(Self::Fips),
            "custom" => Ok(Self::Custom),
            name => Err(SettingsError::Profile(name.to_owned())),
        }
    }
}

/// Protocols or cipher suites that cannot be offered.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// No profile has this name.
    #[error("unknown cipher suite {0:?}: use modern, intermediate, old, fips or custom")]
    Profile(String),
    /// No protocol has this name.
    #[error("unknown TLS protocol {0:?}: use TLSv1.2 and TLSv1.3")]
    Protocol(String),
    /// No cipher has this name.
    #[error("unknown TLS cipher {0:?}")]
    Cipher(String),
    /// Only protocols were named that are not spoken.
    #[error("no supported TLS protocol in {0:?}: use TLSv1.2 and TLSv1.3")]
    NoProtocol(String),
    /// TLS 1.2 is asked for without a cipher of it that is spoken.
    #[error("no supported TLS cipher for TLSv1.2 in {0:?}")]
    NoCipher(String),
}

/// What a TLS listener speaks; the default is [`Profile::Intermediate`] with session tickets.
#[derive(Clone, Debug)]
pub struct ListenerSettings {
    pub(super) tls12: bool,
    pub(super) tls13: bool,
    pub(super) cipher_suites: Vec<SupportedCipherSuite>,
    pub(super) prefers_own_order: bool,
    pub(super) session_tickets: bool,
    pub(super) http2: bool,
}

impl Default for ListenerSettings {
    fn default() -> Self {
        Self {
            tls12: true,
            tls13: true,
            cipher_suites: DEFAULT_CIPHER_SUITES.to_vec(),
            prefers_own_order: false,
            session_tickets: true,
            http2: false,
        }
    }
}

impl ListenerSettings {
    /// Offers HTTP/2 before HTTP/1.1 (ALPN `h2`), or does not.
    #[must_use]
    pub fn with_http2(self, http2: bool) -> Self {
        Self { http2, ..self }
    }

    /// The settings of a profile. `protocols` (names such as `TLSv1.2`, with spaces or commas between)
    /// and `ciphers` (an OpenSSL list with colons, commas or spaces) count for [`Profile::Custom`]; the
    /// first cipher of the list that a client has is used then. Without a suite of TLS 1.3 in the list
    /// all of them are offered, as OpenSSL does. Names of what is no longer spoken are left out, with one
    /// warning that lists them.
    ///
    /// # Errors
    /// [`SettingsError`]: a name is unknown, or nothing is left.
    pub fn new(profile: Profile, protocols: &str, ciphers: &str) -> Result<Self, SettingsError> {
        let all = Self::default();
        match profile {
            Profile::Intermediate => Ok(all),
            Profile::Old => {
                tracing::warn!(
                    "TLS 1.0, TLS 1.1 and CBC ciphers are not supported and are left out"
                );
                Ok(all)
            }
            Profile::Modern => Ok(Self {
                tls12: false,
                ..all
            }),
            Profile::Fips => Ok(Self {
                cipher_suites: DEFAULT_CIPHER_SUITES
                    .iter()
                    .filter(|it| !is_chacha(it.suite()))
                    .copied()
                    .collect(),
                prefers_own_order: true,
                ..all
            }),
            Profile::Custom => Self::custom(protocols, ciphers),
        }
    }

    /// Lets clients resume sessions with tickets, or not.
    #[must_use]
    pub fn with_session_tickets(mut self, session_tickets: bool) -> Self {
        self.session_tickets = session_tickets;
        self
    }

    fn custom(protocols: &str, ciphers: &str) -> Result<Self, SettingsError> {
        let mut left_out = Vec::new();
        let (tls12, tls13) = parse_protocols(protocols, &mut left_out)?;
        let mut cipher_suites = parse_ciphers(ciphers, &mut left_out)?;
        if !left_out.is_empty() {
            tracing::warn!(
                tls.names = left_out.join(" "),
                "TLS protocols and ciphers that are not supported are left out"
            );
        }
        if !cipher_suites.iter().any(|it| it.tls13().is_some()) {
            let own = DEFAULT_CIPHER_SUITES.iter().copied();
            cipher_suites.extend(own.filter(|it| it.tls13().is_some()));
        }
        cipher_suites.retain(|it| if it.tls13().is_some() { tls13 } else { tls12 });
        if tls12 && cipher_suites.iter().all(|it| it.tls13().is_some()) {
            return Err(SettingsError::NoCipher(ciphers.to_owned()));
        }
        Ok(Self {
            tls12,
            tls13,
            cipher_suites,
            prefers_own_order: true,
            session_tickets: true,
            http2: false,
        })
    }
}

fn words(list: &str) -> impl Iterator<Item = &str> {
    let separates = |it: char| it.is_whitespace() || matches!(it, ',' | ':' | ';');
    list.split(separates).filter(|it| !it.is_empty())
}

/// TLS 1.2 and TLS 1.3; both when nothing is named.
fn parse_protocols(
    protocols: &str,
    left_out: &mut Vec<String>,
) -> Result<(bool, bool), SettingsError> {
    let (mut tls12, mut tls13, mut named) = (false, false, false);
    for word in words(protocols) {
        named = true;
        match word {
            "TLSv1.2" => tls12 = true,
            "TLSv1.3" => tls13 = true,
            "SSLv2" | "SSLv3" | "TLSv1" | "TLSv1.0" | "TLSv1.1" => left_out.push(word.to_owned()),
            word => return Err(SettingsError::Protocol(word.to_owned())),
        }
    }
    match (named, tls12 || tls13) {
        (false, _) => Ok((true, true)),
        (true, true) => Ok((tls12, tls13)),
        (true, false) => Err(SettingsError::NoProtocol(protocols.to_owned())),
    }
}

/// Cipher suites by both of their names.
const CIPHERS: &[(&str, &str, SupportedCipherSuite)] = &[
    (
        "TLS_AES_256_GCM_SHA384",
        "TLS13-AES-256-GCM-SHA384",
        suite::TLS13_AES_256_GCM_SHA384,
    ),
    (
        "TLS_AES_128_GCM_SHA256",
        "TLS13-AES-128-GCM-SHA256",
        suite::TLS13_AES_128_GCM_SHA256,
    ),
    (
        "TLS_CHACHA20_POLY1305_SHA256",
        "TLS13-CHACHA20-POLY1305-SHA256",
        suite::TLS13_CHACHA20_POLY1305_SHA256,
    ),
    (
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    ),
    (
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    ),
    (
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    (
        "ECDHE-RSA-AES256-GCM-SHA384",
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    ),
    (
        "ECDHE-RSA-AES128-GCM-SHA256",
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    ),
    (
        "ECDHE-RSA-CHACHA20-POLY1305",
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
];

/// What names of cipher suites are made of.
const PARTS: &[&str] = &[
    "TLS",
    "WITH",
    "DHE",
    "EDH",
    "ECDHE",
    "ECDH",
    "ADH",
    "AECDH",
    "RSA",
    "DSS",
    "ECDSA",
    "PSK",
    "SRP",
    "AES",
    "AES128",
    "AES256",
    "128",
    "256",
    "8",
    "GCM",
    "CCM",
    "CCM8",
    "CBC",
    "CBC3",
    "SHA",
    "SHA256",
    "SHA384",
    "MD5",
    "DES",
    "3DES",
    "EDE",
    "CHACHA20",
    "POLY1305",
    "CAMELLIA",
    "CAMELLIA128",
    "CAMELLIA256",
    "ARIA",
    "ARIA128",
    "ARIA256",
    "SEED",
    "IDEA",
    "RC4",
    "NULL",
];

fn find(name: &str) -> Option<SupportedCipherSuite> {
    let mut known = CIPHERS.iter();
    let found = known.find(|(own, other, _)| *own == name || *other == name);
    found.map(|(_, _, suite)| *suite)
}

fn is_name(word: &str) -> bool {
    word.split(['-', '_']).all(|part| PARTS.contains(&part))
}

/// The suites of an OpenSSL cipher list, in its order; all when nothing is named.
fn parse_ciphers(
    ciphers: &str,
    left_out: &mut Vec<String>,
) -> Result<Vec<SupportedCipherSuite>, SettingsError> {
    let (mut suites, mut banned, mut named) = (Vec::new(), Vec::new(), false);
    for word in words(ciphers) {
        match word {
            "HIGH" | "DEFAULT" | "ALL" => {
                named = true;
                suites.extend_from_slice(DEFAULT_CIPHER_SUITES);
            }
            // Classes of suites that were never offered.
            word if word.starts_with(['!', '-']) => {
                banned.extend(find(word.get(1..).unwrap_or("")))
            }
            word if word.starts_with('@') => left_out.push(word.to_owned()),
            word => {
                named = true;
                match find(word) {
                    Some(suite) => suites.push(suite),
                    None if is_name(word) => left_out.push(word.to_owned()),
                    None => return Err(SettingsError::Cipher(word.to_owned())),
                }
            }
        }
    }
    if !named {
        suites.extend_from_slice(DEFAULT_CIPHER_SUITES);
    }
    let mut seen = Vec::new();
    suites.retain(|it| {
        let fresh = !banned.contains(it) && !seen.contains(it);
        seen.push(*it);
        fresh
    });
    Ok(suites)
}

fn is_chacha(suite: CipherSuite) -> bool {
    matches!(
        suite,
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn custom(protocols: &str, ciphers: &str) -> Result<Vec<CipherSuite>, SettingsError> {
        let settings = ListenerSettings::new(Profile::Custom, protocols, ciphers)?;
        Ok(settings.cipher_suites.iter().map(|it| it.suite()).collect())
    }

    #[test]
    fn profiles_offer_what_they_are_called_after() {
        let of = |profile| ListenerSettings::new(profile, "nonsense", "nonsense").unwrap();
        assert!(!of(Profile::Modern).tls12 && of(Profile::Modern).tls13);
        assert!(of(Profile::Intermediate).tls12 && of(Profile::Intermediate).tls13);
        let fips = of(Profile::Fips);
        assert!(!fips.cipher_suites.iter().any(|it| is_chacha(it.suite())));
        assert!("ancient".parse::<Profile>().is_err());
        assert_eq!("custom".parse(), Ok(Profile::Custom));
    }

    #[test]
    fn cipher_lists_keep_their_order_and_lose_what_is_not_spoken() {
        let list = "DHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-CCM8:\
            ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:TLS_AES_128_CCM_SHA256";
        let tls12 = [
            CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
            CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        ];
        assert_eq!(custom("TLSv1.2", list).unwrap(), tls12);
        let both = custom("TLSv1 TLSv1.2 TLSv1.3", list).unwrap();
        assert_eq!(both[..2], tls12);
        assert_eq!(both.len(), 5);
        let named = format!("{list}:TLS_AES_128_GCM_SHA256");
        assert_eq!(custom("TLSv1.2,TLSv1.3", &named).unwrap().len(), 3);
        assert_eq!(custom("", "").unwrap().len(), DEFAULT_CIPHER_SUITES.len());
        assert_eq!(custom("TLSv1.3", "DHE-RSA-AES256-SHA256").unwrap().len(), 3);
        let classes = "HIGH:!aNULL:!MD5:!ECDHE-RSA-AES128-GCM-SHA256:@STRENGTH";
        let rest = custom("", classes).unwrap();
        assert_eq!(rest.len(), DEFAULT_CIPHER_SUITES.len() - 1);
    }

    #[test]
    fn names_that_mean_nothing_are_errors() {
        for (protocols, ciphers, message) in [
            ("TLSv2", "", "unknown TLS protocol \"TLSv2\""),
            ("TLSv1 SSLv3", "", "no supported TLS protocol"),
            ("", "ECDHE-RSA-AES128-GCM-SHA265", "unknown TLS cipher"),
            ("", "aes", "unknown TLS cipher \"aes\""),
            (
                "",
                "DHE-RSA-AES256-SHA256",
                "no supported TLS cipher for TLSv1.2",
            ),
            (
                "TLSv1.2",
                "TLS_AES_128_GCM_SHA256",
                "no supported TLS cipher for TLSv1.2",
            ),
        ] {
            let error = custom(protocols, ciphers).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
    }
}
