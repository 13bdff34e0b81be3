//! The client over TLS: each version alone, and whom it does not believe. Over in-memory pipes.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::fmt::Write as _;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::SinkExt;
use rcgen::{CertificateParams, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ProtocolVersion, RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::Message;
use webex_api::auth::AccessToken;
use webex_api::client::{
    BoxFuture, BoxIo, Dial, Http, HttpConfig, MercuryConfig, MercuryError, MercurySocket,
};
use webex_api::mercury::Output;
use webex_api::{ApiError, Random, Timestamp, Url, device};

const BOTH: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// An authority, and what it signs.
struct Authority(Issuer<'static, KeyPair>, CertificateDer<'static>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self(Issuer::new(params, key), certificate)
    }

    /// A server with a certificate for this name, valid until this year, that speaks these versions.
    fn server(
        &self,
        name: &str,
        until: i32,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Arc<ServerConfig> {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap().der().clone();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let server =
            ServerConfig::builder_with_provider(provider()).with_protocol_versions(versions).unwrap();
        Arc::new(server.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap())
    }

    /// A client that believes this authority alone.
    fn client(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.1.clone()).unwrap();
        let client =
            ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
        Arc::new(client.with_root_certificates(roots).with_no_client_auth())
    }
}

/// What the far end of a connection does.
#[derive(Clone)]
enum Far {
    Server(Arc<ServerConfig>),
    /// Somebody in between takes the newest version out of what the client offers.
    Downgrades(Arc<ServerConfig>),
    /// Answers the client's greeting with this version, as a server of old would.
    Speaks(u8, u8),
}

/// A network with one far end.
struct Network {
    far: Far,
    seen: Arc<Seen>,
}

/// What the far end has seen.
#[derive(Debug, Default)]
struct Seen {
    version: Mutex<Option<ProtocolVersion>>,
    /// Anything that only whoever has the keys should.
    data: AtomicBool,
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Network")
    }
}

impl Dial for Network {
    fn dial<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<BoxIo>> {
        assert_eq!((host, port), ("cloud.example", 443));
        Box::pin(async move {
            let (near, far) = duplex(64 * 1024);
            let seen = Arc::clone(&self.seen);
            match self.far.clone() {
                Far::Server(config) => drop(tokio::spawn(serve(config, far, seen))),
                Far::Downgrades(config) => {
                    let (inner, server) = duplex(64 * 1024);
                    tokio::spawn(serve(config, server, seen));
                    tokio::spawn(downgrade(far, inner));
                }
                Far::Speaks(major, minor) => drop(tokio::spawn(speak(far, [major, minor]))),
            }
            Ok(Box::new(near) as BoxIo)
        })
    }
}

/// A server of both: a request is answered, a WebSocket is made ready.
async fn serve(config: Arc<ServerConfig>, io: DuplexStream, seen: Arc<Seen>) {
    let Ok(mut tls) = TlsAcceptor::from(config).accept(io).await else { return };
    *seen.version.lock().unwrap() = tls.get_ref().1.protocol_version();
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        let Ok(byte) = tls.read_u8().await else { return };
        seen.data.store(true, Ordering::SeqCst);
        head.push(char::from(byte));
    }
    let key = head.lines().find(|line| line.to_lowercase().starts_with("sec-websocket-key: "));
    let Some(key) = key else {
        return tls
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\n{\"devices\":[]}")
            .await
            .unwrap();
    };
    let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(&key.as_bytes()[19..]);
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: {accept}\r\n\r\n"
    );
    tls.write_all(answer.as_bytes()).await.unwrap();
    let role = tokio_tungstenite::tungstenite::protocol::Role::Server;
    let mut socket = tokio_tungstenite::WebSocketStream::from_raw_socket(tls, role, None).await;
    socket.send(Message::text(r#"{"id":"1","data":{"eventType":"mercury.buffer_state"}}"#)).await.unwrap();
    std::future::pending().await
}

/// One TLS record.
async fn record(io: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut record = vec![0; 5];
    io.read_exact(&mut record).await?;
    record.resize(5 + usize::from(u16::from_be_bytes([record[3], record[4]])), 0);
    io.read_exact(&mut record[5..]).await?;
    Ok(record)
}

/// Carries everything, but makes the list of versions in the client's greeting an extension that nobody knows.
async fn downgrade(mut client: impl AsyncRead + AsyncWrite + Unpin, mut server: DuplexStream) {
    let mut hello = record(&mut client).await.unwrap();
    let versions = [0x00, 0x2b, 0x00, 0x05, 0x04, 0x03, 0x04, 0x03, 0x03];
    let at = hello.windows(versions.len()).position(|window| window == versions).unwrap();
    hello[at..at + 2].copy_from_slice(&[0x7a, 0x7b]);
    server.write_all(&hello).await.unwrap();
    // Whichever breaks off first.
    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
}

/// A greeting of this version, with nothing in it that a client could object to before.
async fn speak(mut io: DuplexStream, version: [u8; 2]) {
    record(&mut io).await.unwrap();
    let mut hello = vec![2, 0, 0, 38, version[0], version[1]];
    hello.extend([7; 32]);
    // No session, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, no compression.
    hello.extend([0, 0xc0, 0x2b, 0]);
    let mut record = vec![22, version[0], version[1], 0, u8::try_from(hello.len()).unwrap()];
    record.extend(hello);
    // The client may be gone.
    let _ = io.write_all(&record).await;
    let _ = io.read_to_end(&mut Vec::new()).await;
}

fn random() -> Random {
    let mut n = 0;
    Random::new(move || {
        n += 1;
        n
    })
}

async fn ask(tls: Arc<ClientConfig>, network: Network) -> Result<usize, ApiError> {
    let mut config = HttpConfig::new(tls);
    config.dial = Arc::new(network);
    config.timeout = Duration::from_secs(60);
    let base: Url = "https://cloud.example/api".parse().unwrap();
    let token = AccessToken::try_from("secret-token".to_owned()).unwrap();
    let http = Http::new(config, &mut random()).unwrap();
    Ok(http.send(device::List, &base, Some(&token)).await?.value.len())
}

async fn open(tls: Arc<ClientConfig>, network: Network) -> Result<MercurySocket, MercuryError> {
    let mut config = MercuryConfig::new(tls);
    config.dial = Arc::new(network);
    let token = AccessToken::try_from("secret-token".to_owned()).unwrap();
    let url = "wss://cloud.example/socket".parse().unwrap();
    MercurySocket::connect(&config, &url, &token, Timestamp(7), random()).await
}

fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        write!(text, ": {cause}").unwrap();
        source = cause.source();
    }
    text
}

#[tokio::test]
async fn a_server_that_speaks_one_version_alone_is_understood() {
    let authority = Authority::new("ours");
    for (version, expected) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)] {
        let server = authority.server("cloud.example", 4000, &[version]);
        let network = || {
            let seen = Arc::new(Seen::default());
            (Network { far: Far::Server(Arc::clone(&server)), seen: Arc::clone(&seen) }, seen)
        };
        let (one, seen) = network();
        assert_eq!(ask(authority.client(), one).await.unwrap(), 0);
        assert_eq!(*seen.version.lock().unwrap(), Some(expected));
        let (other, seen) = network();
        let mut socket = open(authority.client(), other).await.unwrap();
        assert!(matches!(socket.next().await, Some(Output::Ready)));
        assert_eq!(*seen.version.lock().unwrap(), Some(expected));
    }
}

#[tokio::test]
async fn who_is_not_believed_is_told_nothing() {
    let (authority, other) = (Authority::new("ours"), Authority::new("another"));
    let mut rows = vec![
        (
            Far::Downgrades(authority.server("cloud.example", 4000, BOTH)),
            "AttemptedDowngradeToTls12WhenTls13IsSupported",
        ),
        (Far::Speaks(3, 2), "peer is incompatible"),
        (Far::Speaks(3, 0), "peer is incompatible"),
    ];
    for version in BOTH {
        rows.extend([
            (Far::Server(other.server("cloud.example", 4000, &[version])), "UnknownIssuer"),
            (Far::Server(authority.server("other.example", 4000, &[version])), "not valid for name"),
            (Far::Server(authority.server("cloud.example", 2001, &[version])), "expired"),
        ]);
    }
    for (far, expected) in rows {
        let seen = Arc::new(Seen::default());
        let network = || Network { far: far.clone(), seen: Arc::clone(&seen) };
        let error = ask(authority.client(), network()).await.unwrap_err();
        assert!(matches!(error, ApiError::Connect { .. }) && error.is_refusal(), "{error:?}");
        assert!(told(&error).contains(expected), "`{expected}` is not in: {}", told(&error));
        let error = open(authority.client(), network()).await.unwrap_err();
        assert!(matches!(error, MercuryError::Connect { .. }), "{error:?}");
        assert!(told(&error).contains(expected), "`{expected}` is not in: {}", told(&error));
        assert!(!seen.data.load(Ordering::SeqCst), "{expected}: something was told");
    }
}
