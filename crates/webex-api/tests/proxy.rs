//! The client through an HTTP proxy, over in-memory pipes.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::fmt::Write as _;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::SinkExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_tungstenite::tungstenite::Message;
use webex_api::auth::AccessToken;
use webex_api::client::{BoxFuture, BoxIo, Dial, Http, HttpConfig, MercuryConfig, MercurySocket, ProxyDial};
use webex_api::mercury::Output;
use webex_api::{ApiError, Random, Timestamp, Url, device};

/// What the proxy does with a connection once it has read the head of the first request.
#[derive(Clone, Copy, Debug)]
enum Proxy {
    /// Makes a tunnel to a server that answers every request, and closes it after this many.
    Serves(usize),
    /// Makes a tunnel to a Mercury socket.
    Mercury,
    /// Makes a tunnel to a server that it cuts off when the first request has gone by.
    Cuts,
    /// Makes a tunnel in which nothing is ever said.
    Silent,
    /// Answers this and closes.
    Says(&'static str),
    /// Answers nothing and keeps the connection.
    Hangs,
}

/// A network in which there is the proxy alone.
#[derive(Debug)]
struct Network {
    proxy: Proxy,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Dial for Network {
    fn dial<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<BoxIo>> {
        Box::pin(async move {
            if (host, port) != ("proxy.example", 3128) {
                return Err(io::Error::new(io::ErrorKind::NotFound, "no way around the proxy"));
            }
            let (near, far) = duplex(64 * 1024);
            tokio::spawn(serve(self.proxy, far, Arc::clone(&self.heads)));
            Ok(Box::new(near) as BoxIo)
        })
    }
}

async fn head(io: &mut DuplexStream) -> Option<String> {
    let mut text = String::new();
    while !text.ends_with("\r\n\r\n") {
        text.push(char::from(io.read_u8().await.ok()?));
    }
    Some(text)
}

async fn serve(proxy: Proxy, mut io: DuplexStream, heads: Arc<Mutex<Vec<String>>>) {
    let Some(asked) = head(&mut io).await else { return };
    heads.lock().unwrap().push(asked);
    if let Proxy::Says(answer) = proxy {
        return io.write_all(answer.as_bytes()).await.unwrap();
    }
    if !matches!(proxy, Proxy::Hangs) {
        io.write_all(b"HTTP/1.1 200 Connection established\r\nvia: 1.1 proxy\r\n\r\n").await.unwrap();
    }
    match proxy {
        Proxy::Serves(times) => {
            for _ in 0..times {
                let Some(asked) = head(&mut io).await else { return };
                heads.lock().unwrap().push(asked);
                io.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\n{\"devices\":[]}").await.unwrap();
            }
        }
        Proxy::Mercury => {
            let mut socket = tokio_tungstenite::accept_async(io).await.unwrap();
            let ready = r#"{"id":"1","data":{"eventType":"mercury.buffer_state"}}"#;
            socket.send(Message::text(ready)).await.unwrap();
            std::future::pending::<()>().await;
        }
        Proxy::Cuts => drop(head(&mut io).await),
        Proxy::Silent | Proxy::Hangs => std::future::pending().await,
        Proxy::Says(_) => unreachable!("answered above"),
    }
}

/// A way through the proxy, and what the proxy was asked.
fn through(proxy: Proxy) -> (Arc<ProxyDial>, Arc<Mutex<Vec<String>>>) {
    let heads = Arc::default();
    let network = Arc::new(Network { proxy, heads: Arc::clone(&heads) });
    let dial = ProxyDial::new("proxy.example".into(), 3128, network);
    (Arc::new(dial.with_credentials("connector", &"canary-Passwort".to_owned().into())), heads)
}

fn random() -> Random {
    let mut n = 0;
    Random::new(move || {
        n += 1;
        n
    })
}

fn tls() -> Arc<rustls::ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    Arc::new(config.unwrap().with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth())
}

fn client(dial: Arc<dyn Dial>) -> Http {
    let mut config = HttpConfig::new(tls());
    config.dial = dial;
    config.timeout = Duration::from_secs(5);
    Http::new(config, &mut random()).unwrap()
}

async fn ask(http: &Http, base: &str) -> Result<usize, ApiError> {
    let base: Url = base.parse().unwrap();
    Ok(http.send(device::List, &base, None).await?.value.len())
}

/// Everything that a log could show of an error.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = format!("{error:?} | {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        write!(text, ": {cause}").unwrap();
        source = cause.source();
    }
    text
}

#[tokio::test(start_paused = true)]
async fn requests_go_through_one_tunnel_for_each_connection() {
    let (dial, heads) = through(Proxy::Serves(3));
    let http = client(dial);
    for _ in 0..3 {
        assert_eq!(ask(&http, "http://cloud.example:8080/api").await.unwrap(), 0);
    }
    let heads = std::mem::take(&mut *heads.lock().unwrap());
    let [connect, first, _, _] = &heads[..] else { panic!("one tunnel and three requests: {heads:?}") };
    assert_eq!(
        connect,
        "CONNECT cloud.example:8080 HTTP/1.1\r\nhost: cloud.example:8080\r\n\
         proxy-authorization: Basic Y29ubmVjdG9yOmNhbmFyeS1QYXNzd29ydA==\r\n\r\n"
    );
    assert!(first.starts_with("GET /api/devices HTTP/1.1\r\n"), "{first}");
    assert!(!first.contains("proxy-authorization"), "the credentials are the proxy's alone: {first}");
}

#[tokio::test(start_paused = true)]
async fn an_ipv6_address_has_its_brackets() {
    let (dial, heads) = through(Proxy::Serves(1));
    ask(&client(dial), "http://[2001:db8::1]/api").await.unwrap();
    let connect = heads.lock().unwrap()[0].clone();
    assert!(connect.starts_with("CONNECT [2001:db8::1]:80 HTTP/1.1\r\n"), "{connect}");
}

#[tokio::test(start_paused = true)]
async fn a_mercury_socket_goes_through_too() {
    let (dial, heads) = through(Proxy::Mercury);
    let mut config = MercuryConfig::new(tls());
    config.dial = dial;
    let token = AccessToken::try_from("token".to_owned()).unwrap();
    let url = "ws://mercury.example/r1".parse().unwrap();
    let socket = MercurySocket::connect(&config, &url, &token, Timestamp(7), random()).await;
    assert!(matches!(socket.unwrap().next().await, Some(Output::Ready)));
    let connect = heads.lock().unwrap()[0].clone();
    assert!(connect.starts_with("CONNECT mercury.example:80 HTTP/1.1\r\n"), "{connect}");
}

#[tokio::test(start_paused = true)]
async fn why_there_is_no_tunnel_is_told_without_the_credentials() {
    let long = Box::leak(format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(64 * 1024)).into_boxed_str());
    for (proxy, expected) in [
        (
            Proxy::Says("HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n"),
            "cannot connect to cloud.example: proxy proxy.example:3128 refused with status 407 Proxy Authentication Required",
        ),
        (
            Proxy::Says("HTTP/1.1 403 Forbidden\r\n\r\n<html>not that host</html>"),
            "cannot connect to cloud.example: proxy proxy.example:3128 refused with status 403 Forbidden",
        ),
        (
            Proxy::Says("HTTP/1.1 503 No\r\n\r\n"),
            "cannot connect to cloud.example: proxy proxy.example:3128 refused with status 503 Service Unavailable",
        ),
        (Proxy::Says(""), "cannot connect to cloud.example: proxy proxy.example:3128 did not answer: "),
        (
            Proxy::Says("SSH-2.0-rubbish\r\n\r\n"),
            "cannot connect to cloud.example: proxy proxy.example:3128 did not answer: ",
        ),
        (Proxy::Says(long), "cannot connect to cloud.example: proxy proxy.example:3128 did not answer: "),
        (Proxy::Hangs, "cannot connect to cloud.example: timed out"),
    ] {
        let (dial, _) = through(proxy);
        let debug = format!("{dial:?}");
        assert!(!debug.contains("canary") && !debug.contains("Y29ubmVj"), "{debug}");
        let error = ask(&client(dial), "http://cloud.example/api").await.unwrap_err();
        let told = told(&error);
        assert!(told.contains(expected), "{proxy:?}: {told}");
        assert!(!told.contains("canary") && !told.contains("Y29ubmVj"), "{told}");
        assert!(error.is_refusal(), "nothing reached the cloud: {told}");
    }
    let nobody = Network { proxy: Proxy::Hangs, heads: Arc::default() };
    let dial = ProxyDial::new("elsewhere.example".into(), 1, Arc::new(nobody));
    let error = ask(&client(Arc::new(dial)), "http://cloud.example/api").await.unwrap_err();
    assert!(told(&error).contains("proxy elsewhere.example:1 cannot be reached: no way around"), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_dies_mid_way_leaves_what_was_sent_open_and_the_next_request_has_a_new_tunnel() {
    let (dial, heads) = through(Proxy::Serves(1));
    let http = client(dial);
    ask(&http, "http://cloud.example/api").await.unwrap();
    // The tunnel has ended; the next request finds that out before it is sent.
    ask(&http, "http://cloud.example/api").await.unwrap();
    assert_eq!(heads.lock().unwrap().iter().filter(|head| head.starts_with("CONNECT")).count(), 2);

    // It ends with the request on its way: whether that was carried out, nobody knows.
    let (dial, _) = through(Proxy::Cuts);
    let error = ask(&client(dial), "http://cloud.example/api").await.unwrap_err();
    assert!(matches!(error, ApiError::Broken { .. }) && !error.is_refusal(), "{error:?}");
    let (dial, _) = through(Proxy::Silent);
    let error = ask(&client(dial), "http://cloud.example/api").await.unwrap_err();
    assert!(matches!(error, ApiError::Timeout { .. }) && !error.is_refusal(), "{error:?}");
}
