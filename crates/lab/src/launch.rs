//! Starting the whole lab, and stopping it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use tokio_rustls::TlsAcceptor;

use crate::{
    clock::Time,
    cloud::{Bearer, Cloud},
    control::{self, Control},
    ctx::{
        AXL_PASSWORD, AXL_USER, CLIENT_ID, CLIENT_SECRET, Ctx, SERVICE_JID, SERVICE_PASSWORD, TRUSTED_NAME,
        TRUSTED_SECRET,
    },
    endpoints::{Bot, Endpoints, User},
    imp,
    kms::SetupError,
    net::{Listener, Network},
    options::Options,
    people::{
        ORG_ID, PuppetError, jabber,
        webex::{Reach, WebexApp},
    },
    seen::App,
    settings,
    tls::{Authority, TlsError, client_config},
};

/// How many of the added users have clients that are signed in from the start; the others' sign in when first used.
const SIGNED_IN: usize = 20;

/// Tells the folders of several labs in one process apart.
static FOLDERS: AtomicU64 = AtomicU64::new(0);

/// Why the lab did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabError {
    /// A port cannot be opened, or a file cannot be written.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// There is no certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The key service has no key.
    #[error(transparent)]
    Kms(#[from] SetupError),
    /// A built-in person could not sign in.
    #[error("{0} could not sign in: {1}")]
    Puppet(String, #[source] PuppetError),
}

/// A lab that runs.
#[derive(Debug)]
pub struct Lab {
    ctx: Arc<Ctx>,
    control: Arc<Control>,
    endpoints: Endpoints,
    _state: Folder,
}

/// Where the store, the keys and the settings are. One that was made because none was named is removed with the lab.
#[derive(Debug)]
struct Folder {
    path: PathBuf,
    own: bool,
}

impl Folder {
    fn open(named: Option<&Path>) -> io::Result<Self> {
        let path = named.map_or_else(
            || {
                let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
                std::env::temp_dir().join(format!("hybrid-message-lab-{}-{number}", std::process::id()))
            },
            Path::to_path_buf,
        );
        fs::create_dir_all(&path)?;
        Ok(Self { path: fs::canonicalize(path)?, own: named.is_none() })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.own
            && let Err(error) = fs::remove_dir_all(&self.path)
        {
            tracing::warn!(%error, "the lab's folder was not removed");
        }
    }
}

impl Lab {
    /// Starts everything but the connector, on loopback. With `stand_ins` the endpoints document is written; otherwise
    /// the caller starts a connector, says so with [`Lab::connector`], and calls [`Lab::publish_endpoints`].
    ///
    /// # Errors
    /// As [`LabError`] says; nothing is left running.
    pub async fn start(options: Options) -> Result<Self, LabError> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = Time(i64::try_from(since.as_millis()).unwrap_or(0));
        Self::start_on(options, Network::Tcp, now).await
    }

    /// The same on any network, with a clock that shows `start`.
    ///
    /// # Errors
    /// As [`LabError`] says; nothing is left running.
    pub async fn start_on(options: Options, network: Network, start: Time) -> Result<Self, LabError> {
        let ctx = Ctx::new(options, network, start);
        match Self::start_in(&ctx).await {
            Ok(lab) => Ok(lab),
            Err(error) => {
                ctx.shut_down().await;
                Err(error)
            }
        }
    }

    async fn start_in(ctx: &Arc<Ctx>) -> Result<Self, LabError> {
        let (options, network) = (&ctx.options, &ctx.network);
        let ports = &options.ports;
        let mut trusted = vec![network.listen(ports.xmpp_trusted_port, 7400).await?];
        let mut clients = Vec::new();
        if options.imp_nodes > 1 {
            for _ in 1..options.imp_nodes {
                trusted.push(network.listen(None, 7400).await?);
            }
            for _ in 0..options.imp_nodes {
                clients.push(network.listen(None, 5222).await?);
            }
        }
        let listeners = imp::Listeners {
            clients,
            client: network.listen(ports.xmpp_client_port, 5222).await?,
            trusted,
            axl: network.listen(ports.axl_port, 8443).await?,
        };
        let cloud_door = network.listen(ports.cloud_port, 18_080).await?;
        let control_door = network.listen(ports.control_port, 18_081).await?;
        // The connector listens there, not the lab: the port is found free and given up again. So that nobody takes it
        // meanwhile, it follows from our control port, which no other lab has, and is none that the system gives to
        // connections.
        let usual = match control_door.port() {
            18_081 if !options.stand_ins => 18_082,
            own => 10_000 + own % 20_000,
        };
        let status = network.listen(ports.status_port, usual).await?.address();

        let state = Folder::open(options.state.as_deref())?;
        let authority = if options.tls { Some(Authority::new()?) } else { None };
        let ca = match &authority {
            Some(authority) => {
                let file = state.path.join("ca.pem");
                fs::write(&file, &authority.pem)?;
                Some(file)
            }
            None => None,
        };
        let server_tls = authority.as_ref().map(|authority| Arc::clone(&authority.server));
        let client_tls = client_config(authority.as_ref().map(|authority| authority.pem.as_str()))?;

        let [xmpp_client, xmpp_trusted, axl] =
            [&listeners.client, &listeners.trusted[0], &listeners.axl].map(Listener::address);
        let named = |doors: &[Listener]| {
            let doors = doors.iter().enumerate();
            doors.map(|(n, door)| format!("{}={}", imp::nodes::Nodes::name(n), door.address())).collect()
        };
        let (nodes, client_nodes) = (named(&listeners.trusted), named(&listeners.clients));
        let acceptor = server_tls.clone().map(TlsAcceptor::from);
        let cloud = Cloud::start(ctx, cloud_door, acceptor)?;
        let control_address = format!("http://{}", control_door.address());
        let jabber_port = ports.jabber_server.unwrap_or(listeners.client.port());
        imp::start(ctx, listeners, server_tls);

        let kms_ca = state.path.join("kms-ca.pem");
        fs::write(&kms_ca, cloud.kms_roots())?;

        let people = ctx.people.all();
        let mut users = Vec::new();
        let mut bot = Bot { mail: String::new(), person_id: String::new(), access_token: String::new() };
        for person in &people {
            let pair = cloud.issue(Bearer::Person(person.name.clone()), &person.org_id);
            if person.bot {
                let (mail, person_id) = (person.mail.clone(), person.person_id.clone());
                bot = Bot { mail, person_id, access_token: pair.access };
                continue;
            }
            users.push(User {
                name: person.name.clone(),
                enabled: person.enabled,
                jid: person.jid.clone(),
                password: person.password.clone(),
                mail: person.mail.clone(),
                org_id: person.org_id.clone(),
                person_id: person.person_id.clone(),
                access_token: pair.access,
                refresh_token: pair.refresh,
            });
        }
        let mut endpoints = Endpoints {
            xmpp_client,
            xmpp_trusted,
            nodes,
            client_nodes,
            axl,
            cloud: cloud.origin().to_owned(),
            control: control_address,
            status: None,
            org_id: ORG_ID.to_owned(),
            trusted_name: TRUSTED_NAME.to_owned(),
            trusted_secret: TRUSTED_SECRET.to_owned(),
            service_jid: SERVICE_JID.to_owned(),
            service_password: SERVICE_PASSWORD.to_owned(),
            client_id: CLIENT_ID.to_owned(),
            client_secret: CLIENT_SECRET.to_owned(),
            machine_token: cloud.issue(Bearer::Machine, ORG_ID).access,
            admin_token: cloud.issue(Bearer::Admin, ORG_ID).access,
            bot,
            axl_user: AXL_USER.to_owned(),
            axl_password: AXL_PASSWORD.to_owned(),
            ca,
            kms_ca,
            pid: std::process::id(),
            connector_pid: None,
            store: state.path.join("connector.db"),
            connector_config: PathBuf::new(),
            users,
        };
        endpoints.connector_config = settings::write(ctx, &endpoints, &status, &state.path)?;

        let control = Control::new(ctx, &cloud, format!("http://{status}"));
        ctx.spawn(control::serve(Arc::clone(&control), control_door));
        let lab = Self { ctx: Arc::clone(ctx), control, endpoints, _state: state };
        jabber::start(ctx, jabber_port, SIGNED_IN);
        lab.sign_in(&cloud, client_tls).await?;
        if ctx.options.stand_ins {
            lab.publish_endpoints()?;
        }
        Ok(lab)
    }

    /// Gives everybody their clients and signs them in.
    async fn sign_in(&self, cloud: &Cloud, tls: Arc<rustls::ClientConfig>) -> Result<(), LabError> {
        let discovery = format!("{}/u2c/api/v1", self.endpoints.cloud);
        let discovery = discovery.parse().map_err(|error| io::Error::other(format!("{error}")))?;
        let reach = Reach { discovery, tls };
        let named = self.endpoints.users.len() - usize::try_from(self.ctx.options.users).unwrap_or(0);
        for (index, user) in self.endpoints.users.iter().enumerate() {
            let Some(person) = self.ctx.people.by_name(&user.name) else { continue };
            let failed = |error| LabError::Puppet(user.name.clone(), error);
            let at_once = index < named + SIGNED_IN;
            if !person.pending {
                let app =
                    WebexApp::new(&self.ctx, person.clone(), reach.clone(), cloud.issue_to_puppet(&person));
                let app = app.map_err(failed)?;
                if at_once {
                    app.sign_in().await.map_err(failed)?;
                }
                self.ctx.puppets.add(&user.name, App::Webex, Arc::new(app));
            }
        }
        Ok(())
    }

    /// Where everything is.
    #[must_use]
    pub fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// What all parts of the lab share.
    #[must_use]
    pub fn ctx(&self) -> &Arc<Ctx> {
        &self.ctx
    }

    /// `host:port` where a connector with the lab's settings serves its status.
    #[must_use]
    pub fn status_address(&self) -> &str {
        self.control.status().strip_prefix("http://").unwrap_or_default()
    }

    /// A connector runs with the lab's settings, in process `pid`.
    pub fn connector(&mut self, pid: u32) {
        self.endpoints.status = Some(self.control.status().to_owned());
        self.endpoints.connector_pid = Some(pid);
        self.control.connector_runs();
    }

    /// Writes the endpoints document, if a file was asked for.
    ///
    /// # Errors
    /// What the file system answers.
    pub fn publish_endpoints(&self) -> io::Result<()> {
        match &self.ctx.options.endpoints {
            Some(file) => self.endpoints.write(file),
            None => Ok(()),
        }
    }

    /// Whether nothing is on its way, neither in the stand-ins nor, with a connector, in that.
    pub async fn is_idle(&self) -> bool {
        self.control.is_idle().await
    }

    /// Stops everything and waits until it is gone.
    pub async fn stop(self) {
        self.ctx.shut_down().await;
    }
}
