//! Parts of `multipart/form-data` bodies (RFC 7578), as far as the Admin API needs them.

/// One part.
#[derive(Debug, PartialEq)]
pub(super) struct Part<'a> {
    /// The field's name.
    pub(super) name: String,
    /// The content is JSON instead of text.
    pub(super) is_json: bool,
    pub(super) content: &'a [u8],
}

/// The boundary of a content type; empty when it has none.
pub(super) fn boundary(content_type: &str) -> String {
    parameter(content_type, "boundary").unwrap_or_default()
}

/// The parts of a body, at most `most`; `None` when it is broken.
pub(super) fn parts<'a>(body: &'a [u8], boundary: &str, most: usize) -> Option<Vec<Part<'a>>> {
    if boundary.is_empty() {
        return None;
    }
    let delimiter = format!("--{boundary}");
    let start = find(body, delimiter.as_bytes())?;
    let mut rest = body.get(start + delimiter.len()..)?;
    let between = format!("\r\n{delimiter}");
    let mut parts = Vec::new();
    while !rest.starts_with(b"--") && parts.len() < most {
        let part = rest.strip_prefix(b"\r\n")?;
        let end = find(part, between.as_bytes())?;
        parts.push(read(part.get(..end)?)?);
        rest = part.get(end + between.len()..)?;
    }
    Some(parts)
}

fn read(part: &[u8]) -> Option<Part<'_>> {
    let end = find(part, b"\r\n\r\n")?;
    let head = std::str::from_utf8(part.get(..end)?).ok()?;
    let mut name = None;
    let mut is_json = false;
    for line in head.split("\r\n") {
        let (header, value) = line.split_once(':')?;
        if header.eq_ignore_ascii_case("content-disposition") {
            name = parameter(value, "name");
        } else if header.eq_ignore_ascii_case("content-type") {
            is_json = value.trim().starts_with("application/json");
        }
    }
    Some(Part {
        name: name?,
        is_json,
        content: part.get(end + 4..)?,
    })
}

/// A parameter of a header value, with or without quotes.
fn parameter(value: &str, name: &str) -> Option<String> {
    value.split(';').skip(1).find_map(|parameter| {
        let (own, text) = parameter.split_once('=')?;
        let text = text.trim();
        let text = text
            .strip_prefix('"')
            .and_then(|text| text.strip_suffix('"'))
            .unwrap_or(text);
        own.trim()
            .eq_ignore_ascii_case(name)
            .then(|| text.to_owned())
    })
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    let first = needle.first()?;
    let mut from = 0;
    loop {
        // Looking for one byte first keeps a hostile body from being compared at every position.
        let rest = haystack.get(from..)?;
        let at = from + rest.iter().position(|byte| byte == first)?;
        if haystack.get(at..)?.starts_with(needle) {
            return Some(at);
        }
        from = at + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_names_and_contents() {
        let body = b"--x\r\nContent-Disposition: form-data; name=\"a[]\"\r\n\r\n1\r\n2\r\n--x\r\ncontent-disposition: form-data; name=b; filename=\"f\"\r\nContent-Type: application/json\r\n\r\n{}\r\n--x--\r\n";
        let parts = parts(body, "x", 10).unwrap();
        assert_eq!(parts.len(), 2);
        assert_eq!(
            (parts[0].name.as_str(), parts[0].content),
            ("a[]", b"1\r\n2".as_slice())
        );
        assert!(parts[1].is_json);
    }

    #[test]
    fn broken_bodies_have_no_parts() {
        assert_eq!(boundary("multipart/form-data; boundary=\"a b\""), "a b");
        assert_eq!(boundary("multipart/form-data"), "");
        for body in [
            "",
            "--x",
            "--x\r\n",
            "--x\r\nno colon\r\n\r\n1\r\n--x--",
            "--x\r\na: b\r\n\r\n1\r\n--x--",
        ] {
            assert_eq!(parts(body.as_bytes(), "x", 10), None, "{body:?}");
        }
        assert_eq!(parts(b"--x--", "x", 10).unwrap(), []);
        assert_eq!(parts(b"--x--", "", 10), None);
    }

    proptest::proptest! {
        #[test]
        fn no_body_panics(body in "(--x|\r\n|a|:|=|name=b|;|\"|content-disposition: ){0,24}") {
            let parts = parts(body.as_bytes(), "x", 10);
            proptest::prop_assert!(parts.is_none_or(|parts| parts.len() <= 10));
        }
    }
}
