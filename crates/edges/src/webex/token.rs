//! Acting as a Webex user: access tokens of people, used for so long, and renewed ahead of their end.

mod enrolled;
mod source;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use router::ids::{PersonId, Time};
use serde::Serialize;
use tokio::time::Instant;
use webex_api::auth::{AccessToken, Secret};
use webex_api::client::Http;
use webex_api::{ApiError, Url};

use self::enrolled::Enrolments;
pub use self::enrolled::{Enrolled, enrolled};
use self::source::{Exchange, Nobody};
pub use self::source::{TokenConfig, TokenError, TokenSource};
use super::locked;
use super::shelf::Shelf;
use crate::probe::causes;
use crate::seam::{Clock, Generator, Scale};

/// A person whose tokens the cloud refuses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RefusedToken {
    /// Who.
    pub person: String,
    /// Since when, in milliseconds since 1970.
    pub since: Time,
    /// What the cloud said.
    pub reason: String,
}

/// Everybody's access tokens.
#[derive(Debug)]
pub struct Tokens {
    source: Arc<dyn TokenSource>,
    /// The source, where people enrol.
    enrolments: Option<Arc<Enrolments>>,
    /// Tokens that do not come from the source: the bot's.
    own: Mutex<BTreeMap<PersonId, AccessToken>>,
    held: Mutex<BTreeMap<PersonId, Slot>>,
    refused: Arc<Mutex<BTreeMap<PersonId, RefusedToken>>>,
    clock: Clock,
    generator: Generator,
    scale: Scale,
}

/// One person's token; whoever has the lock is the only one who asks for another.
type Slot = Arc<tokio::sync::Mutex<Held>>;

#[derive(Debug, Default)]
struct Held {
    token: Option<AccessToken>,
    /// When the token should be replaced, and when it must be.
    renewal: Option<(Instant, Instant)>,
    /// The source is left alone until then, with what it said last.
    pause: Option<(Instant, TokenError)>,
    /// How often in a row it has refused.
    refusals: u32,
}

impl Held {
    /// The token, as long as it need not be replaced; with `late`, as long as it can be used at all.
    fn usable(&self, late: bool) -> Option<AccessToken> {
        let (renew, end) = self.renewal?;
        self.token.clone().filter(|_| Instant::now() < if late { end } else { renew })
    }
}

/// A token is replaced somewhere in the second half of this part of its life.
const SPAN: f64 = 0.9;
/// After a first refusal; after each further one twice as long. What was refused is refused again, until somebody does
/// something.
const REFUSED: Duration = Duration::from_secs(5);
/// But never longer than this.
const REFUSED_AT_MOST: Duration = Duration::from_secs(10 * 60);
/// After no answer, while the token at hand can still be used.
const UNAVAILABLE: Duration = Duration::from_secs(30);

impl Tokens {
    /// None yet, from this source.
    #[must_use]
    pub fn new(config: TokenConfig, clock: Clock, generator: Generator, scale: Scale) -> Self {
        let mut enrolments = None;
        let source: Arc<dyn TokenSource> = match config {
            TokenConfig::Organization { client, machine } => Arc::new(Exchange { client, machine }),
            TokenConfig::User { client, listed } => {
                let source = Arc::new(Enrolments::new(client, listed));
                enrolments = Some(Arc::clone(&source));
                source
            }
            TokenConfig::Relay => Arc::new(Nobody),
        };
        let (own, held, refused) = (Mutex::default(), Mutex::default(), Arc::default());
        Self { source, enrolments, own, held, refused, clock, generator, scale }
    }

    /// Whether a token for this person can be had at all.
    #[must_use]
    pub fn covers(&self, person: &PersonId) -> bool {
        self.source.covers(person)
    }

    /// Takes up the enrolments that the store has, and keeps there what replaces them.
    pub(super) fn restore(&self, kept: &[(Box<str>, Box<[u8]>)], shelf: Arc<Shelf>) {
        if let Some(enrolments) = &self.enrolments {
            enrolments.restore(kept, shelf);
        }
    }

    /// A person has enrolled with this refresh token, or takes the enrolment back. True once that is on disk.
    pub(super) async fn bring(&self, person: &PersonId, mail: &str, token: Option<Secret>) -> bool {
        let Some(enrolments) = &self.enrolments else { return false };
        let slot = self.slot(person);
        // A refresh that is under way must not put what it brings in the place of this.
        let mut held = slot.lock().await;
        let brought = enrolments.bring(person, mail, token).await;
        if brought {
            *held = Held::default();
            locked(&self.refused).remove(person);
        }
        brought
    }

    /// Everybody who is enrolled; `None` where nobody needs to be.
    pub(super) fn enrolled(&self) -> Option<Vec<Enrolled>> {
        self.enrolments.as_ref().map(|enrolments| enrolments.list())
    }

    /// Whose tokens the cloud refuses.
    pub(super) fn refused(&self) -> Vec<RefusedToken> {
        locked(&self.refused).values().cloned().collect()
    }

    /// A token for this person, from memory or new. Those who ask at the same time share one request, and it is
    /// carried to its end whoever stops waiting: its answer may be the only token that still lives.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn get(
        &self,
        person: &PersonId,
        http: &Http,
        idbroker: &Url,
    ) -> Result<AccessToken, TokenError> {
        if let Some(own) = locked(&self.own).get(person) {
            return Ok(own.clone());
        }
        let mut held = self.slot(person).lock_owned().await;
        if let Some(token) = held.usable(false) {
            return Ok(token);
        }
        let paused = held.pause.as_ref().filter(|(until, _)| Instant::now() < *until);
        if let Some((_, error)) = paused {
            return held.usable(true).ok_or_else(|| error.clone());
        }
        let (source, person, refused) = (Arc::clone(&self.source), person.clone(), Arc::clone(&self.refused));
        let (http, idbroker) = (http.clone(), idbroker.clone());
        let (now, scale) = (self.clock.now(), self.scale);
        let generator = self.generator.clone();
        let renewal = tokio::spawn(async move {
            match source.request(&person, &http, &idbroker).await {
                Ok(answer) => {
                    let asked = Instant::now();
                    let renew = asked + generator.jittered(answer.expires_in.mul_f64(SPAN));
                    held.token = Some(answer.access_token.clone());
                    held.renewal = Some((renew, asked + answer.expires_in));
                    (held.pause, held.refusals) = (None, 0);
                    if locked(&refused).remove(&person).is_some() {
                        tracing::info!(%person, "token accepted again");
                    }
                    Ok(answer.access_token)
                }
                Err(error) => {
                    let alive = held.usable(true);
                    let pause = match &error {
                        TokenError::Refused(reason) => {
                            report(&refused, &person, now, reason);
                            let pause = REFUSED.saturating_mul(1 << held.refusals.min(16));
                            held.refusals += 1;
                            Some(pause.min(REFUSED_AT_MOST))
                        }
                        TokenError::Unavailable(_) => alive.as_ref().map(|_| UNAVAILABLE),
                        TokenError::NotEnrolled | TokenError::NotKept => None,
                    };
                    let until = |pause| Instant::now() + generator.jittered(scale.of(pause));
                    held.pause = pause.map(|pause| (until(pause), error.clone()));
                    alive.ok_or(error)
                }
            }
        });
        match renewal.await {
            Ok(outcome) => outcome,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The process ends.
                Err(_) => Err(TokenError::NotKept),
            },
        }
    }

    /// From now on this is the person's token, whatever the source says.
    pub fn adopt(&self, person: &PersonId, token: AccessToken) {
        locked(&self.own).insert(person.clone(), token);
    }

    /// The cloud did not accept this token: the next one asked for is new.
    pub async fn rejected(&self, person: &PersonId, token: &AccessToken) {
        let slot = self.slot(person);
        let mut held = slot.lock().await;
        if held.token.as_ref() == Some(token) {
            held.token = None;
        }
    }

    /// Whose token should be replaced by now. Nobody who is being served at this moment is among them.
    pub(super) fn due(&self) -> Vec<PersonId> {
        let now = Instant::now();
        let is_due = |slot: &Slot| {
            let held = slot.try_lock().ok()?;
            let paused = held.pause.as_ref().is_some_and(|(until, _)| now < *until);
            Some(!paused && held.token.is_some() && held.renewal.is_some_and(|(renew, _)| renew <= now))
        };
        let held = locked(&self.held);
        held.iter().filter(|(_, slot)| is_due(slot) == Some(true)).map(|(person, _)| person.clone()).collect()
    }

    fn slot(&self, person: &PersonId) -> Slot {
        Arc::clone(locked(&self.held).entry(person.clone()).or_default())
    }
}

/// Tells once, and remembers for the status page.
fn report(
    refused: &Mutex<BTreeMap<PersonId, RefusedToken>>,
    person: &PersonId,
    since: Time,
    reason: &Arc<ApiError>,
) {
    let reason = causes(&**reason);
    locked(refused).entry(person.clone()).or_insert_with(|| {
        tracing::warn!(%person, reason, "the cloud refuses a token for this person; others are not disturbed");
        RefusedToken { person: person.as_str().to_owned(), since, reason }
    });
}
