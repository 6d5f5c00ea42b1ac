//! Clients that leave at every moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use o28m_testkit::{Ended, RawUpstream, Wire, established_to, eventually, pattern};

use crate::{get, platform_to, quiet};

/// What an upstream saw of connections: requests that were whole, heads, and connections that ended.
#[derive(Clone, Default)]
struct Watch {
    whole: Arc<AtomicUsize>,
    begun: Arc<AtomicUsize>,
    ended: Arc<AtomicUsize>,
}

impl Watch {
    fn seen(&self) -> (usize, usize, usize) {
        let load = |it: &AtomicUsize| it.load(Ordering::SeqCst);
        (load(&self.begun), load(&self.whole), load(&self.ended))
    }

    /// An upstream that takes requests and never answers.
    async fn silent(&self) -> RawUpstream {
        let watch = self.clone();
        RawUpstream::start(move |mut wire, _| {
            let watch = watch.clone();
            async move {
                let head = wire.until("\r\n\r\n").await;
                watch.begun.fetch_add(1, Ordering::SeqCst);
                wire.input.splice(..0, head.into_bytes());
                if wire.request().await.is_some() {
                    watch.whole.fetch_add(1, Ordering::SeqCst);
                    wire.end().await;
                }
                watch.ended.fetch_add(1, Ordering::SeqCst);
            }
        })
        .await
    }
}

/// Waits for what an upstream has to see.
async fn sees(watch: &Watch, wanted: (usize, usize, usize)) {
    eventually("the upstream to see it", async || {
        (watch.seen() == wanted).then_some(())
    })
    .await;
}

const LEAVES: [fn(Wire); 2] = [drop, Wire::reset];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaving_during_the_upload_never_reaches_a_buffered_upstream() {
    let watch = Watch::default();
    let upstream = watch.silent().await;
    let platform = platform_to(&upstream.url(), 2).await;
    let proxy = platform.credential("GATEWAY_URL").to_owned();
    // In memory, and on disk.
    for size in [10, 3 * 1024 * 1024] {
        for leave in LEAVES {
            for chunked in [false, true] {
                let mut client = Wire::connect(&proxy).await;
                let framing = match chunked {
                    true => "Transfer-Encoding: chunked".to_owned(),
                    false => format!("Content-Length: {}", size + 1),
                };
                let head = format!("POST /buffered HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n");
                assert!(client.send(head).await);
                if chunked {
                    assert!(client.send(format!("{:x}\r\n", size + 1)).await);
                }
                assert!(client.send(pattern(4, size)).await);
                leave(client);
            }
        }
    }
    quiet(&platform).await;
    assert_eq!(upstream.count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaving_during_the_upload_ends_the_streamed_request() {
    let watch = Watch::default();
    let upstream = watch.silent().await;
    let platform = platform_to(&upstream.url(), 2).await;
    let proxy = platform.credential("GATEWAY_URL").to_owned();
    let mut count = 0;
    for leave in LEAVES {
        for framing in ["Content-Length: 9", "Transfer-Encoding: chunked"] {
            let mut client = Wire::connect(&proxy).await;
            let head = format!("PUT /live HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n");
            assert!(client.send(head).await);
            let half = if framing.starts_with('C') {
                "half"
            } else {
                "4\r\nhalf\r\n"
            };
            assert!(client.send(half).await);
            eventually("the upstream to see it", async || {
                (watch.seen().0 == count + 1).then_some(())
            })
            .await;
            leave(client);
            count += 1;
            sees(&watch, (count, 0, count)).await;
        }
    }
    quiet(&platform).await;
    assert_eq!(upstream.count(), count, "none was sent again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaving_before_the_answer_ends_the_request() {
    let watch = Watch::default();
    let upstream = watch.silent().await;
    let platform = platform_to(&upstream.url(), 2).await;
    let proxy = platform.credential("GATEWAY_URL").to_owned();
    let mut count = 0;
    for leave in LEAVES {
        for path in ["/buffered", "/live"] {
            let mut client = Wire::connect(&proxy).await;
            assert!(client.send(get(path)).await);
            count += 1;
            eventually("the upstream to see it", async || {
                (watch.seen().1 == count).then_some(())
            })
            .await;
            leave(client);
            sees(&watch, (count, count, count)).await;
        }
    }
    quiet(&platform).await;
    assert_eq!(upstream.count(), count, "none was sent again");
}

/// nginx takes the end of the client's half for the end of the client, and so do we.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_finished_sending_has_left() {
    let watch = Watch::default();
    let upstream = watch.silent().await;
    let platform = platform_to(&upstream.url(), 2).await;
    let mut client = Wire::connect(platform.credential("GATEWAY_URL")).await;
    assert!(client.send(get("/buffered")).await);
    sees(&watch, (1, 1, 0)).await;
    client.finish().await;
    assert_eq!(client.end().await, Ended::Finished);
    assert_eq!(client.input, b"");
    sees(&watch, (1, 1, 1)).await;
    quiet(&platform).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaving_during_the_download_frees_the_upstream() {
    let (sent, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (count, over) = (sent.clone(), ended.clone());
    let upstream = RawUpstream::start(move |mut wire, number| {
        let (count, over) = (count.clone(), over.clone());
        async move {
            wire.request().await;
            let chunked = number % 2 == 0;
            let framing = match chunked {
                true => "Transfer-Encoding: chunked",
                false => "Content-Length: 1000000000000",
            };
            wire.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n"))
                .await;
            let piece = pattern(5, 65536);
            let piece = match chunked {
                true => [b"10000\r\n", &*piece, b"\r\n"].concat(),
                false => piece,
            };
            while wire.send(&piece).await {
                count.fetch_add(1, Ordering::SeqCst);
            }
            over.fetch_add(1, Ordering::SeqCst);
        }
    })
    .await;
    let platform = platform_to(&upstream.url(), 2).await;
    let proxy = platform.credential("GATEWAY_URL").to_owned();
    let mut count = 0;
    for leave in LEAVES {
        for _ in 0..2 {
            let mut client = Wire::connect(&proxy).await;
            assert!(client.send(get("/buffered")).await);
            client.until("\r\n\r\n").await;
            while client.input.len() < 1024 * 1024 {
                assert_eq!(client.read().await, None);
            }
            leave(client);
            count += 1;
            eventually("the upstream to be cut off", async || {
                (ended.load(Ordering::SeqCst) == count).then_some(())
            })
            .await;
        }
    }
    quiet(&platform).await;
    assert_eq!(established_to(upstream.address().port()), 0);
    // A client that reads nothing holds the upstream back: what is in between is bounded.
    let before = sent.load(Ordering::SeqCst);
    let mut client = Wire::connect(&proxy).await;
    assert!(client.send(get("/buffered")).await);
    let mut last = before;
    // Whatever is still moving has moved when the count stays the same for a hundred looks.
    let mut same = 0;
    eventually("the upstream to be held back", async || {
        let now = sent.load(Ordering::SeqCst);
        same = if now == last && now > before {
            same + 1
        } else {
            0
        };
        last = now;
        (same == 100).then_some(())
    })
    .await;
    let held = (last - before) * 65536;
    assert!(
        held < 32 * 1024 * 1024,
        "{held} bytes are held for a client that reads nothing"
    );
    drop(client);
    quiet(&platform).await;
}
