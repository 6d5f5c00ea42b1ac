//! Answers of upstreams as bytes, well formed and not: what the client gets, and that nothing of them is
//! taken for the answer to another request.

use std::sync::{Arc, Mutex};

use o28m_testkit::{RawUpstream, Wire};

use crate::{get, platform_to};

/// What the upstream does behind its answer.
#[derive(Clone, Copy, Debug)]
enum Behind {
    /// Waits for another request.
    Wait,
    Finish,
    Reset,
}

use Behind::{Finish, Reset, Wait};

/// What the client gets.
#[derive(Clone, Copy, Debug)]
enum Outcome {
    /// Status and body, whole.
    Whole(u16, &'static str),
    /// A head with 200 and less than the whole body, or nothing.
    Broken,
    /// The error of ours for an answer that is none.
    Bad,
}

use Outcome::{Bad, Broken, Whole};

/// Name, answer with `¶` as the end of a line, what comes behind it, and what the client gets.
const ANSWERS: &[(&str, &str, Behind, Outcome)] = &[
    (
        "length",
        "HTTP/1.1 200 OK¶Content-Length: 3¶¶abc",
        Wait,
        Whole(200, "abc"),
    ),
    (
        "length 0",
        "HTTP/1.1 200 OK¶Content-Length: 0¶¶",
        Wait,
        Whole(200, ""),
    ),
    (
        "chunked",
        "HTTP/1.1 200 OK¶Transfer-Encoding: chunked¶¶1¶a¶2;x¶bc¶0¶¶",
        Wait,
        Whole(200, "abc"),
    ),
    (
        "padded sizes",
        "HTTP/1.1 200 OK¶Transfer-Encoding: chunked¶¶3  ¶abc¶0 ¶¶",
        Wait,
        Whole(200, "abc"),
    ),
    (
        "until close",
        "HTTP/1.1 200 OK¶¶abc",
        Finish,
        Whole(200, "abc"),
    ),
    (
        "nothing until close",
        "HTTP/1.1 200 OK¶¶",
        Finish,
        Whole(200, ""),
    ),
    (
        "HTTP/1.0",
        "HTTP/1.0 200 OK¶¶abc",
        Finish,
        Whole(200, "abc"),
    ),
    (
        "HTTP/1.0 that stays",
        "HTTP/1.0 200 OK¶Connection: keep-alive¶Content-Length: 3¶¶abc",
        Wait,
        Whole(200, "abc"),
    ),
    (
        "no reason",
        "HTTP/1.1 200¶Content-Length: 3¶¶abc",
        Wait,
        Whole(200, "abc"),
    ),
    (
        "empty reason",
        "HTTP/1.1 200 ¶Content-Length: 3¶¶abc",
        Wait,
        Whole(200, "abc"),
    ),
    (
        "reason beyond ASCII",
        "HTTP/1.1 200 \u{e4}¶Content-Length: 3¶¶abc",
        Wait,
        Whole(200, "abc"),
    ),
    (
        "status nobody knows",
        "HTTP/1.1 299 X¶Content-Length: 3¶¶abc",
        Wait,
        Whole(299, "abc"),
    ),
    (
        "status of no class",
        "HTTP/1.1 999 X¶Content-Length: 3¶¶abc",
        Wait,
        Whole(999, "abc"),
    ),
    (
        "error with a body",
        "HTTP/1.1 500 X¶Content-Length: 3¶¶abc",
        Wait,
        Whole(500, "abc"),
    ),
    (
        "bare LFs",
        "HTTP/1.1 200 OK\nContent-Length: 3\n\nabc",
        Wait,
        Whole(200, "abc"),
    ),
    (
        "empty value",
        "HTTP/1.1 200 OK¶X:¶Content-Length: 3¶¶abc",
        Wait,
        Whole(200, "abc"),
    ),
    (
        "UTF-8 in a value",
        "HTTP/1.1 200 OK¶X: \u{e4}¶Content-Length: 3¶¶abc",
        Wait,
        Whole(200, "abc"),
    ),
    (
        "status of two digits",
        "HTTP/1.1 20 OK¶Content-Length: 3¶¶abc",
        Finish,
        Bad,
    ),
    (
        "status of four digits",
        "HTTP/1.1 2000 OK¶Content-Length: 3¶¶abc",
        Finish,
        Bad,
    ),
    (
        "status below 100",
        "HTTP/1.1 099 X¶Content-Length: 3¶¶abc",
        Finish,
        Bad,
    ),
    (
        "status of letters",
        "HTTP/1.1 OK¶Content-Length: 3¶¶abc",
        Finish,
        Bad,
    ),
    (
        "status with a sign",
        "HTTP/1.1 +20 OK¶Content-Length: 3¶¶abc",
        Finish,
        Bad,
    ),
    (
        "two spaces",
        "HTTP/1.1  200 OK¶Content-Length: 3¶¶abc",
        Finish,
        Bad,
    ),
    (
        "no space",
        "HTTP/1.1200 OK¶Content-Length: 3¶¶abc",
        Finish,
        Bad,
    ),
    (
        "lower case",
        "http/1.1 200 OK¶Content-Length: 3¶¶abc",
        Finish,
        Bad,
    ),
    (
        "version 1.2",
        "HTTP/1.2 200 OK¶Content-Length: 3¶¶abc",
        Finish,
        Bad,
    ),
    (
        "version 2",
        "HTTP/2 200¶Content-Length: 3¶¶abc",
        Finish,
        Bad,
    ),
    ("no version", "200 OK¶Content-Length: 3¶¶abc", Finish, Bad),
    (
        "another protocol",
        "ICY 200 OK¶Content-Length: 3¶¶abc",
        Finish,
        Bad,
    ),
    (
        "empty line first",
        "¶HTTP/1.1 200 OK¶Content-Length: 3¶¶abc",
        Finish,
        Bad,
    ),
    ("garbage", "garbage¶¶", Finish, Bad),
    ("garbage without an end", "garbage", Wait, Bad),
    ("nothing", "", Finish, Bad),
    ("a reset", "", Reset, Bad),
    (
        "half a head",
        "HTTP/1.1 200 OK¶Content-Length: 3",
        Finish,
        Bad,
    ),
    ("half a status line", "HTTP/1.", Reset, Bad),
    (
        "no colon",
        "HTTP/1.1 200 OK¶foo¶Content-Length: 3¶¶abc",
        Finish,
        Bad,
    ),
    (
        "no name",
        "HTTP/1.1 200 OK¶: x¶Content-Length: 3¶¶abc",
        Finish,
        Bad,
    ),
    (
        "space before the colon",
        "HTTP/1.1 200 OK¶Content-Length : 3¶¶abc",
        Finish,
        Bad,
    ),
    (
        "space in a name",
        "HTTP/1.1 200 OK¶X Y: z¶Content-Length: 3¶¶abc",
        Finish,
        Bad,
    ),
    (
        "folded",
        "HTTP/1.1 200 OK¶X: y¶ z¶Content-Length: 3¶¶abc",
        Finish,
        Bad,
    ),
    (
        "NUL in a value",
        "HTTP/1.1 200 OK¶X: \0¶Content-Length: 3¶¶abc",
        Finish,
        Bad,
    ),
    (
        "bare CR in a value",
        "HTTP/1.1 200 OK¶Location: /\rSet-Cookie: evil¶Content-Length: 3¶¶abc",
        Finish,
        Bad,
    ),
    (
        "NUL in the reason",
        "HTTP/1.1 200 O\0K¶Content-Length: 3¶¶abc",
        Finish,
        Bad,
    ),
    (
        "two equal lengths",
        "HTTP/1.1 200 OK¶Content-Length: 3¶Content-Length: 3¶¶abc",
        Wait,
        Whole(200, "abc"),
    ),
    (
        "list of equal lengths",
        "HTTP/1.1 200 OK¶Content-Length: 3, 3¶¶abc",
        Wait,
        Whole(200, "abc"),
    ),
    (
        "two lengths",
        "HTTP/1.1 200 OK¶Content-Length: 3¶Content-Length: 4¶¶abcd",
        Finish,
        Bad,
    ),
    (
        "list of lengths",
        "HTTP/1.1 200 OK¶Content-Length: 3, 4¶¶abcd",
        Finish,
        Bad,
    ),
    (
        "length with a sign",
        "HTTP/1.1 200 OK¶Content-Length: +3¶¶abc",
        Finish,
        Bad,
    ),
    (
        "negative length",
        "HTTP/1.1 200 OK¶Content-Length: -3¶¶abc",
        Finish,
        Bad,
    ),
    (
        "empty length",
        "HTTP/1.1 200 OK¶Content-Length:¶¶abc",
        Finish,
        Bad,
    ),
    (
        "hexadecimal length",
        "HTTP/1.1 200 OK¶Content-Length: 0x3¶¶abc",
        Finish,
        Bad,
    ),
    (
        "length over 64 bits",
        "HTTP/1.1 200 OK¶Content-Length: 18446744073709551619¶¶abc",
        Finish,
        Bad,
    ),
    (
        "largest length",
        "HTTP/1.1 200 OK¶Content-Length: 18446744073709551615¶¶abc",
        Finish,
        Broken,
    ),
    (
        "too short a body",
        "HTTP/1.1 200 OK¶Content-Length: 4¶¶abc",
        Finish,
        Broken,
    ),
    (
        "too short a body and a reset",
        "HTTP/1.1 200 OK¶Content-Length: 4¶¶abc",
        Reset,
        Broken,
    ),
    (
        "too long a body",
        "HTTP/1.1 200 OK¶Content-Length: 3¶¶abcHTTP/1.1 200 OK¶Content-Length: 4¶¶evil",
        Wait,
        Whole(200, "abc"),
    ),
    (
        "length and chunked",
        "HTTP/1.1 200 OK¶Content-Length: 30¶Transfer-Encoding: chunked¶¶3¶abc¶0¶¶",
        Wait,
        Whole(200, "abc"),
    ),
    (
        "chunked and length",
        "HTTP/1.1 200 OK¶Transfer-Encoding: chunked¶Content-Length: 3¶¶3¶abc¶0¶¶",
        Wait,
        Whole(200, "abc"),
    ),
    (
        "chunked in HTTP/1.0",
        "HTTP/1.0 200 OK¶Transfer-Encoding: chunked¶¶3¶abc¶0¶¶",
        Wait,
        Whole(200, "abc"),
    ),
    (
        "chunked twice",
        "HTTP/1.1 200 OK¶Transfer-Encoding: chunked, chunked¶¶3¶abc¶0¶¶",
        Finish,
        Bad,
    ),
    (
        "two lines of chunked",
        "HTTP/1.1 200 OK¶Transfer-Encoding: chunked¶Transfer-Encoding: chunked¶¶3¶abc¶0¶¶",
        Finish,
        Bad,
    ),
    (
        "gzip",
        "HTTP/1.1 200 OK¶Transfer-Encoding: gzip¶¶abc",
        Finish,
        Bad,
    ),
    (
        "gzip and chunked",
        "HTTP/1.1 200 OK¶Transfer-Encoding: gzip, chunked¶¶3¶abc¶0¶¶",
        Finish,
        Bad,
    ),
    (
        "identity",
        "HTTP/1.1 200 OK¶Transfer-Encoding: identity¶¶abc",
        Finish,
        Bad,
    ),
    (
        "size of letters",
        "HTTP/1.1 200 OK¶Transfer-Encoding: chunked¶¶x¶abc¶0¶¶",
        Wait,
        Broken,
    ),
    (
        "no size",
        "HTTP/1.1 200 OK¶Transfer-Encoding: chunked¶¶¶abc¶0¶¶",
        Wait,
        Broken,
    ),
    (
        "size with a sign",
        "HTTP/1.1 200 OK¶Transfer-Encoding: chunked¶¶+3¶abc¶0¶¶",
        Wait,
        Broken,
    ),
    (
        "size of 16 digits",
        "HTTP/1.1 200 OK¶Transfer-Encoding: chunked¶¶fffffffffffffff0¶abc¶0¶¶",
        Wait,
        Broken,
    ),
    (
        "too much data",
        "HTTP/1.1 200 OK¶Transfer-Encoding: chunked¶¶3¶abcd¶0¶¶",
        Wait,
        Broken,
    ),
    (
        "bare LF behind a size",
        "HTTP/1.1 200 OK¶Transfer-Encoding: chunked¶¶3\nabc¶0¶¶",
        Wait,
        Broken,
    ),
    (
        "no last chunk",
        "HTTP/1.1 200 OK¶Transfer-Encoding: chunked¶¶3¶abc¶",
        Finish,
        Broken,
    ),
    (
        "half a last chunk",
        "HTTP/1.1 200 OK¶Transfer-Encoding: chunked¶¶3¶abc¶0¶",
        Finish,
        Broken,
    ),
    (
        "trailers nobody asked for",
        "HTTP/1.1 200 OK¶Transfer-Encoding: chunked¶¶3¶abc¶0¶Set-Cookie: evil¶¶",
        Wait,
        Whole(200, "abc"),
    ),
    (
        "trailer that is none",
        "HTTP/1.1 200 OK¶Transfer-Encoding: chunked¶¶3¶abc¶0¶evil¶¶",
        Wait,
        Broken,
    ),
    (
        "garbage behind the last chunk",
        "HTTP/1.1 200 OK¶Transfer-Encoding: chunked¶¶3¶abc¶0¶¶evil",
        Wait,
        Whole(200, "abc"),
    ),
    (
        "an answer behind the last chunk",
        "HTTP/1.1 200 OK¶Transfer-Encoding: chunked¶¶3¶abc¶0¶¶HTTP/1.1 200 OK¶Content-Length: 4¶¶evil",
        Wait,
        Whole(200, "abc"),
    ),
    (
        "interim",
        "HTTP/1.1 100 Continue¶¶HTTP/1.1 200 OK¶Content-Length: 3¶¶abc",
        Wait,
        Whole(200, "abc"),
    ),
    (
        "two interim",
        "HTTP/1.1 103 Early Hints¶Link: </evil>¶¶HTTP/1.1 102 X¶¶HTTP/1.1 200 OK¶Content-Length: 3¶¶abc",
        Wait,
        Whole(200, "abc"),
    ),
    (
        "interim with a length",
        "HTTP/1.1 100 Continue¶Content-Length: 4¶¶HTTP/1.1 200 OK¶Content-Length: 3¶¶abc",
        Wait,
        Whole(200, "abc"),
    ),
    ("interim alone", "HTTP/1.1 100 Continue¶¶", Finish, Bad),
    (
        "a switch nobody asked for",
        "HTTP/1.1 101 Switching Protocols¶Upgrade: websocket¶Connection: upgrade¶¶evil",
        Wait,
        Bad,
    ),
    (
        "204 with a length",
        "HTTP/1.1 204 No Content¶Content-Length: 4¶¶",
        Wait,
        Whole(204, ""),
    ),
    (
        "204 with a body",
        "HTTP/1.1 204 No Content¶Content-Length: 4¶¶evil",
        Wait,
        Whole(204, ""),
    ),
    (
        "204 with an answer behind it",
        "HTTP/1.1 204 No Content¶¶HTTP/1.1 200 OK¶Content-Length: 4¶¶evil",
        Wait,
        Whole(204, ""),
    ),
    (
        "204 that is chunked",
        "HTTP/1.1 204 No Content¶Transfer-Encoding: chunked¶¶4¶evil¶0¶¶",
        Wait,
        Whole(204, ""),
    ),
    (
        "304 with a length",
        "HTTP/1.1 304 Not Modified¶Content-Length: 400¶¶",
        Wait,
        Whole(304, ""),
    ),
    (
        "304 with a body",
        "HTTP/1.1 304 Not Modified¶Content-Length: 4¶¶evil",
        Wait,
        Whole(304, ""),
    ),
    (
        "hop-by-hop headers",
        "HTTP/1.1 200 OK¶Connection: X-Evil, keep-alive¶X-Evil: evil¶Keep-Alive: timeout=evil¶Proxy-Connection: evil¶Content-Length: 3¶¶abc",
        Wait,
        Whole(200, "abc"),
    ),
    (
        "an upgrade that is offered",
        "HTTP/1.1 200 OK¶Upgrade: h2c-evil¶Connection: Upgrade¶Content-Length: 3¶¶abc",
        Wait,
        Whole(200, "abc"),
    ),
];

/// Name, answer to `HEAD`, status.
const LONE_HEADS: &[(&str, &str, u16)] = &[
    ("length of HEAD", "HTTP/1.1 200 OK¶Content-Length: 4¶¶", 200),
    (
        "body of HEAD",
        "HTTP/1.1 200 OK¶Content-Length: 4¶¶evil",
        200,
    ),
    (
        "answer behind HEAD",
        "HTTP/1.1 200 OK¶¶HTTP/1.1 200 OK¶Content-Length: 4¶¶evil",
        200,
    ),
    (
        "chunks of HEAD",
        "HTTP/1.1 200 OK¶Transfer-Encoding: chunked¶¶4¶evil¶0¶¶",
        200,
    ),
    (
        "coding of HEAD",
        "HTTP/1.1 200 OK¶Transfer-Encoding: chunked¶¶",
        200,
    ),
];

type Script = Arc<Mutex<(Vec<u8>, Behind)>>;

/// An upstream that answers `/buffered/row` by a script, and everything else with its own word.
async fn scripted() -> (RawUpstream, Script) {
    let script: Script = Arc::new(Mutex::new((Vec::new(), Wait)));
    let read = script.clone();
    let upstream = RawUpstream::start(move |mut wire, _| {
        let read = read.clone();
        async move {
            while let Some(request) = wire.request().await {
                if !request.line().ends_with("/row") {
                    wire.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext")
                        .await;
                    continue;
                }
                let (answer, behind) = read.lock().unwrap().clone();
                wire.send(answer).await;
                match behind {
                    Wait => {}
                    Finish => return,
                    Reset => return wire.reset(),
                }
            }
        }
    });
    (upstream.await, script)
}

fn bytes(text: &str) -> Vec<u8> {
    text.replace('¶', "\r\n").into_bytes()
}

/// What is wrong with the answer to a client.
async fn check(client: &mut Wire, outcome: Outcome, old: bool) -> Result<(), String> {
    let answer = client.answer("GET").await;
    let told = format!("{answer:?}");
    let right = match (&answer, outcome) {
        (Some(answer), Whole(status, body)) => {
            answer.broken.is_none() && answer.status() == status && answer.body == body.as_bytes()
        }
        (None, Broken) => true,
        (Some(answer), Broken) => {
            // Where nothing else tells, an end in order is a whole answer.
            answer.broken.is_some() && answer.status() == 200
        }
        (Some(answer), Bad) => answer.broken.is_none() && answer.status() == 502,
        (None, _) => false,
    };
    let clean = !told.contains("evil");
    match right && clean {
        true => Ok(()),
        false => Err(format!("{told} for HTTP/1.{}", u8::from(!old))),
    }
}

/// A request of another client gets its own answer.
async fn check_next(proxy: &str) -> Result<(), String> {
    let mut client = Wire::connect(proxy).await;
    let answer = client.ask(&get("/buffered/next")).await;
    match answer.body == b"next" && answer.status() == 200 {
        true => Ok(()),
        false => Err(format!("then {answer:?}")),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_arrive_whole_or_are_seen_to_be_none() {
    let (upstream, script) = scripted().await;
    let platform = platform_to(&upstream.url(), 0).await;
    let proxy = platform.credential("GATEWAY_URL");
    let mut wrong = Vec::new();
    for (name, answer, behind, outcome) in ANSWERS {
        *script.lock().unwrap() = (bytes(answer), *behind);
        for version in ["1.1", "1.0"] {
            let mut client = Wire::connect(proxy).await;
            let request = format!("GET /buffered/row HTTP/{version}\r\nHost: a\r\n\r\n");
            assert!(client.send(&request).await);
            let checked = check(&mut client, *outcome, version == "1.0").await;
            let next = check_next(proxy).await;
            for why in [checked, next].into_iter().filter_map(Result::err) {
                wrong.push(format!("{name}: {why}"));
            }
        }
    }
    for (name, answer, status) in LONE_HEADS {
        *script.lock().unwrap() = (bytes(answer), Wait);
        let mut client = Wire::connect(proxy).await;
        let request = "HEAD /buffered/row HTTP/1.1\r\nHost: a\r\n\r\n";
        assert!(client.send(request).await);
        let answer = client.answer("HEAD").await.unwrap();
        let mut whys = Vec::new();
        if answer.status() != *status || !client.input.is_empty() {
            whys.push(format!("{answer:?}"));
        }
        // The same connection goes on.
        let answer = client.ask(&get("/buffered/next")).await;
        if answer.body != b"next" {
            whys.push(format!("then {answer:?}"));
        }
        wrong.extend(whys.into_iter().map(|why| format!("{name}: {why}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_of_answers_are_bounded() {
    let (upstream, script) = scripted().await;
    let platform = platform_to(&upstream.url(), 0).await;
    let proxy = platform.credential("GATEWAY_URL");
    let line = |length: usize| format!("X: {}\r\n", "x".repeat(length));
    let lines = |count: usize| {
        (0..count)
            .map(|at| format!("X-{at}: y\r\n"))
            .collect::<String>()
    };
    let interim = "HTTP/1.1 100 Continue\r\n\r\n";
    for (name, before, extra, status) in [
        ("large", "", line(60_000), 200),
        ("too large", "", line(70_000), 502),
        ("too large in many lines", "", line(7000).repeat(10), 502),
        ("many lines", "", lines(900), 200),
        ("too many lines", "", lines(1001), 502),
        (
            "some interim answers",
            &*interim.repeat(20),
            String::new(),
            200,
        ),
        (
            "a flood of interim answers",
            &interim.repeat(5000),
            String::new(),
            502,
        ),
    ] {
        let answer = format!("{before}HTTP/1.1 200 OK\r\n{extra}Content-Length: 3\r\n\r\nabc");
        *script.lock().unwrap() = (answer.into_bytes(), Wait);
        let mut client = Wire::connect(proxy).await;
        let answer = client.ask(&get("/buffered/row")).await;
        assert_eq!(answer.status(), status, "{name}");
        check_next(proxy).await.unwrap();
    }
    // One that never ends is not read for ever.
    let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(1024 * 1024));
    *script.lock().unwrap() = (endless.into_bytes(), Wait);
    let mut client = Wire::connect(proxy).await;
    assert_eq!(client.ask(&get("/buffered/row")).await.status(), 502);
    check_next(proxy).await.unwrap();
}
