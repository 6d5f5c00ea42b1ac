//! Fields of a `multipart/form-data` body (RFC 7578). Parts that are not touched keep their bytes.

/// One part, without the delimiters around it.
struct Part {
    name: Option<Vec<u8>>,
    /// Header lines, the empty line and the content.
    bytes: Vec<u8>,
}

/// A parsed body.
pub(super) struct Multipart {
    boundary: Vec<u8>,
    parts: Vec<Part>,
}

impl Multipart {
    /// Reads `body` with the boundary that `content_type` names; `None` when it has none or the body is
    /// broken. An empty body has no parts.
    pub(super) fn parse(content_type: &str, body: &[u8]) -> Option<Self> {
        let boundary = parameter(content_type, "boundary")?;
        let parts = if body.is_empty() {
            Vec::new()
        } else {
            parts(body, &boundary)?
        };
        Some(Self { boundary, parts })
    }

    pub(super) fn remove(&mut self, name: &[u8]) {
        self.parts.retain(|part| part.name.as_deref() != Some(name));
    }

    /// The field's content moves to a plain field of another name.
    pub(super) fn rename(&mut self, old: &[u8], new: &[u8]) {
        if old == new {
            return;
        }
        let Some(content) = self.content(old).map(<[u8]>::to_vec) else {
            return;
        };
        self.remove(new);
        self.set_first(old, new, &content);
    }

    pub(super) fn replace(&mut self, name: &[u8], value: &[u8]) {
        self.set_first(name, name, value);
    }

    pub(super) fn add(&mut self, name: &[u8], value: &[u8]) {
        if self.content(name).is_none() {
            self.parts.push(Part::plain(name, value));
        }
    }

    /// Writes the body.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        for part in &self.parts {
            body.extend_from_slice(b"--");
            body.extend_from_slice(&self.boundary);
            body.extend_from_slice(b"\r\n");
            body.extend_from_slice(&part.bytes);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"--");
        body.extend_from_slice(&self.boundary);
        body.extend_from_slice(b"--\r\n");
        body
    }

    fn content(&self, name: &[u8]) -> Option<&[u8]> {
        let mut parts = self.parts.iter();
        let part = parts.find(|part| part.name.as_deref() == Some(name))?;
        Some(part.content())
    }

    /// Puts a plain field in the place of the first one called `old` and drops the others.
    fn set_first(&mut self, old: &[u8], new: &[u8], value: &[u8]) {
        let mut value = Some(value);
        self.parts.retain_mut(|part| {
            if part.name.as_deref() != Some(old) {
                return true;
            }
            let Some(value) = value.take() else {
                return false;
            };
            *part = Part::plain(new, value);
            true
        });
    }
}

impl Part {
    fn plain(name: &[u8], value: &[u8]) -> Self {
        let mut bytes = b"Content-Disposition: form-data; name=\"".to_vec();
        for byte in name {
            // Escaped as browsers do (WHATWG HTML, multipart form data).
            match byte {
                b'"' => bytes.extend_from_slice(b"%22"),
                b'\r' => bytes.extend_from_slice(b"%0D"),
                b'\n' => bytes.extend_from_slice(b"%0A"),
                other => bytes.push(*other),
            }
        }
        bytes.extend_from_slice(b"\"\r\n\r\n");
        bytes.extend_from_slice(value);
        Self {
            name: Some(name.to_vec()),
            bytes,
        }
    }

    fn read(bytes: &[u8]) -> Self {
        let head = find(bytes, b"\r\n\r\n").and_then(|end| bytes.get(..end));
        let head = String::from_utf8_lossy(head.unwrap_or_default());
        let name = head.split("\r\n").find_map(|line| {
            let (name, value) = line.split_once(':')?;
            let is_disposition = name.eq_ignore_ascii_case("content-disposition");
            is_disposition.then(|| parameter(value, "name"))?
        });
        Self {
            name,
            bytes: bytes.to_vec(),
        }
    }

    fn content(&self) -> &[u8] {
        let start = find(&self.bytes, b"\r\n\r\n").map_or(self.bytes.len(), |end| end + 4);
        self.bytes.get(start..).unwrap_or_default()
    }
}

fn parts(body: &[u8], boundary: &[u8]) -> Option<Vec<Part>> {
    let delimiter = [b"\r\n--", boundary].concat();
    // A body may begin with the delimiter or with a preamble that nobody reads.
    let mut rest = match body.strip_prefix(delimiter.get(2..)?) {
        Some(rest) => rest,
        None => body.get(find(body, &delimiter)? + delimiter.len()..)?,
    };
    let mut parts = Vec::new();
    while !rest.starts_with(b"--") {
        let start = find(rest, b"\r\n")? + 2;
        let is_padding = |byte: &u8| matches!(byte, b' ' | b'\t');
        if !rest.get(..start - 2)?.iter().all(is_padding) {
            return None;
        }
        let content = rest.get(start..)?;
        let end = find(content, &delimiter)?;
        parts.push(Part::read(content.get(..end)?));
        rest = content.get(end + delimiter.len()..)?;
    }
    Some(parts)
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}

/// A parameter of a header value, without its quotes.
fn parameter(value: &str, name: &str) -> Option<Vec<u8>> {
    let parameter = value.split(';').skip(1).find_map(|parameter| {
        let (it, value) = parameter.split_once('=')?;
        it.trim().eq_ignore_ascii_case(name).then(|| value.trim())
    })?;
    let plain = parameter.trim_matches('"');
    (!plain.is_empty()).then(|| plain.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE: &str = "multipart/form-data; boundary=\"XX\"";
    const BODY: &str = "--XX\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n\
        --XX\r\nContent-Disposition: form-data; name=\"f\"; filename=\"f.txt\"\r\n\
        Content-Type: text/plain\r\n\r\nline\r\n--X\r\n--XX--\r\n";

    fn changed(body: &str, change: impl FnOnce(&mut Multipart)) -> String {
        let mut multipart = Multipart::parse(TYPE, body.as_bytes()).unwrap();
        change(&mut multipart);
        String::from_utf8(multipart.encode()).unwrap()
    }

    #[test]
    fn untouched_parts_keep_their_bytes() {
        assert_eq!(changed(BODY, |_| ()), BODY);
        assert_eq!(changed("", |_| ()), "--XX--\r\n");
        let preamble = format!("hello\r\n{BODY}epilogue");
        assert_eq!(changed(&preamble, |_| ()), BODY);
    }

    #[test]
    fn each_operation_does_what_its_name_says() {
        let plain = |name: &str, value: &str| {
            format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        };
        let file = BODY
            .split_at(
                BODY.find("--XX\r\nContent-Disposition: form-data; name=\"f\"")
                    .unwrap(),
            )
            .1;
        assert_eq!(changed(BODY, |it| it.remove(b"a")), file);
        assert_eq!(
            changed(BODY, |it| it.rename(b"a", b"b")),
            plain("b", "1") + file
        );
        assert_eq!(
            changed(BODY, |it| it.replace(b"a", b"2")),
            plain("a", "2") + file
        );
        assert_eq!(changed(BODY, |it| it.replace(b"z", b"2")), BODY);
        assert_eq!(changed(BODY, |it| it.add(b"a", b"2")), BODY);
        let added = BODY.replace("--XX--\r\n", &(plain("q%22", "2") + "--XX--\r\n"));
        assert_eq!(changed(BODY, |it| it.add(b"q\"", b"2")), added);
    }

    #[test]
    fn broken_bodies_are_not_understood() {
        for body in [
            "--YY\r\n\r\n--YY--",
            "--XX",
            "--XX\r\nno end",
            "--XXjunk\r\n\r\n--XX--",
        ] {
            assert!(Multipart::parse(TYPE, body.as_bytes()).is_none(), "{body}");
        }
        assert!(Multipart::parse("multipart/form-data", BODY.as_bytes()).is_none());
    }
}
