//! What goes to Webex: texts are sealed and posted, read marks acknowledged, typing passed on.

use std::sync::Arc;

use router::envelope::{Body, Link};
use router::ids::{ActivityId, ConversationId, DerivedId, PersonId, Time};
use router::inbound::{Cause, Inbound, Outcome};
use router::outbound::{Hint, MaybeSent};
use router::outbox::{Entry, EntryKind, EntrySummary, Lane};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use webex_api::activity::{Action, Comment, Post, Posted, Target, Text};
use webex_api::typing::{self, Typing};
use webex_api::{Fate, Url};

use super::asked::{self, Listed};
use super::catch_up::ListError;
use super::conversations::{Direct, FindError};
use super::http::CloudError;
use super::relay::Relayed;
use super::{PATIENCE, Side, locked, relay, told};
use crate::crash;
use crate::jabber::OpenError;
use crate::port::Delivery;

/// Carries one delivery to its end and tells the hub.
pub(super) async fn run(side: Arc<Side>, mut delivery: Box<Delivery>) {
    let ticket = delivery.ticket;
    let outcome = match delivery.entry.kind {
        EntryKind::Text | EntryKind::FileNotice => say(&side, &delivery).await,
        EntryKind::Read => mark(&side, &delivery.entry, &delivery.target).await,
        EntryKind::Files | EntryKind::Edit | EntryKind::DeleteNotice => {
            Outcome::Wedged("nothing of this kind goes to Webex".into())
        }
        // What the connector itself says is rare, and kept out of the futures of all deliveries.
        _ => match Box::pin(word(&side, &mut delivery.entry)).await {
            Ok(()) => say(&side, &delivery).await,
            Err(outcome) => outcome,
        },
    };
    let entry = &delivery.entry;
    if !matches!(outcome, Outcome::Later { .. } | Outcome::Unknown | Outcome::Unsettled) {
        locked(&side.refusals).remove(&entry.id);
    }
    tracing::debug!(entry = entry.id.0, ?outcome, "delivery to Webex");
    side.hub.answer(Inbound::Receipt(ticket, outcome));
}

/// Gives what the connector itself tells somebody its text, in the words of now. Another text has another IV.
async fn word(side: &Side, entry: &mut Entry) -> Result<(), Outcome> {
    let until = Instant::now() + side.times.delivery;
    let text = within(until, host_cause(), told::text(side, entry)).await?;
    entry.iv = Some(side.tagger.iv(&entry.derived, "displayName", &text));
    entry.body = Body::Clear(text.into());
    Ok(())
}

/// Who speaks to whom, looked up now (rule 16), and through whom keys are fetched (rule 15).
struct Pair {
    sender: PersonId,
    recipient: PersonId,
    via: PersonId,
    /// As whom the text is posted: the sender, or the bot for a sender without a token or an account.
    actor: PersonId,
    /// That sender, for whom the bot has a space of its own with the recipient.
    relayed: Option<Relayed>,
}

impl Pair {
    /// The other of the two, as `one` sees it.
    fn other(&self, one: &PersonId) -> &PersonId {
        if *one == self.sender { &self.recipient } else { &self.sender }
    }
}

fn pair(side: &Side, entry: &Entry) -> Result<Pair, Outcome> {
    let wedged = |reason: &str| Outcome::Wedged(reason.into());
    if let Lane::Told(person, _) = &entry.lane {
        let cause = Cause::Host("the service bot".into());
        let bot = bot(side).ok_or(Outcome::Later { cause, after: None })?;
        let (sender, via, recipient) = (bot.clone(), bot.clone(), person.clone());
        return Ok(Pair { sender, recipient, via, actor: bot, relayed: None });
    }
    let recipient = entry.recipient.as_ref().ok_or_else(|| wedged("the entry names no recipient"))?;
    let sender = match entry.sender.federated_address() {
        Some(_) if !side.federated => return Err(wedged("federated contacts are not relayed")),
        Some(_) => None,
        None => Some(side.person(&entry.sender).ok_or_else(|| wedged("the sender is not in the directory"))?),
    };
    let recipient = side.person(recipient).ok_or_else(|| wedged("the recipient is not in the directory"))?;
    let name = sender.as_ref().map_or(entry.sender.federated_address(), |person| Some(&person.name));
    let relayed = Relayed { id: entry.sender.clone(), name: name.unwrap_or_default().into() };
    let Some(sender) = sender.filter(|person| side.cloud.covers(&person.id)) else {
        if !side.relays_texts {
            return Err(wedged("there is no token for the sender, and no bot"));
        }
        let bot = bot(side).ok_or_else(|| no_token(&entry.sender))?;
        let (via, relayed) = (bot.clone(), Some(relayed));
        let (sender, recipient) = (entry.sender.clone(), recipient.id.clone());
        return Ok(Pair { sender, recipient, via, actor: bot, relayed });
    };
    // Whoever has a socket; without one, whoever will have one.
    let people = [&sender, &recipient];
    let via = people
        .iter()
        .find(|person| side.is_attached(&person.id))
        .or_else(|| people.iter().find(|person| person.served() && side.cloud.covers(&person.id)));
    let via = via.ok_or_else(|| wedged("neither of the two is served"))?.id.clone();
    let (sender, recipient) = (sender.id.clone(), recipient.id.clone());
    Ok(Pair { actor: sender.clone(), sender, recipient, via, relayed: None })
}

/// The bot, once it has a socket.
fn bot(side: &Side) -> Option<PersonId> {
    locked(&side.bot).clone().filter(|bot| side.is_attached(bot))
}

/// Nobody can act for this sender just now.
fn no_token(sender: &PersonId) -> Outcome {
    Outcome::Later { cause: Cause::Token(sender.clone()), after: None }
}

async fn say(side: &Side, delivery: &Delivery) -> Outcome {
    let Delivery { ticket, entry, maybe_sent, .. } = delivery;
    let Body::Clear(text) = &entry.body else { return Outcome::Wedged("the entry has no text".into()) };
    let Some(iv) = &entry.iv else { return Outcome::Wedged("the entry has no IV".into()) };
    let pair = match pair(side, entry) {
        Ok(pair) => pair,
        Err(outcome) => return outcome,
    };
    if let MaybeSent::Since(since) = *maybe_sent
        && !crash::retries_unasked()
    {
        crash::point(crash::QUESTION);
        // Absent counts only if the question is asked after the settle time.
        let settled = side.clock.now() >= since.after(side.times.settle);
        // The longer an entry waits, the more there is to list: cut short, it would be asked for ever.
        let until = Instant::now() + side.times.settle;
        let answer = within(until, host_cause(), Box::pin(question(side, entry, &pair, since))).await;
        crash::point(crash::ANSWER);
        match answer {
            Ok(Some(link)) => return Outcome::Delivered(link),
            Ok(None) if !settled => return Outcome::Unsettled,
            Ok(None) => {}
            Err(outcome) => return outcome,
        }
    }
    let until = Instant::now() + side.times.delivery;
    // The key may have been changed since it was read, or the conversation be another: once more, then.
    for last in [false, true] {
        let (direct, jwe) = match prepare(side, entry, &pair, iv, text, until).await {
            Ok(prepared) => prepared,
            Err(outcome) => return outcome,
        };
        if entry.run != side.run && !last {
            let (word, answer) = oneshot::channel();
            locked(&side.writes).insert(*ticket, word);
            side.hub.answer(Inbound::Attempt(*ticket, None));
            if answer.await != Ok(true) {
                return Outcome::Later { cause: Cause::Conversation(direct.id()), after: None };
            }
        }
        crash::point(crash::SEALED);
        let comment = Comment { display_name: Text::new(jwe), content: None, key: direct.key.clone() };
        match post(side, &entry.derived, &pair.actor, &direct.target, Action::Comment(comment), until).await {
            Ok(activity) => {
                return Outcome::Delivered(Link::Activity(
                    ActivityId::new(activity.id.as_str()),
                    direct.id(),
                ));
            }
            Err(Refusal::Outcome(outcome)) => return outcome,
            Err(again) => {
                side.conversations.forget(&pair.sender, &pair.recipient);
                match again {
                    _ if !last => {}
                    Refusal::Refused(conversation, status) => {
                        return refused(side, entry, conversation, status);
                    }
                    Refusal::ReadAgain(outcome) | Refusal::Outcome(outcome) => return outcome,
                }
            }
        }
    }
    Outcome::Later { cause: Cause::Kms, after: None }
}

/// Where an attempt may have gone to.
struct Place {
    address: ConversationId,
    /// Who can read there.
    asker: PersonId,
    /// As whom it was posted.
    actor: PersonId,
}

/// Every place that an attempt may have gone to: the conversation of the two, and the relay space, since an attempt may be
/// older than the sender's token, or than its end.
async fn places(side: &Side, entry: &Entry, pair: &Pair) -> Result<Vec<Place>, Outcome> {
    let mut places = Vec::new();
    let relay = side.relays.address(&pair.sender, &pair.recipient).filter(|_| side.relays_texts);
    if let Some(address) = relay {
        let bot = bot(side).ok_or_else(|| no_token(&pair.sender))?;
        places.push(Place { address, asker: bot.clone(), actor: bot });
    }
    let asker = if pair.sender.is_federated() {
        None
    } else if pair.relayed.is_some() {
        // Only the recipient can have read what was posted with a token that the sender had once.
        let served = side.person(&pair.recipient).is_some_and(|person| person.served());
        Some(&pair.recipient).filter(|recipient| served && side.cloud.covers(recipient))
    } else {
        Some(&pair.via)
    };
    let Some(asker) = asker else { return Ok(places) };
    let find = || side.conversations.find(&side.cloud, asker, pair.other(asker));
    // A conversation is made before anything is posted to it: that there should be none is asked twice.
    let mut found = find().await.map_err(|error| not_found(side, entry, pair, error))?;
    if found.is_none() {
        found = find().await.map_err(|error| not_found(side, entry, pair, error))?;
    }
    let (asker, actor) = (asker.clone(), pair.sender.clone());
    places.extend(found.map(|direct| Place { address: direct.id(), asker, actor }));
    Ok(places)
}

/// Whether an attempt until `attempted` has arrived (rule 10): known by its id, by its IV, or by its tombstone.
async fn question(side: &Side, entry: &Entry, pair: &Pair, attempted: Time) -> Result<Option<Link>, Outcome> {
    for place in places(side, entry, pair).await? {
        if let Some(link) = arrived(side, entry, &place, attempted).await? {
            return Ok(Some(link));
        }
    }
    Ok(None)
}

async fn arrived(
    side: &Side,
    entry: &Entry,
    place: &Place,
    attempted: Time,
) -> Result<Option<Link>, Outcome> {
    let Place { address, asker, actor } = place;
    let url: Url = address.as_str().parse().map_err(|_| Outcome::Wedged("no address".into()))?;
    let committed = side.cloud.at(entry.committed);
    let since = committed.before(side.times.overlap);
    let settled = attempted.after(side.times.settle);
    let listed = asked::listing(side, asker, (address, &url), since, settled);
    let listed = listed.await.map_err(|error| not_listed(&error, address))?;
    let link = |activity: &Listed| Link::Activity(activity.name(), address.clone());
    if let Some(activity) = listed.activities.iter().find(|activity| activity.is(entry, actor)) {
        return Ok(Some(link(activity)));
    }
    // What is known as another message was not this one, whichever run has come to know it.
    // What was published long after the last attempt was not this one either.
    let latest = side.cloud.at(settled);
    let buried = |activity: &&Listed| activity.is_buried(actor, committed, latest);
    for activity in listed.activities.iter().filter(buried) {
        if !side.posts.is_other(&activity.id, entry) && !side.ledger.knows(&activity.id).await {
            side.posts.took(&activity.id, entry);
            return Ok(Some(link(activity)));
        }
    }
    Ok(None)
}

/// The conversation of the two, and the text sealed with its key.
async fn prepare(
    side: &Side,
    entry: &Entry,
    pair: &Pair,
    iv: &[u8; 12],
    text: &str,
    until: Instant,
) -> Result<(Arc<Direct>, String), Outcome> {
    let direct = if let Some(sender) = &pair.relayed {
        let space = Box::pin(relay::space(side, &pair.actor, sender, &pair.recipient));
        within(until, Cause::Kms, space).await?
    } else {
        let other = pair.other(&pair.via);
        let find = side.conversations.find(&side.cloud, &pair.via, other);
        // What is done for the first message of a pair alone is kept out of the futures of all deliveries.
        let find = Box::pin(async { find.await.map_err(|error| not_found(side, entry, pair, error)) });
        match within(until, host_cause(), find).await? {
            Some(direct) => direct,
            None => {
                let make = side.conversations.make(&side.cloud, &*side.keys, &pair.via, other);
                let make =
                    Box::pin(async { make.await.map_err(|error| not_found(side, entry, pair, error)) });
                within(until, Cause::Kms, make).await?
            }
        }
    };
    let seal = side.keys.seal(&pair.via, direct.key.as_str(), iv, text);
    let sealed = within(until, Cause::Kms, async { seal.await.map_err(not_sealed) }).await?;
    Ok((direct, sealed))
}

/// Why a POST was not carried out.
pub(super) enum Refusal {
    Outcome(Outcome),
    /// What we know of the conversation may be out of date; if it is not, this comes of it.
    ReadAgain(Outcome),
    /// It was refused with this status; what we know of the conversation may be out of date.
    Refused(ConversationId, u16),
}

pub(super) async fn post(
    side: &Side,
    id: &DerivedId,
    actor: &PersonId,
    target: &Target,
    action: Action,
    until: Instant,
) -> Result<Posted, Refusal> {
    let unusable = |_| Refusal::Outcome(Outcome::Wedged("an id that cannot be written".into()));
    let post = Post {
        target: target.clone(),
        actor: actor.as_str().parse().map_err(unusable)?,
        client_temp_id: id.as_str().parse().map_err(unusable)?,
        action,
    };
    crash::point(crash::POST);
    let sent = timeout_at(until.max(Instant::now() + side.times.delivery), side.cloud.send_as(actor, post));
    let Ok(sent) = sent.await else { return Err(Refusal::Outcome(Outcome::Unknown)) };
    crash::point(crash::POSTED);
    sent.map_err(|error| {
        if !error.is_refusal() {
            return Refusal::Outcome(Outcome::Unknown);
        }
        let Some(api) = error.api() else { return Refusal::Outcome(later(&error)) };
        let conversation = ConversationId::new(target.url.as_str());
        match (api.fate(), api.status().map(|status| status.as_u16())) {
            // A key that changes again and again: the cloud does not agree with itself yet.
            (Fate::NewKey, _) => {
                let cause = Cause::Conversation(conversation);
                Refusal::ReadAgain(Outcome::Later { cause, after: None })
            }
            // Something is there already: perhaps this very post.
            (_, Some(409)) => Refusal::Outcome(Outcome::Unknown),
            (Fate::Refused, Some(status)) => Refusal::Refused(conversation, status),
            _ => Refusal::Outcome(later(&error)),
        }
    })
}

/// A read mark, as the reader. It can be repeated without harm, so nothing is asked before.
async fn mark(side: &Side, entry: &Entry, target: &[EntrySummary]) -> Outcome {
    // Of several parts the last one that has arrived is what was read.
    let read = target.iter().rev().find_map(EntrySummary::activity);
    let Some((activity, conversation)) = read else {
        return Outcome::Uncarried("what was read has no activity".into());
    };
    if !side.cloud.covers(&entry.carrier) {
        return Outcome::Uncarried("there is no token for the reader".into());
    }
    let (Some(target), Ok(id)) = (bare_target(&conversation), activity.as_str().parse()) else {
        return Outcome::Wedged("the activity has no usable name".into());
    };
    let until = Instant::now() + side.times.delivery;
    match post(side, &entry.derived, &entry.carrier, &target, Action::Acknowledge { id }, until).await {
        Ok(_) => Outcome::Delivered(Link::Activity(activity, conversation)),
        Err(Refusal::Refused(conversation, status)) => refused(side, entry, conversation, status),
        Err(Refusal::ReadAgain(outcome) | Refusal::Outcome(outcome)) => outcome,
    }
}

/// A conversation by its address alone: its id is the address's last part.
fn bare_target(conversation: &ConversationId) -> Option<Target> {
    let url: Url = conversation.as_str().parse().ok()?;
    let id = url.as_str().trim_end_matches('/').rsplit('/').next()?.parse().ok()?;
    Some(Target { id, url, kms_resource_object_url: None })
}

/// Passes on that somebody types in Jabber, if the two have a conversation.
pub(super) async fn hint(side: Arc<Side>, hint: Hint) {
    let Hint::TypingInWebex { from, to, active } = hint else { return };
    if !side.cloud.covers(&from) {
        return;
    }
    let passed = async {
        let Ok(Some(direct)) = side.conversations.find(&side.cloud, &from, &to).await else { return };
        let typing = Typing {
            url: direct.target.url.clone(),
            conversation: direct.target.id.clone(),
            state: if active { typing::State::Typing } else { typing::State::Paused },
        };
        if let Err(error) = side.cloud.send_as(&from, typing).await {
            tracing::debug!(%from, %error, "typing not passed on");
        }
    };
    // One that would come late is not missed.
    let _ = tokio::time::timeout(side.times.delivery, passed).await;
}

/// What takes longer than a delivery may wait is in the way of it (rule 14).
async fn within<T>(
    until: Instant,
    cause: Cause,
    work: impl Future<Output = Result<T, Outcome>>,
) -> Result<T, Outcome> {
    timeout_at(until, work).await.unwrap_or(Err(Outcome::Later { cause, after: None }))
}

fn host_cause() -> Cause {
    Cause::Host("conversation".into())
}

fn later(error: &CloudError) -> Outcome {
    let (cause, after) = error.cause();
    Outcome::Later { cause, after }
}

fn not_listed(error: &ListError, conversation: &ConversationId) -> Outcome {
    match error {
        ListError::Cloud(error) => later(error),
        _ => Outcome::Later { cause: Cause::Conversation(conversation.clone()), after: None },
    }
}

fn not_found(side: &Side, entry: &Entry, pair: &Pair, error: FindError) -> Outcome {
    match error {
        FindError::Cloud(error) => match error.api().and_then(webex_api::ApiError::status) {
            Some(status) if matches!(status.as_u16(), 400 | 403 | 404 | 413) => {
                let cause = ConversationId::new(format!("{} {}", pair.sender, pair.recipient));
                refused(side, entry, cause, status.as_u16())
            }
            _ => later(&error),
        },
        error => not_sealed(error.into_open_error()),
    }
}

/// A refusal is final, once it was repeated.
fn refused(side: &Side, entry: &Entry, conversation: ConversationId, status: u16) -> Outcome {
    let mut refusals = locked(&side.refusals);
    let times = refusals.entry(entry.id).or_insert(0);
    *times += 1;
    if *times < PATIENCE {
        return Outcome::Later { cause: Cause::Conversation(conversation), after: None };
    }
    Outcome::Wedged(format!("the conversation service answered {status}").into())
}

fn not_sealed(error: OpenError) -> Outcome {
    match error {
        OpenError::Later(cause) => Outcome::Later { cause, after: None },
        OpenError::Wedged(reason) => Outcome::Wedged(reason),
    }
}
