//! Certificates by the server names they are for, and what secures connections to upstreams.

use std::collections::BTreeSet;
use std::sync::Arc;

use o28m_kong::{CaCertificate, Certificate, Service, Sni};
use o28m_net::client::TlsPolicy;
use o28m_net::tls::{self, Identities, Identity};
use rpds::{HashTrieMapSync, RedBlackTreeSetSync};

use super::skipped::Broken;
use super::{Id, number};

/// What services that do not say otherwise do about TLS.
#[derive(Clone, Debug, Default)]
pub(crate) struct UpstreamTls {
    pub(crate) verify: bool,
    pub(crate) verify_depth: u8,
    /// Trusted instead of the system's roots.
    pub(crate) ca_pem: Option<Arc<str>>,
    pub(crate) identity: Option<Arc<Identity>>,
}

impl UpstreamTls {
    /// Trust of health checks, which take nothing from services.
    pub(crate) fn of_probes(&self, verify: bool) -> TlsPolicy {
        TlsPolicy {
            verify,
            ca_pem: self.ca_pem.clone().filter(|_| verify),
            verify_depth: verify.then_some(self.verify_depth),
            ..TlsPolicy::default()
        }
    }
}

/// A certificate that can be used.
struct Entry {
    /// Version of the entity it was made from.
    version: i64,
    identities: Identities,
}

/// Whom a change of a certificate concerns.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum User {
    Service(Id),
    Upstream(Id),
}

/// Certificates, server names and certificate authorities of a snapshot.
#[derive(Clone, Default)]
pub(crate) struct Certificates {
    by_id: HashTrieMapSync<Id, Arc<Entry>>,
    /// Certificate by server name, in lower case; with the entity that says so.
    by_name: HashTrieMapSync<Arc<str>, (Id, Id)>,
    /// Server name of each SNI entity.
    names: HashTrieMapSync<Id, Arc<str>>,
    /// PEM of each authority.
    authorities: HashTrieMapSync<Id, Arc<str>>,
    /// The authorities of each list that some service has, in one text: shared by services with the
    /// same list, and made once.
    bundles: HashTrieMapSync<Arc<[Id]>, Bundle>,
    /// Who refers to a certificate or an authority.
    users: HashTrieMapSync<Id, RedBlackTreeSetSync<User>>,
}

/// Trusted certificates of a service.
#[derive(Clone)]
struct Bundle {
    /// `None` when none of them can be used.
    pem: Option<Arc<str>>,
    /// All of them can be used.
    whole: bool,
}

/// How the connections of a service are secured.
pub(super) struct Security {
    /// Without server name.
    pub(super) policy: TlsPolicy,
    /// Nothing is sent: what the service asks for is not there.
    pub(super) refused: bool,
    /// What is wrong with it.
    pub(super) outcome: Result<(), Broken>,
}

impl Certificates {
    /// What to show to clients that ask for a name (Kong 3.9.3's order): itself, the name with a
    /// wildcard for its first label if two others remain, with one for its last label, and the name `*`.
    /// Entities whose certificate cannot be used do not count.
    pub(crate) fn find(&self, server_name: &str) -> Option<Identities> {
        if self.by_name.is_empty() {
            return None;
        }
        let named = |name: &str| {
            let (_, certificate) = self.by_name.get(name)?;
            Some(self.by_id.get(certificate)?.identities.clone())
        };
        let of_any_host = || {
            let (_, rest) = server_name.split_once('.')?;
            rest.contains('.').then(|| named(&format!("*.{rest}")))?
        };
        let of_any_end = || {
            let (start, _) = server_name.rsplit_once('.')?;
            named(&format!("{start}.*"))
        };
        named(server_name)
            .or_else(of_any_host)
            .or_else(of_any_end)
            .or_else(|| named("*"))
    }

    /// Takes a certificate in; one that `previous` has in the same version is not read again.
    pub(super) fn put(
        &mut self,
        certificate: &Certificate,
        version: i64,
        previous: Option<&Self>,
    ) -> Result<(), Broken> {
        let key = number(&certificate.id);
        let known = previous.and_then(|it| it.by_id.get(&key));
        let entry = match known.filter(|it| it.version == version) {
            Some(known) => known.clone(),
            None => Arc::new(Entry {
                version,
                identities: identities(certificate)?,
            }),
        };
        self.by_id.insert_mut(key, entry);
        Ok(())
    }

    pub(super) fn remove(&mut self, id: &str) {
        self.by_id.remove_mut(&number(id));
    }

    pub(super) fn put_sni(&mut self, sni: &Sni) {
        let name = sni.name.strip_suffix('.').unwrap_or(&sni.name);
        let name: Arc<str> = Arc::from(name.to_ascii_lowercase());
        let (key, certificate) = (number(&sni.id), number(&sni.certificate.id));
        self.by_name.insert_mut(name.clone(), (key, certificate));
        self.names.insert_mut(key, name);
    }

    pub(super) fn remove_sni(&mut self, id: &str) {
        let key = number(id);
        let Some(name) = self.names.get(&key).cloned() else {
            return;
        };
        self.names.remove_mut(&key);
        if self.by_name.get(&name).is_some_and(|(it, _)| *it == key) {
            self.by_name.remove_mut(&name);
        }
    }

    pub(super) fn put_authority(&mut self, authority: CaCertificate) -> Result<(), Broken> {
        tls::check_authority(authority.cert.as_bytes())?;
        let key = number(&authority.id);
        self.forget_bundles(key);
        self.authorities.insert_mut(key, Arc::from(authority.cert));
        Ok(())
    }

    pub(super) fn remove_authority(&mut self, id: &str) {
        let key = number(id);
        self.forget_bundles(key);
        self.authorities.remove_mut(&key);
    }

    fn forget_bundles(&mut self, authority: Id) {
        let lists = self.bundles.keys().filter(|it| it.contains(&authority));
        let lists: Vec<_> = lists.cloned().collect();
        for list in lists {
            self.bundles.remove_mut(&list);
        }
    }

    /// What the connections of a service are secured with.
    pub(super) fn security(&mut self, service: &Service, common: &UpstreamTls) -> Security {
        let mut security = Security {
            policy: TlsPolicy::default(),
            refused: false,
            outcome: Ok(()),
        };
        if !matches!(service.protocol.as_str(), "https" | "grpcs") {
            return security;
        }
        let policy = &mut security.policy;
        if let Some(certificate) = &service.client_certificate {
            policy.identity = self.identity(&certificate.id);
            if policy.identity.is_none() {
                security.refused = true;
                security.outcome = Err(Broken::ClientCertificate);
            }
        }
        if !service.tls_verify.unwrap_or(common.verify) {
            return security;
        }
        policy.verify = true;
        let depth = service.tls_verify_depth.map(u8::try_from);
        policy.verify_depth = Some(depth.and_then(Result::ok).unwrap_or(common.verify_depth));
        policy.ca_pem.clone_from(&common.ca_pem);
        let own = service.ca_certificates.as_deref().unwrap_or_default();
        if !own.is_empty() {
            let bundle = self.bundle(own);
            if !bundle.whole && security.outcome.is_ok() {
                security.outcome = Err(Broken::Authority);
            }
            security.refused |= bundle.pem.is_none();
            policy.ca_pem = bundle.pem;
        }
        security
    }

    /// What a client certificate of a service or upstream is.
    pub(super) fn identity(&self, id: &str) -> Option<Arc<Identity>> {
        let entry = self.by_id.get(&number(id))?;
        entry.identities.first().cloned()
    }

    fn bundle(&mut self, ids: &[String]) -> Bundle {
        let list: Vec<Id> = ids.iter().map(|it| number(it)).collect();
        if let Some(known) = self.bundles.get(list.as_slice()) {
            return known.clone();
        }
        let found = list.iter().filter_map(|it| self.authorities.get(it));
        let found: Vec<&str> = found.map(|it| &**it).collect();
        let bundle = Bundle {
            pem: (!found.is_empty()).then(|| Arc::from(found.join("\n"))),
            whole: found.len() == list.len(),
        };
        self.bundles.insert_mut(list.into(), bundle.clone());
        bundle
    }

    /// The services and upstreams that refer to one of these.
    pub(super) fn users_of(&self, touched: &BTreeSet<Id>) -> BTreeSet<User> {
        let users = touched.iter().filter_map(|it| self.users.get(it));
        users.flatten().copied().collect()
    }

    /// Remembers what a service refers to.
    pub(super) fn add_service(&mut self, service: &Service, key: Id) {
        for id in references(service) {
            self.add_user(id, User::Service(key));
        }
    }

    /// Forgets it.
    pub(super) fn remove_service(&mut self, service: &Service, key: Id) {
        for id in references(service) {
            self.remove_user(id, User::Service(key));
        }
    }

    pub(super) fn add_user(&mut self, id: &str, user: User) {
        let id = number(id);
        match self.users.get_mut(&id) {
            Some(users) => users.insert_mut(user),
            None => self.users.insert_mut(id, std::iter::once(user).collect()),
        }
    }

    pub(super) fn remove_user(&mut self, id: &str, user: User) {
        let id = number(id);
        if let Some(users) = self.users.get_mut(&id) {
            users.remove_mut(&user);
            if users.is_empty() {
                self.users.remove_mut(&id);
            }
        }
    }
}

/// Ids of the certificates and authorities that a service refers to.
fn references(service: &Service) -> impl Iterator<Item = &str> {
    let certificate = service.client_certificate.iter().map(|it| it.id.as_str());
    let authorities = service.ca_certificates.iter().flatten();
    certificate.chain(authorities.map(String::as_str))
}

fn identities(certificate: &Certificate) -> Result<Identities, Broken> {
    let read = |certificate: &str, key: &str| {
        Identity::from_pem(certificate.as_bytes(), key.as_bytes()).map_err(Broken::from)
    };
    let main = read(&certificate.cert, &certificate.key)?;
    Ok(match (&certificate.cert_alt, &certificate.key_alt) {
        (Some(alternative), Some(key)) => [main, read(alternative, key)?].into(),
        _ => [main].into(),
    })
}
