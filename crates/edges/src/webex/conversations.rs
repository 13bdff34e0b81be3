//! Conversations that we know, and the one of a pair: found, or made empty and read again.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use router::ids::{ConversationId, PersonId};
use router::inbound::Cause;
use webex_api::activity::Target;
use webex_api::conversation::{Conversation, Create, FindDirect, Get};
use webex_api::{KmsUri, Url};

use super::aged::Aged;
use super::http::{Cloud, CloudError};
use super::intake::person;
use super::keys::Keys;
use crate::crash;
use crate::jabber::OpenError;

/// The conversation of a pair, ready to be posted to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Direct {
    pub target: Target,
    pub key: KmsUri,
}

impl Direct {
    /// Its name towards the router.
    pub(super) fn id(&self) -> ConversationId {
        ConversationId::new(self.target.url.as_str())
    }
}

/// What we remember of conversations; forgotten at will, since the cloud knows.
#[derive(Debug, Default)]
pub(super) struct Conversations {
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    direct: Aged<(PersonId, PersonId), Arc<Direct>>,
    /// Who takes part, by address.
    members: Aged<ConversationId, Arc<[PersonId]>>,
    /// Served people who read there, by address.
    readers: Aged<ConversationId, BTreeSet<PersonId>>,
    /// Addresses by the bare ids that typing events name.
    addresses: Aged<Box<str>, Url>,
}

impl Default for Known {
    fn default() -> Self {
        let (direct, members) = (Aged::new(MOST), Aged::new(MOST));
        Self { direct, members, readers: Aged::new(MOST), addresses: Aged::new(MOST) }
    }
}

/// More is not remembered: a pair takes a few hundred bytes.
const MOST: usize = 50_000;

fn pair(a: &PersonId, b: &PersonId) -> (PersonId, PersonId) {
    if a <= b { (a.clone(), b.clone()) } else { (b.clone(), a.clone()) }
}

impl Conversations {
    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers the address of a conversation that was seen.
    pub(super) fn saw(&self, conversation: &Conversation) {
        let Some(url) = &conversation.url else { return };
        let mut known = self.known();
        if known.addresses.get(conversation.id.as_str()).is_none() {
            known.addresses.insert(conversation.id.as_str().into(), url.clone());
        }
    }

    /// The same, and that this served person reads there.
    pub(super) fn saw_by(&self, conversation: &Conversation, reader: &PersonId) {
        self.saw(conversation);
        let Some(url) = &conversation.url else { return };
        let mut known = self.known();
        let address = ConversationId::new(url.as_str());
        let mut readers = known.readers.get(&address).cloned().unwrap_or_default();
        if readers.insert(reader.clone()) {
            known.readers.insert(address, readers);
        }
    }

    /// Who reads in a conversation, by address, as far as that is remembered.
    pub(super) fn readers(&self, conversation: &ConversationId) -> BTreeSet<PersonId> {
        self.known().readers.get(conversation).cloned().unwrap_or_default()
    }

    /// The address of a conversation that was seen before, by its bare id.
    pub(super) fn address(&self, id: &webex_api::ConversationId) -> Option<Url> {
        self.known().addresses.get(id.as_str()).cloned()
    }

    /// The conversation of a pair, if it is known already.
    pub(super) fn remembered(&self, a: &PersonId, b: &PersonId) -> Option<Arc<Direct>> {
        self.known().direct.get(&pair(a, b)).cloned()
    }

    /// Forgets the conversation of a pair: it is read again, with the key that it has now.
    pub(super) fn forget(&self, a: &PersonId, b: &PersonId) {
        self.known().direct.remove(&pair(a, b));
    }

    fn remember(&self, a: &PersonId, b: &PersonId, found: &Conversation) -> Option<Arc<Direct>> {
        self.saw(found);
        let key = found.default_activity_encryption_key_url.clone();
        let key = key.or_else(|| found.encryption_key_url.clone())?;
        let direct = Arc::new(Direct { target: found.target()?, key });
        self.known().direct.insert(pair(a, b), Arc::clone(&direct));
        Some(direct)
    }

    /// The conversation of these two, asked for as `me`; `None` if they have none yet.
    pub(super) async fn find(
        &self,
        cloud: &Cloud,
        me: &PersonId,
        other: &PersonId,
    ) -> Result<Option<Arc<Direct>>, FindError> {
        if let Some(direct) = self.remembered(me, other) {
            return Ok(Some(direct));
        }
        let asked = FindDirect(other.as_str().parse().map_err(|_| FindError::Unusable("no such person"))?);
        match cloud.send_as(me, asked).await? {
            None => Ok(None),
            Some(found) => match self.remember(me, other, &found) {
                Some(direct) => Ok(Some(direct)),
                None => Err(FindError::Unusable("the conversation has no address or no key")),
            },
        }
    }

    /// Makes the conversation of these two, empty, as the served person `via`, who is one of them. Whatever
    /// the cloud answers, the pair's conversation is read again, and that answer is used (rule 10).
    pub(super) async fn make(
        &self,
        cloud: &Cloud,
        keys: &dyn Keys,
        via: &PersonId,
        other: &PersonId,
    ) -> Result<Arc<Direct>, FindError> {
        let new = keys.new_conversation(via, &[via.clone(), other.clone()]).await?;
        let unusable = |_| FindError::Unusable("no such person");
        let create = Create {
            me: via.as_str().parse().map_err(unusable)?,
            other: other.as_str().parse().map_err(unusable)?,
            key: new.key.parse().map_err(|_| FindError::Unusable("the new key has no usable name"))?,
            kms_message: new.kms_message,
        };
        crash::point(crash::CREATE);
        let made = cloud.send_as(via, create).await;
        crash::point(crash::CREATED);
        match (self.find(cloud, via, other).await, made) {
            (Ok(Some(direct)), _) => Ok(direct),
            (Ok(None), Err(error)) => Err(error.into()),
            // Made, and not to be found yet.
            (Ok(None), Ok(made)) => {
                Err(FindError::NotYet(made.url.map_or_else(String::new, |url| url.host().to_owned())))
            }
            (Err(error), _) => Err(error),
        }
    }

    /// Who takes part in a conversation, asked for as `me`.
    pub(super) async fn members(
        &self,
        cloud: &Cloud,
        me: &PersonId,
        conversation: &ConversationId,
    ) -> Result<Arc<[PersonId]>, FindError> {
        if let Some(members) = self.known().members.get(conversation).cloned() {
            return Ok(members);
        }
        let url: Url = conversation.as_str().parse().map_err(|_| FindError::Unusable("no address"))?;
        let found = cloud.send_as(me, Get(url)).await?;
        self.saw(&found);
        let members: Arc<[PersonId]> =
            found.participants().iter().filter_map(|one| one.id.as_ref()).map(person).collect();
        // Those of a conversation of two never change; others are asked again.
        if found.is_direct() {
            self.known().members.insert(conversation.clone(), Arc::clone(&members));
        }
        Ok(members)
    }
}

/// Why the conversation of a pair is not at hand.
#[derive(Debug, thiserror::Error)]
pub(super) enum FindError {
    #[error(transparent)]
    Cloud(#[from] CloudError),
    #[error(transparent)]
    Keys(#[from] OpenError),
    #[error("a new conversation on {0} is not to be found yet")]
    NotYet(String),
    #[error("{0}")]
    Unusable(&'static str),
}

impl FindError {
    /// What is in the way, or why nothing will help.
    pub(super) fn into_open_error(self) -> OpenError {
        match self {
            Self::Keys(error) => error,
            Self::NotYet(host) => OpenError::Later(Cause::Host(host.into())),
            Self::Unusable(reason) => OpenError::Wedged(reason.into()),
            Self::Cloud(error) => OpenError::Later(error.cause().0),
        }
    }
}
