//! The wiring: what the settings say, made into the hub and the edges, and joined. A simulated world is wired by the
//! same lines, on another ground.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use connector_edges::axl_client::users::Scheme;
use connector_edges::hub::{Ended, Hub, HubError, HubHandle, Keeping, Settings, Watch};
use connector_edges::jabber::{self, JabberEdge, Means, OneTime, Refusals};
use connector_edges::probe::causes;
use connector_edges::seam::{Clock, Dial, Generator, Scale, TcpDial};
use connector_edges::topology::{AxlJids, PublisherConfig};
use connector_edges::vault::{Vault, VaultConfig};
use connector_edges::webex::{
    self, Cloud, CloudConfig, Enrolling, PeopleConfig, PresenceConfig, ResourceGroups, Source, TokenConfig,
    WebexConfig, WebexEdge, WebexKept, WebexMeans,
};
use connector_edges::{kms_client, webex_api};
use kms_client::trust::Trust;
use router::ids::Time;
use router::outbox::Storage;
use router::tag::Tagger;
use router::times::Times;
use store::{Options, Store, StoreKey};
use tokio::task::JoinHandle;
use webex_api::auth;
use webex_api::client::HttpConfig;

use crate::config::{self, Config, Imp, LinkKind, LinkProtocol, LinkTls, LinkTokens, TokenSource};
use crate::tls;

/// [`Ground::intake`], but in a world that is to overflow. Some MiB at most; what finds no room costs a listing, which is
/// dearer by far.
pub(crate) const INTAKE: usize = 4096;
/// Connections to one host of the cloud at once.
const CONNECTIONS: usize = 16;

/// What a connector stands on (rule 25).
pub(crate) struct Ground {
    /// Makes all its connections.
    pub(crate) dial: Arc<dyn Dial>,
    /// The time of day.
    pub(crate) clock: Clock,
    /// Chance.
    pub(crate) generator: Generator,
    /// Is shown what the router does; `None` where nobody looks.
    pub(crate) watch: Option<Watch>,
    /// How many inputs wait to be read, and again to be committed, before links are left unread.
    pub(crate) intake: usize,
}

impl Ground {
    /// TCP from the ports of the settings, the system's clock and chance.
    pub(crate) fn real(config: &Config) -> Self {
        Self {
            dial: Arc::new(TcpDial::from_ports(config.limits.source_ports.clone())),
            clock: Clock::starting_at(now()),
            generator: Generator::from_system(),
            watch: None,
            intake: INTAKE,
        }
    }
}

/// What the connector and `check` both need.
pub(crate) struct Parts {
    pub(crate) cloud: Cloud,
    pub(crate) tls: Arc<rustls::ClientConfig>,
    /// All its waits.
    pub(crate) times: Times,
    /// From when people are read in Webex who begin in this run (rules 12 and 17); `None`: from now on.
    pub(crate) since: Option<Time>,
    pub(crate) ground: Ground,
}

/// The hub and the edges, joined and running.
pub(crate) struct Wired {
    /// Asks the hub, and stops it.
    pub(crate) handle: HubHandle,
    /// The hub.
    pub(crate) running: JoinHandle<Result<Ended, HubError>>,
    /// The Jabber edge and the Webex edge.
    pub(crate) edges: [JoinHandle<()>; 2],
    /// Where people are enrolled meanwhile.
    pub(crate) enrolling: Enrolling,
    /// Who is given no session.
    pub(crate) refusals: Refusals,
}

impl Parts {
    /// Builds them; nothing is connected yet.
    ///
    /// # Errors
    /// A setting that cannot be used, and why.
    pub(crate) fn new(config: &Config, ground: Ground) -> Result<Self, String> {
        let mut times = Times::scaled(config.time_scale);
        times.retention = config.store.retention;
        let tls = tls::of_cloud(config.webex.ca_file.as_deref())?;
        let cloud_config = CloudConfig {
            discovery: config.webex.discovery_url.parse().map_err(|e| format!("webex.discovery_url: {e}"))?,
            organization: config.organization.id.parse().map_err(|e| format!("organization.id: {e}"))?,
            tokens: token_config(config)?,
            tls: Arc::clone(&tls),
            proxy: config.webex.proxy.as_ref().map(proxy),
            connections_per_host: CONNECTIONS,
            requests_per_second: NonZeroU32::new(config.limits.requests_per_second),
            scale: Scale(config.time_scale),
        };
        let cloud = Cloud::new(cloud_config, Arc::clone(&ground.dial), ground.clock, &ground.generator)
            .map_err(|e| format!("cloud: {e}"))?;
        Ok(Self { cloud, tls, times, since: None, ground })
    }

    /// Where the directory is read.
    ///
    /// # Errors
    /// A setting that cannot be used, and why.
    pub(crate) fn people(&self, config: &Config) -> Result<PeopleConfig, String> {
        let webex = &config.webex;
        let source = if let Some(rows) = &config.directory.users {
            let token = webex.admin_token.as_ref().or(webex.machine_token.as_ref());
            let token = token.ok_or("webex.admin_token_file: some token is needed to look people up")?;
            Source::Table { rows: rows.clone(), token: token.clone() }
        } else {
            let admin =
                webex.admin_token.as_ref().ok_or("webex.admin_token_file: is needed to read people")?;
            let license =
                webex.license_id.clone().ok_or("webex.license_id: is needed to tell who is enabled")?;
            Source::Licences {
                admin: admin.clone(),
                license: license.into(),
                jids: Arc::new(self.publishers(config)?),
            }
        };
        let organization = config.organization.id.parse().map_err(|e| format!("organization.id: {e}"))?;
        let groups = resource_groups(config);
        Ok(PeopleConfig { source, organization, groups, refresh: config.directory.refresh })
    }

    /// The publishers of all clusters.
    ///
    /// # Errors
    /// A setting that cannot be used, and why.
    pub(crate) fn publishers(&self, config: &Config) -> Result<AxlJids, String> {
        // A client of their own for the publishers: their answers are larger than the cloud's.
        let mut http = HttpConfig::new(Arc::clone(&self.tls));
        http.body_limit = 16 << 20;
        let Ground { dial, generator, .. } = &self.ground;
        let http = webex::http_client(http, Arc::clone(dial), generator).map_err(|e| e.to_string())?;
        let publishers = config.imp.iter().enumerate().filter_map(|(cluster, imp)| {
            let axl = imp.axl.as_ref()?;
            Some(PublisherConfig {
                cluster,
                address: axl.url.trim_end_matches('/').trim_end_matches("/axl").to_owned(),
                user: axl.user.clone(),
                password: axl.password.reveal().to_owned(),
                scheme: match imp.directory_uris {
                    true => Scheme::DirectoryUri,
                    false => Scheme::UserId(imp.domains.first().cloned().unwrap_or_default()),
                },
            })
        });
        AxlJids::new(publishers, http, Scale(config.time_scale)).map_err(|e| e.to_string())
    }

    /// The settings of the Jabber edge.
    ///
    /// # Errors
    /// A setting that cannot be used, and why.
    pub(crate) fn jabber_config(&self, config: &Config) -> Result<jabber::Config, String> {
        let from_file = config.directory.users.is_some();
        let clusters: Result<Vec<_>, String> =
            config.imp.iter().map(|imp| self.cluster(imp, from_file)).collect();
        Ok(jabber::Config {
            node: config.deployment.node.as_str().into(),
            utc_offset: config.organization.timezone,
            sessions_per_second: config.limits.sessions_per_second,
            clusters: clusters?,
        })
    }

    fn cluster(&self, imp: &Imp, from_file: bool) -> Result<jabber::Cluster, String> {
        let secret = imp.secret.reveal();
        let access = match imp.link {
            LinkKind::Trusted => jabber::Access::Trusted {
                component: imp.component.clone().unwrap_or_default(),
                secret: secret.into(),
                framing: match imp.protocol {
                    LinkProtocol::Component => jabber::Framing::Component,
                    LinkProtocol::Jabberd2 => jabber::Framing::Jabberd2,
                },
            },
            LinkKind::Service => {
                let account = imp.service_jid.clone().unwrap_or_default().to_lowercase();
                jabber::Access::Service { account, password: secret.into() }
            }
            LinkKind::Token => match imp.tokens {
                LinkTokens::Signed => jabber::Access::Token { key: secret.into() },
                LinkTokens::OneTime => {
                    let http = HttpConfig::new(tls::of_cluster(imp, &self.tls)?);
                    let Ground { dial, generator, .. } = &self.ground;
                    let http =
                        webex::http_client(http, Arc::clone(dial), generator).map_err(|e| e.to_string())?;
                    let address = imp.login_url.parse().map_err(|e| format!("imp.login_url: {e}"))?;
                    let user = imp.service_jid.clone().unwrap_or_default();
                    jabber::Access::OneTime(OneTime::new(address, user, secret.into(), http))
                }
            },
        };
        let domains = imp.domains.iter().map(|domain| domain.to_lowercase()).collect();
        // With one node there is nothing to choose, whatever the cluster calls it.
        let names = match &imp.nodes[..] {
            [_] => Vec::new(),
            nodes if imp.axl.is_some() && !from_file => nodes.iter().map(|node| node.name.clone()).collect(),
            _ => Vec::new(),
        };
        let encryption = match imp.tls {
            LinkTls::Off => jabber::Encryption::Off,
            LinkTls::Required => jabber::Encryption::Usual(tls::of_cluster(imp, &self.tls)?),
            LinkTls::Direct => jabber::Encryption::Direct(tls::of_cluster(imp, &self.tls)?),
        };
        let nodes = imp.nodes.iter().map(|node| (node.host.clone(), node.port)).collect();
        Ok(jabber::Cluster { domains, nodes, names, access, encryption })
    }

    /// Reads the storage, starts the hub and the edges, and joins them; nothing has been said to anybody when this
    /// fails.
    ///
    /// # Errors
    /// What is wrong, and what to do.
    pub(crate) fn join(
        self,
        config: &Config,
        storage: Box<dyn Storage>,
        keeping: Keeping,
    ) -> Result<Wired, String> {
        let people = self.people(config)?;
        let publishers = Arc::new(self.publishers(config)?);
        let jabber_config = self.jabber_config(config)?;
        let own_domains = jabber_config.clusters.iter().flat_map(|cluster| &cluster.domains);
        let own_domains: Vec<Box<str>> = own_domains.map(|domain| domain.as_str().into()).collect();
        let Self { cloud, times, since, ground: Ground { dial, clock, generator, watch, intake }, .. } = self;
        let settings = Settings {
            router: router::Config {
                tagger: tagger(config, clock.now()),
                times,
                capacity: config.limits.deliveries as usize,
                deliver_to_pending: config.webex.deliver_to_pending,
                since,
                bot: config.webex.bot_token.is_some(),
                notices: config.webex.notices,
                federation: config.deployment.federation.then_some(own_domains),
                rate: Some((
                    config.limits.messages_per_minute,
                    Duration::from_secs(60) / config.limits.messages_per_minute.max(1),
                )),
            },
            intake,
            grace: config.limits.grace,
        };
        let bot = config.webex.bot_token.clone();
        if bot.is_none() && config.deployment.federation {
            tracing::info!(
                "what federated contacts write is not shown in Webex: that takes webex.bot_token_file"
            );
        }
        let trust = trust(config)?;
        let several = jabber_config.clusters.iter().any(|cluster| !cluster.names.is_empty());
        let mut opened = Hub::open(settings, storage, keeping, clock).map_err(|e| causes(&e))?;
        if let Some(watch) = watch {
            opened.hub.watched_by(watch);
        }

        let vault = Vault::new(VaultConfig::new(trust, &times), cloud.clone());
        let webex = WebexEdge::new(
            WebexConfig {
                times,
                handshakes: config.limits.handshakes as usize,
                presence: PresenceConfig { poll: config.presence.poll, subscribe: config.presence.subscribe },
                people,
                bot,
                federated: config.deployment.federation,
                utc_offset: config.organization.timezone,
            },
            opened.port.clone(),
            WebexKept {
                run: opened.found.run,
                cursors: opened.found.cursors.clone(),
                values: opened.found.kept.clone(),
            },
            WebexMeans {
                cloud,
                keys: Arc::new(vault),
                ledger: Arc::new(opened.handle.clone()),
                tagger: tagger(config, clock.now()),
                clock,
                generator: generator.clone(),
            },
        );
        let scale = Scale(config.time_scale);
        let standing = several.then(|| publishers.watch());
        let refusals = Refusals::default();
        let means = Means {
            opener: webex.opener(),
            dial,
            clock,
            generator,
            scale,
            standing,
            refusals: refusals.clone(),
        };
        let kept = jabber::Kept {
            values: opened.found.kept.into_iter().collect(),
            streams: opened.found.streams.into_iter().collect(),
        };
        let enrolling = webex.enrolling();
        let jabber = JabberEdge::start(jabber_config, opened.port, opened.jabber, kept, means);
        let webex = webex.start(opened.webex);
        let running = tokio::spawn(opened.hub.run());
        Ok(Wired { handle: opened.handle, running, edges: [jabber, webex], enrolling, refusals })
    }
}

/// Opens the store of the settings.
///
/// # Errors
/// Why it cannot be opened, and what to do.
pub(crate) fn open_store(config: &Config) -> Result<Store, String> {
    let key = store_key(config);
    let mut options = Options::default();
    options.floor = config.limits.free_space;
    Store::open(&config.store.path, &key, tagger(config, now()), options).map_err(|e| causes(&e))
}

/// The key that seals what is at rest.
pub(crate) fn store_key(config: &Config) -> StoreKey {
    StoreKey::new(config.store.key.key())
}

/// So long a key is recognized after it was replaced (rule 1).
const RECOGNIZED: Duration = Duration::from_secs(30 * 86_400);

/// Makes and recognizes the ids of the organization.
pub(crate) fn tagger(config: &Config, now: Time) -> Tagger {
    tagger_of(&config.organization.key.key(), &config.organization.earlier_keys, now)
}

fn tagger_of(key: &[u8], earlier: &[(config::Secret, Time)], now: Time) -> Tagger {
    let earlier = earlier.iter().filter(|(_, replaced)| replaced.after(RECOGNIZED) > now);
    let earlier: Vec<[u8; 32]> = earlier.map(|(key, _)| key.key()).collect();
    let earlier: Vec<&[u8]> = earlier.iter().map(|key| &key[..]).collect();
    Tagger::new(key, &earlier)
}

fn token_config(config: &Config) -> Result<TokenConfig, String> {
    let webex = &config.webex;
    let client = oauth_client(config);
    match (webex.token_source, &webex.machine_token) {
        (TokenSource::Organization, Some(machine)) => {
            Ok(TokenConfig::Organization { client, machine: machine.clone() })
        }
        (TokenSource::User, _) => {
            let listed = webex.user_tokens.iter();
            let listed = listed.map(|(person, token)| (person.clone(), token.reveal().to_owned().into()));
            Ok(TokenConfig::User { client, listed: listed.collect() })
        }
        (TokenSource::Relay, ..) => Ok(TokenConfig::Relay),
        _ => Err("webex.token_source: its file of tokens is missing".into()),
    }
}

/// The integration, as the cloud knows it.
pub(crate) fn oauth_client(config: &Config) -> auth::Client {
    let webex = &config.webex;
    auth::Client { id: webex.client_id.clone(), secret: webex.client_secret.reveal().to_owned().into() }
}

fn proxy(proxy: &config::Proxy) -> webex::Proxy {
    let credentials = proxy.credentials.as_ref();
    let credentials = credentials.map(|(user, password)| (user.clone(), password.reveal().to_owned().into()));
    webex::Proxy { host: proxy.host.clone(), port: proxy.port, credentials }
}

/// The resource groups of people, and our own.
fn resource_groups(config: &Config) -> ResourceGroups {
    let own = config.deployment.resource_group.as_deref().map(Into::into);
    ResourceGroups { own, of: config.directory.resource_groups.clone().unwrap_or_default() }
}

fn trust(config: &Config) -> Result<Trust, String> {
    match &config.webex.kms_ca_file {
        Some(path) => {
            let roots = tls::certificates(path).map_err(|e| format!("webex.kms_ca_file: {e}"))?;
            Trust::pinned(&roots).map_err(|e| format!("webex.kms_ca_file: {}: {e}", path.display()))
        }
        None => Ok(Trust::danger_any_chain()),
    }
}

/// The time of day.
pub(crate) fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use router::ids::SourceId;

    use super::*;

    #[test]
    fn an_earlier_key_is_recognized_for_thirty_days() {
        let replaced = Time(1_000_000_000_000);
        let earlier = [7; 32];
        let keys = [(config::Secret::of_key(earlier), replaced)];
        let id = Tagger::new(&earlier, &[]).derive("text", &SourceId::new("a"), 0, 0);
        for (wait, known) in [(0, true), (30 * 86_400 - 1, true), (30 * 86_400, false)] {
            let now = replaced.after(Duration::from_secs(wait));
            assert_eq!(tagger_of(&[8; 32], &keys, now).is_ours(id.as_str()), known, "{wait}");
        }
    }
}
