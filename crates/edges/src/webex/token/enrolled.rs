//! The user form: everybody's own refresh token, kept in the store, replaced by what each refresh gives.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use router::ids::PersonId;
use serde::{Deserialize, Serialize};
use webex_api::Url;
use webex_api::auth::{Client, Grant, Secret, Tokens as Answer};
use webex_api::client::{BoxFuture, Http};

use super::source::{TokenError, TokenSource, ask};
use crate::webex::locked;
use crate::webex::shelf::Shelf;

/// What is kept of one person's enrolment.
#[derive(Clone, Debug)]
struct Enrolment {
    /// The address that was enrolled; empty where only the person's id was given.
    mail: Box<str>,
    /// `None`: the enrolment was taken back.
    refresh: Option<Secret>,
    /// Digests of the tokens that were brought to us, the oldest first. One that is brought again is not new: it may
    /// have been replaced since.
    brought: Vec<Box<str>>,
}

/// So many of the tokens that were brought are told from new ones.
const BROUGHT: usize = 16;

/// One line of the list of those who enrolled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Enrolled {
    /// Who.
    pub person: String,
    /// The address that was enrolled; empty where only the person's id was given.
    pub mail: String,
}

/// The name under which a person's enrolment is kept begins so.
const KEPT: &str = "webex/enrolment/";

fn key(person: &PersonId) -> Box<str> {
    format!("{KEPT}{person}").into()
}

fn digest(token: &Secret) -> Box<str> {
    let digest = ring::digest::digest(&ring::digest::SHA256, token.expose().as_bytes());
    URL_SAFE_NO_PAD.encode(digest).into()
}

/// The form on disk; the store seals it.
#[derive(Deserialize, Serialize)]
struct Wire {
    #[serde(default)]
    mail: Box<str>,
    refresh: Option<String>,
    brought: Vec<Box<str>>,
}

impl Enrolment {
    fn to_bytes(&self) -> Box<[u8]> {
        let refresh = self.refresh.as_ref().map(|token| token.expose().to_owned());
        let wire = Wire { mail: self.mail.clone(), refresh, brought: self.brought.clone() };
        serde_json::to_vec(&wire).expect("an enrolment is texts").into()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let Wire { mail, refresh, brought } = serde_json::from_slice(bytes).ok()?;
        Some(Self { mail, refresh: refresh.map(Secret::from), brought })
    }
}

/// Those who enrolled, as a store holds them: for whoever reads it while no connector runs.
pub fn enrolled<'a>(kept: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Vec<Enrolled> {
    let found = kept.into_iter().filter_map(|(key, value)| {
        let person = key.strip_prefix(KEPT)?;
        let enrolment = Enrolment::from_bytes(value)?;
        enrolment.refresh.as_ref()?;
        Some(Enrolled { person: person.to_owned(), mail: enrolment.mail.into() })
    });
    found.collect()
}

/// The source of those who enrolled.
#[derive(Debug)]
pub(super) struct Enrolments {
    client: Client,
    people: Mutex<BTreeMap<PersonId, Enrolment>>,
    shelf: OnceLock<Arc<Shelf>>,
}

impl Enrolments {
    pub(super) fn new(client: Client, listed: Vec<(PersonId, Secret)>) -> Self {
        let enrolment = |(person, token): (PersonId, Secret)| {
            let brought = vec![digest(&token)];
            (person, Enrolment { mail: "".into(), refresh: Some(token), brought })
        };
        let people = Mutex::new(listed.into_iter().map(enrolment).collect());
        Self { client, people, shelf: OnceLock::new() }
    }

    /// Takes up what the store has, and keeps there what comes from now on. A listed token that the store knows of
    /// gives way to what it was replaced by.
    pub(super) fn restore(&self, kept: &[(Box<str>, Box<[u8]>)], shelf: Arc<Shelf>) {
        let mut people = locked(&self.people);
        for (key, value) in kept {
            let Some(person) = key.strip_prefix(KEPT).map(PersonId::new) else { continue };
            let Some(mut stored) = Enrolment::from_bytes(value) else {
                tracing::error!(%person, "the kept enrolment cannot be read: enrol again");
                continue;
            };
            match people.get_mut(&person) {
                Some(listed) if !stored.brought.contains(&listed.brought[0]) => {
                    let new = listed.brought[0].clone();
                    stored.bring(new);
                    listed.brought = stored.brought;
                    listed.mail = stored.mail;
                }
                _ => {
                    people.insert(person, stored);
                }
            }
        }
        // A second edge on the same cloud there is not.
        let _ = self.shelf.set(shelf);
    }

    /// Everybody who is enrolled now.
    pub(super) fn list(&self) -> Vec<Enrolled> {
        let people = locked(&self.people);
        let enrolled = people.iter().filter(|(_, enrolment)| enrolment.refresh.is_some());
        enrolled
            .map(|(person, enrolment)| Enrolled {
                person: person.as_str().to_owned(),
                mail: enrolment.mail.clone().into(),
            })
            .collect()
    }

    /// A person has enrolled with this token, or takes the enrolment back. True once that is on disk, or was before.
    pub(super) async fn bring(&self, person: &PersonId, mail: &str, token: Option<Secret>) -> bool {
        let known = locked(&self.people).get(person).cloned();
        let mut brought = known.map_or_else(Vec::new, |known| known.brought);
        if let Some(token) = &token {
            let digest = digest(token);
            if brought.contains(&digest) {
                return true;
            }
            let mut next = Enrolment { mail: mail.into(), refresh: None, brought };
            next.bring(digest);
            brought = next.brought;
        }
        self.keep(person, Enrolment { mail: mail.into(), refresh: token, brought }).await
    }

    /// Puts an enrolment on disk, and only then in the place of the one before.
    async fn keep(&self, person: &PersonId, enrolment: Enrolment) -> bool {
        let Some(shelf) = self.shelf.get() else { return false };
        let kept = shelf.keep(key(person), enrolment.to_bytes()).await;
        if kept {
            locked(&self.people).insert(person.clone(), enrolment);
        }
        kept
    }
}

impl Enrolment {
    fn bring(&mut self, digest: Box<str>) {
        self.brought.push(digest);
        if self.brought.len() > BROUGHT {
            self.brought.remove(0);
        }
    }
}

impl TokenSource for Enrolments {
    fn covers(&self, person: &PersonId) -> bool {
        locked(&self.people).get(person).is_some_and(|enrolment| enrolment.refresh.is_some())
    }

    fn request<'a>(
        &'a self,
        person: &'a PersonId,
        http: &'a Http,
        idbroker: &'a Url,
    ) -> BoxFuture<'a, Result<Answer, TokenError>> {
        Box::pin(async move {
            if self.shelf.get().is_none() {
                return Err(TokenError::NotKept);
            }
            let enrolment = locked(&self.people).get(person).cloned().ok_or(TokenError::NotEnrolled)?;
            let refresh = enrolment.refresh.clone().ok_or(TokenError::NotEnrolled)?;
            let answer = ask(http, idbroker, &self.client, Grant::Refresh(refresh.clone())).await?;
            if let Some(next) = answer.refresh_token.as_ref().filter(|next| **next != refresh) {
                // On disk before anything is done with the answer: a cloud that lets the old one die when the new one,
                // or what came with it, is used must not find us with the old one alone.
                let next = Enrolment { refresh: Some(next.clone()), ..enrolment };
                if !self.keep(person, next).await {
                    return Err(TokenError::NotKept);
                }
            }
            Ok(answer)
        })
    }
}
