//! Parsing of single values.

use std::time::Duration;

use super::listen;
use super::table::Kind;

/// The items of a comma separated list, trimmed, without empty ones.
pub(super) fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
}

pub(super) fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "on" => Some(true),
        "false" | "off" => Some(false),
        _ => None,
    }
}

pub(super) fn duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let number: u64 = number.parse().ok()?;
    let millis = match unit {
        "ms" => number,
        "" | "s" => number.checked_mul(1000)?,
        "m" => number.checked_mul(60_000)?,
        "h" => number.checked_mul(3_600_000)?,
        _ => return None,
    };
    Some(Duration::from_millis(millis))
}

/// Whether a text is PEM itself, as it is or in base64, and not the name of a file.
pub(super) fn is_pem(text: &str) -> bool {
    let text = text.trim_start();
    text.starts_with("-----BEGIN ") || text.starts_with("LS0tLS1CRUdJTi")
}

/// The port of each listener, and what clients know it as.
pub(super) fn port_maps(text: &str) -> Option<Vec<(u16, u16)>> {
    let mut maps: Vec<(u16, u16)> = Vec::new();
    for item in list(text) {
        let (host, listener) = item.split_once(':')?;
        let (host, listener) = (host.parse().ok()?, listener.parse().ok()?);
        if host == 0 || listener == 0 || maps.iter().any(|(known, _)| *known == listener) {
            return None;
        }
        maps.push((listener, host));
    }
    Some(maps)
}

/// What is wrong with `text` as a value of `kind`; `None` when nothing is.
pub(super) fn problem(kind: Kind, text: &str) -> Option<String> {
    let unknown = |known: &[&str]| format!("expected one of: {}", known.join(", "));
    match kind {
        Kind::Text | Kind::List | Kind::Path => None,
        Kind::Boolean => boolean(text)
            .is_none()
            .then(|| "expected true or false".to_owned()),
        Kind::Integer(low, high) => match text.parse::<i64>() {
            Ok(number) if (low..=high).contains(&number) => None,
            _ => Some(format!("expected a whole number from {low} to {high}")),
        },
        Kind::Ratio => match text.parse::<f64>() {
            Ok(number) if (0.0..=1.0).contains(&number) => None,
            _ => Some("expected a number from 0 to 1".to_owned()),
        },
        Kind::Duration => duration(text)
            .is_none()
            .then(|| "expected a duration such as 500ms, 5s or 2m".to_owned()),
        Kind::PositiveDuration => duration(text)
            .is_none_or(|it| it.is_zero())
            .then(|| "expected a duration such as 500ms, 5s or 2m, more than nothing".to_owned()),
        Kind::PortMaps => port_maps(text)
            .is_none()
            .then(|| "expected port:listener such as 443:8443, each listener once".to_owned()),
        Kind::Listen => listen::parse(text).err(),
        Kind::OneOf(known) => (!known.contains(&text)).then(|| unknown(known)),
        Kind::SomeOf(known) => list(text)
            .any(|item| !known.contains(&item))
            .then(|| unknown(known)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_mapped_once() {
        assert_eq!(
            port_maps("80:8000, 443:8443"),
            Some(vec![(8000, 80), (8443, 443)])
        );
        assert_eq!(port_maps(""), Some(Vec::new()));
        for text in [
            "80",
            "80:",
            "80:x",
            "80:8000:1",
            "0:8000",
            "80:8000,81:8000",
            "80:70000",
        ] {
            assert_eq!(port_maps(text), None, "{text}");
        }
    }

    #[test]
    fn durations_have_units() {
        for (text, millis) in [("500ms", 500), ("5", 5000), ("5s", 5000), ("2m", 120_000)] {
            assert_eq!(
                duration(text),
                Some(Duration::from_millis(millis)),
                "{text}"
            );
        }
        for text in ["", "s", "5 s", "-1s", "5d", "99999999999999999999s"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }
}
