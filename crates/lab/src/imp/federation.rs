//! Another domain, which this one is federated with: one contact there, who writes to people here and is written to.

use std::sync::Weak;

use futures_util::future::BoxFuture;
use xmpp_core::xml::Compose as _;
use xmpp_core::{BareJid, Element, Jid, ns};

use super::Server;
use super::stanza;
use crate::ctx::Ctx;
use crate::people::{Act, Nobody, Puppet, PuppetError};
use crate::seen::{App, Client, Direction, Kind, Sight};

/// The other domain.
const PARTNER: &str = "partner.example";
/// Who is there, by short name.
const CONTACT: &str = "pat";

/// The contact's client, whose server is somebody else's.
struct Contact(Weak<Server>);

/// Makes the contact.
pub(super) fn start(ctx: &Ctx, server: Weak<Server>) {
    ctx.puppets.add(CONTACT, App::Jabber, std::sync::Arc::new(Contact(server)));
}

/// The address of the contact who is called so.
pub(crate) fn address(name: &str) -> Option<BareJid> {
    (name == CONTACT).then(|| format!("{CONTACT}@{PARTNER}").parse().ok()).flatten()
}

/// Whether the other domain serves this address.
pub(crate) fn serves(address: &Jid) -> bool {
    address.domain().as_str() == PARTNER
}

/// The other domain is handed a message, which its contact sees; false if there is nobody of that address.
pub(crate) fn take(ctx: &Ctx, to: &Jid, message: &Element) -> bool {
    if address(CONTACT).is_none_or(|contact| contact != to.to_bare()) {
        return false;
    }
    let from = message.attr("from").and_then(|from| from.parse::<Jid>().ok());
    if let (Some(text), Some(from)) = (stanza::child_text(message, "body"), from) {
        let kind = if message.attr("type") == Some("error") { Kind::Error } else { Kind::Message };
        see(ctx, from.to_bare().as_str(), Direction::In, kind, message.attr("id").unwrap_or_default(), text);
    }
    true
}

fn see(ctx: &Ctx, other: &str, dir: Direction, kind: Kind, id: &str, text: String) {
    let peer = ctx.people.by_jid(other).map_or_else(|| other.to_owned(), |person| person.name);
    let sight = Sight { peer, dir, kind, id: id.to_owned(), text };
    ctx.seen.record(&Client::new(CONTACT, App::Jabber), sight);
}

impl Puppet for Contact {
    fn say<'a>(&'a self, to: &'a str, text: &'a str) -> BoxFuture<'a, Result<String, PuppetError>> {
        Box::pin(async move {
            let server = self.0.upgrade().ok_or(PuppetError::Unsupported("the lab has stopped"))?;
            let ctx = &server.ctx;
            let person = ctx.people.by_name(to).filter(|person| !person.jid.is_empty());
            let jid = person.ok_or_else(|| Nobody(to.to_owned()))?.jid;
            let id = ctx.rng.uuid();
            see(ctx, &jid, Direction::Out, Kind::Message, &id, text.to_owned());
            let message = Element::bare("message", ns::CLIENT)
                .with_attr("from", format!("{CONTACT}@{PARTNER}/desk"))
                .with_attr("to", jid)
                .with_attr("type", "chat")
                .with_attr("id", id.as_str())
                .with_child(stanza::text_child("body", text));
            server.state().route_message(message);
            Ok(id)
        })
    }

    fn act<'a>(&'a self, _: &'a Act) -> BoxFuture<'a, Result<(), PuppetError>> {
        Box::pin(async { Err(PuppetError::Unsupported("a contact of another domain only writes")) })
    }
}
