//! The framing guard against raw bytes: what is refused, what passes, how a head may be cut.

use crate::corpus::{ACCEPTED, BROKEN_CHUNKS, REFUSED};
use crate::support::*;
use http::Response;
use o28m_net::Body;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test]
async fn proxy_case_037_smuggling_shapes_get_one_answer_and_no_service() {
    for (name, request, status) in REFUSED {
        let server = Server::start(echo);
        let answer = raw(server.address, request.as_bytes()).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{name}: {answer}"
        );
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{name}: {answer}");
        assert!(
            answer.to_ascii_lowercase().contains("connection: close"),
            "{name}: {answer}"
        );
        assert_eq!(server.calls(), 0, "{name}");
        assert_eq!(server.rejections().len(), 1, "{name}");
    }
}

#[tokio::test]
async fn refused_requests_end_a_pipeline_in_order() {
    for (name, request, status) in REFUSED {
        let server = Server::start(echo);
        let bytes = format!(
            "POST /one HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /two HTTP/1.1\r\nHost: a\r\n\r\n{request}GET /three HTTP/1.1\r\nHost: a\r\n\r\n"
        );
        // An empty line before a request is skipped once, so these shapes are only bad at the start.
        let answer = raw(server.address, bytes.as_bytes()).await;
        let one = answer
            .find("POST /one host=a body=3:abc")
            .unwrap_or_else(|| panic!("{name}: {answer}"));
        let two = answer
            .find("GET /two host=a")
            .unwrap_or_else(|| panic!("{name}: {answer}"));
        let end = answer
            .find(&format!("HTTP/1.1 {status} "))
            .unwrap_or_else(|| panic!("{name}: {answer}"));
        assert!(one < two && two < end, "{name}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 3, "{name}: {answer}");
        assert_eq!(server.calls(), 2, "{name}");
    }
}

async fn ends_after(address: std::net::SocketAddr, pieces: impl Iterator<Item = &[u8]>) -> String {
    patiently("an answer", async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        for piece in pieces {
            stream.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        stream
            .write_all(b"GET /end HTTP/1.1\r\nHost: end\r\nConnection: close\r\n\r\n")
            .await
            .unwrap();
        read_all(&mut stream).await
    })
    .await
}

fn assert_accepted(name: &str, answer: &str, wanted: &[&str]) {
    let mut rest = answer;
    for wanted in wanted {
        let at = rest
            .find(wanted)
            .unwrap_or_else(|| panic!("{name}: {wanted} not in {answer}"));
        rest = &rest[at + wanted.len()..];
    }
    if !name.starts_with("1.0") {
        assert!(rest.contains("GET /end host=end"), "{name}: {answer}");
    }
}

#[tokio::test]
async fn sound_requests_pass_whole() {
    let server = Server::start(echo);
    for (name, request, wanted) in ACCEPTED {
        let answer = ends_after(server.address, std::iter::once(request.as_bytes())).await;
        assert_accepted(name, &answer, wanted);
    }
}

#[tokio::test]
async fn sound_requests_pass_byte_by_byte() {
    let server = Server::start(echo);
    for (name, request, wanted) in ACCEPTED {
        let answer = ends_after(server.address, request.as_bytes().chunks(1)).await;
        assert_accepted(name, &answer, wanted);
    }
}

#[tokio::test]
async fn sound_requests_pass_cut_anywhere() {
    let server = Server::start(echo);
    let request = "POST /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4;e\r\nabcd\r\n0\r\nT: u\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n";
    for cut in 1..request.len() {
        let (one, two) = request.as_bytes().split_at(cut);
        let answer = ends_after(server.address, [one, two].into_iter()).await;
        assert_accepted(
            &format!("cut at {cut}"),
            &answer,
            &["POST /1 host=a body=4:abcd", "GET /2 host=a"],
        );
    }
}

#[tokio::test]
async fn refused_requests_are_refused_byte_by_byte() {
    for (name, request, status) in REFUSED {
        let server = Server::start(echo);
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        for piece in request.as_bytes().chunks(1) {
            if stream.write_all(piece).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        let answer = patiently(name, read_all(&mut stream)).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{name}: {answer}"
        );
        assert_eq!(server.calls(), 0, "{name}");
    }
}

#[tokio::test]
async fn broken_chunks_fail_the_body_and_nothing_behind_them_is_read() {
    for (name, body) in BROKEN_CHUNKS {
        let server = Server::start(echo);
        let request = format!(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
        );
        let answer = raw(server.address, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{name}: {answer}");
        assert!(!answer.contains("smuggled"), "{name}: {answer}");
        assert_eq!(server.calls(), 1, "{name}");
    }
}

#[tokio::test]
async fn chunk_extensions_and_trailers_are_bounded() {
    let long = "x".repeat(20_000);
    for body in [
        format!("3;{long}\r\nabc\r\n0\r\n\r\n"),
        format!("0\r\nX: {long}\r\n\r\n"),
        "1;a\r\nx\r\n".repeat(20_000) + "0\r\n\r\n",
    ] {
        let server = Server::start(echo);
        let request =
            format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        let answer = raw(server.address, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
}

#[tokio::test]
async fn proxy_case_036_oversize_heads_are_named() {
    let long = "x".repeat(9000);
    let lines = |count: usize| {
        (0..count)
            .map(|n| format!("X-{n}: y\r\n"))
            .collect::<String>()
    };
    let cases = [
        (
            "request line",
            format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"),
            414,
            false,
        ),
        (
            "request line without end",
            format!("GET /{long}"),
            414,
            false,
        ),
        (
            "header line",
            format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n"),
            400,
            true,
        ),
        (
            "header line without end",
            format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}"),
            400,
            true,
        ),
        (
            "all lines",
            format!(
                "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
                format!("X: {}\r\n", "y".repeat(7000)).repeat(5)
            ),
            400,
            true,
        ),
        (
            "many lines",
            format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", lines(1000)),
            400,
            true,
        ),
    ];
    for (name, request, status, too_large) in cases {
        let server = Server::start(echo);
        let answer = raw(server.address, request.as_bytes()).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{name}: {answer}"
        );
        let rejections = server.rejections();
        assert_eq!(
            rejections[0].1 == o28m_net::Rejection::TOO_LARGE,
            too_large,
            "{name}"
        );
        assert_eq!(server.calls(), 0);
    }
    let server = Server::start(echo);
    for request in [
        format!(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{}\r\n",
            lines(998)
        ),
        format!(
            "GET /{} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            "x".repeat(8192 - 16)
        ),
        format!(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{}\r\n",
            format!("X: {}\r\n", "y".repeat(8000)).repeat(4)
        ),
    ] {
        let answer = raw(server.address, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
}

#[tokio::test]
async fn heads_of_many_lines_are_served_wherever_they_come_on_a_connection() {
    let many: String = (0..300).map(|n| format!("X-{n}: y\r\n")).collect();
    let few = "POST /few HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    let wide = format!("POST /many HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n{many}\r\nabc");
    let last = format!("GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{many}\r\n");

    let server = Server::start(echo);
    let pipelined = format!("{few}{few}{wide}{few}{wide}{last}");
    let answer = raw(server.address, pipelined.as_bytes()).await;
    assert_eq!(answer.matches("HTTP/1.1 200 ").count(), 6, "{answer}");

    let server = Server::start(echo);
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    for request in [few, &wide, few, &wide] {
        // In two pieces, so that the head is judged twice.
        let (head, rest) = request.split_at(request.len() / 2);
        stream.write_all(head.as_bytes()).await.unwrap();
        tokio::task::yield_now().await;
        stream.write_all(rest.as_bytes()).await.unwrap();
        let answer = read_until(&mut stream, "abc").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    assert_eq!(server.calls(), 4);
}

#[tokio::test]
async fn rejections_tell_the_sound_part_of_the_head() {
    let server = Server::start(echo);
    let request = "HEAD /p HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\nX : y\r\nZ: z\r\n\r\n";
    let answer = raw(server.address, request.as_bytes()).await;
    assert!(answer.ends_with("\r\n\r\n"), "HEAD has no body: {answer}");
    assert_eq!(server.rejections()[0].2.as_deref(), Some("HEAD /p 2"));
}

#[tokio::test]
async fn expect_continue_is_answered_when_the_body_is_read() {
    let server = Server::start(|request, connection| async move {
        if request.uri().path() == "/no" {
            let mut response = Response::new(Body::full("refused"));
            *response.status_mut() = http::StatusCode::FORBIDDEN;
            return response;
        }
        echo(request, connection).await
    });
    let head = |path: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 1048576\r\n\r\n"
        )
    };
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(head("/yes").as_bytes()).await.unwrap();
    let answer = read_until(&mut stream, "\r\n\r\n").await;
    assert_eq!(answer, "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(&vec![b'x'; 1_048_576]).await.unwrap();
    let answer = read_until(&mut stream, "body=1048576").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");

    let answer = raw(server.address, head("/no").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1").count(), 1);
}

#[tokio::test]
async fn an_unread_body_does_not_become_a_request() {
    let server = Server::start(|request, _| async move {
        Response::new(Body::full(format!("saw {}", request.uri())))
    });
    let body = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n".repeat(40_000);
    let request = format!(
        "POST /one HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let (mut reader, mut writer) = stream.split();
    let (sent, answer) = patiently("answer", async {
        tokio::join!(
            writer.write_all(request.as_bytes()),
            read_until(&mut reader, "saw /one")
        )
    })
    .await;
    sent.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let mut rest = Vec::new();
    drop(patiently("end", reader.read_to_end(&mut rest)).await);
    assert!(!String::from_utf8_lossy(&rest).contains("smuggled"));
    assert_eq!(server.calls(), 1);
}
