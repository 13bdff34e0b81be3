//! Who may log in, and as whom.

use std::sync::Arc;

use xmpp_core::accept::Authenticator;
use xmpp_core::sasl::Mechanism;
use xmpp_core::{BareJid, Secret};

use crate::ctx::{Ctx, SECOND_TRUSTED_NAME, SERVICE_JID, SERVICE_PASSWORD, TRUSTED_NAME, TRUSTED_SECRET};

/// The accounts of the lab, the service account of link B, the one-time passwords of link C and the component of link A.
pub(crate) struct Accounts(pub(crate) Arc<Ctx>);

impl Authenticator for Accounts {
    fn mechanisms(&self, _encrypted: bool) -> Vec<Mechanism> {
        vec![Mechanism::ScramSha256, Mechanism::ScramSha1, Mechanism::Plain, Mechanism::CiscoVtgToken]
    }

    fn password(&self, account: &BareJid) -> Option<Secret> {
        if account.as_str() == SERVICE_JID {
            return Some(SERVICE_PASSWORD.into());
        }
        self.0.people.by_jid(account.as_str()).map(|person| person.password.into())
    }

    /// The service account may act as everybody, and everybody as themselves.
    fn authorize(&self, authenticated: &BareJid, asked: &BareJid) -> bool {
        let is_service = authenticated.as_str() == SERVICE_JID;
        authenticated == asked || (is_service && self.0.people.by_jid(asked.as_str()).is_some())
    }

    fn token(&self, account: &BareJid, token: &str) -> bool {
        self.0.logins.take(account.as_str(), token, self.0.clock.now())
    }

    fn component(&self, name: &str) -> Option<Secret> {
        [TRUSTED_NAME, SECOND_TRUSTED_NAME].contains(&name).then(|| TRUSTED_SECRET.into())
    }
}
