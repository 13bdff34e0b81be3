//! Who may log in, and as whom.

use std::sync::Arc;

use xmpp_core::accept::Authenticator;
use xmpp_core::sasl::Mechanism;
use xmpp_core::{BareJid, Secret};

use super::nodes::Nodes;
use crate::ctx::{Ctx, SECOND_TRUSTED_NAME, SERVICE_JID, SERVICE_PASSWORD, TRUSTED_NAME, TRUSTED_SECRET};

/// The accounts of the lab, the service account of link B, the one-time passwords of link C and the component of link A.
pub(crate) struct Accounts {
    pub(crate) ctx: Arc<Ctx>,
    /// The node at whose door they log in; `None`: the door finds the node of each.
    pub(crate) node: Option<usize>,
}

impl Authenticator for Accounts {
    fn mechanisms(&self, _encrypted: bool) -> Vec<Mechanism> {
        vec![Mechanism::ScramSha256, Mechanism::ScramSha1, Mechanism::Plain, Mechanism::CiscoVtgToken]
    }

    fn password(&self, account: &BareJid) -> Option<Secret> {
        if account.as_str() == SERVICE_JID {
            return Some(SERVICE_PASSWORD.into());
        }
        self.ctx.people.by_jid(account.as_str()).map(|person| person.password.into())
    }

    /// The service account may act as everybody, and everybody as themselves.
    fn authorize(&self, authenticated: &BareJid, asked: &BareJid) -> bool {
        let is_service = authenticated.as_str() == SERVICE_JID;
        authenticated == asked || (is_service && self.ctx.people.by_jid(asked.as_str()).is_some())
    }

    fn token(&self, account: &BareJid, token: &str) -> bool {
        self.ctx.logins.take(account.as_str(), token, self.ctx.clock.now())
    }

    fn elsewhere(&self, account: &BareJid) -> Option<String> {
        let serving = self.ctx.nodes.serving(account.as_str());
        self.node.filter(|node| *node != serving).map(|_| Nodes::name(serving))
    }

    fn component(&self, name: &str) -> Option<Secret> {
        [TRUSTED_NAME, SECOND_TRUSTED_NAME].contains(&name).then(|| TRUSTED_SECRET.into())
    }
}
