//! Certificates, the server names they are for, and certificate authorities (spec gateway-admin 9.6).

use serde_json::{Value, json};

use super::{CREATED_AT, ID, TAGS, UPDATED_AT, single};
use crate::entity::{BASE, Document, Entity, Foreign, OnDelete, Unique};
use crate::formats;
use crate::keys;
use crate::schema::{Check, EntityCheck, Field, Kind};

pub(super) const CERTIFICATES: Entity = Entity {
    name: "certificates",
    path: "certificates",
    nested_path: "certificates",
    is_costly: true,
    fields: &[
        ID,
        CREATED_AT,
        UPDATED_AT,
        certificate("cert").required(),
        private_key("key").required(),
        certificate("cert_alt"),
        private_key("key_alt"),
        TAGS,
        // Entities of their own; here for the convenience of clients.
        Field::new("snis", Kind::Array(&SNI))
            .checks(&[Check::LengthMax(SNIS_MAX)])
            .transient(),
    ],
    checks: &[
        EntityCheck::Together(&["cert_alt", "key_alt"]),
        EntityCheck::Custom(&["cert", "key"], |certificate, messages, _| {
            let message = "certificate does not match key";
            pair(certificate, "cert", "key", message, messages);
        }),
        EntityCheck::Custom(&["cert_alt", "key_alt"], |certificate, messages, _| {
            let message = "alternative certificate does not match key";
            pair(certificate, "cert_alt", "key_alt", message, messages);
        }),
        EntityCheck::Custom(&["cert", "cert_alt"], different_kinds),
    ],
    ..BASE
};

pub(super) const SNIS: Entity = Entity {
    name: "snis",
    path: "snis",
    nested_path: "snis",
    endpoint_key: Some("name"),
    foreign: &[CERTIFICATE],
    unique: &[
        single("name", &["name"]),
        // Unique because names are; it is there to be read in order.
        Unique {
            name: CERTIFICATE_NAME,
            fields: &["certificate", "name"],
            nulls_equal: false,
        },
    ],
    fields: &[
        ID,
        Field::new("name", Kind::String)
            .checks(&[
                Check::LengthMax(SNI_BYTES_MAX),
                Check::Text(formats::wildcard_host),
            ])
            .required()
            .unique(),
        CREATED_AT,
        UPDATED_AT,
        TAGS,
        Field::new("certificate", Kind::Foreign(&CERTIFICATE)).required(),
    ],
    ..BASE
};

pub(super) const CA_CERTIFICATES: Entity = Entity {
    name: "ca_certificates",
    path: "ca_certificates",
    nested_path: "ca_certificates",
    is_costly: true,
    unique: &[single("cert_digest", &["cert_digest"])],
    fields: &[
        ID,
        CREATED_AT,
        UPDATED_AT,
        Field::new("cert", Kind::String)
            .checks(&[Check::Text(keys::certificate_text)])
            .required(),
        Field::new("cert_digest", Kind::String).unique(),
        TAGS,
    ],
    checks: &[EntityCheck::Timed(&["cert"], authority)],
    ..BASE
};

/// The constraint of server names that orders them by certificate.
const CERTIFICATE_NAME: &str = "certificate_name";

/// Bytes of a host name (RFC 1035 section 3.1), and a little more for wildcards.
const SNI_BYTES_MAX: usize = 255;

/// Names of a certificate in one request.
const SNIS_MAX: usize = 10_000;

const CERTIFICATE: Foreign = Foreign {
    field: "certificate",
    entity: "certificates",
    // Deleting a certificate deletes its names: Kong's DAO does so before its database would refuse.
    on_delete: OnDelete::Cascade,
};

const SNI: Field = Field::element(
    Kind::String,
    &[
        Check::LengthMax(SNI_BYTES_MAX),
        Check::Text(formats::wildcard_host),
    ],
);

const fn certificate(name: &'static str) -> Field {
    Field::new(name, Kind::String)
        .checks(&[Check::Text(keys::certificate_text)])
        .referenceable()
}

const fn private_key(name: &'static str) -> Field {
    Field::new(name, Kind::String)
        .checks(&[Check::Text(keys::private_key_text)])
        .referenceable()
}

fn text<'a>(document: &'a Document, field: &str) -> Option<&'a str> {
    document.get(field).and_then(Value::as_str)
}

/// Complains when the certificate in one field is not of the key in the other.
fn pair(
    document: &Document,
    certificate: &str,
    key: &str,
    message: &str,
    messages: &mut Vec<String>,
) {
    let (Some(certificate), Some(key)) = (text(document, certificate), text(document, key)) else {
        return;
    };
    let public = keys::certificate(certificate).map(|it| it.public);
    if public != keys::private_key(key) {
        messages.push(message.to_owned());
    }
}

fn different_kinds(document: &Document, messages: &mut Vec<String>, _: &mut Document) {
    let kind = |field| keys::certificate(text(document, field)?).ok();
    if let (Some(one), Some(other)) = (kind("cert"), kind("cert_alt"))
        && one.kind == other.kind
    {
        messages.push(
            "certificate and alternative certificate need to have different type (e.g. RSA and \
             ECDSA), the provided certificates were both of the same type"
                .to_owned(),
        );
    }
}

fn authority(document: &Document, now_s: i64, messages: &mut Vec<String>) {
    let pem = text(document, "cert").unwrap_or_default();
    let Ok(certificate) = keys::certificate(pem) else {
        return;
    };
    let message = if keys::certificates(pem) > 1 {
        "please submit only one certificate at a time"
    } else if certificate.not_after < now_s {
        "certificate expired, \"Not After\" time is in the past"
    } else if !certificate.is_authority {
        "certificate does not appear to be a CA because it is missing the \"CA\" basic constraint"
    } else {
        return;
    };
    messages.push(message.to_owned());
}

/// The digest follows from the certificate, whatever a client says.
pub(super) fn digest(input: &mut Document) {
    input.shift_remove("cert_digest");
    let certificate = text(input, "cert").and_then(|pem| keys::certificate(pem).ok());
    if let Some(certificate) = certificate {
        input.insert("cert_digest".to_owned(), json!(certificate.digest));
    }
}
