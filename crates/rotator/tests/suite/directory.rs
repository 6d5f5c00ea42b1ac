//! Keys in files.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::common::SLOTS;
use o28m_jose::base64std;
use o28m_jose::slots::{Slot, Slots};
use o28m_jose::x509::private_key_der;
use o28m_rotator::{Error, Unusable, load_directory, lock_directory, rotate, write_directory};

const NAMES: [&str; 9] = [
    "next-tls.crt",
    "next-tls.key",
    "next-tls.kid",
    "prev-tls.crt",
    "prev-tls.key",
    "prev-tls.kid",
    "tls.crt",
    "tls.key",
    "tls.kid",
];

fn three() -> Slots {
    let [next, active, previous, ..] = SLOTS.clone();
    Slots {
        next: Some(next),
        active: Some(active),
        previous: Some(previous),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

/// A directory with plain files, as other tools leave it.
fn plain(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        fs::write(dir.path().join(name), content).unwrap();
    }
    dir
}

#[test]
fn nine_files_are_written_and_read_back() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("a/keys");
    write_directory(&dir, &three()).unwrap();
    assert_eq!(load_directory(&dir).unwrap(), three());
    assert_eq!(
        fs::metadata(&dir).unwrap().permissions().mode() & 0o777,
        0o700
    );
    let mut visible = Vec::new();
    for entry in fs::read_dir(&dir).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if !name.starts_with('.') {
            let mode = fs::metadata(dir.join(&name)).unwrap().permissions().mode();
            let expected = if name.ends_with(".key") { 0o600 } else { 0o644 };
            assert_eq!(mode & 0o777, expected, "{name}");
            visible.push(name);
        }
    }
    visible.sort();
    assert_eq!(visible, NAMES);
    let kid = fs::read_to_string(dir.join("tls.kid")).unwrap();
    assert_eq!(kid, SLOTS[1].kid, "without a line break");
    // One set is left, whatever was there before.
    write_directory(&dir, &rotate(three(), SLOTS[3].clone())).unwrap();
    let sets = fs::read_dir(&dir).unwrap().filter(|entry| {
        entry
            .as_ref()
            .unwrap()
            .file_name()
            .to_string_lossy()
            .starts_with("..set")
    });
    assert_eq!(sets.count(), 1);
}

#[test]
fn empty_slots_are_empty_files_and_missing_files_are_empty_slots() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(load_directory(dir.path()).unwrap(), Slots::default());
    let slots = Slots {
        next: Some(SLOTS[0].clone()),
        ..Slots::default()
    };
    write_directory(dir.path(), &slots).unwrap();
    assert_eq!(fs::read(dir.path().join("tls.key")).unwrap(), b"");
    assert_eq!(load_directory(dir.path()).unwrap(), slots);
    for name in ["tls.crt", "prev-tls.kid"] {
        fs::remove_file(dir.path().join(name)).unwrap();
    }
    assert_eq!(load_directory(dir.path()).unwrap(), slots);
    let missing = load_directory(&dir.path().join("missing")).unwrap_err();
    assert!(matches!(missing, Error::Read { .. }), "{missing:?}");
}

#[test]
fn rotator_case_044_white_space_around_a_key_id_is_dropped() {
    let slot = &SLOTS[0];
    let kid = format!(" {}\r\n", slot.kid);
    let dir = plain(&[("tls.crt", &slot.certificate), ("tls.kid", &kid)]);
    let slots = load_directory(dir.path()).unwrap();
    let active = slots.active.clone().unwrap();
    assert_eq!(
        active,
        Slot {
            key: None,
            ..slot.clone()
        },
        "public parts alone are a slot"
    );
    assert_eq!(slots.jwk_set().keys[0].kid.as_ref(), Some(&slot.kid));
}

#[test]
fn rotator_case_038_a_pkcs1_key_is_read() {
    let slot = &SLOTS[0];
    let pkcs8 = private_key_der(slot.key.as_deref().unwrap()).unwrap();
    // The PKCS#8 header of an RSA-2048 key has 26 bytes; behind it is PKCS#1.
    let body = base64std(&pkcs8[26..]);
    let lines: Vec<&str> = body
        .as_bytes()
        .chunks(64)
        .map(|line| str::from_utf8(line).unwrap())
        .collect();
    let pem = format!(
        "-----BEGIN RSA PRIVATE KEY-----\n{}\n-----END RSA PRIVATE KEY-----\n",
        lines.join("\n")
    );
    let dir = plain(&[
        ("tls.crt", &slot.certificate),
        ("tls.kid", &slot.kid),
        ("tls.key", &pem),
    ]);
    let active = load_directory(dir.path()).unwrap().active.unwrap();
    assert_eq!(
        active.signing_key().unwrap().public_der(),
        slot.signing_key().unwrap().public_der()
    );
}

#[test]
fn rotator_case_026_and_039_broken_slots_name_the_file_and_the_cause() {
    let [one, other, ..] = &*SLOTS;
    let (crt, kid) = (one.certificate.as_str(), one.kid.as_str());
    let key = one.key.as_deref().unwrap();
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let elliptic = elliptic_certificate();
    let cases: &[(&[(&str, &str)], &str)] = &[
        (&[("tls.crt", crt)], "tls.kid is missing or empty"),
        (&[("prev-tls.kid", kid)], "prev-tls.crt is missing or empty"),
        (&[("next-tls.key", key)], "next-tls.crt is missing or empty"),
        (
            &[("tls.crt", crt), ("tls.kid", " \n")],
            "tls.kid is missing or empty",
        ),
        (
            &[("tls.crt", "x"), ("tls.kid", kid)],
            "tls.crt cannot be used: failed to decode certificate PEM",
        ),
        (
            &[("tls.crt", garbage), ("tls.kid", kid)],
            "tls.crt cannot be used: failed to parse certificate",
        ),
        (
            &[("tls.crt", &elliptic), ("tls.kid", kid)],
            "tls.crt cannot be used: public key is not of type RSA",
        ),
        (
            &[("tls.crt", crt), ("tls.kid", kid), ("tls.key", "x")],
            "tls.key cannot be used: no private key found in PEM text",
        ),
        (
            &[
                ("next-tls.crt", crt),
                ("next-tls.kid", kid),
                ("next-tls.key", other.key.as_deref().unwrap()),
            ],
            "next-tls.key cannot be used: private key does not belong to the certificate",
        ),
    ];
    for (files, expected) in cases {
        let dir = plain(files);
        let error = load_directory(dir.path()).unwrap_err();
        let text = chain(&error);
        assert!(text.contains(expected), "{text}");
        assert!(text.contains(dir.path().to_str().unwrap()), "{text}");
        assert!(!format!("{text} {error:?}").contains("PRIVATE KEY"));
    }
}

/// A certificate over an elliptic-curve key.
fn elliptic_certificate() -> String {
    let der = o28m_jose::SigningKey::generate_pkcs8(o28m_jose::Algorithm::ES256).unwrap();
    o28m_jose::x509::self_signed(&der, "ec", &[], 2100)
        .unwrap()
        .certificate_pem
}

#[test]
fn files_of_unreasonable_size_or_content_are_refused() {
    let dir = plain(&[("tls.crt", &"x".repeat(1024 * 1024 + 1))]);
    let error = load_directory(dir.path()).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Unusable {
                source: Unusable::TooLong,
                ..
            }
        ),
        "{error:?}"
    );
    fs::write(dir.path().join("tls.crt"), [0xff, 0xfe]).unwrap();
    let error = load_directory(dir.path()).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Unusable {
                source: Unusable::NotText,
                ..
            }
        ),
        "{error:?}"
    );
}

#[test]
fn rotator_case_032_a_reader_never_sees_parts_of_two_sets() {
    // Every set is synced to the disk, which a thousand times takes a minute; memory is as good here.
    let memory = Path::new("/dev/shm");
    let dir = if memory.is_dir() {
        tempfile::tempdir_in(memory).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    };
    let path = dir.path();
    write_directory(path, &three()).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let foreign = scope.spawn(|| {
            let mut seen = 0;
            while !done.load(Ordering::Relaxed) {
                seen += usize::from(pair_fits(path));
            }
            seen
        });
        let ours = scope.spawn(|| {
            let mut seen = 0;
            while !done.load(Ordering::Relaxed) {
                // Loading checks that every key fits its certificate.
                let slots = match load_directory(path) {
                    Ok(slots) => slots,
                    // Replaced again and again while it was read.
                    Err(Error::Unstable { .. }) => continue,
                    Err(error) => panic!("{error}"),
                };
                for slot in [slots.active, slots.next] {
                    assert!(SLOTS.contains(&slot.unwrap()));
                    seen += 1;
                }
            }
            seen
        });
        let mut slots = three();
        for at in 0..1000 {
            slots = rotate(slots, SLOTS[at % SLOTS.len()].clone());
            write_directory(path, &slots).unwrap();
        }
        done.store(true, Ordering::Relaxed);
        assert!(foreign.join().unwrap() > 0);
        assert!(ours.join().unwrap() > 0);
    });
}

/// Reads key and key id as other programs do: from what `..data` points to. False when the set was
/// removed before both were read.
fn pair_fits(path: &Path) -> bool {
    let set = path.join(fs::read_link(path.join("..data")).unwrap());
    let read = |name: &str| fs::read_to_string(set.join(name)).ok();
    let (Some(key), Some(kid)) = (read("tls.key"), read("tls.kid")) else {
        return false;
    };
    let slot = SLOTS.iter().find(|slot| slot.kid == kid).unwrap();
    assert_eq!(slot.key.as_deref(), Some(key.as_str()));
    true
}

#[test]
fn rotator_case_033_two_processes_cannot_write_one_directory() {
    let dir = tempfile::tempdir().unwrap();
    let lock = lock_directory(dir.path()).unwrap();
    let error = write_directory(dir.path(), &three()).unwrap_err();
    let expected = format!("locked by pid {}", std::process::id());
    assert!(error.to_string().contains(&expected), "{error}");
    drop(lock);
    write_directory(dir.path(), &three()).unwrap();
}

#[test]
fn plain_files_and_what_a_crash_left_behind_give_way() {
    let dir = plain(&[
        ("tls.crt", "old"),
        ("tls.key", "old"),
        ("tls.kid", "old"),
        ("note", "keep"),
    ]);
    fs::create_dir(dir.path().join("..set_0")).unwrap();
    std::os::unix::fs::symlink("nowhere", dir.path().join("..new")).unwrap();
    write_directory(dir.path(), &three()).unwrap();
    assert_eq!(load_directory(dir.path()).unwrap(), three());
    assert_eq!(
        fs::read_to_string(dir.path().join("tls.kid")).unwrap(),
        SLOTS[1].kid
    );
    assert_eq!(fs::read_to_string(dir.path().join("note")).unwrap(), "keep");
    assert!(!dir.path().join("..set_0").exists());
}

#[test]
fn a_directory_that_others_can_write_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o770)).unwrap();
    let error = write_directory(dir.path(), &three()).unwrap_err();
    assert!(matches!(error, Error::Writable { .. }), "{error:?}");
    assert!(!dir.path().join("tls.key").exists());
}
