//! Makes, stores and rotates the gateway's signing key set. It signs nothing and serves nothing.
//!
//! A key is published as *next* for a whole period before it signs as *active*, and stays published as
//! *previous* for a period after: whoever still has an older or already has a newer set can verify.
//!
//! Private keys are as safe as where they are kept. In a directory they have mode 0600. In the database
//! they are plain text, because every replica must be able to sign: whoever can read the database or a
//! backup of it can sign tokens of the gateway. Give nobody else access to our schema; a SQLite file is
//! created with mode 0600. Error and log texts name key ids and files, never key material.

mod database;
mod directory;

use std::path::PathBuf;

use o28m_core::{Ambient, id};
use o28m_jose::slots::{Slot, Slots};
use o28m_jose::x509::{self, CertificateError};
use o28m_jose::{Algorithm, KeyError, SigningKey};

pub use database::{database_slots, follow_database, rotate_database, stored_slots};
pub use directory::{DirectoryLock, load_directory, lock_directory, write_directory};

/// The nil UUID: the name space of key ids.
const KID_NAMESPACE: &str = "00000000-0000-0000-0000-000000000000";

/// Average length of a Gregorian year.
const SECONDS_PER_YEAR: i64 = 31_556_952;

/// Why keys could not be made, read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No key could be generated.
    #[error("cannot generate a signing key")]
    Generate(#[source] KeyError),
    /// No certificate could be made, for example because the common name is not usable.
    #[error("cannot make a certificate for {common_name:?}")]
    Certificate {
        /// The common name asked for.
        common_name: String,
        /// What is wrong with it.
        #[source]
        source: CertificateError,
    },
    /// A file or directory could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A file or directory could not be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A slot has some of its files, but not this one.
    #[error("{} is missing or empty, but other files of its slot are not", path.display())]
    Incomplete {
        /// The file that is missing.
        path: PathBuf,
    },
    /// A file's content is of no use.
    #[error("{} cannot be used", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Unusable,
    },
    /// The files changed again and again while they were read.
    #[error("{} changes faster than it can be read", path.display())]
    Unstable {
        /// The directory.
        path: PathBuf,
    },
    /// Another process writes keys to the directory.
    #[error("{} is locked by pid {pid}", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The other process, or `unknown`.
        pid: String,
    },
    /// Others could replace the keys.
    #[error("{} is writable by others: chmod go-w it", path.display())]
    Writable {
        /// The directory.
        path: PathBuf,
    },
    /// The store failed.
    #[error("cannot read or write the signing keys in the database")]
    Store(#[from] o28m_store::Error),
    /// The store holds something else than signing keys.
    #[error("the signing keys in the database cannot be understood")]
    Stored(#[source] serde_json::Error),
    /// The thread that generated a key is gone.
    #[error("generation of a signing key was interrupted")]
    Interrupted,
}

/// What can be wrong with a file of a slot.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// It is not a certificate with an RSA key.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// It is not an RSA private key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The private key belongs to another certificate.
    #[error("private key does not belong to the certificate")]
    Mismatch,
    /// The file is too large to be one of ours.
    #[error("longer than 1 MiB")]
    TooLong,
    /// The file is not UTF-8.
    #[error("not text")]
    NotText,
}

/// A new RSA-2048 key with a self-signed certificate of that common name and its key id.
///
/// A common name that is a host name also is the certificate's DNS name. The certificate is valid for
/// one to two years, which is more than three rotations take. Generating takes around 100 ms of CPU.
///
/// # Errors
/// [`Error::Generate`], [`Error::Certificate`].
pub fn generate_slot(ambient: &Ambient, common_name: &str) -> Result<Slot, Error> {
    let der = SigningKey::generate_pkcs8(Algorithm::RS256).map_err(Error::Generate)?;
    let names: &[&str] = if is_host_name(common_name) {
        &[common_name]
    } else {
        &[]
    };
    let year = 1970 + ambient.now().seconds().div_euclid(SECONDS_PER_YEAR);
    let last_year = i32::try_from(year + 2).unwrap_or(9999);
    let made = x509::self_signed(&der, common_name, names, last_year).map_err(|source| {
        Error::Certificate {
            common_name: common_name.to_owned(),
            source,
        }
    })?;
    Ok(Slot {
        kid: kid_of(&made.certificate_pem),
        certificate: made.certificate_pem,
        key: Some(made.key_pem),
    })
}

/// The key id of a certificate: UUID version 5 of the bytes of its PEM file in the nil name space, as
/// the platform's key rotator makes it.
#[must_use]
pub fn kid_of(certificate_pem: &str) -> String {
    // The name space is a UUID, so there always is a result.
    id::uuid_v5(KID_NAMESPACE, certificate_pem.as_bytes()).unwrap_or_default()
}

/// A first key set: the key is in all three slots, so that signing and verifying work at once.
#[must_use]
pub fn initial(first: Slot) -> Slots {
    Slots {
        next: Some(first.clone()),
        active: Some(first.clone()),
        previous: Some(first),
    }
}

/// Active becomes previous, next becomes active, `new` becomes next.
#[must_use]
pub fn rotate(slots: Slots, new: Slot) -> Slots {
    Slots {
        next: Some(new),
        active: slots.next,
        previous: slots.active,
    }
}

/// A name with a dot, of labels as RFC 1123 section 2.1 allows them.
fn is_host_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    name.len() <= 253 && name.contains('.') && name.split('.').all(is_label)
}
