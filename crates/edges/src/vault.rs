//! Seals and opens the texts of conversations, and speaks to the key service.
//!
//! Keys are fetched through any person who has a Mercury socket (rule 15), for the answers of the key service
//! come on that socket and on no other. For each such person there is a task of its own, `device`, begun when
//! the first key is asked for: what is slow or silent there holds up neither the socket's reader nor anybody else.
//! What was fetched is kept in one bounded ring for all.

mod device;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kms_client::client::Timings;
use kms_client::jose::jwe::{self, ContentKey};
use kms_client::message::Request;
use kms_client::ring::KeyRing;
use kms_client::trust::Trust;
use kms_client::uri::KeyUri;
use router::ids::PersonId;
use router::inbound::Cause;
use router::times::Times;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tracing::Instrument;
use webex_api::Url;
use zeroize::Zeroizing;

use self::device::{Answer, Ask, Device};
use crate::jabber::{Cleartext, OpenError, Opening};
use crate::webex::{Cloud, Keys, NewConversation};

/// How the vault waits, what it trusts and how much it keeps.
#[derive(Clone, Debug)]
pub struct VaultConfig {
    /// Which certificate chains of key services are believed.
    pub trust: Trust,
    /// How the key service is asked again, in real time.
    pub timings: Timings,
    /// The longest that one question to the vault takes; then the answer is *later* (rule 14). What was asked goes on,
    /// so that the next question finds the answer.
    pub wait: Duration,
    /// How many keys are kept in memory.
    pub keys: usize,
}

impl VaultConfig {
    /// The waits of this time scale, and room for 50,000 keys.
    #[must_use]
    pub fn new(trust: Trust, times: &Times) -> Self {
        let timings = Timings::default().divided(times.scale);
        Self { trust, timings, wait: times.delivery, keys: 50_000 }
    }
}

/// How many questions of one person may wait.
const ASKS: usize = 256;
/// How many deliveries of the key service's answers of one person may wait; what comes above is lost, and asked again.
const REPLIES: usize = 256;

/// Seals and opens for everybody; cheap to clone. Its tasks end with the last clone.
#[derive(Clone, Debug)]
pub struct Vault {
    shared: Arc<Shared>,
    people: Arc<Mutex<BTreeMap<PersonId, Person>>>,
}

/// What the vault and its tasks share.
#[derive(Debug)]
struct Shared {
    config: VaultConfig,
    cloud: Cloud,
    ring: Mutex<KeyRing>,
}

/// A person who has, or had, a socket.
#[derive(Debug)]
struct Person {
    device: Url,
    attached: bool,
    /// The task, once something was asked.
    task: Option<Task>,
}

#[derive(Debug)]
struct Task {
    asks: mpsc::Sender<Ask>,
    replies: mpsc::Sender<Vec<String>>,
}

impl Shared {
    fn ring(&self) -> MutexGuard<'_, KeyRing> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Vault {
    /// Asks nothing of anybody yet.
    #[must_use]
    pub fn new(config: VaultConfig, cloud: Cloud) -> Self {
        let ring = Mutex::new(KeyRing::new(config.keys));
        Self { shared: Arc::new(Shared { config, cloud, ring }), people: Arc::default() }
    }

    /// The key at that address, from the ring or from the key service.
    async fn key(&self, via: &PersonId, key: &str) -> Result<ContentKey, OpenError> {
        let uri: KeyUri = key.parse().map_err(|_| OpenError::Wedged("malformed key address".into()))?;
        let kept = self.shared.ring().get(&uri);
        match kept {
            Some(key) => Ok(key),
            None => self.ask(via, |answer| Ask::Key(uri, answer)).await,
        }
    }

    /// Puts a question to a person's task and waits for the answer, but not too long.
    async fn ask<T>(&self, via: &PersonId, ask: impl FnOnce(Answer<T>) -> Ask) -> Result<T, OpenError> {
        let later = || OpenError::Later(Cause::Kms);
        let (sender, receiver) = oneshot::channel();
        self.task(via)?.try_send(ask(sender)).map_err(|_| later())?;
        match timeout(self.shared.config.wait, receiver).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(later()),
        }
    }

    /// The way to this person's task, which is begun if there is none.
    fn task(&self, via: &PersonId) -> Result<mpsc::Sender<Ask>, OpenError> {
        let mut people = self.people();
        let Some(person) = people.get_mut(via).filter(|person| person.attached) else {
            // It concerns this person alone, so no other lane may wait for it.
            return Err(OpenError::Later(Cause::Token(via.clone())));
        };
        if let Some(task) = person.task.as_ref().filter(|task| !task.asks.is_closed()) {
            return Ok(task.asks.clone());
        }
        let (asks, asked) = mpsc::channel(ASKS);
        let (replies, replied) = mpsc::channel(REPLIES);
        let device = Device::new(via.clone(), person.device.clone(), Arc::clone(&self.shared));
        let span = tracing::info_span!("kms", person = %via);
        tokio::spawn(device.run(asked, replied).instrument(span));
        person.task = Some(Task { asks: asks.clone(), replies });
        Ok(asks)
    }

    fn people(&self) -> MutexGuard<'_, BTreeMap<PersonId, Person>> {
        self.people.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keys for Vault {
    fn attached(&self, person: &PersonId, device: &Url) {
        let mut people = self.people();
        match people.get_mut(person) {
            Some(known) if known.device == *device => known.attached = true,
            // Another device has another ephemeral key: the task of the old one ends with its channels.
            _ => {
                let known = Person { device: device.clone(), attached: true, task: None };
                people.insert(person.clone(), known);
            }
        }
    }

    fn detached(&self, person: &PersonId) {
        if let Some(person) = self.people().get_mut(person) {
            person.attached = false;
        }
    }

    fn replies(&self, person: &PersonId, messages: Vec<String>) {
        let people = self.people();
        let task = people.get(person).and_then(|person| person.task.as_ref());
        if let Some(task) = task
            && task.replies.try_send(messages).is_err()
        {
            tracing::warn!(%person, "answers of the key service dropped");
        }
    }

    fn seal<'a>(
        &'a self,
        via: &'a PersonId,
        key: &'a str,
        iv: &'a [u8; 12],
        text: &'a str,
    ) -> Opening<'a, String> {
        Box::pin(async move {
            let key = self.key(via, key).await?;
            jwe::seal(&key, iv, text.as_bytes())
                .map_err(|error| OpenError::Wedged(format!("text cannot be sealed: {error}").into()))
        })
    }

    fn open<'a>(&'a self, via: &'a PersonId, key: &'a str, jwe: &'a str) -> Opening<'a, Cleartext> {
        Box::pin(async move {
            let key = self.key(via, key).await?;
            let mut text = jwe::open(&key, jwe)
                .map_err(|error| OpenError::Wedged(format!("text cannot be opened: {error}").into()))?;
            // Taken over, not copied: the buffer that is wiped becomes the text's.
            match String::from_utf8(std::mem::take(&mut *text)) {
                Ok(text) => Ok(Cleartext::new(text)),
                Err(error) => {
                    drop(Zeroizing::new(error.into_bytes()));
                    Err(OpenError::Wedged("text is not UTF-8".into()))
                }
            }
        })
    }

    fn new_conversation<'a>(
        &'a self,
        via: &'a PersonId,
        people: &'a [PersonId; 2],
    ) -> Opening<'a, NewConversation> {
        Box::pin(async move {
            let key = self.ask(via, Ask::NewKey).await?;
            let users = people.iter().map(|person| person.as_str().to_owned()).collect();
            let bind = Request::CreateResource { users, keys: vec![key.clone()] };
            let kms_message = self.ask(via, |answer| Ask::Wrap(bind, answer)).await?;
            Ok(NewConversation { key: key.as_str().into(), kms_message })
        })
    }
}
