//! The sixteen interactions: what is carried, by whose session, and by which rule.

use serde::{Deserialize, Serialize};

/// A client program in which people write and read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Client {
    /// Jabber, on IM and Presence.
    Jabber,
    /// The Webex App.
    Webex,
}

/// As much of a person as the verdict needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Party {
    /// The person's organization is ours.
    pub ours: bool,
    /// Entitled for Hybrid Message.
    pub enabled: bool,
    /// Our session for the person is held now.
    pub awake: bool,
    /// Can be reached in Webex: signed in at least once, or posts to such people are wanted.
    pub in_webex: bool,
}

/// Whose session sees or sends what is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Carrier {
    /// The sender's.
    Sender,
    /// The recipient's.
    Recipient,
    /// Either; whichever copy comes first.
    Either,
}

/// What becomes of a message, for one client of its recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whose session carries; `None`: the connector carries nothing for this arrival.
    pub carrier: Option<Carrier>,
    /// The message arrives, carried or native.
    pub arrives: bool,
    /// The row of the table, and why.
    pub rule: &'static str,
}

const OTHER_ORGANIZATION: &str = "LIC-07: the two are not of one organization, nothing is carried";
const NEVER_SIGNED_IN: &str = "MIG-07: the recipient never signed in to Webex";
const ASLEEP: &str = "IX-14: the session that would carry is not held";

/// Judges a message written in `from` for the recipient who looks in `to`.
#[must_use]
pub fn judge(sender: Party, from: Client, recipient: Party, to: Client) -> Verdict {
    use Carrier::{Either, Recipient, Sender};
    use Client::{Jabber, Webex};
    if from != to && !(sender.ours && recipient.ours) {
        return Verdict { carrier: None, arrives: false, rule: OTHER_ORGANIZATION };
    }
    #[rustfmt::skip]
    let (carrier, arrives, rule) = match (sender.enabled, from, recipient.enabled, to) {
        (false, Webex,  false, Webex)  => (None, true, "IX-T01: native in Webex, no copy"),
        (false, Webex,  false, Jabber) => (None, false, "IX-T02: the sender is not enabled, nothing is copied to Jabber"),
        (false, Webex,  true,  Webex)  => (None, true, "IX-T03: native in Webex, no copy"),
        (false, Webex,  true,  Jabber) => (None, false, "IX-T04: the sender's enablement decides, and the sender is not enabled"),
        (false, Jabber, false, Webex)  => (None, false, "IX-T05: neither is enabled, no session could carry it"),
        (false, Jabber, false, Jabber) => (None, true, "IX-T06: native in Jabber, no copy"),
        (false, Jabber, true,  Webex)  => (Some(Recipient), true, "IX-T07: the recipient's session carries"),
        (false, Jabber, true,  Jabber) => (None, true, "IX-T08: native in Jabber"),
        (true,  Webex,  false, Webex)  => (None, true, "IX-T09: native in Webex"),
        (true,  Webex,  false, Jabber) => (Some(Sender), true, "IX-T10: the sender's session carries"),
        (true,  Webex,  true,  Webex)  => (None, true, "IX-T11: native in Webex"),
        (true,  Webex,  true,  Jabber) => (Some(Sender), true, "IX-T12: the sender's session carries"),
        (true,  Jabber, false, Webex)  => (Some(Sender), true, "IX-T13: the sender's session carries"),
        (true,  Jabber, false, Jabber) => (None, true, "IX-T14: native in Jabber"),
        (true,  Jabber, true,  Webex)  => (Some(Either), true, "IX-T15: either session carries, whichever copy comes first"),
        (true,  Jabber, true,  Jabber) => (None, true, "IX-T16: native in Jabber"),
    };
    let Some(carrier) = carrier else { return Verdict { carrier: None, arrives, rule } };
    if to == Webex && !recipient.in_webex {
        return Verdict { carrier: None, arrives: false, rule: NEVER_SIGNED_IN };
    }
    // A session that sees the message must be held to see it. One that sends is opened for it: whoever
    // writes in Webex is awake by that.
    let carrier = match (from, carrier) {
        (Webex, carrier) => Some(carrier),
        (Jabber, Sender) => sender.awake.then_some(Sender),
        (Jabber, Recipient) => recipient.awake.then_some(Recipient),
        (Jabber, Either) => match (sender.awake, recipient.awake) {
            (true, true) => Some(Either),
            (true, false) => Some(Sender),
            (false, true) => Some(Recipient),
            (false, false) => None,
        },
    };
    match carrier {
        Some(_) => Verdict { carrier, arrives, rule },
        None => Verdict { carrier: None, arrives: false, rule: ASLEEP },
    }
}
