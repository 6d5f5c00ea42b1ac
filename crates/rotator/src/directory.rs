//! Keys in nine files, with the names of the `kubernetes.io/tls` secret of the platform's key rotator.
//!
//! The files are published as Kubernetes publishes a mounted secret: they are symbolic links into
//! `..data`, which is a link to a directory that is never changed. A new set is a new directory, and
//! renaming one link publishes all of it. Whoever resolves `..data` once reads one set.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use o28m_jose::slots::{Slot, Slots};
use o28m_jose::x509::Certificate;
use o28m_jose::{Algorithm, KeyError, SigningKey, from_base64url};

use crate::{Error, Unusable};

/// The link that decides which set is current.
const DATA: &str = "..data";
/// Holds the lock of whoever writes, and its process id.
const LOCK: &str = ".o28m-keys.lock";
/// A link that is about to be renamed to its place.
const NEW_LINK: &str = "..new";
/// Prefix of the names of the directories with a set each, which are numbered.
const SET: &str = "..set_";
/// Prefixes of the file names of the slots: next, active, previous.
const PREFIXES: [&str; 3] = ["next-", "", "prev-"];
/// A Kubernetes secret has at most 1 MiB.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Shortest RSA modulus, in bytes (RFC 7518 section 3.3).
const MODULUS_BYTES_MIN: usize = 256;
/// How often a read is begun anew because the set was replaced meanwhile.
const READ_ATTEMPTS: usize = 50;

/// Reads `{next-,,prev-}tls.{crt,key,kid}`; missing or empty slots are `None`.
///
/// All files are of one set even while another process replaces it. White space around a key id is
/// dropped. A slot without private key is whole: publishers do not mount it.
///
/// # Errors
/// [`Error::Read`], [`Error::Incomplete`] for a slot without certificate or key id, and
/// [`Error::Unusable`] for content that is not RSA of at least 2048 bits or does not fit together.
pub fn load_directory(dir: &Path) -> Result<Slots, Error> {
    let metadata = fs::metadata(dir).map_err(read_error(dir))?;
    if !metadata.is_dir() {
        return Err(read_error(dir)(io::ErrorKind::NotADirectory.into()));
    }
    for _ in 0..READ_ATTEMPTS {
        let set = current_set(dir);
        let base = set
            .as_ref()
            .map_or_else(|| dir.to_owned(), |set| dir.join(set));
        let result = load_files(&base);
        if current_set(dir) == set {
            return result;
        }
    }
    Err(Error::Unstable {
        path: dir.to_owned(),
    })
}

/// Where `..data` points to; `None` for plain files.
fn current_set(dir: &Path) -> Option<PathBuf> {
    fs::read_link(dir.join(DATA)).ok()
}

fn load_files(base: &Path) -> Result<Slots, Error> {
    let [next, active, previous] = PREFIXES.map(|prefix| load_slot(base, prefix));
    let slots = Slots {
        next: next?,
        active: active?,
        previous: previous?,
    };
    warn_of_shared_kids(&slots);
    Ok(slots)
}

fn load_slot(base: &Path, prefix: &str) -> Result<Option<Slot>, Error> {
    let path = |ending: &str| base.join(format!("{prefix}tls.{ending}"));
    let certificate = read(&path("crt"))?;
    let key = read(&path("key"))?;
    let kid = read(&path("kid"))?;
    let (certificate, kid) = match (certificate, kid) {
        (Some(certificate), Some(kid)) => (certificate, kid.trim_ascii().to_owned()),
        (None, None) if key.is_none() => return Ok(None),
        (None, _) => return Err(Error::Incomplete { path: path("crt") }),
        (Some(_), None) => return Err(Error::Incomplete { path: path("kid") }),
    };
    let parsed = check_certificate(&certificate).map_err(unusable(&path("crt")))?;
    if let Some(key) = &key {
        check_key(key, &parsed).map_err(unusable(&path("key")))?;
    }
    Ok(Some(Slot {
        kid,
        certificate,
        key,
    }))
}

fn check_certificate(pem: &str) -> Result<Certificate, Unusable> {
    let certificate = Certificate::from_pem(pem)?;
    let modulus = certificate.jwk("").n.as_deref().and_then(from_base64url);
    if modulus.is_none_or(|modulus| modulus.len() < MODULUS_BYTES_MIN) {
        return Err(KeyError::Weak.into());
    }
    Ok(certificate)
}

fn check_key(pem: &str, certificate: &Certificate) -> Result<(), Unusable> {
    let key = SigningKey::from_pem("", Algorithm::RS256, pem)?;
    if key.public_jwk().n != certificate.jwk("").n {
        return Err(Unusable::Mismatch);
    }
    Ok(())
}

/// Different keys under one key id: only one of them can be published.
fn warn_of_shared_kids(slots: &Slots) {
    let filled = [&slots.active, &slots.previous, &slots.next];
    let mut seen: BTreeMap<&str, &Slot> = BTreeMap::new();
    for slot in filled.into_iter().flatten() {
        let first = seen.entry(slot.kid.as_str()).or_insert(slot);
        if first.certificate != slot.certificate {
            tracing::error!(kid = %slot.kid, "different certificates have the same key id; one is left out");
        }
    }
}

/// The text of a file; `None` when it does not exist or is blank.
fn read(path: &Path) -> Result<Option<String>, Error> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(read_error(path))?,
    };
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(read_error(path))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > FILE_BYTES_MAX {
        return Err(unusable(path)(Unusable::TooLong));
    }
    let text = String::from_utf8(bytes).map_err(|_| unusable(path)(Unusable::NotText))?;
    Ok(Some(text).filter(|text| !text.trim_ascii().is_empty()))
}

/// The right to write keys to a directory; given back when dropped, and when the process ends.
#[derive(Debug)]
pub struct DirectoryLock {
    dir: PathBuf,
    _file: File,
}

/// Takes the lock of a directory: at most one process rotates its keys.
///
/// # Errors
/// [`Error::Locked`] when another one has it, [`Error::Write`].
pub fn lock_directory(dir: &Path) -> Result<DirectoryLock, Error> {
    let path = dir.join(LOCK);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(write_error(&path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let read = file.take(32).read_to_string(&mut pid);
            let known = read.is_ok_and(|length| length > 0);
            return Err(Error::Locked {
                path: dir.to_owned(),
                pid: if known { pid } else { "unknown".to_owned() },
            });
        }
        Err(TryLockError::Error(error)) => return Err(write_error(&path)(error)),
    }
    let pid = std::process::id().to_string();
    file.set_len(0)
        .and_then(|()| file.write_all(pid.as_bytes()))
        .map_err(write_error(&path))?;
    Ok(DirectoryLock {
        dir: dir.to_owned(),
        _file: file,
    })
}

/// Writes the nine files so that a reader sees the old set or the new one, keys with mode 0600.
///
/// Empty slots become empty files. The directory is made with mode 0700. Plain files that are there from
/// before become links; only then, once, a reader that does not go through `..data` can see a mixture.
///
/// # Errors
/// [`Error::Write`], [`Error::Locked`] while another process writes, and [`Error::Writable`] where
/// others could replace the keys.
pub fn write_directory(dir: &Path, slots: &Slots) -> Result<(), Error> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(write_error(dir))?;
    let mode = fs::metadata(dir)
        .map_err(read_error(dir))?
        .permissions()
        .mode();
    if mode & 0o022 != 0 {
        return Err(Error::Writable {
            path: dir.to_owned(),
        });
    }
    lock_directory(dir)?.write(slots)
}

impl DirectoryLock {
    /// Writes the nine files as [`write_directory`] does, under this lock.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn write(&self, slots: &Slots) -> Result<(), Error> {
        let dir = &self.dir;
        let set = write_set(dir, slots)?;
        replace_link(dir, Path::new(&set), DATA)?;
        for (name, ..) in files(slots) {
            let target = Path::new(DATA).join(&name);
            if fs::read_link(dir.join(&name)).ok().as_ref() != Some(&target) {
                replace_link(dir, &target, &name)?;
            }
        }
        sync(dir)?;
        remove_old_sets(dir, &set)
    }
}

/// Name, content and mode of each of the nine files.
fn files(slots: &Slots) -> Vec<(String, &str, u32)> {
    let three = [&slots.next, &slots.active, &slots.previous];
    let of_slot = |(prefix, slot)| slot_files(prefix, slot);
    PREFIXES.into_iter().zip(three).flat_map(of_slot).collect()
}

fn slot_files<'a>(prefix: &str, slot: &'a Option<Slot>) -> [(String, &'a str, u32); 3] {
    let [certificate, key, kid] = slot.as_ref().map_or(["", "", ""], |slot| {
        let key = slot.key.as_deref().unwrap_or_default();
        [slot.certificate.as_str(), key, slot.kid.as_str()]
    });
    [
        (format!("{prefix}tls.crt"), certificate, 0o644),
        (format!("{prefix}tls.key"), key, 0o600),
        (format!("{prefix}tls.kid"), kid, 0o644),
    ]
}

/// Writes a set to a directory of its own and to the disk; gives the directory's name.
fn write_set(dir: &Path, slots: &Slots) -> Result<String, Error> {
    let (name, path) = new_set(dir)?;
    for (file_name, content, mode) in files(slots) {
        let path = path.join(file_name);
        let write = || {
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(mode)
                .open(&path)?;
            // What the process's umask took away from the public files, they need.
            file.set_permissions(fs::Permissions::from_mode(mode))?;
            file.write_all(content.as_bytes())?;
            file.sync_all()
        };
        write().map_err(write_error(&path))?;
    }
    sync(&path)?;
    Ok(name)
}

/// A set's name is never that of the set before it, so a reader can tell them apart; the caller holds the
/// lock, so the first free number stays free.
fn new_set(dir: &Path) -> Result<(String, PathBuf), Error> {
    let last = current_set(dir).and_then(|set| set.to_str()?.strip_prefix(SET)?.parse().ok());
    let mut number = last.map_or(0, |last: u64| last.wrapping_add(1));
    loop {
        let name = format!("{SET}{number}");
        let path = dir.join(&name);
        match DirBuilder::new().mode(0o755).create(&path) {
            Ok(()) => return Ok((name, path)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                number = number.wrapping_add(1)
            }
            Err(error) => return Err(write_error(&path)(error)),
        }
    }
}

fn replace_link(dir: &Path, target: &Path, name: &str) -> Result<(), Error> {
    let new = dir.join(NEW_LINK);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(write_error(&new)(error));
        }
        _ => {}
    }
    symlink(target, &new).map_err(write_error(&new))?;
    let place = dir.join(name);
    fs::rename(&new, &place).map_err(write_error(&place))
}

/// Removes the sets that nothing points to any more, also those a crash left behind.
fn remove_old_sets(dir: &Path, current: &str) -> Result<(), Error> {
    for entry in fs::read_dir(dir).map_err(read_error(dir))? {
        let entry = entry.map_err(read_error(dir))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(SET) && name != current {
            let path = entry.path();
            fs::remove_dir_all(&path).map_err(write_error(&path))?;
        }
    }
    Ok(())
}

fn sync(dir: &Path) -> Result<(), Error> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(write_error(dir))
}

fn read_error(path: &Path) -> impl Fn(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Read {
        path: path.clone(),
        source,
    }
}

fn write_error(path: &Path) -> impl Fn(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Write {
        path: path.clone(),
        source,
    }
}

fn unusable(path: &Path) -> impl Fn(Unusable) -> Error {
    let path = path.to_owned();
    move |source| Error::Unusable {
        path: path.clone(),
        source,
    }
}
