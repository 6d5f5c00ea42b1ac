//! Checks of texts: names, hosts, paths, tags, header names.

use std::borrow::Cow;
use std::net::Ipv4Addr;

use crate::schema::Complaint;

/// Bytes of a compiled route expression; larger ones are refused.
const REGEX_BYTES_MAX: usize = 1024 * 1024;

/// Kong's `utf8_name`.
pub(crate) fn name(text: &str) -> Complaint {
    let fine = |c: char| !c.is_ascii() || c.is_ascii_alphanumeric() || ".-_~".contains(c);
    (!text.chars().all(fine)).then(|| {
        format!(
            "invalid value '{text}': the only accepted ascii characters are alphanumerics or ., -, _, and ~"
        )
        .into()
    })
}

/// A tag: printable ASCII without `,` and `/`, or any UTF-8 beyond ASCII.
#[must_use]
pub fn tag(text: &str) -> Option<Cow<'static, str>> {
    let fine = |c: char| !c.is_ascii() || ((' '..='~').contains(&c) && c != ',' && c != '/');
    (!text.chars().all(fine)).then(|| {
        format!(
            "invalid tag '{text}': expected printable ascii (except `,` and `/`) or valid utf-8 sequences"
        )
        .into()
    })
}

pub(crate) fn header_name(text: &str) -> Complaint {
    (!is_header_name(text)).then(|| {
        format!("bad header name '{text}', allowed characters are A-Z, a-z, 0-9, '_', and '-'")
            .into()
    })
}

/// Text that can be sent as the value of a header.
pub(crate) fn header_value(text: &str) -> Complaint {
    let fine = |byte: u8| byte == b'\t' || (byte >= b' ' && byte != 0x7f);
    (!text.bytes().all(fine)).then(|| "must not contain control characters".into())
}

pub(crate) fn is_header_name(text: &str) -> bool {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    !text.is_empty() && text.bytes().all(fine)
}

/// A header name of a route condition.
pub(crate) fn route_header_name(text: &str) -> Complaint {
    if text.eq_ignore_ascii_case("host") {
        return Some(
            "cannot contain 'host' header, which must be specified in the 'hosts' attribute".into(),
        );
    }
    header_name(text)
}

pub(crate) fn is_method(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_uppercase())
}

/// The part of a URL before the colon.
pub(crate) fn is_scheme(text: &str) -> bool {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    text.starts_with(|first: char| first.is_ascii_alphanumeric()) && text.bytes().all(fine)
}

/// Why an address is not one.
enum Address {
    Hostname,
    Port,
    Ip,
}

/// Splits `host[:port]` like Kong: IPv4, IPv6 (brackets optional without port) or a host name.
/// Gives whether a port is there.
fn address(text: &str) -> Result<bool, Address> {
    if text.matches(':').count() > 1 {
        return ipv6(text);
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => {
            (host, Some(port))
        }
        Some(_) => return Err(Address::Hostname),
        None => (text, None),
    };
    if let Some(port) = port {
        check_port(port)?;
    }
    if !host.is_empty() && host.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        let octets = host.split('.').filter(|part| part.parse::<u8>().is_ok());
        let is_ipv4 = octets.count() == 4 && host.split('.').count() == 4;
        return if is_ipv4 || host.parse::<Ipv4Addr>().is_ok() {
            Ok(port.is_some())
        } else {
            Err(Address::Ip)
        };
    }
    if is_hostname(host) {
        Ok(port.is_some())
    } else {
        Err(Address::Hostname)
    }
}

fn ipv6(text: &str) -> Result<bool, Address> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or(Address::Ip)?;
            match after.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if after.is_empty() => (host, None),
                None => return Err(Address::Ip),
            }
        }
        None => (text, None),
    };
    if let Some(port) = port {
        check_port(port)?;
    }
    match host.parse::<std::net::Ipv6Addr>() {
        Ok(_) => Ok(port.is_some()),
        Err(_) => Err(Address::Ip),
    }
}

fn check_port(port: &str) -> Result<(), Address> {
    match port.parse::<u16>() {
        Ok(_) => Ok(()),
        Err(_) => Err(Address::Port),
    }
}

fn is_hostname(host: &str) -> bool {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let host = host.strip_suffix('.').unwrap_or(host);
    !host.is_empty()
        && host.bytes().all(fine)
        && host
            .split('.')
            .all(|label| !label.is_empty() && !label.ends_with('-'))
}

/// Host name or IP address without port.
pub(crate) fn host(text: &str) -> Complaint {
    match address(text) {
        Ok(false) => None,
        Ok(true) | Err(Address::Port) => Some("must not have a port".into()),
        Err(Address::Hostname | Address::Ip) => Some(format!("invalid value: {text}").into()),
    }
}

/// Host name or IP address, with or without port.
pub(crate) fn host_and_port(text: &str) -> Complaint {
    match address(text) {
        Ok(_) => None,
        Err(Address::Port) => Some("invalid port number".into()),
        Err(Address::Hostname | Address::Ip) => Some(format!("invalid hostname: {text}").into()),
    }
}

/// The name of an upstream.
#[must_use]
pub fn upstream_name(text: &str) -> Option<Cow<'static, str>> {
    let is_ip = text.matches(':').count() > 1
        || text
            .split(':')
            .next()
            .is_some_and(|host| host.parse::<Ipv4Addr>().is_ok());
    let reason = match address(text) {
        Err(_) => "must be a valid hostname",
        Ok(_) if is_ip => "no ip addresses allowed",
        Ok(true) => "no port allowed",
        Ok(false) => return None,
    };
    Some(format!("Invalid name ('{text}'); {reason}").into())
}

/// The normal form of a target: with port, IPv6 addresses written out and in brackets.
#[must_use]
pub fn target(text: &str) -> Option<String> {
    const PORT_DEFAULT: &str = "8000";
    let has_port = address(text).ok()?;
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if has_port => (host, port),
        _ => (text, PORT_DEFAULT),
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let port: u16 = port.parse().ok()?;
    match bare.parse::<std::net::Ipv6Addr>() {
        Ok(address) => {
            let groups = address.segments().map(|group| format!("{group:04x}"));
            Some(format!("[{}]:{port}", groups.join(":")))
        }
        Err(_) => Some(format!("{host}:{port}")),
    }
}

/// A URL that can be called: `http` or `https`, a host, and neither user information nor a fragment.
pub(crate) fn url(text: &str) -> Complaint {
    let (scheme, rest) = match text.split_once("//") {
        Some((scheme, rest)) => (scheme.strip_suffix(':').unwrap_or_default(), rest),
        None => return Some("missing host in url".into()),
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
    if authority.is_empty() {
        return Some("missing host in url".into());
    }
    if scheme.is_empty() {
        return Some("missing scheme in url".into());
    }
    let is_http = ["http", "https"]
        .iter()
        .any(|it| it.eq_ignore_ascii_case(scheme));
    if !is_http {
        return Some("only http and https URLs can be called".into());
    }
    let port = authority.rsplit_once(':').map(|(_, port)| port);
    // An address of IPv6 stands in brackets, as in every URL.
    let is_bare_ipv6 = authority.matches(':').count() > 1 && !authority.starts_with('[');
    if is_bare_ipv6 || port == Some("0") || host_and_port(authority).is_some() {
        return Some("invalid host in url".into());
    }
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/%!$&'()*+,;=:@?".contains(&byte);
    (!path.bytes().all(fine)).then(|| "invalid path in url".into())
}

/// A token of HTTP (RFC 2616 section 2.2).
pub(crate) fn cookie_name(text: &str) -> Complaint {
    const SEPARATORS: &[u8] = b" \t()<>@,;:\\\"/?={}[]";
    let fine = |byte: u8| byte.is_ascii_graphic() && !SEPARATORS.contains(&byte);
    (!text.bytes().all(fine)).then(|| {
        "contains one or more invalid characters. ASCII control characters (0-31;127), space, tab and the characters ()<>@,;:\\\"/?={}[] are not allowed.".into()
    })
}

/// A host of a route: at most one wildcard as leftmost or rightmost label, port allowed.
pub fn route_host(text: &str) -> Complaint {
    if text.matches('*').count() > 1 {
        return Some("invalid wildcard: must have at most one wildcard".into());
    }
    let without_port = match text.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => text,
    };
    if text.contains('*') && !without_port.starts_with("*.") && !without_port.ends_with(".*") {
        return Some("invalid wildcard: must be placed at leftmost or rightmost label".into());
    }
    match address(&text.replace('*', "abc")) {
        Ok(_) => None,
        Err(Address::Port) => Some("invalid port number".into()),
        Err(Address::Hostname) => Some(format!("invalid hostname: {text}").into()),
        Err(Address::Ip) if text.matches(':').count() > 1 => {
            Some(format!("invalid ipv6 address: {text}").into())
        }
        Err(Address::Ip) => Some(format!("invalid ipv4 address: {text}").into()),
    }
}

/// A server name: host name without port.
pub(crate) fn server_name(text: &str) -> Complaint {
    let is_ip = text.matches(':').count() > 1
        || (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.'));
    match address(text) {
        Ok(_) | Err(Address::Port) if is_ip => Some("must not be an IP".into()),
        Ok(false) => None,
        Ok(true) | Err(Address::Port) => Some("must not have a port".into()),
        Err(Address::Hostname | Address::Ip) => Some(format!("invalid value: {text}").into()),
    }
}

/// A server name with at most one leading or trailing wildcard.
pub(crate) fn wildcard_host(text: &str) -> Complaint {
    match text.find('*') {
        None => server_name(text),
        Some(at) if at != 0 && at + 1 != text.len() => {
            Some("wildcard must be leftmost or rightmost character".into())
        }
        Some(_) if text.matches('*').count() > 1 => {
            Some("only one wildcard must be specified".into())
        }
        Some(_) => server_name(&text.replace('*', "wildcard")),
    }
}

/// An IP address or CIDR block.
pub(crate) fn ip_or_cidr(text: &str) -> Complaint {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let longest = match address.parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V4(_)) => Some(32),
        Ok(std::net::IpAddr::V6(_)) => Some(128),
        Err(_) => None,
    };
    let fine = longest.is_some_and(|longest| {
        prefix.is_none_or(|prefix| prefix.parse::<u8>().is_ok_and(|bits| bits <= longest))
    });
    (!fine).then(|| format!("invalid ip or cidr range: '{text}'").into())
}

/// What a percent sign must be followed by; gives the first one that is not.
fn bad_escape(path: &str) -> Option<Cow<'static, str>> {
    let mut rest = path;
    while let Some((_, after)) = rest.split_once('%') {
        let digits: String = after.chars().take(2).collect();
        if digits.len() != 2 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Some(format!("invalid url-encoded value: '%{digits}'").into());
        }
        rest = after;
    }
    None
}

/// Path of a service: no empty segments, only characters RFC 3986 allows in a path.
pub(crate) fn path(text: &str) -> Complaint {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b".-_~/%!$&'()*+,;=:@".contains(&byte);
    if text.contains("//") {
        return Some("must not have empty segments".into());
    }
    if !text.bytes().all(fine) {
        return Some(
            format!(
                "invalid path: '{text}' (characters outside of the reserved list of RFC 3986 found)"
            )
            .into(),
        );
    }
    bad_escape(text)
}

/// Path of a route: plain and normalised, or `~` and a regular expression.
pub(crate) fn route_path(text: &str) -> Complaint {
    if let Some(expression) = text.strip_prefix('~') {
        if !expression.starts_with('/') {
            return Some("should start with: / (fixed path) or ~/ (regex path)".into());
        }
        return match regex(expression) {
            // What another dialect knows is reported for the whole entity, see `dialect`.
            Ok(()) | Err(RegexProblem::Dialect(_)) => None,
            Err(RegexProblem::Syntax(detail)) => {
                Some(format!("invalid regex: '{expression}' (PCRE returned: {detail})").into())
            }
        };
    }
    if !text.starts_with('/') {
        return Some("should start with: / (fixed path) or ~/ (regex path)".into());
    }
    if text.contains("//") {
        return Some("must not have empty segments".into());
    }
    if let Some(complaint) = bad_escape(text) {
        return Some(complaint);
    }
    let normal = normalise(text);
    (normal != text).then(|| format!("non-normalized path, consider use '{normal}' instead").into())
}

/// What the router's regular expressions do not know although PCRE does.
pub(crate) fn dialect(expression: &str) -> Option<String> {
    match regex(expression) {
        Err(RegexProblem::Dialect(detail)) => Some(detail),
        Ok(()) | Err(RegexProblem::Syntax(_)) => None,
    }
}

/// What keeps the text from being a regular expression of the router's.
pub(crate) fn regex_problem(expression: &str) -> Option<String> {
    match regex(expression) {
        Err(RegexProblem::Syntax(detail) | RegexProblem::Dialect(detail)) => Some(detail),
        Ok(()) => None,
    }
}

/// Whether the text is a regular expression that can be matched in linear time.
pub(crate) fn is_regex(text: &str) -> bool {
    regex(text).is_ok()
}

enum RegexProblem {
    Syntax(String),
    Dialect(String),
}

fn regex(expression: &str) -> Result<(), RegexProblem> {
    let built = regex::RegexBuilder::new(expression)
        .size_limit(REGEX_BYTES_MAX)
        .build();
    match built {
        Ok(_) => Ok(()),
        Err(regex::Error::Syntax(text)) => {
            // The last line names the problem, the ones before draw a picture of it.
            let detail = text.lines().last().unwrap_or_default();
            let detail = detail.strip_prefix("error: ").unwrap_or(detail).to_owned();
            if text.contains("look-around") || text.contains("backreference") {
                Err(RegexProblem::Dialect(detail))
            } else {
                Err(RegexProblem::Syntax(detail))
            }
        }
        Err(error) => Err(RegexProblem::Dialect(error.to_string())),
    }
}

/// Kong's normal form of a plain path: unreserved characters decoded, reserved ones encoded in upper
/// case, dot segments removed, slashes merged.
fn normalise(path: &str) -> String {
    let decoded = decode_unreserved(path);
    let text = String::from_utf8_lossy(&decoded);
    let mut segments: Vec<&str> = Vec::new();
    let mut directory = false;
    for segment in text.split('/').skip(1) {
        directory = matches!(segment, "" | "." | "..");
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            other => segments.push(other),
        }
    }
    let mut normal = String::with_capacity(text.len());
    for segment in &segments {
        normal.push('/');
        normal.push_str(segment);
    }
    if directory || segments.is_empty() {
        normal.push('/');
    }
    normal
}

fn decode_unreserved(path: &str) -> Vec<u8> {
    const RESERVED: &[u8] = b"!*'();:@&=+$,/?%#[]";
    let mut decoded = Vec::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut ahead = bytes.clone();
        let hex = ahead.next().zip(ahead.next()).and_then(|(high, low)| {
            let high = char::from(high).to_digit(16)?;
            let low = char::from(low).to_digit(16)?;
            u8::try_from(high * 16 + low).ok()
        });
        match hex {
            Some(value) if RESERVED.contains(&value) => {
                decoded.extend_from_slice(format!("%{value:02X}").as_bytes());
                bytes = ahead;
            }
            Some(value) => {
                decoded.push(value);
                bytes = ahead;
            }
            None => decoded.push(b'%'),
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(complaint: Complaint) -> String {
        complaint.map(Cow::into_owned).unwrap_or_default()
    }

    #[test]
    fn hosts() {
        for good in [
            "a",
            "a.b",
            "a.b.",
            "_x",
            "1.2.3.4",
            "::1",
            "[::1]",
            "localhost",
        ] {
            assert_eq!(text(host(good)), "", "{good}");
        }
        for with_port in ["a:1", "1.2.3.4:80", "[::1]:80", "a:70000"] {
            assert_eq!(text(host(with_port)), "must not have a port");
        }
        for bad in ["a b", "a..b", "a-.b", "1.2.3.400", "x y", "é"] {
            assert_eq!(text(host(bad)), format!("invalid value: {bad}"));
        }
    }

    #[test]
    fn urls() {
        for good in [
            "http://a",
            "HTTPS://a.b:8443/x?y=%20",
            "http://[::1]:9411/api/v2/spans",
        ] {
            assert_eq!(text(url(good)), "", "{good}");
        }
        for (bad, message) in [
            ("a", "missing host in url"),
            ("http:///x", "missing host in url"),
            ("//a/x", "missing scheme in url"),
            ("ftp://a", "only http and https URLs can be called"),
            ("http://u:p@a/", "invalid host in url"),
            ("http://::1/", "invalid host in url"),
            ("http://a:0/", "invalid host in url"),
            ("http://a:70000/", "invalid host in url"),
            ("http://a/#f", "invalid path in url"),
            ("http://a/ b", "invalid path in url"),
        ] {
            assert_eq!(text(url(bad)), message, "{bad}");
        }
    }

    #[test]
    fn hosts_of_routes() {
        for good in ["*.a.b", "a.*", "a.b:8000", "*.a:80", "a.*:80", "1.2.3.4"] {
            assert_eq!(text(route_host(good)), "", "{good}");
        }
        assert!(text(route_host("*.a.*")).contains("at most one wildcard"));
        assert!(text(route_host("a*.b")).contains("leftmost or rightmost"));
        assert_eq!(text(route_host("a b")), "invalid hostname: a b");
        assert_eq!(text(route_host("foo:abc")), "invalid hostname: foo:abc");
        assert_eq!(text(route_host("a:70000")), "invalid port number");
    }

    #[test]
    fn paths_of_services() {
        assert_eq!(text(path("/a/%20b")), "");
        assert_eq!(text(path("/a//b")), "must not have empty segments");
        assert_eq!(text(path("/%zz")), "invalid url-encoded value: '%zz'");
        assert!(text(path("/a b")).starts_with("invalid path: '/a b'"));
    }

    #[test]
    fn paths_of_routes() {
        for good in [
            "/",
            "/a",
            "/a/",
            "/a b",
            "/caf\u{e9}",
            "~/a/(?<id>\\d+)$",
            "/a%2Fb",
        ] {
            assert_eq!(text(route_path(good)), "", "{good}");
        }
        let start = "should start with: / (fixed path) or ~/ (regex path)";
        assert_eq!(text(route_path("foo")), start);
        assert_eq!(text(route_path("~foo")), start);
        let hint = "non-normalized path, consider use '/b' instead";
        assert_eq!(text(route_path("/a/../b")), hint);
        assert_eq!(text(route_path("/%62")), hint);
        assert_eq!(
            text(route_path("/a%2fb")),
            "non-normalized path, consider use '/a%2Fb' instead"
        );
        assert!(text(route_path("~/a[b")).starts_with("invalid regex: '/a[b' (PCRE returned: "));
        assert_eq!(text(route_path("~/a(?=b)")), "");
        assert!(dialect("/a(?=b)").is_some());
    }

    #[test]
    fn server_names_and_blocks() {
        for good in ["*.a.b", "a.*", "*a.b"] {
            assert_eq!(text(wildcard_host(good)), "", "{good}");
        }
        let place = "wildcard must be leftmost or rightmost character";
        assert_eq!(text(wildcard_host("a.*.b.*")), place);
        let count = "only one wildcard must be specified";
        assert_eq!(text(wildcard_host("*.a.*")), count);
        assert_eq!(text(cookie_name("a.b!")), "");
        for bad in ["a b", "a;b", "a=", "\u{e9}", "\u{7f}"] {
            assert!(text(cookie_name(bad)).starts_with("contains one or more"));
        }
        assert_eq!(text(server_name("1.2.3.4")), "must not be an IP");
        assert_eq!(text(ip_or_cidr("10.0.0.0/8")), "");
        assert_eq!(
            text(ip_or_cidr("1.2.3")),
            "invalid ip or cidr range: '1.2.3'"
        );
        assert_eq!(
            text(ip_or_cidr("::/129")),
            "invalid ip or cidr range: '::/129'"
        );
    }
}
