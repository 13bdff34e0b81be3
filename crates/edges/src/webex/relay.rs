//! Texts of people for whom there is no token, and of federated contacts: a bot posts them, in one locked space for each
//! sender and recipient (rule 15).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use router::envelope::{Envelope, Origin};
use router::ids::{ConversationId, PersonId, Time};
use router::inbound::{Cause, Outcome};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use webex_api::Timestamp;
use webex_api::activity::{Target, Text};
use webex_api::auth::AccessToken;
use webex_api::conversation::{Conversation, CreateLocked, Get, List};
use webex_api::people::Me;

use super::conversations::Direct;
use super::http::CloudError;
use super::intake::person;
use super::mercury::{Line, Purpose};
use super::{Side, device, locked};
use crate::jabber::OpenError;

/// Whose texts the bot posts: somebody whom we cannot act as, or who has no account.
#[derive(Debug)]
pub(super) struct Relayed {
    pub(super) id: PersonId,
    /// What the space is called after.
    pub(super) name: Box<str>,
}

/// A space that the bot has made, or asked for.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Space {
    /// Its address; `None`: it was asked for, and whether it was made is not known.
    url: Option<String>,
    /// The key that it was asked for with, by which it is known among the bot's conversations.
    #[serde(default)]
    key: Option<String>,
    /// When it was asked for, in cloud time: a new one is made once a day at most.
    made: Time,
    /// When it was last written to, to the day: kept of federated contacts alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    used: Option<Time>,
}

/// Sender and recipient.
type Parties = (PersonId, PersonId);

/// The spaces that the bot has made.
#[derive(Debug, Default)]
pub(super) struct Relays(Mutex<Spaces>);

#[derive(Debug, Default)]
struct Spaces {
    of: BTreeMap<Parties, Space>,
    by_address: BTreeMap<String, Parties>,
}

impl Spaces {
    fn insert(&mut self, parties: Parties, space: Space) {
        self.remove(&parties);
        if let Some(address) = &space.url {
            self.by_address.insert(address.clone(), parties.clone());
        }
        self.of.insert(parties, space);
    }

    fn remove(&mut self, parties: &Parties) {
        if let Some(address) = self.of.remove(parties).and_then(|space| space.url) {
            self.by_address.remove(&address);
        }
    }
}

const KEPT: &str = "webex/relay/";
/// A space may be listed with a time that is so much before the one at which it was asked for.
const MARGIN: Duration = Duration::from_secs(120);
/// A space that is not as it should be is replaced after so long.
const RENEWAL: Duration = DAY;
/// So many federated contacts get a space with one person within a day: whoever owns a domain has as many addresses as
/// wanted.
const NEWCOMERS: usize = 20;
/// The space of a federated contact who has written nothing for so long makes room for others; what waits is given up
/// long before.
const FORGOTTEN: Duration = Duration::from_secs(90 * 24 * 60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn key(sender: &PersonId, recipient: &PersonId) -> Box<str> {
    format!("{KEPT}{sender}/{recipient}").into()
}

impl Relays {
    /// Takes up a space that was kept, if that is what this value is; those of federated contacts only where they are
    /// carried.
    pub(super) fn restore(&self, key: &str, value: &[u8], federated: bool) {
        let parties = key.strip_prefix(KEPT).and_then(|parties| parties.split_once('/'));
        if let (Some((sender, recipient)), Ok(space)) = (parties, serde_json::from_slice(value)) {
            let (sender, recipient) = (PersonId::new(sender), PersonId::new(recipient));
            if federated || !sender.is_federated() {
                locked(&self.0).insert((sender, recipient), space);
            }
        }
    }

    fn of(&self, sender: &PersonId, recipient: &PersonId) -> Option<Space> {
        locked(&self.0).of.get(&(sender.clone(), recipient.clone())).cloned()
    }

    /// The address of the space of these two, if there is one.
    pub(super) fn address(&self, sender: &PersonId, recipient: &PersonId) -> Option<ConversationId> {
        self.of(sender, recipient).and_then(|space| space.url).map(ConversationId::new)
    }

    /// Whose texts are relayed in this conversation, and to whom; `None`: it is no space of ours.
    pub(super) fn parties(&self, conversation: &ConversationId) -> Option<Parties> {
        locked(&self.0).by_address.get(conversation.as_str()).cloned()
    }

    /// What the recipient says in a space of ours is said to the sender, as in a conversation of two.
    pub(super) fn adopt(&self, envelope: &mut Envelope) {
        if let Origin::Webex(origin) = &mut envelope.origin
            && !origin.one_on_one
        {
            let parties = self.parties(&origin.conversation);
            origin.one_on_one = parties.is_some_and(|(_, recipient)| recipient == origin.actor);
        }
    }
}

/// Finds out who the bot is, and keeps a socket for it, by which its keys come.
pub(super) async fn bot(side: Arc<Side>, token: AccessToken, kept: BTreeMap<Box<str>, Box<[u8]>>) {
    let mut backoff = side.backoff();
    let me = loop {
        match side.cloud.send(Me, Some(&token)).await {
            Ok(me) => break person(&me.id),
            Err(error) => {
                tracing::warn!(%error, "the bot's token cannot be used yet");
                tokio::time::sleep(backoff.pause(side.generator.number())).await;
            }
        }
    };
    side.cloud.adopt(&me, token);
    *locked(&side.bot) = Some(me.clone());
    let device = kept.get(&device::key(&me)).and_then(|value| device::kept(value));
    // Nothing that comes by the bot's socket is handed over, so nothing of it is ever acknowledged late.
    let (_taken, mailbox) = mpsc::unbounded_channel();
    Line::new(side, me, device, Time::default(), mailbox, Purpose::Bot).run().await;
}

/// The space in which the bot posts what `sender` writes to `recipient`: the known one, if its members are
/// still those two, else a new one.
pub(super) async fn space(
    side: &Side,
    bot: &PersonId,
    sender: &Relayed,
    recipient: &PersonId,
) -> Result<Arc<Direct>, Outcome> {
    let Some(known) = side.relays.of(&sender.id, recipient) else {
        return make(side, bot, sender, recipient).await;
    };
    let address = match known.url {
        Some(url) => Some(url),
        None => asked_for(side, bot, sender, recipient, &known).await?,
    };
    let Some(address) = address else { return make(side, bot, sender, recipient).await };
    let url = address.parse().map_err(|_| Outcome::Wedged("the relay space has no address".into()))?;
    match side.cloud.send_as(bot, Get(url)).await {
        Ok(found) => {
            if let Some(direct) = as_it_should_be(&found, bot, recipient) {
                let now = side.cloud.now();
                if sender.id.is_federated() && known.used.unwrap_or(known.made).after(DAY) < now {
                    let (url, used) = (Some(direct.target.url.to_string()), Some(now));
                    keep(side, sender, recipient, Space { url, used, ..known }).await?;
                }
                return Ok(Arc::new(direct));
            }
        }
        Err(error) if error.is_gone() => {}
        Err(error) => return Err(later(&error)),
    }
    if side.cloud.now() < known.made.after(RENEWAL) {
        return Err(Outcome::Wedged("somebody has changed the relay space".into()));
    }
    make(side, bot, sender, recipient).await
}

/// The address of the space that was asked for without an answer; `None`: it was not made, and never will be.
async fn asked_for(
    side: &Side,
    bot: &PersonId,
    sender: &Relayed,
    recipient: &PersonId,
    asked: &Space,
) -> Result<Option<String>, Outcome> {
    let begun = side.cloud.now();
    let mut page = Some(List::First { cluster: None, since: Some(Timestamp(asked.made.before(MARGIN).0)) });
    while let Some(question) = page.take() {
        let listed = side.cloud.send_as(bot, question).await.map_err(|error| later(&error))?;
        let is_it = |space: &&Conversation| {
            space.encryption_key_url.as_ref().map(webex_api::KmsUri::as_str) == asked.key.as_deref()
        };
        if let Some(url) = listed.conversations.iter().find(is_it).and_then(|space| space.url.as_ref()) {
            keep(side, sender, recipient, Space { url: Some(url.to_string()), ..asked.clone() }).await?;
            return Ok(Some(url.to_string()));
        }
        page = listed.next.map(List::Next);
    }
    // Absent counts only if the question is asked after the settle time (rule 10).
    if begun < asked.made.after(side.times.settle) { Err(in_the_way(sender, recipient)) } else { Ok(None) }
}

/// Makes room for one more federated contact of this person; false where too many have come within a day.
fn make_room(side: &Side, recipient: &PersonId) -> bool {
    let now = side.cloud.now();
    let mut spaces = locked(&side.relays.0);
    let theirs = |(parties, _): &(&Parties, &Space)| parties.0.is_federated() && parties.1 == *recipient;
    let is_new = |(_, space): &(&Parties, &Space)| now < space.made.after(DAY);
    if spaces.of.iter().filter(theirs).filter(is_new).count() >= NEWCOMERS {
        return false;
    }
    let unused = |space: &Space| space.used.unwrap_or(space.made).after(FORGOTTEN) < now;
    let forgotten = spaces.of.iter().filter(theirs).filter(|(_, space)| unused(space));
    let forgotten: Vec<Parties> = forgotten.map(|(parties, _)| parties.clone()).collect();
    for parties in forgotten {
        side.shelf.forget(key(&parties.0, &parties.1));
        spaces.remove(&parties);
    }
    true
}

async fn make(
    side: &Side,
    bot: &PersonId,
    sender: &Relayed,
    recipient: &PersonId,
) -> Result<Arc<Direct>, Outcome> {
    if sender.id.is_federated() && !make_room(side, recipient) {
        return Err(Outcome::Wedged("too many federated contacts have written to this person today".into()));
    }
    let new = side.keys.new_conversation(bot, &[bot.clone(), recipient.clone()]).await.map_err(no_key)?;
    let mut iv = [0; 12];
    iv[..8].copy_from_slice(&side.generator.number().to_be_bytes());
    iv[8..].copy_from_slice(&side.generator.number().to_be_bytes()[..4]);
    let title = side.keys.seal(bot, &new.key, &iv, &sender.name).await.map_err(no_key)?;
    let unusable = |_| Outcome::Wedged("an id that cannot be written".into());
    let create = CreateLocked {
        me: bot.as_str().parse().map_err(unusable)?,
        others: vec![recipient.as_str().parse().map_err(unusable)?],
        title: Text::new(title),
        key: new.key.parse().map_err(unusable)?,
        kms_message: new.kms_message,
    };
    // Whoever goes on after no answer, or after a crash, looks for this one before another is made.
    let space = Space { url: None, key: Some(new.key.to_string()), made: side.cloud.now(), used: None };
    keep(side, sender, recipient, space.clone()).await?;
    let made = side.cloud.send_as(bot, create).await.map_err(|error| {
        if error.is_refusal() {
            // There is nothing to look for.
            side.shelf.forget(key(&sender.id, recipient));
            locked(&side.relays.0).remove(&(sender.id.clone(), recipient.clone()));
        }
        later(&error)
    })?;
    let direct = usable(&made).ok_or_else(|| Outcome::Wedged("the new space has no address".into()))?;
    // Before anything is posted there it must be certain that the next run asks there.
    let url = Some(direct.target.url.to_string());
    keep(side, sender, recipient, Space { url, ..space }).await?;
    Ok(Arc::new(direct))
}

/// Puts a space on disk, and then in the place of the one before.
async fn keep(side: &Side, sender: &Relayed, recipient: &PersonId, space: Space) -> Result<(), Outcome> {
    let value = serde_json::to_vec(&space).expect("a space is texts and a number").into();
    if !side.shelf.keep(key(&sender.id, recipient), value).await {
        return Err(in_the_way(sender, recipient));
    }
    locked(&side.relays.0).insert((sender.id.clone(), recipient.clone()), space);
    Ok(())
}

/// It concerns these two alone.
fn in_the_way(sender: &Relayed, recipient: &PersonId) -> Outcome {
    let cause = Cause::Conversation(ConversationId::new(format!("{} {recipient}", sender.id)));
    Outcome::Later { cause, after: None }
}

/// The space, if nobody but the bot and the recipient is in it.
fn as_it_should_be(found: &Conversation, bot: &PersonId, recipient: &PersonId) -> Option<Direct> {
    let members: Vec<PersonId> =
        found.participants().iter().filter_map(|member| member.id.as_ref()).map(person).collect();
    let both = members.len() == 2 && members.contains(bot) && members.contains(recipient);
    both.then(|| usable(found)).flatten()
}

fn usable(found: &Conversation) -> Option<Direct> {
    let key = found.default_activity_encryption_key_url.clone();
    let target: Target = found.target()?;
    Some(Direct { target, key: key.or_else(|| found.encryption_key_url.clone())? })
}

fn later(error: &CloudError) -> Outcome {
    let (cause, after) = error.cause();
    Outcome::Later { cause, after }
}

fn no_key(error: OpenError) -> Outcome {
    match error {
        OpenError::Later(cause) => Outcome::Later { cause, after: None },
        OpenError::Wedged(reason) => Outcome::Wedged(reason),
    }
}
