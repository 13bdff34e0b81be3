//! What the service bot tells a person in its own conversation with that person (rule 21), and in which words.

use router::ids::PersonId;
use router::inbound::{Cause, Outcome};
use router::outbox::{Entry, EntryKind};

use super::Side;
use super::conversations::FindError;
use crate::calendar::moment;
use crate::jabber::OpenError;

/// The text of what a person is told.
///
/// # Errors
/// How the delivery ends without one.
pub(super) async fn text(side: &Side, entry: &Entry) -> Result<String, Outcome> {
    let at = |time| moment(time, side.utc_offset);
    let text = match entry.kind {
        EntryKind::Undelivered | EntryKind::Late => {
            let whom = match reader(side, entry).await? {
                Some(name) => format!(" to {name}"),
                None => String::new(),
            };
            let (message, time) = (format!("Your message{whom}"), at(entry.time));
            match entry.kind {
                EntryKind::Late => {
                    format!(
                        "{message} of {time} has not been delivered in Jabber yet. It is still being tried."
                    )
                }
                _ => format!("{message} of {time} could not be delivered in Jabber."),
            }
        }
        EntryKind::SpaceNotice => {
            "You are in a space in Webex where people write to you. Spaces of several people are \
            not shown in Jabber."
                .to_owned()
        }
        EntryKind::HalfNotice => {
            let name = name(side, &entry.sender).unwrap_or_else(|| "Somebody".to_owned());
            format!(
                "{name} writes to you in Webex. This is not shown in Jabber, since {name} is not enabled for it."
            )
        }
        EntryKind::GapNotice => {
            let (from, to) = (at(entry.time), at(entry.stamp.unwrap_or(entry.time)));
            format!("What was written to you in Webex from {from} to {to} is not shown in Jabber.")
        }
        _ => return Err(Outcome::Wedged("nothing of this kind is told in Webex".into())),
    };
    Ok(text)
}

fn name(side: &Side, person: &PersonId) -> Option<String> {
    if let Some(address) = person.federated_address() {
        return Some(address.to_owned());
    }
    side.person(person).map(|person| person.name.to_string()).filter(|name| !name.is_empty())
}

/// To whom a message in Webex was written, by name; `None` where that cannot be found out.
async fn reader(side: &Side, entry: &Entry) -> Result<Option<String>, Outcome> {
    let Some(conversation) = &entry.conversation else { return Ok(None) };
    if let Some((relayed, _)) = side.relays.parties(conversation) {
        return Ok(name(side, &relayed));
    }
    let via = side.reader(conversation, &entry.sender);
    let members = side.conversations.members(&side.cloud, &via, conversation).await;
    match members {
        Ok(members) => {
            let other = members.iter().find(|member| **member != entry.sender);
            Ok(other.and_then(|other| name(side, other)))
        }
        Err(FindError::Cloud(error)) if error.is_gone() => Ok(None),
        Err(error) => match error.into_open_error() {
            // Whoever is not served any more is told all the same.
            OpenError::Later(Cause::Token(_)) | OpenError::Wedged(_) => Ok(None),
            OpenError::Later(cause) => Err(Outcome::Later { cause, after: None }),
        },
    }
}
