//! The table. In a request `¶` is the end of a line. The outcome is the statuses, then `+` where the
//! connection serves another request, `.` where it ends, `?` where either is right, `~` where the request
//! is not complete; then what reaches the upstream, separated by `;`, `=` for what the first column says
//! it is.

use super::{Row, Then};

/// Every row.
pub(super) fn rows() -> Vec<Row> {
    let tables = [
        LENGTHS,
        CODINGS,
        CHUNKS,
        LINES,
        REQUEST_LINES,
        TARGETS,
        HOSTS,
        GUARDED,
        CONNECTIONS,
        PIPELINES,
    ];
    let fixed = tables.into_iter().flatten();
    let fixed = fixed.map(|(name, text, outcome)| {
        let bytes = text.replace('¶', "\r\n").into_bytes();
        row(name, bytes, outcome)
    });
    fixed.chain(made()).collect()
}

fn row(name: &str, bytes: Vec<u8>, outcome: &str) -> Row {
    let (statuses, seen) = outcome.split_once(": ").unwrap_or((outcome, ""));
    let mut words: Vec<_> = statuses.split(' ').collect();
    let then = match words.pop() {
        Some("+") => Then::Goes,
        Some(".") => Then::Ends,
        Some("?") => Then::Either,
        Some("~") => Then::Waits,
        other => panic!("{name}: {other:?}"),
    };
    let seen = seen.split("; ").filter(|it| !it.is_empty());
    Row {
        name: name.to_owned(),
        bytes,
        statuses: words.iter().map(|it| it.parse().unwrap()).collect(),
        then,
        // A request without a body ends with a space.
        seen: seen.map(|it| it.replace('_', "")).collect(),
    }
}

type Table = &'static [(&'static str, &'static str, &'static str)];

const LENGTHS: Table = &[
    (
        "length",
        "POST /open/a HTTP/1.1¶Host: a¶Content-Length: 3¶¶abc",
        "200 +: POST /o/a abc",
    ),
    (
        "length 0",
        "POST /open/a HTTP/1.1¶Host: a¶Content-Length: 0¶¶",
        "200 +: POST /o/a _",
    ),
    (
        "length with zeros",
        "POST /open/a HTTP/1.1¶Host: a¶Content-Length: 0003¶¶abc",
        "200 +: POST /o/a abc",
    ),
    (
        "length between tabs",
        "POST /open/a HTTP/1.1¶Host: a¶Content-Length:\t 3 \t¶¶abc",
        "200 +: POST /o/a abc",
    ),
    (
        "length without space",
        "POST /open/a HTTP/1.1¶Host: a¶Content-Length:3¶¶abc",
        "200 +: POST /o/a abc",
    ),
    (
        "length in capitals",
        "POST /open/a HTTP/1.1¶Host: a¶CONTENT-LENGTH: 3¶¶abc",
        "200 +: POST /o/a abc",
    ),
    (
        "length of a GET",
        "GET /open/a HTTP/1.1¶Host: a¶Content-Length: 3¶¶abc",
        "200 +: GET /o/a abc",
    ),
    (
        "length 0 of a GET",
        "GET /open/a HTTP/1.1¶Host: a¶Content-Length: 0¶¶",
        "200 +: GET /o/a _",
    ),
    (
        "length of a HEAD",
        "HEAD /open/a HTTP/1.1¶Host: a¶Content-Length: 3¶¶abc",
        "200 +: HEAD /o/a abc",
    ),
    (
        "length of a DELETE",
        "DELETE /open/a HTTP/1.1¶Host: a¶Content-Length: 3¶¶abc",
        "200 +: DELETE /o/a abc",
    ),
    (
        "length in HTTP/1.0",
        "POST /open/a HTTP/1.0¶Content-Length: 3¶¶abc",
        "200 .: POST /o/a abc",
    ),
    (
        "no length",
        "POST /open/a HTTP/1.1¶Host: a¶¶",
        "200 +: POST /o/a _",
    ),
    (
        "plus",
        "POST /open/a HTTP/1.1¶Host: a¶Content-Length: +3¶¶abc",
        "400 .",
    ),
    (
        "minus",
        "POST /open/a HTTP/1.1¶Host: a¶Content-Length: -3¶¶abc",
        "400 .",
    ),
    (
        "minus 0",
        "POST /open/a HTTP/1.1¶Host: a¶Content-Length: -0¶¶abc",
        "400 .",
    ),
    (
        "two numbers",
        "POST /open/a HTTP/1.1¶Host: a¶Content-Length: 3 3¶¶abc",
        "400 .",
    ),
    (
        "list of lengths",
        "POST /open/a HTTP/1.1¶Host: a¶Content-Length: 3, 3¶¶abc",
        "400 .",
    ),
    (
        "list with nothing",
        "POST /open/a HTTP/1.1¶Host: a¶Content-Length: 3,¶¶abc",
        "400 .",
    ),
    (
        "hexadecimal length",
        "POST /open/a HTTP/1.1¶Host: a¶Content-Length: 0x3¶¶abc",
        "400 .",
    ),
    (
        "length with letters",
        "POST /open/a HTTP/1.1¶Host: a¶Content-Length: 3abc¶¶abc",
        "400 .",
    ),
    (
        "length with parameters",
        "POST /open/a HTTP/1.1¶Host: a¶Content-Length: 3;¶¶abc",
        "400 .",
    ),
    (
        "fraction",
        "POST /open/a HTTP/1.1¶Host: a¶Content-Length: 3.0¶¶abc",
        "400 .",
    ),
    (
        "exponent",
        "POST /open/a HTTP/1.1¶Host: a¶Content-Length: 1e3¶¶abc",
        "400 .",
    ),
    (
        "empty length",
        "POST /open/a HTTP/1.1¶Host: a¶Content-Length:¶¶abc",
        "400 .",
    ),
    (
        "quoted length",
        "POST /open/a HTTP/1.1¶Host: a¶Content-Length: \"3\"¶¶abc",
        "400 .",
    ),
    (
        "digits of elsewhere",
        "POST /open/a HTTP/1.1¶Host: a¶Content-Length: \u{663}¶¶abc",
        "400 .",
    ),
    (
        "length over 64 bits",
        "POST /open/a HTTP/1.1¶Host: a¶Content-Length: 18446744073709551619¶¶abc",
        "400 .",
    ),
    (
        "19 digits",
        "POST /open/a HTTP/1.1¶Host: a¶Content-Length: 9999999999999999999¶¶abc",
        "400 .",
    ),
    (
        "more than is allowed",
        "POST /open/a HTTP/1.1¶Host: a¶Content-Length: 999999999999999999¶¶abc",
        "413 .",
    ),
    (
        "two equal lengths",
        "POST /open/a HTTP/1.1¶Host: a¶Content-Length: 3¶Content-Length: 3¶¶abc",
        "400 .",
    ),
    (
        "two lengths",
        "POST /open/a HTTP/1.1¶Host: a¶Content-Length: 3¶Content-Length: 0¶¶abc",
        "400 .",
    ),
    (
        "folded length",
        "POST /open/a HTTP/1.1¶Host: a¶Content-Length:¶ 3¶¶abc",
        "400 .",
    ),
    (
        "length with NUL",
        "POST /open/a HTTP/1.1¶Host: a¶Content-Length: 3\0¶¶abc",
        "400 .",
    ),
    (
        "space before the colon",
        "POST /open/a HTTP/1.1¶Host: a¶Content-Length : 3¶¶abc",
        "400 .",
    ),
    (
        "another name",
        "POST /open/a HTTP/1.1¶Host: a¶Content_Length: 3¶¶abc¶",
        "200 400 .: POST /o/a _",
    ),
    (
        "half a body",
        "POST /open/a HTTP/1.1¶Host: a¶Content-Length: 9¶¶abc",
        "~",
    ),
    (
        "a request within a body",
        "POST /open/a HTTP/1.1¶Host: a¶Content-Length: 14¶¶GET /open/evil",
        "200 +: POST /o/a GET /open/evil",
    ),
];

const CODINGS: Table = &[
    (
        "chunked",
        "POST /open/a HTTP/1.1¶Host: a¶Transfer-Encoding: chunked¶¶3¶abc¶0¶¶",
        "200 +: POST /o/a abc",
    ),
    (
        "chunked in capitals",
        "POST /open/a HTTP/1.1¶Host: a¶TRANSFER-ENCODING: CHUNKED¶¶3¶abc¶0¶¶",
        "200 +: POST /o/a abc",
    ),
    (
        "chunked between tabs",
        "POST /open/a HTTP/1.1¶Host: a¶Transfer-Encoding:\t chunked\t ¶¶3¶abc¶0¶¶",
        "200 +: POST /o/a abc",
    ),
    (
        "chunked GET",
        "GET /open/a HTTP/1.1¶Host: a¶Transfer-Encoding: chunked¶¶3¶abc¶0¶¶",
        "200 +: GET /o/a abc",
    ),
    (
        "length and chunked",
        "POST /open/a HTTP/1.1¶Host: a¶Content-Length: 5¶Transfer-Encoding: chunked¶¶0¶¶",
        "400 .",
    ),
    (
        "chunked and length",
        "POST /open/a HTTP/1.1¶Host: a¶Transfer-Encoding: chunked¶Content-Length: 5¶¶0¶¶",
        "400 .",
    ),
    (
        "length 0 and chunked",
        "POST /open/a HTTP/1.1¶Host: a¶Content-Length: 0¶Transfer-Encoding: chunked¶¶0¶¶",
        "400 .",
    ),
    (
        "chunked in HTTP/1.0",
        "POST /open/a HTTP/1.0¶Host: a¶Transfer-Encoding: chunked¶¶0¶¶",
        "400 .",
    ),
    (
        "chunked with a comma",
        "POST /open/a HTTP/1.1¶Host: a¶Transfer-Encoding: chunked,¶¶0¶¶",
        "400 .",
    ),
    (
        "comma and chunked",
        "POST /open/a HTTP/1.1¶Host: a¶Transfer-Encoding: ,chunked¶¶0¶¶",
        "400 .",
    ),
    (
        "chunked twice",
        "POST /open/a HTTP/1.1¶Host: a¶Transfer-Encoding: chunked, chunked¶¶0¶¶",
        "400 .",
    ),
    (
        "two lines of chunked",
        "POST /open/a HTTP/1.1¶Host: a¶Transfer-Encoding: chunked¶Transfer-Encoding: chunked¶¶0¶¶",
        "400 .",
    ),
    (
        "chunked and identity",
        "POST /open/a HTTP/1.1¶Host: a¶Transfer-Encoding: chunked, identity¶¶0¶¶",
        "400 .",
    ),
    (
        "identity and chunked",
        "POST /open/a HTTP/1.1¶Host: a¶Transfer-Encoding: identity, chunked¶¶0¶¶",
        "400 .",
    ),
    (
        "chunked, then another line",
        "POST /open/a HTTP/1.1¶Host: a¶Transfer-Encoding: chunked¶Transfer-Encoding: cow¶¶0¶¶",
        "400 .",
    ),
    (
        "another line, then chunked",
        "POST /open/a HTTP/1.1¶Host: a¶Transfer-Encoding: cow¶Transfer-Encoding: chunked¶¶0¶¶",
        "501 .",
    ),
    (
        "chunked with parameters",
        "POST /open/a HTTP/1.1¶Host: a¶Transfer-Encoding: chunked;q=1¶¶0¶¶",
        "400 .",
    ),
    (
        "quoted chunked",
        "POST /open/a HTTP/1.1¶Host: a¶Transfer-Encoding: \"chunked\"¶¶0¶¶",
        "400 .",
    ),
    (
        "chunked in two words",
        "POST /open/a HTTP/1.1¶Host: a¶Transfer-Encoding: chun ked¶¶0¶¶",
        "400 .",
    ),
    (
        "vertical tab",
        "POST /open/a HTTP/1.1¶Host: a¶Transfer-Encoding: \u{b}chunked¶¶0¶¶",
        "400 .",
    ),
    (
        "no-break space",
        "POST /open/a HTTP/1.1¶Host: a¶Transfer-Encoding: \u{a0}chunked¶¶0¶¶",
        "400 .",
    ),
    (
        "NUL behind chunked",
        "POST /open/a HTTP/1.1¶Host: a¶Transfer-Encoding: chunked\0¶¶0¶¶",
        "400 .",
    ),
    (
        "empty coding",
        "POST /open/a HTTP/1.1¶Host: a¶Transfer-Encoding:¶¶0¶¶",
        "400 .",
    ),
    (
        "identity",
        "POST /open/a HTTP/1.1¶Host: a¶Transfer-Encoding: identity¶¶",
        "501 .",
    ),
    (
        "gzip",
        "POST /open/a HTTP/1.1¶Host: a¶Transfer-Encoding: gzip¶¶",
        "501 .",
    ),
    (
        "misspelt",
        "POST /open/a HTTP/1.1¶Host: a¶Transfer-Encoding: xchunked¶¶0¶¶",
        "501 .",
    ),
    (
        "coding with a space before the colon",
        "POST /open/a HTTP/1.1¶Host: a¶Transfer-Encoding : chunked¶¶0¶¶",
        "400 .",
    ),
    (
        "coding with a tab before the colon",
        "POST /open/a HTTP/1.1¶Host: a¶Transfer-Encoding\t: chunked¶¶0¶¶",
        "400 .",
    ),
    (
        "coding that is folded",
        "POST /open/a HTTP/1.1¶Host: a¶Transfer-Encoding:¶ chunked¶¶0¶¶",
        "400 .",
    ),
    (
        "coding that is a fold",
        "POST /open/a HTTP/1.1¶Host: a¶X: y¶ Transfer-Encoding: chunked¶¶0¶¶",
        "400 .",
    ),
    (
        "coding behind a bare LF",
        "POST /open/a HTTP/1.1¶Host: a¶X: y\nTransfer-Encoding: chunked¶¶0¶¶",
        "400 .",
    ),
    (
        "coding behind a bare CR",
        "POST /open/a HTTP/1.1¶Host: a¶X: y\rTransfer-Encoding: chunked¶¶0¶¶",
        "400 .",
    ),
    (
        "name over two lines",
        "POST /open/a HTTP/1.1¶Host: a¶Transfer-¶Encoding: chunked¶¶0¶¶",
        "400 .",
    ),
    (
        "another name of coding",
        "POST /open/a HTTP/1.1¶Host: a¶Transfer_Encoding: chunked¶¶0¶¶",
        "200 400 .: POST /o/a _",
    ),
    (
        "TE is no coding",
        "GET /open/a HTTP/1.1¶Host: a¶TE: chunked¶¶",
        "200 +: GET /o/a _",
    ),
    (
        "length that is smuggled",
        "POST /open/a HTTP/1.1¶Host: a¶Content-Length: 6¶Transfer-Encoding: chunked¶¶0¶¶GGET /guarded HTTP/1.1¶Host: a¶¶",
        "400 .",
    ),
];

const CHUNKS: Table = &[
    (
        "two chunks",
        "POST /open/a HTTP/1.1¶Host: a¶Transfer-Encoding: chunked¶¶1¶a¶2¶bc¶0¶¶",
        "200 +: POST /o/a abc",
    ),
    (
        "no chunk",
        "POST /open/a HTTP/1.1¶Host: a¶Transfer-Encoding: chunked¶¶0¶¶",
        "200 +: POST /o/a _",
    ),
    (
        "hexadecimal size",
        "POST /open/a HTTP/1.1¶Host: a¶Transfer-Encoding: chunked¶¶A¶0123456789¶0¶¶",
        "200 +: POST /o/a 0123456789",
    ),
    (
        "size with zeros",
        "POST /open/a HTTP/1.1¶Host: a¶Transfer-Encoding: chunked¶¶00003¶abc¶000¶¶",
        "200 +: POST /o/a abc",
    ),
    (
        "extension",
        "POST /open/a HTTP/1.1¶Host: a¶Transfer-Encoding: chunked¶¶3;a=\"b;c\"¶abc¶0;x¶¶",
        "200 +: POST /o/a abc",
    ),
    (
        "trailers that frame",
        "POST /open/a HTTP/1.1¶Host: a¶Transfer-Encoding: chunked¶¶3¶abc¶0¶Content-Length: 5¶Host: evil¶¶",
        "200 +: POST /o/a abc",
    ),
    (
        "announced trailers",
        "POST /open/a HTTP/1.1¶Host: a¶Trailer: X-Evil¶Transfer-Encoding: chunked¶¶0¶X-Evil: evil¶¶",
        "200 +: POST /o/a _",
    ),
    (
        "a request within a chunk",
        "POST /open/a HTTP/1.1¶Host: a¶Transfer-Encoding: chunked¶¶e¶GET /open/evil¶0¶¶",
        "200 +: POST /o/a GET /open/evil",
    ),
    (
        "no digits",
        "POST /open/a HTTP/1.1¶Host: a¶Transfer-Encoding: chunked¶¶¶abc¶0¶¶",
        "400 .",
    ),
    (
        "extension without a size",
        "POST /open/a HTTP/1.1¶Host: a¶Transfer-Encoding: chunked¶¶;a¶abc¶0¶¶",
        "400 .",
    ),
    (
        "size with plus",
        "POST /open/a HTTP/1.1¶Host: a¶Transfer-Encoding: chunked¶¶+3¶abc¶0¶¶",
        "400 .",
    ),
    (
        "size with minus",
        "POST /open/a HTTP/1.1¶Host: a¶Transfer-Encoding: chunked¶¶-3¶abc¶0¶¶",
        "400 .",
    ),
    (
        "size with prefix",
        "POST /open/a HTTP/1.1¶Host: a¶Transfer-Encoding: chunked¶¶0x3¶abc¶0¶¶",
        "400 .",
    ),
    (
        "space before the size",
        "POST /open/a HTTP/1.1¶Host: a¶Transfer-Encoding: chunked¶¶ 3¶abc¶0¶¶",
        "400 .",
    ),
    (
        "space behind the size",
        "POST /open/a HTTP/1.1¶Host: a¶Transfer-Encoding: chunked¶¶3 ¶abc¶0¶¶",
        "400 .",
    ),
    (
        "size with underscore",
        "POST /open/a HTTP/1.1¶Host: a¶Transfer-Encoding: chunked¶¶0_3¶abc¶0¶¶",
        "400 .",
    ),
    (
        "bare LF behind the size",
        "POST /open/a HTTP/1.1¶Host: a¶Transfer-Encoding: chunked¶¶3\nabc¶0¶¶",
        "400 .",
    ),
    (
        "bare CR behind the size",
        "POST /open/a HTTP/1.1¶Host: a¶Transfer-Encoding: chunked¶¶3\rabc¶0¶¶",
        "400 .",
    ),
    (
        "bare LF in an extension",
        "POST /open/a HTTP/1.1¶Host: a¶Transfer-Encoding: chunked¶¶3;a\nabc¶0¶¶",
        "400 .",
    ),
    (
        "bare CR in an extension",
        "POST /open/a HTTP/1.1¶Host: a¶Transfer-Encoding: chunked¶¶3;a\rb¶abc¶0¶¶",
        "400 .",
    ),
    (
        "NUL in an extension",
        "POST /open/a HTTP/1.1¶Host: a¶Transfer-Encoding: chunked¶¶3;a\0¶abc¶0¶¶",
        "400 .",
    ),
    (
        "bare LF behind the data",
        "POST /open/a HTTP/1.1¶Host: a¶Transfer-Encoding: chunked¶¶3¶abc\n0¶¶",
        "400 .",
    ),
    (
        "nothing behind the data",
        "POST /open/a HTTP/1.1¶Host: a¶Transfer-Encoding: chunked¶¶3¶abc0¶¶",
        "400 .",
    ),
    (
        "too much data",
        "POST /open/a HTTP/1.1¶Host: a¶Transfer-Encoding: chunked¶¶3¶abcd¶0¶¶",
        "400 .",
    ),
    (
        "size of 16 digits",
        "POST /open/a HTTP/1.1¶Host: a¶Transfer-Encoding: chunked¶¶0000000000000003¶abc¶0¶¶",
        "400 .",
    ),
    (
        "size that overflows",
        "POST /open/a HTTP/1.1¶Host: a¶Transfer-Encoding: chunked¶¶10000000000000003¶abc¶0¶¶",
        "400 .",
    ),
    (
        "size without an end",
        "POST /open/a HTTP/1.1¶Host: a¶Transfer-Encoding: chunked¶¶fffffffffffffff¶abc",
        "~",
    ),
    (
        "no last chunk",
        "POST /open/a HTTP/1.1¶Host: a¶Transfer-Encoding: chunked¶¶3¶abc¶",
        "~",
    ),
    (
        "half a last chunk",
        "POST /open/a HTTP/1.1¶Host: a¶Transfer-Encoding: chunked¶¶3¶abc¶0¶",
        "~",
    ),
    (
        "bare LF at the end",
        "POST /open/a HTTP/1.1¶Host: a¶Transfer-Encoding: chunked¶¶0¶\n",
        "400 .",
    ),
    (
        "bare LFs at the end",
        "POST /open/a HTTP/1.1¶Host: a¶Transfer-Encoding: chunked¶¶0\n\n",
        "400 .",
    ),
    (
        "trailer without a colon",
        "POST /open/a HTTP/1.1¶Host: a¶Transfer-Encoding: chunked¶¶0¶foo¶¶",
        "400 .",
    ),
    (
        "trailer with a space before the colon",
        "POST /open/a HTTP/1.1¶Host: a¶Transfer-Encoding: chunked¶¶0¶X : y¶¶",
        "400 .",
    ),
    (
        "folded trailer",
        "POST /open/a HTTP/1.1¶Host: a¶Transfer-Encoding: chunked¶¶0¶X: y¶ z¶¶",
        "400 .",
    ),
    (
        "trailer with a bare LF",
        "POST /open/a HTTP/1.1¶Host: a¶Transfer-Encoding: chunked¶¶0¶X: y\n¶",
        "400 .",
    ),
    (
        "trailer with NUL",
        "POST /open/a HTTP/1.1¶Host: a¶Transfer-Encoding: chunked¶¶0¶X: \0¶¶",
        "400 .",
    ),
    (
        "a request instead of trailers",
        "POST /open/a HTTP/1.1¶Host: a¶Transfer-Encoding: chunked¶¶0¶GET /guarded HTTP/1.1¶Host: a¶¶",
        "400 .",
    ),
];

const LINES: Table = &[
    (
        "one empty line first",
        "¶GET /open/a HTTP/1.1¶Host: a¶¶",
        "200 +: GET /o/a _",
    ),
    (
        "two empty lines first",
        "¶¶GET /open/a HTTP/1.1¶Host: a¶¶",
        "400 .",
    ),
    ("bare LF first", "\nGET /open/a HTTP/1.1¶Host: a¶¶", "400 ."),
    ("space first", " GET /open/a HTTP/1.1¶Host: a¶¶", "400 ."),
    (
        "byte order mark first",
        "\u{feff}GET /open/a HTTP/1.1¶Host: a¶¶",
        "400 .",
    ),
    ("bare LFs", "GET /open/a HTTP/1.1\nHost: a\n\n", "400 ."),
    (
        "bare LF in headers",
        "GET /open/a HTTP/1.1¶Host: a\nX: y¶¶",
        "400 .",
    ),
    ("bare LF as end", "GET /open/a HTTP/1.1¶Host: a¶\n", "400 ."),
    (
        "bare CR in a value",
        "GET /open/a HTTP/1.1¶Host: a¶X: y\rz¶¶",
        "400 .",
    ),
    (
        "CR before CRLF",
        "GET /open/a HTTP/1.1¶Host: a\r¶¶",
        "400 .",
    ),
    (
        "NUL in a value",
        "GET /open/a HTTP/1.1¶Host: a¶X: \0¶¶",
        "400 .",
    ),
    (
        "NUL in a name",
        "GET /open/a HTTP/1.1¶Host: a¶X\0: y¶¶",
        "400 .",
    ),
    (
        "DEL in a value",
        "GET /open/a HTTP/1.1¶Host: a¶X: \u{7f}¶¶",
        "400 .",
    ),
    (
        "escape in a value",
        "GET /open/a HTTP/1.1¶Host: a¶X: \u{1b}[2J¶¶",
        "400 .",
    ),
    (
        "tab in a value",
        "GET /open/a HTTP/1.1¶Host: a¶X: y\tz¶¶",
        "200 +: GET /o/a _",
    ),
    (
        "UTF-8 in a value",
        "GET /open/a HTTP/1.1¶Host: a¶X: \u{e4}¶¶",
        "200 +: GET /o/a _",
    ),
    (
        "empty value",
        "GET /open/a HTTP/1.1¶Host: a¶X:¶¶",
        "200 +: GET /o/a _",
    ),
    ("folded", "GET /open/a HTTP/1.1¶Host: a¶X: y¶ z¶¶", "400 ."),
    (
        "folded with a tab",
        "GET /open/a HTTP/1.1¶Host: a¶X: y¶\tz¶¶",
        "400 .",
    ),
    (
        "folded first line",
        "GET /open/a HTTP/1.1¶ Host: a¶¶",
        "400 .",
    ),
    (
        "folded request line",
        "GET /open/a¶ HTTP/1.1¶Host: a¶¶",
        "400 .",
    ),
    ("no colon", "GET /open/a HTTP/1.1¶Host: a¶foo¶¶", "400 ."),
    ("no name", "GET /open/a HTTP/1.1¶Host: a¶: y¶¶", "400 ."),
    (
        "space in a name",
        "GET /open/a HTTP/1.1¶Host: a¶X Y: z¶¶",
        "400 .",
    ),
    (
        "parenthesis in a name",
        "GET /open/a HTTP/1.1¶Host: a¶X(Y): z¶¶",
        "400 .",
    ),
    (
        "UTF-8 in a name",
        "GET /open/a HTTP/1.1¶Host: a¶X\u{e4}: z¶¶",
        "400 .",
    ),
    (
        "odd name",
        "GET /open/a HTTP/1.1¶Host: a¶X!#$%&'*+.^_`|~Y: evil¶¶",
        "200 +: GET /o/a _",
    ),
    (
        "who the client would like to be",
        "GET /open/a HTTP/1.1¶Host: a¶X-Consumer-Id: evil¶x_consumer_username: evil¶X-Real-IP: evil¶¶",
        "200 +: GET /o/a _",
    ),
    ("half a head", "GET /open/a HTTP/1.1¶Host: a¶", "~"),
];

const REQUEST_LINES: Table = &[
    (
        "HTTP/1.0",
        "GET /open/a HTTP/1.0¶Host: a¶¶",
        "200 .: GET /o/a _",
    ),
    (
        "HTTP/1.0 without a host",
        "GET /open/a HTTP/1.0¶¶",
        "200 .: GET /o/a _",
    ),
    (
        "HTTP/1.0 that stays",
        "GET /open/a HTTP/1.0¶Connection: keep-alive¶¶",
        "200 +: GET /o/a _",
    ),
    ("HTTP/0.9", "GET /open/a¶¶", "400 ."),
    (
        "HTTP/0.9 with its version",
        "GET /open/a HTTP/0.9¶Host: a¶¶",
        "505 .",
    ),
    ("HTTP/1.2", "GET /open/a HTTP/1.2¶Host: a¶¶", "505 ."),
    ("HTTP/3.0", "GET /open/a HTTP/3.0¶Host: a¶¶", "505 ."),
    ("HTTP/1.10", "GET /open/a HTTP/1.10¶Host: a¶¶", "400 ."),
    ("HTTP/11", "GET /open/a HTTP/11¶Host: a¶¶", "400 ."),
    ("HTTP/1,1", "GET /open/a HTTP/1,1¶Host: a¶¶", "400 ."),
    ("HTTP / 1.1", "GET /open/a HTTP / 1.1¶Host: a¶¶", "400 ."),
    (
        "lower-case protocol",
        "GET /open/a http/1.1¶Host: a¶¶",
        "400 .",
    ),
    (
        "another protocol",
        "GET /open/a HTTPS/1.1¶Host: a¶¶",
        "400 .",
    ),
    (
        "lower-case method",
        "get /open/a HTTP/1.1¶Host: a¶¶",
        "400 .",
    ),
    (
        "odd method",
        "M-SEARCH /open/a HTTP/1.1¶Host: a¶¶",
        "200 +: M-SEARCH /o/a _",
    ),
    (
        "method with a colon",
        "GET: /open/a HTTP/1.1¶Host: a¶¶",
        "400 .",
    ),
    ("no method", "/open/a HTTP/1.1¶Host: a¶¶", "400 ."),
    ("two spaces", "GET  /open/a HTTP/1.1¶Host: a¶¶", "400 ."),
    ("tabs", "GET\t/open/a\tHTTP/1.1¶Host: a¶¶", "400 ."),
    (
        "space at the end",
        "GET /open/a HTTP/1.1 ¶Host: a¶¶",
        "400 .",
    ),
    (
        "vertical tab as space",
        "GET\u{b}/open/a\u{b}HTTP/1.1¶Host: a¶¶",
        "400 .",
    ),
    ("CONNECT", "CONNECT a:443 HTTP/1.1¶Host: a:443¶¶", "405 ."),
    (
        "CONNECT of a path",
        "CONNECT /open/a HTTP/1.1¶Host: a¶¶",
        "405 .",
    ),
    ("TRACE", "TRACE /open/a HTTP/1.1¶Host: a¶¶", "405 ."),
    (
        "OPTIONS",
        "OPTIONS /open/a HTTP/1.1¶Host: a¶¶",
        "200 +: OPTIONS /o/a _",
    ),
    ("asterisk", "OPTIONS * HTTP/1.1¶Host: a¶¶", "400 ."),
    ("asterisk of a GET", "GET * HTTP/1.1¶Host: a¶¶", "400 ."),
    (
        "a handshake of TLS",
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0",
        "400 .",
    ),
    (
        "another protocol's greeting",
        "SSH-2.0-OpenSSH_9.9¶",
        "400 .",
    ),
    (
        "PROXY protocol nobody asked for",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 2¶GET /open/a HTTP/1.1¶Host: a¶¶",
        "400 .",
    ),
];

const TARGETS: Table = &[
    (
        "query",
        "GET /open/a?b=c&d HTTP/1.1¶Host: a¶¶",
        "200 +: GET /o/a?b=c&d _",
    ),
    (
        "empty query",
        "GET /open/a? HTTP/1.1¶Host: a¶¶",
        "200 +: GET /o/a? _",
    ),
    ("fragment", "GET /open/a#b HTTP/1.1¶Host: a¶¶", "400 ."),
    (
        "fragment behind a query",
        "GET /open/a?b#c HTTP/1.1¶Host: a¶¶",
        "400 .",
    ),
    ("space", "GET /open/a b HTTP/1.1¶Host: a¶¶", "400 ."),
    ("NUL", "GET /open/\0 HTTP/1.1¶Host: a¶¶", "400 ."),
    ("CR", "GET /open/\r HTTP/1.1¶Host: a¶¶", "400 ."),
    ("DEL", "GET /open/\u{7f} HTTP/1.1¶Host: a¶¶", "400 ."),
    ("relative", "GET open/a HTTP/1.1¶Host: a¶¶", "400 ."),
    ("authority", "GET a:80 HTTP/1.1¶Host: a¶¶", "400 ."),
    (
        "quotes",
        "GET /open/\"<>` HTTP/1.1¶Host: a¶¶",
        "200 +: GET /o/%22%3C%3E%60 _",
    ),
    (
        "UTF-8",
        "GET /open/\u{e4} HTTP/1.1¶Host: a¶¶",
        "200 +: GET /o/%C3%A4 _",
    ),
    ("no escape", "GET /open/% HTTP/1.1¶Host: a¶¶", "400 +"),
    ("half an escape", "GET /open/%4 HTTP/1.1¶Host: a¶¶", "400 +"),
    ("bad escape", "GET /open/%zz HTTP/1.1¶Host: a¶¶", "400 +"),
    ("escaped NUL", "GET /open/%00 HTTP/1.1¶Host: a¶¶", "400 +"),
    (
        "escaped line ends",
        "GET /open/%0d%0aEvil:%20x HTTP/1.1¶Host: a¶¶",
        "200 +: GET /o/%0D%0AEvil:%20x _",
    ),
    (
        "escaped escape",
        "GET /open/%252e%252e/a HTTP/1.1¶Host: a¶¶",
        "200 +: GET /o/%252e%252e/a _",
    ),
    (
        "escaped slash",
        "GET /open/a%2fb HTTP/1.1¶Host: a¶¶",
        "200 +: GET /o/a%2Fb _",
    ),
    (
        "escaped question",
        "GET /open/a%3fb HTTP/1.1¶Host: a¶¶",
        "200 +: GET /o/a%3Fb _",
    ),
    (
        "over-long escape of a dot",
        "GET /open/%c0%ae%c0%ae/a HTTP/1.1¶Host: a¶¶",
        "200 +: GET /o/%C0%AE%C0%AE/a _",
    ),
    (
        "line ends in a query",
        "GET /open/a?b=%0d%0a HTTP/1.1¶Host: a¶¶",
        "200 +: GET /o/a?b=%0d%0a _",
    ),
    (
        "dots",
        "GET /open/a/../b/./c HTTP/1.1¶Host: a¶¶",
        "200 +: GET /o/b/c _",
    ),
    (
        "escaped dots",
        "GET /open/a/%2e%2E/b HTTP/1.1¶Host: a¶¶",
        "200 +: GET /o/b _",
    ),
    (
        "above the root",
        "GET /../open/a HTTP/1.1¶Host: a¶¶",
        "400 +",
    ),
    (
        "above the root later",
        "GET /open/../../open/a HTTP/1.1¶Host: a¶¶",
        "400 +",
    ),
    (
        "escaped above the root",
        "GET /%2e%2e/open/a HTTP/1.1¶Host: a¶¶",
        "400 +",
    ),
    (
        "out of the route",
        "GET /open/.. HTTP/1.1¶Host: a¶¶",
        "404 +",
    ),
    (
        "slashes",
        "GET //open///a HTTP/1.1¶Host: a¶¶",
        "200 +: GET /o/a _",
    ),
    (
        "backslashes",
        "GET /open\\..\\..\\a HTTP/1.1¶Host: a¶¶",
        "200 +: GET /o/%5C..%5C..%5Ca _",
    ),
    (
        "parameters of a segment",
        "GET /open/..;/a HTTP/1.1¶Host: a¶¶",
        "200 +: GET /o/..;/a _",
    ),
    (
        "absolute",
        "GET http://b/open/a HTTP/1.1¶Host: a¶¶",
        "200 +: GET /o/a _",
    ),
    (
        "absolute in capitals",
        "GET HTTPS://B:81/open/a HTTP/1.1¶Host: a¶¶",
        "200 +: GET /o/a _",
    ),
    (
        "absolute without a path",
        "GET http://b HTTP/1.1¶Host: a¶¶",
        "404 +",
    ),
    (
        "absolute with a query alone",
        "GET http://b?/open/a HTTP/1.1¶Host: a¶¶",
        "404 +",
    ),
    (
        "absolute without Host",
        "GET http://b/open/a HTTP/1.1¶¶",
        "400 .",
    ),
    (
        "absolute without a host",
        "GET http:///open/a HTTP/1.1¶Host: a¶¶",
        "400 .",
    ),
    (
        "absolute with a user",
        "GET http://u@b/open/a HTTP/1.1¶Host: a¶¶",
        "400 .",
    ),
    (
        "absolute with a bad port",
        "GET http://b:x/open/a HTTP/1.1¶Host: a¶¶",
        "400 .",
    ),
    (
        "another scheme",
        "GET ftp://b/open/a HTTP/1.1¶Host: a¶¶",
        "400 .",
    ),
    (
        "scheme without slashes",
        "GET http:/open/a HTTP/1.1¶Host: a¶¶",
        "400 .",
    ),
    (
        "absolute to the host of a route",
        "GET http://secret.example/host/a HTTP/1.1¶Host: a¶¶",
        "200 +: GET /h/a _",
    ),
    (
        "absolute beside the host of a route",
        "GET http://a/host/a HTTP/1.1¶Host: secret.example¶¶",
        "404 +",
    ),
    (
        "authority in a path",
        "GET //secret.example/host/a HTTP/1.1¶Host: a¶¶",
        "404 +",
    ),
];

const HOSTS: Table = &[
    (
        "port",
        "GET /open/a HTTP/1.1¶Host: a:80¶¶",
        "200 +: GET /o/a _",
    ),
    (
        "empty port",
        "GET /open/a HTTP/1.1¶Host: a:¶¶",
        "200 +: GET /o/a _",
    ),
    (
        "final dot",
        "GET /open/a HTTP/1.1¶Host: a.example.¶¶",
        "200 +: GET /o/a _",
    ),
    (
        "IPv6",
        "GET /open/a HTTP/1.1¶Host: [::1]:80¶¶",
        "200 +: GET /o/a _",
    ),
    (
        "host of a route",
        "GET /host/a HTTP/1.1¶Host: Secret.Example:81¶¶",
        "200 +: GET /h/a _",
    ),
    (
        "not the host of a route",
        "GET /host/a HTTP/1.1¶Host: a¶X-Forwarded-Host: secret.example¶¶",
        "404 +",
    ),
    (
        "host of a route in a port",
        "GET /host/a HTTP/1.1¶Host: a:secret.example¶¶",
        "400 .",
    ),
    ("none", "GET /open/a HTTP/1.1¶¶", "400 ."),
    ("empty", "GET /open/a HTTP/1.1¶Host:¶¶", "400 ."),
    (
        "two",
        "GET /open/a HTTP/1.1¶Host: a¶Host: secret.example¶¶",
        "400 .",
    ),
    (
        "two alike",
        "GET /open/a HTTP/1.1¶Host: a¶host: a¶¶",
        "400 .",
    ),
    (
        "behind a space",
        "GET /open/a HTTP/1.1¶Host: a¶ Host: b¶¶",
        "400 .",
    ),
    (
        "with a space before the colon",
        "GET /open/a HTTP/1.1¶Host : a¶¶",
        "400 .",
    ),
    ("two words", "GET /open/a HTTP/1.1¶Host: a b¶¶", "400 ."),
    ("list", "GET /open/a HTTP/1.1¶Host: a, b¶¶", "400 ."),
    ("user", "GET /open/a HTTP/1.1¶Host: u@a¶¶", "400 ."),
    ("path", "GET /open/a HTTP/1.1¶Host: a/b¶¶", "400 ."),
    (
        "query in a host",
        "GET /open/a HTTP/1.1¶Host: a?b¶¶",
        "400 .",
    ),
    (
        "fragment in a host",
        "GET /open/a HTTP/1.1¶Host: a#b¶¶",
        "400 .",
    ),
    (
        "backslash in a host",
        "GET /open/a HTTP/1.1¶Host: a\\b¶¶",
        "400 .",
    ),
    (
        "escape in a host",
        "GET /open/a HTTP/1.1¶Host: a%2fb¶¶",
        "400 .",
    ),
    ("URL", "GET /open/a HTTP/1.1¶Host: http://a¶¶", "400 ."),
    ("quoted", "GET /open/a HTTP/1.1¶Host: \"a\"¶¶", "400 ."),
    ("UTF-8 host", "GET /open/a HTTP/1.1¶Host: \u{e4}¶¶", "400 ."),
    (
        "port of letters",
        "GET /open/a HTTP/1.1¶Host: a:x¶¶",
        "400 .",
    ),
    (
        "port with a sign",
        "GET /open/a HTTP/1.1¶Host: a:+80¶¶",
        "400 .",
    ),
    (
        "large port",
        "GET /open/a HTTP/1.1¶Host: a:65536¶¶",
        "400 .",
    ),
    ("two ports", "GET /open/a HTTP/1.1¶Host: a:80:81¶¶", "400 ."),
    ("port alone", "GET /open/a HTTP/1.1¶Host: :80¶¶", "400 ."),
    ("bare IPv6", "GET /open/a HTTP/1.1¶Host: ::1¶¶", "400 ."),
    ("bad IPv6", "GET /open/a HTTP/1.1¶Host: [::g]¶¶", "400 ."),
    ("open IPv6", "GET /open/a HTTP/1.1¶Host: [::1¶¶", "400 ."),
    (
        "text behind IPv6",
        "GET /open/a HTTP/1.1¶Host: [::1]a¶¶",
        "400 .",
    ),
    (
        "bad host in HTTP/1.0",
        "GET /open/a HTTP/1.0¶Host: a/b¶¶",
        "400 .",
    ),
];

const GUARDED: Table = &[
    ("no key", "GET /guarded HTTP/1.1¶Host: a¶¶", "401 +"),
    (
        "key",
        "GET /guarded/a HTTP/1.1¶Host: a¶apikey: letmein¶¶",
        "200 +: GET /g/a _",
    ),
    (
        "key in the query",
        "GET /guarded/a?apikey=letmein HTTP/1.1¶Host: a¶¶",
        "200 +: GET /g/a?apikey=letmein _",
    ),
    (
        "wrong key",
        "GET /guarded HTTP/1.1¶Host: a¶apikey: letmei¶¶",
        "401 +",
    ),
    (
        "key that is named away",
        "GET /guarded HTTP/1.1¶Host: a¶Connection: apikey¶apikey: letmein¶¶",
        "401 +",
    ),
    (
        "key in a trailer",
        "POST /guarded HTTP/1.1¶Host: a¶Transfer-Encoding: chunked¶¶0¶apikey: letmein¶¶",
        "401 ?",
    ),
    (
        "dots to it",
        "GET /open/../guarded HTTP/1.1¶Host: a¶¶",
        "401 +",
    ),
    (
        "escaped dots to it",
        "GET /open/%2e%2e/guarded HTTP/1.1¶Host: a¶¶",
        "401 +",
    ),
    (
        "escaped letter",
        "GET /%67uarded HTTP/1.1¶Host: a¶¶",
        "401 +",
    ),
    ("two slashes", "GET //guarded HTTP/1.1¶Host: a¶¶", "401 +"),
    ("a dot", "GET /./guarded HTTP/1.1¶Host: a¶¶", "401 +"),
    (
        "more behind it",
        "GET /guarded%2f..%2fopen HTTP/1.1¶Host: a¶¶",
        "401 +",
    ),
    (
        "parameters behind it",
        "GET /guarded;x HTTP/1.1¶Host: a¶¶",
        "401 +",
    ),
    (
        "absolute form of it",
        "GET http://open/guarded HTTP/1.1¶Host: open¶¶",
        "401 +",
    ),
    ("another case", "GET /Guarded HTTP/1.1¶Host: a¶¶", "404 +"),
    (
        "escaped slash to it",
        "GET /open%2f..%2fguarded HTTP/1.1¶Host: a¶¶",
        "200 +: GET /o/%2F..%2Fguarded _",
    ),
    (
        "rewriting headers",
        "GET /open/a HTTP/1.1¶Host: a¶X-Original-URL: /guarded¶X-Rewrite-URL: /guarded¶¶",
        "200 +: GET /o/a _",
    ),
    (
        "another method",
        "GET /open/a HTTP/1.1¶Host: a¶X-HTTP-Method-Override: DELETE¶¶",
        "200 +: GET /o/a _",
    ),
    (
        "behind a body",
        "POST /open/a HTTP/1.1¶Host: a¶Content-Length: 3¶¶abcGET /guarded HTTP/1.1¶Host: a¶¶",
        "200 401 +: POST /o/a abc",
    ),
    (
        "behind a chunked body",
        "POST /open/a HTTP/1.1¶Host: a¶Transfer-Encoding: chunked¶¶0¶¶GET /guarded HTTP/1.1¶Host: a¶¶",
        "200 401 +: POST /o/a _",
    ),
    (
        "behind a GET with a length",
        "GET /open/a HTTP/1.1¶Host: a¶Content-Length: 43¶¶GET /guarded HTTP/1.1¶Host: a¶X: y¶¶abc",
        "200 +: GET /o/a GET /guarded HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\nabc",
    ),
    (
        "after the key of another",
        "GET /guarded/a HTTP/1.1¶Host: a¶apikey: letmein¶¶GET /guarded/b HTTP/1.1¶Host: a¶¶",
        "200 401 +: GET /g/a _",
    ),
];

const CONNECTIONS: Table = &[
    (
        "close",
        "GET /open/a HTTP/1.1¶Host: a¶Connection: close¶¶",
        "200 .: GET /o/a _",
    ),
    (
        "close among others",
        "GET /open/a HTTP/1.1¶Host: a¶Connection: x, CLOSE ,y¶¶",
        "200 .: GET /o/a _",
    ),
    (
        "close on a second line",
        "GET /open/a HTTP/1.1¶Host: a¶Connection: keep-alive¶Connection: close¶¶",
        "200 .: GET /o/a _",
    ),
    (
        "a word like close",
        "GET /open/a HTTP/1.1¶Host: a¶Connection: closed¶¶",
        "200 +: GET /o/a _",
    ),
    (
        "keep-alive",
        "GET /open/a HTTP/1.1¶Host: a¶Connection: keep-alive¶Keep-Alive: 300¶¶",
        "200 +: GET /o/a _",
    ),
    (
        "of a proxy",
        "GET /open/a HTTP/1.1¶Host: a¶Proxy-Connection: close¶¶",
        "200 +: GET /o/a _",
    ),
    (
        "length named away",
        "POST /open/a HTTP/1.1¶Host: a¶Connection: content-length¶Content-Length: 3¶¶abc",
        "200 +: POST /o/a abc",
    ),
    (
        "coding named away",
        "POST /open/a HTTP/1.1¶Host: a¶Connection: transfer-encoding¶Transfer-Encoding: chunked¶¶3¶abc¶0¶¶",
        "200 +: POST /o/a abc",
    ),
    (
        "host named away",
        "GET /open/a HTTP/1.1¶Host: a¶Connection: host¶¶",
        "200 +: GET /o/a _",
    ),
    (
        "header named away",
        "GET /open/a HTTP/1.1¶Host: a¶Connection: X-Evil¶X-Evil: evil¶¶",
        "200 +: GET /o/a _",
    ),
    (
        "names that are none",
        "GET /open/a HTTP/1.1¶Host: a¶Connection: ,, \u{e4}, a b¶¶",
        "200 +: GET /o/a _",
    ),
    (
        "upgrade to HTTP/2",
        "GET /open/a HTTP/1.1¶Host: a¶Connection: Upgrade, HTTP2-Settings¶Upgrade: h2c¶HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA¶¶",
        "200 +: GET /o/a _",
    ),
    (
        "upgrade to HTTP/2 with a body",
        "POST /open/a HTTP/1.1¶Host: a¶Connection: Upgrade¶Upgrade: h2c¶Content-Length: 3¶¶abc",
        "200 +: POST /o/a abc",
    ),
    (
        "upgrade to TLS",
        "GET /open/a HTTP/1.1¶Host: a¶Connection: Upgrade¶Upgrade: TLS/1.2¶¶",
        "200 +: GET /o/a _",
    ),
    (
        "upgrade that is not asked for",
        "GET /open/a HTTP/1.1¶Host: a¶Upgrade: websocket¶¶",
        "200 +: GET /o/a _",
    ),
    (
        "upgrade to nothing",
        "GET /open/a HTTP/1.1¶Host: a¶Connection: Upgrade¶¶",
        "200 +: GET /o/a _",
    ),
    (
        "upgrade that is declined",
        "GET /open/a HTTP/1.1¶Host: a¶Connection: Upgrade¶Upgrade: websocket¶¶",
        "200 +: GET /o/a _",
    ),
    (
        "upgrade to where no key is",
        "GET /guarded HTTP/1.1¶Host: a¶Connection: Upgrade¶Upgrade: websocket¶¶GET /guarded HTTP/1.1¶Host: a¶¶",
        "401 401 +",
    ),
    (
        "expectation",
        "POST /open/a HTTP/1.1¶Host: a¶Expect: 100-Continue¶Content-Length: 3¶¶abc",
        "200 +: POST /o/a abc",
    ),
    (
        "expectation without a body",
        "GET /open/a HTTP/1.1¶Host: a¶Expect: 100-continue¶¶",
        "200 +: GET /o/a _",
    ),
    (
        "other expectation",
        "POST /open/a HTTP/1.1¶Host: a¶Expect: evil¶Content-Length: 3¶¶abc",
        "200 +: POST /o/a abc",
    ),
    (
        "expectation in HTTP/1.0",
        "POST /open/a HTTP/1.0¶Expect: 100-continue¶Content-Length: 3¶¶abc",
        "200 .: POST /o/a abc",
    ),
    (
        "expectation that is refused",
        "POST /nowhere HTTP/1.1¶Host: a¶Expect: 100-continue¶Content-Length: 3¶¶abc",
        "404 ?",
    ),
    (
        "trailers that are welcome",
        "GET /open/a HTTP/1.1¶Host: a¶Connection: TE¶TE: trailers, evil¶¶",
        "200 +: GET /o/a _",
    ),
];

const PIPELINES: Table = &[
    (
        "three",
        "GET /open/1 HTTP/1.1¶Host: a¶¶GET /open/2 HTTP/1.1¶Host: a¶¶GET /open/3 HTTP/1.1¶Host: a¶¶",
        "200 200 200 +: GET /o/1 _; GET /o/2 _; GET /o/3 _",
    ),
    (
        "bodies between",
        "POST /open/1 HTTP/1.1¶Host: a¶Content-Length: 1¶¶xPUT /open/2 HTTP/1.1¶Host: a¶Transfer-Encoding: chunked¶¶1¶y¶0¶¶",
        "200 200 +: POST /o/1 x; PUT /o/2 y",
    ),
    (
        "line end between",
        "POST /open/1 HTTP/1.1¶Host: a¶Content-Length: 1¶¶x¶GET /open/2 HTTP/1.1¶Host: a¶¶",
        "200 200 +: POST /o/1 x; GET /o/2 _",
    ),
    (
        "two line ends between",
        "GET /open/1 HTTP/1.1¶Host: a¶¶¶¶GET /open/evil HTTP/1.1¶Host: a¶¶",
        "200 400 .: GET /o/1 _",
    ),
    (
        "bad second",
        "GET /open/1 HTTP/1.1¶Host: a¶¶GET /open/evil HTTP/1.1¶Host : a¶¶GET /open/evil HTTP/1.1¶Host: a¶¶",
        "200 400 .: GET /o/1 _",
    ),
    (
        "second without a host",
        "GET /open/1 HTTP/1.1¶Host: a¶¶GET /open/evil HTTP/1.1¶¶",
        "200 400 .: GET /o/1 _",
    ),
    (
        "second of another protocol",
        "GET /open/1 HTTP/1.1¶Host: a¶¶EHLO evil¶",
        "200 400 .: GET /o/1 _",
    ),
    (
        "second with a broken body",
        "GET /open/1 HTTP/1.1¶Host: a¶¶POST /open/2 HTTP/1.1¶Host: a¶Transfer-Encoding: chunked¶¶x¶¶GET /open/evil HTTP/1.1¶Host: a¶¶",
        "200 400 .: GET /o/1 _",
    ),
    (
        "404 between",
        "GET /open/1 HTTP/1.1¶Host: a¶¶GET /nowhere HTTP/1.1¶Host: a¶¶GET /open/3 HTTP/1.1¶Host: a¶¶",
        "200 404 200 +: GET /o/1 _; GET /o/3 _",
    ),
    (
        "behind a close",
        "GET /open/1 HTTP/1.1¶Host: a¶Connection: close¶¶GET /open/evil HTTP/1.1¶Host: a¶¶",
        "200 .: GET /o/1 _",
    ),
    (
        "behind HTTP/1.0",
        "GET /open/1 HTTP/1.0¶¶GET /open/evil HTTP/1.1¶Host: a¶¶",
        "200 .: GET /o/1 _",
    ),
    (
        "half a second",
        "GET /nowhere HTTP/1.1¶Host: a¶¶GET /open/evil HTTP/1.1¶Host:",
        "404 400 .",
    ),
];

/// Rows that are too long to be written down.
fn made() -> Vec<Row> {
    let long = |count: usize| "x".repeat(count);
    let request =
        |extra: &str| format!("GET /open/a HTTP/1.1\r\nHost: a\r\n{extra}\r\n").into_bytes();
    let chunked = |body: &str| {
        let head = "POST /open/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        format!("{head}{body}").into_bytes()
    };
    let lines = |count: usize| {
        (0..count)
            .map(|at| format!("X-{at}: y\r\n"))
            .collect::<String>()
    };
    let target = |length: usize| {
        let target = long(length);
        format!("GET /open/{target} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes()
    };
    let fine = format!("200 +: GET /o/{} _", long(8000));
    vec![
        row("long target", target(8000), &fine),
        row("too long a target", target(8200), "414 ."),
        row(
            "target without an end",
            long(9000).to_uppercase().into_bytes(),
            "414 .",
        ),
        row(
            "method without an end",
            format!("{} / HTTP/1.1\r\n", "A".repeat(9000)).into_bytes(),
            "414 .",
        ),
        row(
            "long line",
            request(&format!("X: {}\r\n", long(8000))),
            "200 +: GET /o/a _",
        ),
        row(
            "too long a line",
            request(&format!("X: {}\r\n", long(8300))),
            "400 .",
        ),
        row(
            "too long a name",
            request(&format!("{}: x\r\n", long(8300))),
            "400 .",
        ),
        row("line without an end", request(&long(9000)), "400 ."),
        row(
            "large head",
            request(&format!("X: {}\r\n", long(7000)).repeat(4)),
            "200 +: GET /o/a _",
        ),
        row(
            "too large a head",
            request(&format!("X: {}\r\n", long(7000)).repeat(5)),
            "400 .",
        ),
        row("many lines", request(&lines(999)), "200 +: GET /o/a _"),
        row("too many lines", request(&lines(1000)), "400 ."),
        row(
            "extension without an end",
            chunked(&format!("3;{}\r\nabc\r\n0\r\n\r\n", long(9000))),
            "400 .",
        ),
        row(
            "many extensions",
            chunked(&format!("{}0\r\n\r\n", "1;xxxxxxxxx\r\ny\r\n".repeat(1000))),
            "400 .",
        ),
        row(
            "trailer without an end",
            chunked(&format!("0\r\nX: {}\r\n\r\n", long(9000))),
            "400 .",
        ),
        row(
            "many trailers",
            chunked(&format!("0\r\n{}\r\n", lines(1200))),
            "400 .",
        ),
        row(
            "bytes that are no text",
            [
                b"GET /open/a HTTP/1.1\r\nHost: a\r\nX: ",
                &[0xff, 0xfe, 0x80][..],
                b"\r\n\r\n",
            ]
            .concat(),
            "200 +: GET /o/a _",
        ),
        row(
            "target that is no text",
            [
                b"GET /open/",
                &[0xff, 0xfe][..],
                b" HTTP/1.1\r\nHost: a\r\n\r\n",
            ]
            .concat(),
            "200 +: GET /o/%FF%FE _",
        ),
        row(
            "twenty requests",
            request("").repeat(20),
            &format!("{}+: {}", "200 ".repeat(20), ["GET /o/a _"; 20].join("; ")),
        ),
    ]
}
