//! Values of the replaced products' settings in our own words.

use super::value;

/// A variable of a replaced product.
pub struct Foreign<'a> {
    /// Its value.
    pub text: &'a str,
    /// Kong's working directory, which relative paths start from.
    pub prefix: &'a str,
}

/// Gives the value of our setting, or what is wrong.
pub type Translate = fn(&Foreign<'_>) -> Result<String, String>;

/// nginx's levels, and the first one of Keycloak's list (`info,org.keycloak:debug`).
pub(super) fn level(given: &Foreign<'_>) -> Result<String, String> {
    let root = given.text.split(',').map(str::trim);
    let mut root = root.filter(|item| !item.contains(':'));
    let level = match root.next().unwrap_or("info").to_ascii_lowercase().as_str() {
        "trace" | "all" => "trace",
        "debug" => "debug",
        "info" | "notice" => "info",
        "warn" | "warning" => "warn",
        "error" | "crit" | "alert" | "emerg" | "fatal" | "off" => "error",
        other => return Err(format!("unknown log level {other:?}")),
    };
    Ok(level.to_owned())
}

/// A path, `off`, or either with the name of a log format behind it, which is ours anyway.
pub(super) fn log_path(given: &Foreign<'_>) -> Result<String, String> {
    let path = given.text.split_whitespace().next().unwrap_or("off");
    if path == "off" {
        return Ok(String::new());
    }
    if path.starts_with("syslog:") {
        return Err("syslog is not supported: expected a path, /dev/stdout or off".to_owned());
    }
    if path.starts_with('/') {
        return Ok(path.to_owned());
    }
    Ok(format!("{}/{path}", given.prefix.trim_end_matches('/')))
}

/// The name of a log format behind a path: Kong's own, or the platform's for every other.
pub(super) fn log_format(given: &Foreign<'_>) -> Result<String, String> {
    let format = given.text.split_whitespace().nth(1);
    let is_kongs = format.is_some_and(|name| name == "kong_log_format");
    Ok(if is_kongs { "kong" } else { "platform" }.to_owned())
}

/// A time as nginx writes it; of two, the first.
pub(super) fn time(given: &Foreign<'_>) -> Result<String, String> {
    let expected = || {
        format!(
            "expected a time such as 500ms, 60s or 1h30m, not {:?}",
            given.text
        )
    };
    let text = given.text.split_whitespace().next().unwrap_or_default();
    if text.is_empty() {
        return Err(expected());
    }
    let mut rest = text;
    let mut millis: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at(letters);
        let factor: u64 = match unit {
            "ms" => 1,
            "" | "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 604_800_000,
            "M" => 2_592_000_000,
            "y" => 31_536_000_000,
            _ => return Err(expected()),
        };
        let number: u64 = number.parse().map_err(|_| expected())?;
        let part = number.checked_mul(factor).ok_or_else(expected)?;
        millis = millis.checked_add(part).ok_or_else(expected)?;
        rest = after;
    }
    Ok(format!("{millis}ms"))
}

/// Seconds without a unit, of which none is a word of its own.
pub(super) fn whole_seconds(given: &Foreign<'_>) -> Result<String, String> {
    match given.text.parse::<f64>() {
        Ok(seconds) if (0.0..=1e9).contains(&seconds) => {
            let duration = std::time::Duration::from_secs_f64(seconds);
            Ok(format!("{}ms", duration.as_millis()))
        }
        _ => Err(format!("expected seconds, not {:?}", given.text)),
    }
}

/// Connections of a worker; `auto` is as many as one thread serves at most.
pub(super) fn connections(given: &Foreign<'_>) -> Result<String, String> {
    Ok(match given.text {
        "auto" => "16384".to_owned(),
        number => number.to_owned(),
    })
}

/// A boolean as a word.
pub(super) fn switch(given: &Foreign<'_>) -> Result<String, String> {
    match value::boolean(given.text) {
        Some(true) => Ok("on".to_owned()),
        Some(false) => Ok("off".to_owned()),
        None => Err(format!("expected on or off, not {:?}", given.text)),
    }
}

pub(super) fn millis(given: &Foreign<'_>) -> Result<String, String> {
    match given.text.parse::<u64>() {
        Ok(millis) => Ok(format!("{millis}ms")),
        Err(_) => Err(format!("expected milliseconds, not {:?}", given.text)),
    }
}

/// Seconds, which may have a fraction.
pub(super) fn seconds(given: &Foreign<'_>) -> Result<String, String> {
    match given.text.parse::<f64>() {
        Ok(seconds) if (0.0..=1e9).contains(&seconds) => {
            let duration = std::time::Duration::from_secs_f64(seconds);
            // Zero would ask without a pause.
            Ok(format!("{}ms", duration.as_millis().max(100)))
        }
        _ => Err(format!("expected seconds, not {:?}", given.text)),
    }
}

/// Seconds, which may have a fraction and may be none.
pub(super) fn ttl(given: &Foreign<'_>) -> Result<String, String> {
    match given.text.parse::<f64>() {
        Ok(seconds) if (0.0..=1e9).contains(&seconds) => {
            let duration = std::time::Duration::from_secs_f64(seconds);
            Ok(format!("{}ms", duration.as_millis()))
        }
        _ => Err(format!("expected seconds, not {:?}", given.text)),
    }
}

/// Words that Kong takes in either case.
pub(super) fn upper(given: &Foreign<'_>) -> Result<String, String> {
    Ok(given.text.to_ascii_uppercase())
}

pub(super) fn consistency(given: &Foreign<'_>) -> Result<String, String> {
    match given.text {
        "strict" => Ok("true".to_owned()),
        "eventual" => Ok("false".to_owned()),
        other => Err(format!("expected strict or eventual, not {other:?}")),
    }
}

/// `auto` is one thread for each core.
pub(super) fn workers(given: &Foreign<'_>) -> Result<String, String> {
    Ok(match given.text {
        "auto" => "0".to_owned(),
        number => number.to_owned(),
    })
}

/// `off` stands for none, in lists.
pub(super) fn list_or_off(given: &Foreign<'_>) -> Result<String, String> {
    Ok(match given.text {
        "off" => String::new(),
        list => list.to_owned(),
    })
}

/// Kong's names of the headers it adds, whatever their case.
pub(super) fn headers(given: &Foreign<'_>) -> Result<String, String> {
    let named = |item: &str| {
        // Those of requests are among them.
        let known = super::table::HEADERS.iter();
        let mut known = known.filter(|known| known.eq_ignore_ascii_case(item));
        known.next().map_or(item, |known| *known).to_owned()
    };
    let items = value::list(given.text).filter(|item| *item != "off");
    Ok(items.map(named).collect::<Vec<_>>().join(","))
}

/// The second word of `n size`: bytes of one line.
pub(super) fn buffer_line(given: &Foreign<'_>) -> Result<String, String> {
    buffers(given.text).map(|(_, size)| size.to_string())
}

/// Both words of `n size`: bytes of all lines.
pub(super) fn buffer_total(given: &Foreign<'_>) -> Result<String, String> {
    let (number, size) = buffers(given.text)?;
    Ok(number.saturating_mul(size).to_string())
}

fn buffers(text: &str) -> Result<(u64, u64), String> {
    let expected = || format!("expected a number and a size such as 4 8k, not {text:?}");
    let mut words = text.split_whitespace();
    let number = words.next().and_then(|word| word.parse().ok());
    let size = words.next().and_then(bytes);
    match (number, size, words.next()) {
        (Some(number), Some(size), None) => Ok((number, size)),
        _ => Err(expected()),
    }
}

/// A size as nginx writes it.
pub(super) fn size(given: &Foreign<'_>) -> Result<String, String> {
    match bytes(given.text) {
        Some(bytes) => Ok(bytes.to_string()),
        None => Err(format!(
            "expected a size such as 8k or 4m, not {:?}",
            given.text
        )),
    }
}

/// A size as nginx writes it where gigabytes have a word.
pub(super) fn large_size(given: &Foreign<'_>) -> Result<String, String> {
    let gigabytes = given.text.strip_suffix(['g', 'G']);
    let gigabytes = gigabytes.and_then(|text| text.parse::<u64>().ok());
    match gigabytes.and_then(|number| number.checked_mul(1024 * 1024 * 1024)) {
        Some(bytes) => Ok(bytes.to_string()),
        None => size(given),
    }
}

fn bytes(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let factor = match unit {
        "" => 1,
        "k" | "K" => 1024,
        "m" | "M" => 1024 * 1024,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// Connections kept for an upstream; NONE is none.
pub(super) fn keepalive(given: &Foreign<'_>) -> Result<String, String> {
    Ok(match given.text {
        "NONE" | "none" => "0".to_owned(),
        number => number.to_owned(),
    })
}

/// A port on every address.
pub(super) fn port(given: &Foreign<'_>) -> Result<String, String> {
    match given.text.parse::<u16>() {
        Ok(port) => Ok(format!("0.0.0.0:{port}")),
        Err(_) => Err(format!("expected a port, not {:?}", given.text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(translate: Translate, text: &str) -> Result<String, String> {
        translate(&Foreign {
            text,
            prefix: "/kong/",
        })
    }

    #[test]
    fn values_are_translated() {
        for (translate, text, ours) in [
            (level as Translate, "notice", "info"),
            (level, "emerg", "error"),
            (level, "INFO,org.keycloak:debug", "info"),
            (log_path, "/dev/stdout log_proxy_json", "/dev/stdout"),
            (log_path, "logs/access.log basic", "/kong/logs/access.log"),
            (log_path, "off", ""),
            (log_format, "/dev/stdout kong_log_format", "kong"),
            (log_format, "/dev/stdout log_proxy_json", "platform"),
            (log_format, "off", "platform"),
            (time, "60", "60000ms"),
            (time, "75s 60s", "75000ms"),
            (time, "1h30m", "5400000ms"),
            (time, "500ms", "500ms"),
            (time, "0", "0ms"),
            (whole_seconds, "0", "0ms"),
            (whole_seconds, "60", "60000ms"),
            (connections, "auto", "16384"),
            (switch, "on", "on"),
            (switch, "FALSE", "off"),
            (large_size, "2g", "2147483648"),
            (large_size, "1k", "1024"),
            (millis, "5000", "5000ms"),
            (seconds, "0.5", "500ms"),
            (seconds, "10", "10000ms"),
            (seconds, "0", "100ms"),
            (ttl, "0", "0ms"),
            (ttl, "1.5", "1500ms"),
            (upper, "last,srv,A", "LAST,SRV,A"),
            (consistency, "strict", "true"),
            (workers, "auto", "0"),
            (list_or_off, "off", ""),
            (
                headers,
                "Server_Tokens, x-kong-request-id",
                "server_tokens,X-Kong-Request-Id",
            ),
            (headers, "off", ""),
            (buffer_line, "8 64k", "65536"),
            (buffer_total, "8 64k", "524288"),
            (size, "4m", "4194304"),
            (keepalive, "NONE", "0"),
            (keepalive, "60", "60"),
            (port, "8080", "0.0.0.0:8080"),
        ] {
            assert_eq!(said(translate, text), Ok(ours.to_owned()), "{text}");
        }
        for (translate, text) in [
            (level as Translate, "loud"),
            (log_path, "syslog:server=x"),
            (millis, "5s"),
            (time, ""),
            (time, "s"),
            (time, "5x"),
            (time, "-5"),
            (time, "99999999999999999999"),
            (whole_seconds, "1m"),
            (switch, "auto"),
            (large_size, "1t"),
            (large_size, "99999999999999999999g"),
            (seconds, "-1"),
            (seconds, "NaN"),
            (ttl, "30s"),
            (consistency, "maybe"),
            (buffer_line, "8"),
            (buffer_total, "8 1g"),
            (size, "99999999999999999999k"),
            (port, "http"),
        ] {
            assert!(said(translate, text).is_err(), "{text}");
        }
    }
}
