//! Making and rotating keys.

use crate::common::{SLOTS, ambient};
use o28m_jose::slots::{KeyRing, Slots};
use o28m_jose::{Algorithm, VerifyingKey, base64std};
use o28m_rotator::{generate_slot, initial, kid_of, rotate};

#[test]
fn rotator_case_027_kids_are_those_of_the_platforms_rotator() {
    for (certificate, kid) in [
        ("cert", "558ba4da-9628-5cb4-b244-ef833e84a53c"),
        ("cert-rotation-1", "8230ddef-d0ce-5baf-86c2-e4481ad111be"),
        ("test-crt", "aa407a3c-6e56-54cb-b987-27c48ff40b07"),
        ("", "e129f27c-5103-5c5c-844b-cdf0a15e160d"),
    ] {
        assert_eq!(kid_of(certificate), kid);
    }
    let pem = &SLOTS[0].certificate;
    assert!(!pem.contains('\r'));
    assert_ne!(kid_of(pem), kid_of(&pem.replace('\n', "\r\n")));
}

#[test]
fn rotator_case_028_a_made_key_is_rsa_2048_in_pkcs8_and_fills_all_slots() {
    let (ambient, _) = ambient();
    let slot = generate_slot(&ambient, "Stargate").unwrap();
    assert_eq!(slot.kid, kid_of(&slot.certificate));
    let key = slot.key.as_deref().unwrap();
    assert!(key.starts_with("-----BEGIN PRIVATE KEY-----\n"));
    let certificate = slot.certificate().unwrap();
    let signing = slot.signing_key().unwrap();
    assert_eq!(signing.public_der(), certificate.public_key_der());
    let has = |text: &[u8]| {
        certificate
            .der()
            .windows(text.len())
            .any(|part| part == text)
    };
    assert!(has(b"Stargate"));
    let modulus = certificate.jwk("").n.unwrap();
    assert_eq!(modulus.len(), 342, "256 bytes in base64url");
    // Valid for longer than three rotations of 30 days, but not for ever.
    let left_s = certificate.not_after().millis_since(ambient.now()) / 1000;
    assert!(
        (91 * 86_400..3 * 366 * 86_400).contains(&left_s),
        "{left_s}"
    );
    let slots = initial(slot.clone());
    for filled in [slots.next, slots.active, slots.previous] {
        assert_eq!(filled.as_ref(), Some(&slot));
    }
}

#[test]
fn host_names_and_only_they_become_dns_names() {
    let (ambient, _) = ambient();
    for (name, occurrences) in [
        ("gateway.example.com", 3),
        ("Star gate.", 2),
        ("ünï.code", 2),
    ] {
        let slot = generate_slot(&ambient, name).unwrap();
        let certificate = slot.certificate().unwrap();
        let parts = certificate.der().windows(name.len());
        // Subject and issuer name it, and so does the alternative name of a host.
        assert_eq!(
            parts.filter(|part| *part == name.as_bytes()).count(),
            occurrences,
            "{name}"
        );
    }
}

#[test]
fn rotator_case_004_and_005_a_rotation_moves_every_slot_on_by_one() {
    let [c0, c1, c2, c3, _] = SLOTS.clone();
    let slots = Slots {
        next: Some(c0.clone()),
        ..Slots::default()
    };
    let slots = rotate(slots, c1.clone());
    assert_eq!(
        (&slots.next, &slots.active, &slots.previous),
        (&Some(c1.clone()), &Some(c0), &None)
    );
    let slots = rotate(rotate(slots, c2.clone()), c3.clone());
    assert_eq!(
        slots,
        Slots {
            next: Some(c3),
            active: Some(c2),
            previous: Some(c1)
        }
    );
}

#[test]
fn rotator_case_042_with_only_a_next_key_that_one_signs() {
    let slots = Slots {
        next: Some(SLOTS[0].clone()),
        ..Slots::default()
    };
    let ring = KeyRing::new(slots, None);
    assert_eq!(ring.jwk_set.keys.len(), 1);
    assert_eq!(ring.signing.unwrap().kid(), SLOTS[0].kid);
}

#[test]
fn rotator_case_045_a_key_id_is_published_once_and_the_active_key_wins() {
    let [first, second, ..] = SLOTS.clone();
    assert_eq!(initial(first.clone()).jwk_set().keys.len(), 1);
    let impostor = o28m_jose::slots::Slot {
        kid: first.kid.clone(),
        ..second
    };
    let slots = Slots {
        next: Some(impostor),
        active: Some(first.clone()),
        previous: None,
    };
    let keys = slots.jwk_set().keys;
    assert_eq!(keys.len(), 1);
    assert_eq!(
        keys[0].x5c.as_ref().unwrap()[0],
        base64std(first.certificate().unwrap().der())
    );
}

/// Whether a set's published keys verify what the signing key of `signer` signed.
fn verifies(published: &Slots, signer: &Slots) -> bool {
    let key = signer.signing().unwrap().signing_key().unwrap();
    let signature = key.sign(b"message");
    published.jwk_set().keys.iter().any(|jwk| {
        jwk.kid.as_deref() == Some(key.kid())
            && VerifyingKey::from_jwk(jwk, Algorithm::RS256)
                .is_ok_and(|key| key.verify(b"message", &signature).is_ok())
    })
}

#[test]
fn rotator_case_049_and_050_neighbouring_sets_verify_each_others_tokens() {
    let [c0, c1, c2, c3, c4] = SLOTS.clone();
    let zero = rotate(initial(c0), c1);
    let one = rotate(zero.clone(), c2);
    let two = rotate(one.clone(), c3);
    let three = rotate(two.clone(), c4);
    assert!(verifies(&one, &zero), "a token from before the rotation");
    assert!(
        verifies(&zero, &one),
        "a verifier that has not heard of the rotation"
    );
    assert!(verifies(&two, &one) && verifies(&one, &two));
    assert!(!verifies(&three, &one), "gone after two more rotations");
}
