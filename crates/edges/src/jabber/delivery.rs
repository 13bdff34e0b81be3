//! Entry to stanza: who is meant, what is said, and why not (rules 16 and 17).

use std::sync::Arc;

use router::directory::{Directory, Person};
use router::envelope::Body;
use router::ids::{ConversationId, JabberId, PersonId, StanzaId};
use router::inbound::Outcome;
use router::outbox::{Entry, EntryKind, Lane, TargetRef};
use xmpp_core::{BareJid, Element};

use super::opener::{OpenError, Opener};
use super::words;
use crate::port::Delivery;

impl From<OpenError> for Outcome {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Later(cause) => Self::Later { cause, after: None },
            OpenError::Wedged(reason) => Self::Wedged(reason),
        }
    }
}

/// The stanza that a delivery is, to be sent from its carrier's session.
///
/// # Errors
/// How the delivery ends without one.
pub(super) async fn stanza(
    delivery: &Delivery,
    directory: &Directory,
    opener: &Arc<dyn Opener>,
) -> Result<Element, Outcome> {
    let entry = &delivery.entry;
    let conversation = match &entry.lane {
        Lane::ToJabber(conversation) => conversation,
        Lane::Told(..) => return told(entry),
        Lane::ToWebex(..) => {
            return Err(Outcome::Wedged("an entry for Webex came to the Jabber edge".into()));
        }
    };
    let carrier = directory.by_person(&entry.carrier).filter(|person| person.served());
    let Some(carrier) = carrier else { return Err(Outcome::Wedged("disabled".into())) };
    let to = recipient(conversation, &carrier.id, directory, opener).await?;
    let id = &entry.derived;
    Ok(match entry.kind {
        EntryKind::Text | EntryKind::Files | EntryKind::Edit | EntryKind::FileNotice => match &entry.body {
            Body::Clear(text) => words::message(&to, id, text),
            Body::Sealed { key, jwe } => {
                let text = opener.open(conversation, &carrier.id, key, jwe).await?;
                words::message(&to, id, text.as_str())
            }
            Body::None => return Err(Outcome::Wedged("the text is gone".into())),
        },
        EntryKind::DeleteNotice => {
            let author = directory.by_person(&entry.sender).unwrap_or(carrier);
            if is_of_before(delivery, author, conversation, opener).await? {
                return Err(Outcome::Uncarried(BEFORE.into()));
            }
            words::message(&to, id, &words::delete_notice(&author.name))
        }
        EntryKind::Read if is_outside(&to, directory) => {
            return Err(Outcome::Uncarried(
                "rule 20: how far somebody has read is told to nobody outside".into(),
            ));
        }
        EntryKind::Read => {
            let of = delivery.target.iter().rev().find_map(|target| target.stanza_id());
            let Some(of) = of else { return Err(Outcome::Uncarried("what was read is not known".into())) };
            words::displayed(&to, id, &StanzaId::new(of))
        }
        _ => return Err(Outcome::Wedged(NOT_IN_JABBER.into())),
    })
}

/// Whether this is a federated contact: whoever else is written to is in the directory.
fn is_outside(to: &BareJid, directory: &Directory) -> bool {
    directory.by_jid(&JabberId::new(to.as_str())).is_none()
}

/// Whether what a notice is about was written before its author was enabled, and so was never shown. Whatever the store
/// knows was carried; of anything else the cloud says how old it is.
async fn is_of_before(
    delivery: &Delivery,
    author: &Person,
    conversation: &ConversationId,
    opener: &Arc<dyn Opener>,
) -> Result<bool, Outcome> {
    let entry = &delivery.entry;
    // The new text of an edit, which this notice follows, tells nothing about the old one.
    let known = delivery.target.iter().any(|target| target.source != entry.source);
    let (false, Some(TargetRef::Activity(activity)), Some(since)) =
        (known, &entry.target, author.enabled_since)
    else {
        return Ok(false);
    };
    let written = opener.written(conversation, &author.id, activity).await?;
    Ok(written.is_some_and(|at| at < since))
}

const BEFORE: &str = "rule 17: a notice about what is older than the enablement";

const NOT_IN_JABBER: &str = "nothing of this kind goes to Jabber";

/// What tells somebody that a message was not delivered, in the client that wrote it.
fn told(entry: &Entry) -> Result<Element, Outcome> {
    let to = entry.from.as_deref().unwrap_or_default();
    words::undelivered(to, entry.stanza.as_ref(), &entry.kind)
        .ok_or_else(|| Outcome::Wedged(NOT_IN_JABBER.into()))
}

/// The JID of whoever takes part in a conversation besides `sender`, as the directory has it now; of a federated contact,
/// the address.
///
/// # Errors
/// There is none, or it is not known now.
pub(super) async fn recipient(
    conversation: &ConversationId,
    sender: &PersonId,
    directory: &Directory,
    opener: &Arc<dyn Opener>,
) -> Result<BareJid, Outcome> {
    let other = opener.recipient(conversation, sender).await?;
    let uncarried = |reason: &str| Outcome::Uncarried(reason.into());
    let malformed = |_| Outcome::Wedged("the recipient's JID is malformed".into());
    if let Some(address) = other.federated_address() {
        return BareJid::new(address).map_err(malformed);
    }
    let person: &Person =
        directory.by_person(&other).ok_or_else(|| uncarried("the recipient is not in the directory"))?;
    if other == *sender {
        return Err(uncarried("a message to oneself"));
    }
    if !person.ours {
        return Err(uncarried("the recipient is of another organization"));
    }
    let jid = person.jid.as_ref().ok_or_else(|| uncarried("the recipient has no Jabber account"))?;
    BareJid::new(jid.as_str()).map_err(malformed)
}
