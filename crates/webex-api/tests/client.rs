//! The driver over in-memory pipes, against scripted peers.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_tungstenite::tungstenite::Message;
use webex_api::auth::AccessToken;
use webex_api::client::{
    BoxFuture, BoxIo, Dial, Http, HttpConfig, MercuryConfig, MercuryError, MercurySocket,
};
use webex_api::mercury::{Event, Fate, Output};
use webex_api::{ApiError, Random, Timestamp, Url, device, kms_messages};

/// Hands the far end of every connection to a script.
struct Pipes<F> {
    dialled: AtomicUsize,
    serve: F,
}

impl<F> std::fmt::Debug for Pipes<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pipes")
    }
}

impl<F: Fn(usize, DuplexStream) + Send + Sync> Dial for Pipes<F> {
    fn dial<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<BoxIo>> {
        Box::pin(async move {
            if !["cloud.example", "other.example"].contains(&host) {
                return Err(io::Error::new(io::ErrorKind::NotFound, "no such host"));
            }
            assert_eq!(port, 80);
            let (near, far) = duplex(64 * 1024);
            (self.serve)(self.dialled.fetch_add(1, Ordering::SeqCst), far);
            Ok(Box::new(near) as BoxIo)
        })
    }
}

fn tls() -> Arc<rustls::ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    Arc::new(config.unwrap().with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth())
}

fn random() -> Random {
    let mut n = 0;
    Random::new(move || {
        n += 1;
        n
    })
}

fn client(serve: impl Fn(usize, DuplexStream) + Send + Sync + 'static) -> Http {
    let mut config = HttpConfig::new(tls());
    config.dial = Arc::new(Pipes { dialled: AtomicUsize::new(0), serve });
    config.timeout = Duration::from_secs(5);
    config.connections_per_host = 2;
    config.body_limit = 1024;
    config.user_agent = "test".into();
    Http::new(config, &mut random()).unwrap()
}

/// Reads one request up to its blank line; the requests of these tests have no body.
async fn request(io: &mut DuplexStream) -> Option<String> {
    let mut text = String::new();
    while !text.ends_with("\r\n\r\n") {
        text.push(char::from(io.read_u8().await.ok()?));
    }
    Some(text)
}

fn url(text: &str) -> Url {
    text.parse().unwrap()
}

async fn info(http: &Http) -> Result<(String, Option<Timestamp>), ApiError> {
    let token = AccessToken::try_from("secret-token".to_owned()).unwrap();
    let person = "p1".parse().unwrap();
    let answer =
        http.send(kms_messages::GetInfo(person), &url("http://cloud.example/enc"), Some(&token)).await?;
    Ok((answer.value.kms_cluster.to_string(), answer.date))
}

const GOOD: &str = "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 47\r\n\r\n\
                    {\"kmsCluster\":\"kms://k\",\"rsaPublicKey\":\"k\"}    ";

#[tokio::test(start_paused = true)]
async fn a_request_carries_its_headers_and_brings_the_clouds_clock() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let requests = Arc::clone(&seen);
    let http = client(move |connection, mut io| {
        let requests = Arc::clone(&requests);
        tokio::spawn(async move {
            while let Some(text) = request(&mut io).await {
                requests.lock().unwrap().push((connection, text));
                io.write_all(GOOD.as_bytes()).await.unwrap();
            }
        });
    });
    for _ in 0..2 {
        let answer = info(&http).await.unwrap();
        assert_eq!(answer, ("kms://k".to_owned(), Some(Timestamp(784_111_777_000))));
    }
    let seen = seen.lock().unwrap();
    let [(0, first), (0, second)] = &seen[..] else { panic!("two requests on one connection: {seen:?}") };
    assert!(first.starts_with("GET /enc/kms/p1 HTTP/1.1\r\n"), "{first}");
    for header in [
        "host: cloud.example\r\n",
        "user-agent: test\r\n",
        "authorization: Bearer secret-token\r\n",
        "trackingid: test_00000000-0000-4001-8000-000000000002_1\r\n",
    ] {
        assert!(first.to_lowercase().contains(&header.to_lowercase()), "{header} in {first}");
    }
    assert!(second.contains("000000000002_2\r\n"), "each request has its own tracking id");
}

#[tokio::test(start_paused = true)]
async fn a_kept_connection_that_the_cloud_closed_is_replaced() {
    let http = client(|_, mut io| {
        tokio::spawn(async move {
            request(&mut io).await;
            io.write_all(GOOD.as_bytes()).await.unwrap();
        });
    });
    for _ in 0..3 {
        info(&http).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn connections_to_a_host_are_bounded() {
    let open = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let (now, peak) = (Arc::clone(&open), Arc::clone(&most));
    let http = client(move |_, mut io| {
        let (now, peak) = (Arc::clone(&now), Arc::clone(&peak));
        tokio::spawn(async move {
            peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            while request(&mut io).await.is_some() {
                tokio::time::sleep(Duration::from_millis(100)).await;
                io.write_all(GOOD.as_bytes()).await.unwrap();
            }
            now.fetch_sub(1, Ordering::SeqCst);
        });
    });
    let answers = futures_util::future::join_all((0..7).map(|_| info(&http))).await;
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(most.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn requests_to_a_host_keep_to_its_budget_and_those_to_another_do_not_wait() {
    let mut config = HttpConfig::new(tls());
    let serve = |_: usize, mut io: DuplexStream| {
        tokio::spawn(async move {
            while request(&mut io).await.is_some() {
                io.write_all(GOOD.as_bytes()).await.unwrap();
            }
        });
    };
    config.dial = Arc::new(Pipes { dialled: AtomicUsize::new(0), serve });
    config.timeout = Duration::from_millis(5_100);
    config.requests_per_second = std::num::NonZeroU32::new(4);
    let http = Http::new(config, &mut random()).unwrap();
    let begin = tokio::time::Instant::now();
    let ask = |host: &str| {
        let base = url(&format!("http://{host}/enc"));
        let http = http.clone();
        async move {
            let token = AccessToken::try_from("secret-token".to_owned()).unwrap();
            let ask = kms_messages::GetInfo("p1".parse().unwrap());
            let answer = http.send(ask, &base, Some(&token)).await;
            (answer.is_ok(), begin.elapsed().as_millis())
        }
    };
    let many = futures_util::future::join_all((0..30).map(|_| ask("cloud.example")));
    let (many, other) = tokio::join!(many, ask("other.example"));
    assert_eq!(other, (true, 0));
    let (answered, refused): (Vec<_>, Vec<_>) = many.into_iter().partition(|(ok, _)| *ok);
    let times: Vec<_> = answered.into_iter().map(|(_, at)| at).collect();
    // Four at once, then one every quarter of a second; who would have to wait for too long is told so now.
    let expected: Vec<_> = (0..24).map(|n: u128| n.saturating_sub(3) * 250).collect();
    assert_eq!(times, expected);
    assert_eq!(refused, [(false, 0); 6]);
    // What was not used is there again, but no more than a second's.
    tokio::time::sleep(Duration::from_secs(60)).await;
    let begin = tokio::time::Instant::now();
    futures_util::future::join_all((0..5).map(|_| ask("cloud.example"))).await;
    assert_eq!(begin.elapsed().as_millis(), 250);
}

#[tokio::test(start_paused = true)]
async fn what_was_not_sent_and_what_was_not_answered_are_told_apart() {
    let scripts = Mutex::new(VecDeque::from([
        ("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n".to_owned(), "503 Service Unavailable: ", false),
        ("HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n".to_owned(), "404 Not Found: ", true),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{\"cut".to_owned(),
            "connection to cloud.example broke",
            false,
        ),
        ("rubbish\r\n\r\n".to_owned(), "connection to cloud.example broke", false),
        (String::new(), "connection to cloud.example broke", false),
        (
            format!("HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n{}", "x".repeat(2000)),
            "answer is longer than 1024 bytes",
            false,
        ),
    ]));
    while let Some((script, text, refused)) = { scripts.lock().unwrap().pop_front() } {
        let http = client(move |_, mut io| {
            let script = script.clone();
            tokio::spawn(async move {
                request(&mut io).await;
                io.write_all(script.as_bytes()).await.unwrap();
            });
        });
        let error = info(&http).await.unwrap_err();
        assert_eq!((error.to_string().as_str(), error.is_refusal()), (text, refused));
    }

    let silent = client(|_, mut io| {
        tokio::spawn(async move {
            request(&mut io).await;
            std::future::pending::<()>().await;
        });
    });
    let error = info(&silent).await.unwrap_err();
    assert_eq!(error.to_string(), "no answer from cloud.example in time");
    assert!(!error.is_refusal());

    let answer = silent.send(device::List, &url("http://elsewhere.example"), None).await;
    let error = answer.unwrap_err();
    assert_eq!(error.to_string(), "cannot connect to elsewhere.example");
    assert!(error.is_refusal(), "nothing was sent");
}

#[tokio::test(start_paused = true)]
async fn tls_without_a_trusted_certificate_sends_nothing() {
    let http = client(|_, _| {});
    let base = url("https://cloud.example:80/api");
    let error = http.send(device::List, &base, None).await.unwrap_err();
    assert!(matches!(error, ApiError::Connect { .. }), "{error}");
}

async fn mercury(
    serve: impl Fn(usize, DuplexStream) + Send + Sync + 'static,
) -> Result<MercurySocket, MercuryError> {
    let mut config = MercuryConfig::new(tls());
    config.dial = Arc::new(Pipes { dialled: AtomicUsize::new(0), serve });
    config.message_limit = 4096;
    let token = AccessToken::try_from("secret-token".to_owned()).unwrap();
    MercurySocket::connect(&config, &url("ws://cloud.example/r1"), &token, Timestamp(7), random()).await
}

#[tokio::test(start_paused = true)]
async fn a_mercury_socket_from_its_opening_to_its_end() {
    let (heard, mut hears) = tokio::sync::mpsc::unbounded_channel();
    let mut socket = mercury(move |_, io| {
        let heard = heard.clone();
        tokio::spawn(async move {
            let mut peer = tokio_tungstenite::accept_async(io).await.unwrap();
            let next = async |peer: &mut tokio_tungstenite::WebSocketStream<DuplexStream>| {
                let text = peer.next().await.unwrap().unwrap().into_text().unwrap().to_string();
                heard.send(text).unwrap();
            };
            next(&mut peer).await;
            for text in [
                r#"{"id":"r","sequenceNumber":1,"data":{"eventType":"mercury.buffer_state"}}"#,
                r#"{"id":"e","sequenceNumber":3,"data":{"eventType":"conversation.activity",
                    "activity":{"id":"a","verb":"post"}}}"#,
            ] {
                peer.send(Message::text(text)).await.unwrap();
            }
            for _ in ["ack of readiness", "ping", "ack of the activity"] {
                next(&mut peer).await;
            }
            peer.send(Message::text("not json")).await.unwrap();
            peer.close(None).await.unwrap();
        });
    })
    .await
    .unwrap();
    assert!(matches!(socket.next().await, Some(Output::Ready)));
    assert!(matches!(socket.next().await, Some(Output::Gap)));
    let Some(Output::Event(envelope)) = socket.next().await else { panic!("an event") };
    assert!(matches!(envelope.event, Event::Activity(_)));
    socket.acknowledge(envelope.id.as_ref().unwrap());
    assert!(matches!(socket.next().await, Some(Output::Gap)), "a frame that is no JSON");
    assert!(matches!(socket.next().await, Some(Output::Closed(Fate::Reconnect))));
    assert!(socket.next().await.is_none());
    let mut said = Vec::new();
    while let Some(text) = hears.recv().await {
        said.push(text);
    }
    assert!(said[0].contains(r#""token":"Bearer secret-token""#));
    assert_eq!(said[1], r#"{"messageId":"r","type":"ack"}"#);
    assert!(said[2].contains(r#""type":"ping""#));
    assert_eq!(said[3], r#"{"messageId":"e","type":"ack"}"#);
}

#[tokio::test(start_paused = true)]
async fn a_silent_mercury_peer_is_noticed() {
    let mut socket = mercury(|_, io| {
        tokio::spawn(async move {
            let _peer = tokio_tungstenite::accept_async(io).await.unwrap();
            std::future::pending::<()>().await;
        });
    })
    .await
    .unwrap();
    // Cancelling over and over, as a loop with other work does, must neither lose nor delay anything.
    let started = tokio::time::Instant::now();
    let told = loop {
        tokio::select! {
            biased;
            told = socket.next() => break told,
            () = tokio::time::sleep(Duration::from_millis(700)) => {}
        }
    };
    assert!(matches!(told, Some(Output::Closed(Fate::Reconnect))), "{told:?}");
    assert_eq!(started.elapsed().as_secs(), 30, "the wait for readiness, neither shorter nor longer");
}

#[tokio::test(start_paused = true)]
async fn a_frame_over_the_limit_closes_the_socket() {
    let mut socket = mercury(|_, io| {
        tokio::spawn(async move {
            let mut peer = tokio_tungstenite::accept_async(io).await.unwrap();
            peer.send(Message::text("x".repeat(5000))).await.unwrap();
            std::future::pending::<()>().await;
        });
    })
    .await
    .unwrap();
    assert!(matches!(socket.next().await, Some(Output::Closed(Fate::Reconnect))));
}

#[tokio::test(start_paused = true)]
async fn a_refused_websocket_tells_its_status() {
    for (status, fate) in [(401, Fate::NewToken), (404, Fate::Renew), (503, Fate::Reconnect)] {
        let error = mercury(move |_, mut io| {
            tokio::spawn(async move {
                request(&mut io).await;
                let answer = format!("HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n");
                io.write_all(answer.as_bytes()).await.unwrap();
            });
        })
        .await
        .unwrap_err();
        assert!(matches!(error, MercuryError::Refused(_)), "{error}");
        assert_eq!(error.fate(), fate, "{status}");
    }
}

/// A piece of a file.
const PIECE: usize = 64 * 1024;

#[tokio::test(start_paused = true)]
async fn a_file_goes_up_in_pieces_and_in_nobodys_name() {
    let (told, head) = tokio::sync::oneshot::channel();
    let told = Mutex::new(Some(told));
    let http = client(move |_, mut io| {
        let told = told.lock().unwrap().take().unwrap();
        tokio::spawn(async move {
            let head = request(&mut io).await.unwrap();
            let mut bytes = vec![0; 3 * PIECE];
            io.read_exact(&mut bytes).await.unwrap();
            io.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
            told.send((head, bytes)).unwrap();
        });
    });
    let pieces = futures_util::stream::iter((0..3).map(|n| Ok(bytes::Bytes::from(vec![n; PIECE]))));
    http.upload(&url("http://cloud.example/u"), 3 * PIECE as u64, pieces).await.unwrap();
    let (head, bytes) = head.await.unwrap();
    assert!(head.starts_with("PUT /u HTTP/1.1\r\n"), "{head}");
    assert!(head.to_lowercase().contains("content-length: 196608\r\n"), "{head}");
    assert!(!head.to_lowercase().contains("authorization"), "{head}");
    assert_eq!(bytes, [[0; PIECE], [1; PIECE], [2; PIECE]].concat());
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_cannot_be_read_or_is_not_taken_ends_with_an_error() {
    let upload = |take: bool, pieces: Vec<io::Result<bytes::Bytes>>| async move {
        let http = client(move |_, mut io| {
            tokio::spawn(async move {
                let mut sink = vec![0; PIECE];
                while take && io.read(&mut sink).await.is_ok_and(|n| n > 0) {}
                std::future::pending::<()>().await;
            });
        });
        let pieces = futures_util::stream::iter(pieces);
        http.upload(&url("http://cloud.example/u"), 2 * PIECE as u64, pieces).await.unwrap_err().to_string()
    };
    let piece = || Ok(bytes::Bytes::from(vec![0; PIECE]));
    let unread = || Err(io::Error::other("unreadable"));
    assert_eq!(upload(true, vec![piece(), unread()]).await, "connection to cloud.example broke");
    assert_eq!(upload(true, vec![piece()]).await, "connection to cloud.example broke", "too short");
    assert_eq!(upload(false, vec![piece(), piece()]).await, "no answer from cloud.example in time");
}

#[tokio::test(start_paused = true)]
async fn a_file_comes_down_in_pieces_however_long_it_is() {
    // Far above the limit of an answer, which is 1 KiB here.
    const LENGTH: usize = 20 * PIECE;
    let served = Arc::new(AtomicUsize::new(0));
    let connections = Arc::clone(&served);
    let http = client(move |connection, mut io| {
        connections.store(connection + 1, Ordering::SeqCst);
        tokio::spawn(async move {
            while request(&mut io).await.is_some() {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n");
                io.write_all(head.as_bytes()).await.unwrap();
                for n in 0..20 {
                    io.write_all(&[n; PIECE]).await.unwrap();
                }
            }
        });
    });
    for _ in 0..2 {
        let mut file = http.download(&url("http://cloud.example/f"), None).await.unwrap();
        assert_eq!(file.length(), Some(LENGTH as u64));
        let (mut all, mut longest) = (Vec::new(), 0);
        while let Some(piece) = file.piece().await.unwrap() {
            longest = longest.max(piece.len());
            all.extend_from_slice(&piece);
        }
        assert!(all.chunks(PIECE).zip(0..).all(|(piece, n)| piece == [n; PIECE]) && all.len() == LENGTH);
        assert!(longest < 1024 * 1024, "{longest}");
        assert!(file.piece().await.unwrap().is_none(), "the end stays the end");
    }
    assert_eq!(served.load(Ordering::SeqCst), 1, "a connection is kept after a whole file");
}

#[tokio::test(start_paused = true)]
async fn a_file_that_breaks_off_stalls_or_is_refused_is_an_error() {
    for (script, expected) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", "connection to cloud.example broke"),
        ("HTTP/1.1 403 No\r\nContent-Length: 16\r\n\r\n{\"message\":\"no\"}", "403 Forbidden: no"),
    ] {
        let http = client(move |_, mut io| {
            tokio::spawn(async move {
                request(&mut io).await;
                io.write_all(script.as_bytes()).await.unwrap();
            });
        });
        let fetched = async {
            let mut file = http.download(&url("http://cloud.example/f"), None).await?;
            while file.piece().await?.is_some() {}
            Ok::<_, ApiError>(())
        };
        assert_eq!(fetched.await.unwrap_err().to_string(), expected);
    }
    let http = client(|_, mut io| {
        tokio::spawn(async move {
            request(&mut io).await;
            io.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").await.unwrap();
            std::future::pending::<()>().await;
        });
    });
    let mut file = http.download(&url("http://cloud.example/f"), None).await.unwrap();
    assert_eq!(file.piece().await.unwrap().unwrap(), "half");
    assert_eq!(file.piece().await.unwrap_err().to_string(), "no answer from cloud.example in time");
}
