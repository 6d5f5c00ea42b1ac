//! Requests as bytes: what is refused, what passes, what breaks a body.

/// Name, bytes, status.
pub(crate) const REFUSED: &[(&str, &str, u16)] = &[
    (
        "both lengths",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    (
        "both lengths, other order",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
        400,
    ),
    (
        "two lengths",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        400,
    ),
    (
        "equal lengths twice",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\ncontent-length: 1\r\n\r\na",
        400,
    ),
    (
        "signed length",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na",
        400,
    ),
    (
        "negative length",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\na",
        400,
    ),
    (
        "list length",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\na",
        400,
    ),
    (
        "hexadecimal length",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1\r\n\r\na",
        400,
    ),
    (
        "empty length",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n",
        400,
    ),
    (
        "inner space in length",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1 1\r\n\r\n",
        400,
    ),
    (
        "length over 64 bits",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551617\r\n\r\na",
        400,
    ),
    (
        "coding twice",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    (
        "two coding lines",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    (
        "identity line after chunked",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        400,
    ),
    (
        "chunked not last",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        400,
    ),
    (
        "chunked after another",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    (
        "empty coding",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n",
        400,
    ),
    (
        "quoted coding",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n",
        400,
    ),
    (
        "vertical tab before coding",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    (
        "unknown coding",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
        501,
    ),
    (
        "identity coding",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n",
        501,
    ),
    (
        "misspelt coding",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        501,
    ),
    (
        "1.0 chunked",
        "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    (
        "folded header",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
        400,
    ),
    (
        "folded with tab",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n\tb\r\n\r\n",
        400,
    ),
    (
        "folded first header",
        "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
        400,
    ),
    (
        "space before colon",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        400,
    ),
    (
        "tab before colon",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length\t: 0\r\n\r\n",
        400,
    ),
    ("no colon", "GET / HTTP/1.1\r\nHost: a\r\nfoo\r\n\r\n", 400),
    (
        "empty name",
        "GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n",
        400,
    ),
    (
        "non-ASCII name",
        "GET / HTTP/1.1\r\nHost: a\r\nX\u{e9}: x\r\n\r\n",
        400,
    ),
    ("bare LF", "GET / HTTP/1.1\nHost: a\n\n", 400),
    (
        "bare LF in headers",
        "GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
        400,
    ),
    ("bare LF at the end", "GET / HTTP/1.1\r\nHost: a\r\n\n", 400),
    (
        "bare CR",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
        400,
    ),
    ("two CR", "GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", 400),
    ("CR in target", "GET /\r HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("no host", "GET / HTTP/1.1\r\n\r\n", 400),
    (
        "no host beside absolute form",
        "GET http://a/ HTTP/1.1\r\n\r\n",
        400,
    ),
    (
        "two hosts",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        400,
    ),
    (
        "equal hosts twice",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        400,
    ),
    ("empty host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
    ("host with path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
    ("host with user", "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400),
    (
        "host with space",
        "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        400,
    ),
    (
        "host with escape",
        "GET / HTTP/1.1\r\nHost: a%2fb\r\n\r\n",
        400,
    ),
    ("host list", "GET / HTTP/1.1\r\nHost: a:80, b\r\n\r\n", 400),
    (
        "host with bad port",
        "GET / HTTP/1.1\r\nHost: a:x\r\n\r\n",
        400,
    ),
    (
        "host with large port",
        "GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n",
        400,
    ),
    (
        "host with bad IPv6",
        "GET / HTTP/1.1\r\nHost: [::g]\r\n\r\n",
        400,
    ),
    ("host only port", "GET / HTTP/1.1\r\nHost: :80\r\n\r\n", 400),
    (
        "NUL in value",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
        400,
    ),
    (
        "DEL in value",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\x7fb\r\n\r\n",
        400,
    ),
    ("NUL in target", "GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (
        "fragment in target",
        "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
        400,
    ),
    (
        "space in target",
        "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
        400,
    ),
    ("two spaces", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (
        "tab as separator",
        "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
        400,
    ),
    ("trailing space", "GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400),
    ("no version", "GET /\r\nHost: a\r\n\r\n", 400),
    (
        "lower-case method",
        "get / HTTP/1.1\r\nHost: a\r\n\r\n",
        400,
    ),
    (
        "lower-case protocol",
        "GET / http/1.1\r\nHost: a\r\n\r\n",
        400,
    ),
    ("odd version", "GET / HTTP/1.10\r\nHost: a\r\n\r\n", 400),
    ("version 2", "GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    ("version 1.2", "GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505),
    ("HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    ("relative target", "GET a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("asterisk", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (
        "foreign scheme",
        "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        400,
    ),
    (
        "absolute form with user",
        "GET http://u:p@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        400,
    ),
    (
        "absolute form without host",
        "GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n",
        400,
    ),
    ("connect", "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", 405),
    ("trace", "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405),
    ("garbage", "\x16\x03\x01\x02\0\x01\0\r\n\r\n", 400),
    ("garbage without end", "\x16\x03\x01\x02\0\x01\0", 400),
    (
        "two empty lines",
        "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        400,
    ),
    ("bare LF first", "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
];

/// Name, bytes, what the service saw of each request.
pub(crate) const ACCEPTED: &[(&str, &str, &[&str])] = &[
    (
        "plain",
        "GET /x?y HTTP/1.1\r\nHost: a:80\r\n\r\n",
        &["GET /x?y host=a:80 body=0:"],
    ),
    (
        "one empty line first",
        "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        &["GET / host=a body=0:"],
    ),
    (
        "IPv6 host",
        "GET / HTTP/1.1\r\nHost: [::1]:8000\r\n\r\n",
        &["GET / host=[::1]:8000 body=0:"],
    ),
    (
        "1.0 without host",
        "GET / HTTP/1.0\r\n\r\n",
        &["GET / host= body=0:"],
    ),
    (
        "absolute form wins over host",
        "GET http://b:81/p?q HTTP/1.1\r\nHost: a\r\n\r\n",
        &["GET /p?q host=b:81 body=0:"],
    ),
    (
        "absolute form without path",
        "GET http://b HTTP/1.1\r\nHost: a\r\n\r\n",
        &["GET / host=b body=0:"],
    ),
    (
        "absolute form with only a query",
        "GET http://b?q HTTP/1.1\r\nHost: a\r\n\r\n",
        &["GET /?q host=b body=0:"],
    ),
    (
        "leading zero length",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 003\r\n\r\nabc",
        &["POST / host=a body=3:abc"],
    ),
    (
        "chunked",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\nA;x=\"y\"\r\n0123456789\r\n0\r\nX: y\r\n\r\n",
        &["POST / host=a body=13:abc0123456789"],
    ),
    (
        "empty chunked",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n",
        &["POST / host=a body=0:", "GET /2 host=a body=0:"],
    ),
    (
        "pipeline with bodies",
        "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nGET POST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\nGET /3 HTTP/1.1\r\nHost: a\r\n\r\n",
        &[
            "POST /1 host=a body=4:GET ",
            "POST /2 host=a body=1:x",
            "GET /3 host=a body=0:",
        ],
    ),
    (
        "CRLF behind a body",
        "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n",
        &["POST /1 host=a body=1:x", "GET /2 host=a body=0:"],
    ),
    (
        "refused upgrade",
        "GET /1 HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n",
        &["GET /1 host=a body=0:", "GET /2 host=a body=0:"],
    ),
    (
        "quirky target",
        "GET /a|b\"{}^\\ HTTP/1.1\r\nHost: a\r\n\r\n",
        &["GET /a|b%22{}^\\ host=a body=0:"],
    ),
    (
        "UTF-8 target",
        "GET /\u{e4} HTTP/1.1\r\nHost: a\r\n\r\n",
        &["GET /%C3%A4 host=a body=0:"],
    ),
    (
        "escaped target in a pipeline",
        "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2?q=\"<`>\" HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n\"<>`GET /3\" HTTP/1.1\r\nHost: a\r\n\r\nGET /4 HTTP/1.1\r\nHost: a\r\n\r\n",
        &[
            "GET /1 host=a body=0:",
            "POST /2?q=%22%3C%60%3E%22 host=a body=4:\"<>`",
            "GET /3%22 host=a body=0:",
            "GET /4 host=a body=0:",
        ],
    ),
    (
        "odd method",
        "M-SEARCH / HTTP/1.1\r\nHost: a\r\n\r\n",
        &["M-SEARCH / host=a body=0:"],
    ),
    (
        "odd host",
        "GET / HTTP/1.1\r\nHost: a_b.example.\r\n\r\n",
        &["GET / host=a_b.example. body=0:"],
    ),
    (
        "latin-1 value",
        "GET / HTTP/1.1\r\nHost: a\r\nX: \u{e9}\t\r\n\r\n",
        &["GET / host=a body=0:"],
    ),
];

/// Name, chunked body.
pub(crate) const BROKEN_CHUNKS: &[(&str, &str)] = &[
    ("no digits", "\r\nabc\r\n0\r\n\r\n"),
    ("sign", "+3\r\nabc\r\n0\r\n\r\n"),
    ("prefix", "0x3\r\nabc\r\n0\r\n\r\n"),
    ("space before", " 3\r\nabc\r\n0\r\n\r\n"),
    ("space behind", "3 \r\nabc\r\n0\r\n\r\n"),
    ("bare LF behind size", "3\nabc\r\n0\r\n\r\n"),
    ("bare CR behind size", "3\rabc\r\n0\r\n\r\n"),
    ("bare LF behind data", "3\r\nabc\n0\r\n\r\n"),
    ("data too long", "3\r\nabcd\r\n0\r\n\r\n"),
    ("size overflows", "fffffffffffffffff\r\nabc\r\n0\r\n\r\n"),
    ("control in extension", "3;a\0\r\nabc\r\n0\r\n\r\n"),
    ("bare LF in extension", "3;a\nb\r\nabc\r\n0\r\n\r\n"),
    ("folded trailer", "0\r\nX: y\r\n z\r\n\r\n"),
    ("trailer without colon", "0\r\nfoo\r\n\r\n"),
    ("bare LF trailer", "0\r\nX: y\n\r\n"),
    ("bare LF end", "0\r\n\n"),
];
