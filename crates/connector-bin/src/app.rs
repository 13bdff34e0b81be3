//! The connector: opens the store, builds the edges, joins them, and ends them in order.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use connector_edges::hub::{Ended, Hub, HubError, HubHandle, Keeping, Settings};
use connector_edges::jabber::{self, JabberEdge, Means};
use connector_edges::seam::{Clock, Generator, Scale, TcpDial};
use connector_edges::topology::AxlJids;
use connector_edges::vault::{Vault, VaultConfig};
use connector_edges::webex::{
    Cloud, CloudConfig, PeopleConfig, PresenceConfig, Source, TokenConfig, WebexConfig, WebexEdge, WebexKept,
    WebexMeans,
};
use connector_edges::{kms_client, webex_api, xmpp_core};
use kms_client::trust::Trust;
use router::ids::{JabberId, PersonId, Time};
use router::tag::Tagger;
use router::times::Times;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use store::{Options, Store, StoreKey};
use tokio::task::JoinHandle;
use webex_api::auth::{self, AccessToken};
use webex_api::client::{Http, HttpConfig};

use crate::config::{self, Config, Imp, LinkKind, Mistake, TokenSource};
use crate::{admin, telemetry};

/// How many inputs wait to be read, and again to be committed, before links are left unread.
const INTAKE: usize = 1024;
/// Connections to one host of the cloud at once.
const CONNECTIONS: usize = 16;

/// Runs until SIGTERM or Ctrl-C.
///
/// # Errors
/// What is wrong, and what to do.
pub(crate) async fn run(path: &Path, sign_out: bool) -> Result<(), String> {
    let config = config::load(path).map_err(|mistakes| report(path, &mistakes))?;
    telemetry::start(&config.log)?;
    for imp in config.imp.iter().filter(|imp| !imp.tls) {
        tracing::warn!(publisher = %imp.publisher, "the links to this cluster are plain TCP: keep its port unreachable for others");
    }
    let connector = Connector::start(config).await?;
    tracing::info!(status = %connector.status, "the connector runs");
    connector.until(stop_signal(), sign_out).await
}

/// All mistakes of a file, each with its line.
pub(crate) fn report(path: &Path, mistakes: &[Mistake]) -> String {
    let mut text = format!("{} has {} mistake(s):", path.display(), mistakes.len());
    for mistake in mistakes {
        text.push_str(&format!("\n  {mistake}"));
    }
    text
}

/// Ends with the first request to stop.
pub(crate) async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                biased;
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
        }
        // Without a handler the kernel ends the process, which is safe at any moment.
        Err(_) => std::future::pending().await,
    }
}

/// A connector that runs.
pub(crate) struct Connector {
    /// For the status page, and to stop it.
    pub(crate) hub: HubHandle,
    /// Where the status page is.
    pub(crate) status: std::net::SocketAddr,
    running: JoinHandle<Result<Ended, HubError>>,
    edges: [JoinHandle<()>; 2],
    page: JoinHandle<()>,
}

impl Connector {
    /// Starts it; nothing has been said to anybody when this fails.
    ///
    /// # Errors
    /// What is wrong, and what to do.
    pub(crate) async fn start(config: Config) -> Result<Self, String> {
        let listener = admin::listen(config.status).await?;
        let status = listener.local_addr().map_err(|e| e.to_string())?;
        let parts = Parts::new(&config)?;
        let store = open_store(&config)?;
        let Parts { cloud, tls, times, clock, generator } = parts;
        let settings = Settings {
            router: router::Config {
                tagger: tagger(&config),
                times,
                capacity: config.limits.deliveries as usize,
                deliver_to_pending: config.webex.deliver_to_pending,
                since: None,
                rate: Some((
                    config.limits.messages_per_minute,
                    Duration::from_secs(60) / config.limits.messages_per_minute.max(1),
                )),
            },
            intake: INTAKE,
            grace: config.limits.grace,
        };
        let people = people(&config, &cloud_http(&tls, &generator)?)?;
        let bot = config.webex.bot_token.as_ref().map(|bot| access_token("webex.bot_token_file", bot));
        let bot = bot.transpose()?;
        let jabber_config = jabber_config(&config, &tls)?;
        let opened =
            Hub::open(settings, Box::new(store), Keeping::Thread, clock).map_err(|e| with_causes(&e))?;

        let vault = Vault::new(VaultConfig::new(trust(&config)?, &times), cloud.clone());
        let webex = WebexEdge::new(
            WebexConfig {
                times,
                handshakes: config.limits.handshakes as usize,
                presence: PresenceConfig { poll: config.presence.poll, subscribe: config.presence.subscribe },
                people,
                bot,
            },
            opened.port.clone(),
            WebexKept {
                run: opened.found.run,
                cursors: opened.found.cursors.clone(),
                values: opened.found.kept.clone(),
            },
            WebexMeans { cloud, keys: Arc::new(vault), clock, generator: generator.clone() },
        );
        let means = Means {
            opener: webex.opener(),
            dial: Arc::new(TcpDial),
            clock,
            generator,
            scale: Scale(config.time_scale),
        };
        let kept = jabber::Kept {
            values: opened.found.kept.into_iter().collect(),
            streams: opened.found.streams.into_iter().collect(),
        };
        let jabber = JabberEdge::start(jabber_config, opened.port, opened.jabber, kept, means);
        let webex = webex.start(opened.webex);
        let page = tokio::spawn(admin::serve(listener, opened.handle.clone()));
        let running = tokio::spawn(opened.hub.run());
        Ok(Self { hub: opened.handle, status, running, edges: [jabber, webex], page })
    }

    /// Runs until `stop`, then ends in order: what was accepted is committed, deliveries in flight may finish. With
    /// `sign_out` the sessions are closed; otherwise the next start resumes them.
    ///
    /// # Errors
    /// It had to end by itself: why.
    pub(crate) async fn until(
        mut self,
        stop: impl Future<Output = ()>,
        sign_out: bool,
    ) -> Result<(), String> {
        let [jabber, webex] = &mut self.edges;
        let ended = tokio::select! {
            biased;
            ended = &mut self.running => Some(ended),
            _ = jabber => return Err("the Jabber edge has died; a restart goes on from the store".into()),
            _ = webex => return Err("the Webex edge has died; a restart goes on from the store".into()),
            () = stop => None,
        };
        let ended = match ended {
            Some(ended) => ended,
            None => {
                tracing::info!("stopping");
                self.hub.stop(sign_out).await;
                (&mut self.running).await
            }
        };
        self.page.abort();
        match ended {
            Ok(Ok(Ended::Clean)) => Ok(()),
            Ok(Ok(Ended::Unanswered(n))) => {
                tracing::warn!(
                    deliveries = n,
                    "not finished within the grace period; the next start asks after them"
                );
                Ok(())
            }
            Ok(Err(e)) => Err(with_causes(&e)),
            Err(e) => Err(format!("the hub has died: {e}; a restart goes on from the store")),
        }
    }
}

/// What the connector and `check` both need.
pub(crate) struct Parts {
    pub(crate) cloud: Cloud,
    pub(crate) tls: Arc<rustls::ClientConfig>,
    pub(crate) times: Times,
    pub(crate) clock: Clock,
    pub(crate) generator: Generator,
}

impl Parts {
    /// Builds them; nothing is connected yet.
    ///
    /// # Errors
    /// A setting that cannot be used, and why.
    pub(crate) fn new(config: &Config) -> Result<Self, String> {
        let mut times = Times::scaled(config.time_scale);
        times.retention = config.store.retention;
        let tls = client_tls(config)?;
        let clock = Clock::starting_at(now());
        let generator = Generator::from_system();
        let cloud_config = CloudConfig {
            discovery: config.webex.discovery_url.parse().map_err(|e| format!("webex.discovery_url: {e}"))?,
            organization: config.organization.id.parse().map_err(|e| format!("organization.id: {e}"))?,
            tokens: token_config(config)?,
            tls: Arc::clone(&tls),
            connections_per_host: CONNECTIONS,
            scale: Scale(config.time_scale),
        };
        let cloud = Cloud::new(cloud_config, Arc::new(TcpDial), clock, &generator)
            .map_err(|e| format!("cloud: {e}"))?;
        Ok(Self { cloud, tls, times, clock, generator })
    }
}

/// Opens the store of the settings.
///
/// # Errors
/// Why it cannot be opened, and what to do.
pub(crate) fn open_store(config: &Config) -> Result<Store, String> {
    let key = StoreKey::new(config.store.key.key());
    let mut options = Options::default();
    options.floor = config.limits.free_space;
    Store::open(&config.store.path, &key, tagger(config), options).map_err(|e| with_causes(&e))
}

fn tagger(config: &Config) -> Tagger {
    Tagger::new(&config.organization.key.key(), &[])
}

/// An HTTP client of its own for the publishers: their answers are larger than the cloud's.
pub(crate) fn cloud_http(tls: &Arc<rustls::ClientConfig>, generator: &Generator) -> Result<Http, String> {
    let mut config = HttpConfig::new(Arc::clone(tls));
    config.body_limit = 16 << 20;
    let source = generator.clone();
    Http::new(config, &mut webex_api::Random::new(move || source.number())).map_err(|e| e.to_string())
}

fn token_config(config: &Config) -> Result<TokenConfig, String> {
    let webex = &config.webex;
    let client =
        auth::Client { id: webex.client_id.clone(), secret: webex.client_secret.reveal().to_owned().into() };
    match (webex.token_source, &webex.machine_token, &webex.user_tokens) {
        (TokenSource::Organization, Some(machine), _) => Ok(TokenConfig::Organization {
            client,
            machine: access_token("webex.machine_token_file", machine)?,
        }),
        (TokenSource::User, _, Some(tokens)) => {
            let mut enrolled = BTreeMap::new();
            for (n, line) in tokens.reveal().lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
                let Some((person, token)) = line.split_once(',') else {
                    return Err(format!(
                        "webex.user_tokens_file: line {}: expected person id,refresh token",
                        n + 1
                    ));
                };
                enrolled.insert(PersonId::new(person.trim().to_lowercase()), token.trim().to_owned().into());
            }
            Ok(TokenConfig::User { client, enrolled })
        }
        (TokenSource::Relay, ..) => Ok(TokenConfig::Relay),
        _ => Err("webex.token_source: its file of tokens is missing".into()),
    }
}

fn access_token(key: &str, secret: &config::Secret) -> Result<AccessToken, String> {
    AccessToken::try_from(secret.reveal().to_owned()).map_err(|e| format!("{key}: {e}"))
}

/// Where the directory is read.
pub(crate) fn people(config: &Config, http: &Http) -> Result<PeopleConfig, String> {
    let webex = &config.webex;
    let source = if let Some(path) = &config.directory.users {
        let token = webex.admin_token.as_ref().or(webex.machine_token.as_ref());
        let token = token.ok_or("webex.admin_token_file: some token is needed to look people up")?;
        Source::Table { rows: users(path)?, token: access_token("webex.admin_token_file", token)? }
    } else {
        let publishers = config.imp.iter().filter_map(|imp| imp.axl.as_ref()).map(|axl| {
            let address = axl.url.trim_end_matches('/').trim_end_matches("/axl").to_owned();
            (address, axl.user.clone(), axl.password.reveal().to_owned())
        });
        let jids =
            AxlJids::new(publishers, http.clone(), Scale(config.time_scale)).map_err(|e| e.to_string())?;
        let admin = webex.admin_token.as_ref().ok_or("webex.admin_token_file: is needed to read people")?;
        let license = webex.license_id.clone().ok_or("webex.license_id: is needed to tell who is enabled")?;
        Source::Licences {
            admin: access_token("webex.admin_token_file", admin)?,
            license: license.into(),
            jids: Arc::new(jids),
        }
    };
    let organization = config.organization.id.parse().map_err(|e| format!("organization.id: {e}"))?;
    Ok(PeopleConfig { source, organization, refresh: config.directory.refresh })
}

/// The file of jid,mail,enabled.
fn users(path: &Path) -> Result<Vec<(JabberId, String, bool)>, String> {
    let wrong = |line: usize, what: &str| format!("directory.users: {} line {line}: {what}", path.display());
    let text =
        std::fs::read_to_string(path).map_err(|e| format!("directory.users: {}: {e}", path.display()))?;
    let mut rows = Vec::new();
    for (n, line) in
        text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'))
    {
        let cells: Vec<&str> = line.split(',').map(str::trim).collect();
        let [jid, mail, enabled] = cells[..] else { return Err(wrong(n + 1, "expected jid,mail,enabled")) };
        let jid: xmpp_core::BareJid =
            jid.parse().map_err(|_| wrong(n + 1, "the first column is no bare JID"))?;
        if !mail.contains('@') {
            return Err(wrong(n + 1, "the second column is no mail address"));
        }
        let enabled =
            enabled.parse().map_err(|_| wrong(n + 1, "the third column is neither true nor false"))?;
        rows.push((JabberId::new(jid.to_string().to_lowercase()), mail.to_lowercase(), enabled));
    }
    Ok(rows)
}

/// The settings of the Jabber edge.
pub(crate) fn jabber_config(
    config: &Config,
    tls: &Arc<rustls::ClientConfig>,
) -> Result<jabber::Config, String> {
    let clusters: Result<Vec<_>, String> = config.imp.iter().map(|imp| cluster(imp, tls)).collect();
    Ok(jabber::Config {
        node: "connector".into(),
        utc_offset: config.organization.timezone,
        sessions_per_second: config.limits.sessions_per_second,
        clusters: clusters?,
    })
}

fn cluster(imp: &Imp, tls: &Arc<rustls::ClientConfig>) -> Result<jabber::Cluster, String> {
    let nodes: Result<Vec<_>, String> = imp
        .nodes
        .iter()
        .map(|node| {
            let (host, port) = node.rsplit_once(':').ok_or_else(|| format!("imp.nodes: {node}: no port"))?;
            let port = port.parse().map_err(|_| format!("imp.nodes: {node}: `{port}` is no port"))?;
            Ok((host.to_owned(), port))
        })
        .collect();
    let secret = imp.secret.reveal();
    let access = match imp.link {
        LinkKind::Trusted => jabber::Access::Trusted {
            component: imp.component.clone().unwrap_or_default(),
            secret: secret.into(),
        },
        LinkKind::Service => {
            let account = imp.service_jid.clone().unwrap_or_default().to_lowercase();
            jabber::Access::Service { account, password: secret.into() }
        }
        LinkKind::Token => jabber::Access::Token { key: secret.into() },
    };
    let domains = imp.domains.iter().map(|domain| domain.to_lowercase()).collect();
    Ok(jabber::Cluster { domains, nodes: nodes?, access, tls: imp.tls.then(|| Arc::clone(tls)) })
}

/// TLS with the system's authorities and those of `webex.ca_file`, on ring.
fn client_tls(config: &Config) -> Result<Arc<rustls::ClientConfig>, String> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = &config.webex.ca_file {
        for certificate in certificates("webex.ca_file", path)? {
            roots.add(certificate).map_err(|e| format!("webex.ca_file: {}: {e}", path.display()))?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?;
    Ok(Arc::new(tls.with_root_certificates(roots).with_no_client_auth()))
}

fn certificates(key: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| format!("{key}: {}: {e}", path.display()))
}

fn trust(config: &Config) -> Result<Trust, String> {
    match &config.webex.kms_ca_file {
        Some(path) => {
            let roots = certificates("webex.kms_ca_file", path)?;
            Trust::pinned(&roots).map_err(|e| format!("webex.kms_ca_file: {}: {e}", path.display()))
        }
        None => Ok(Trust::danger_any_chain()),
    }
}

fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// An error with everything that caused it, in one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
