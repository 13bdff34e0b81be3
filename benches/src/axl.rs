//! What a full reading of everybody from a publisher takes.

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use connector_edges::axl_client::users::Scheme;
use connector_edges::seam::{Generator, Scale, TcpDial};
use connector_edges::topology::{AxlJids, PublisherConfig};
use connector_edges::webex::{Jids as _, http_client};
use connector_edges::webex_api::client::HttpConfig;
use lab::clock::Time;
use lab::ctx::{AXL_PASSWORD, AXL_USER, Ctx};
use lab::imp::{self, Listeners};
use lab::net::Network;
use lab::options::Options;

use crate::process::Process;
use crate::{Failure, Size, failed};

/// A reading that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(600);

/// Prints how long everybody of a large cluster takes to be read as the connector reads them, and the most memory that
/// takes. The reader is a process of its own: this program, asked to be that.
///
/// # Errors
/// They are not all read.
pub(crate) async fn run(size: Size) -> Result<(), Failure> {
    let users = size.of(195_000, 300);
    let ctx = Ctx::new(Options { kind: true, ..size.lab(users) }, Network::Tcp, Time(0));
    let listen = || ctx.network.listen(Some(0), 0);
    let (client, trusted, axl) = (listen().await?, vec![listen().await?], listen().await?);
    let address = format!("127.0.0.1:{}", axl.port());
    imp::start(&ctx, Listeners { client, clients: Vec::new(), trusted, axl }, None);
    let mut reader = Command::new(std::env::current_exe()?);
    reader.args(["axl-reader", &address, AXL_USER, AXL_PASSWORD]);
    let done = tokio::task::spawn_blocking(move || reader.output()).await??;
    let told = String::from_utf8(done.stdout)?;
    let figures: Option<Vec<u64>> = told.split_whitespace().map(|figure| figure.parse().ok()).collect();
    let Some([read, took, cpu, peak]) = figures.as_deref() else {
        return failed("the reader has no figures");
    };
    if *read < u64::from(users) {
        return failed(format!("{read} users read of {users}"));
    }
    println!(
        "axl: {read} users read in {:.1} s (goal 30), {:.1} s of the reader's time; peak {:.0} MiB (goal 200)",
        *took as f64 / 1000.0,
        *cpu as f64 / 1000.0,
        *peak as f64 / 1024.0
    );
    Ok(())
}

/// Reads everybody from this publisher, and prints how many, the milliseconds, those of them in use, and the KiB.
///
/// # Errors
/// The publisher does not tell.
pub(crate) async fn read(address: &str, user: &str, password: &str) -> Result<(), Failure> {
    let publisher = PublisherConfig {
        cluster: 0,
        address: format!("http://{address}"),
        user: user.to_owned(),
        password: password.to_owned(),
        scheme: Scheme::Unknown,
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let mut http = HttpConfig::new(Arc::new(tls));
    http.body_limit = 16 << 20;
    let http = http_client(http, Arc::new(TcpDial::default()), &Generator::from_system())?;
    let jids = AxlJids::new([publisher], http, Scale(1))?;
    let began = Instant::now();
    let accounts = tokio::time::timeout(PATIENCE, jids.read()).await?.map_err(|error| error.to_string())?;
    let (took, own) = (began.elapsed(), Process(std::process::id()));
    println!("{} {} {} {}", accounts.len(), took.as_millis(), own.cpu().as_millis(), own.peak());
    Ok(())
}
