//! What all parts of a running lab share.

use std::{future::Future, sync::Arc};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    clock::{Clock, Time},
    fault::Faults,
    generator::Generator,
    idle::Idle,
    imp::{epas::Logins, nodes::Nodes},
    mails::Mails,
    net::Network,
    options::Options,
    people::{People, Puppets, roster},
    seen::Seen,
};

/// The component name of the connector on the trusted link.
pub const TRUSTED_NAME: &str = "connector.lab.example";
/// Another name that has the same rights, for a second link.
pub const SECOND_TRUSTED_NAME: &str = "second.lab.example";
/// The secret of the trusted link.
pub const TRUSTED_SECRET: &str = "lab-trusted-secret";
/// The service account of link B, which is the application user of link C.
pub const SERVICE_JID: &str = "connector-service@lab.example";
/// Its password.
pub const SERVICE_PASSWORD: &str = "lab-service-secret";
/// The AXL account.
pub const AXL_USER: &str = "lab-axl";
/// Its password.
pub const AXL_PASSWORD: &str = "lab-axl-secret";
/// The OAuth client of the connector.
pub const CLIENT_ID: &str = "lab-connector";
/// Its secret.
pub const CLIENT_SECRET: &str = "lab-client-secret";

/// What all parts of a running lab share: cheap to clone as an `Arc`, never replaced.
#[derive(Debug)]
pub struct Ctx {
    /// What was asked for at start.
    pub options: Options,
    /// The clock of all stand-ins.
    pub clock: Clock,
    /// Chance and identifiers.
    pub rng: Generator,
    /// What goes wrong.
    pub faults: Faults,
    /// What is on its way.
    pub idle: Idle,
    /// The nodes of IM and Presence.
    pub nodes: Nodes,
    /// The sessions of its login service.
    pub logins: Logins,
    /// What clients saw.
    pub seen: Seen,
    /// What Webex has mailed.
    pub mails: Mails,
    /// Who is who.
    pub people: People,
    /// The clients that act for people.
    pub puppets: Puppets,
    /// How puppets reach stand-ins.
    pub network: Network,
    /// Cancelled when the lab stops; every task of the lab ends then.
    pub stop: CancellationToken,
    tasks: TaskTracker,
}

impl Ctx {
    /// Makes what a lab with these options shares, on a network, with a clock that shows `start`.
    #[must_use]
    pub fn new(options: Options, network: Network, start: Time) -> Arc<Self> {
        let clock = Clock::new(start, options.time_scale);
        Arc::new(Self {
            rng: Generator::new(options.seed),
            faults: Faults::new(options.kind),
            idle: Idle::default(),
            nodes: Nodes::new(options.imp_nodes),
            logins: Logins::default(),
            seen: Seen::new(clock.clone()),
            mails: Mails::default(),
            people: People::new(roster(options.users, start)),
            puppets: Puppets::default(),
            network,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            clock,
            options,
        })
    }

    /// Starts a task that ends with the lab at the latest.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = task => {}
            }
        });
    }

    /// Ends all tasks and waits until they are gone.
    pub async fn shut_down(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}
