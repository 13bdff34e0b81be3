//! One question to its end, for a caller who can await: what is to be posted and what came by the socket go through one
//! function of the caller's.

use std::time::Instant;

use super::{Client, Event, Full, RequestError, RequestId};
use crate::jose::jwk::ContentKey;
use crate::message::{Request, Response};
use crate::uri::KeyUri;

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError<E> {
    /// Too many questions wait.
    #[error(transparent)]
    Full(#[from] Full),
    /// The KMS refused, or was silent.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The caller's way to the KMS is broken.
    #[error("no way to the key service")]
    Relay(#[source] E),
}

impl Client {
    /// Asks the KMS and awaits its answer, which may take as long as [`Timings::total`](super::Timings::total).
    ///
    /// `relay` posts the messages that it is given (perhaps none), then waits until the device's socket has brought
    /// something from the KMS, at the latest until the moment it is given; it returns what came (perhaps nothing) and
    /// what time it is then. What came for other requests is taken as well, and their events wait in
    /// [`poll_event`](Self::poll_event). A future that is dropped gives its request up.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn ask<E>(
        &mut self,
        request: Request,
        now: Instant,
        relay: impl AsyncFnMut(Vec<String>, Instant) -> Result<(Vec<String>, Instant), E>,
    ) -> Result<Response, AskError<E>> {
        Ok(self.ask_until(request, now, relay).await?.0)
    }

    /// Asks for a key, as [`Client::ask`] does.
    ///
    /// # Errors
    /// As for [`Client::ask`].
    pub async fn fetch_key<E>(
        &mut self,
        key: KeyUri,
        now: Instant,
        relay: impl AsyncFnMut(Vec<String>, Instant) -> Result<(Vec<String>, Instant), E>,
    ) -> Result<ContentKey, AskError<E>> {
        let response = self.ask(Request::RetrieveKey { key }, now, relay).await?;
        Ok(response.key.ok_or(RequestError::Unexpected)?.jwk.0.k)
    }

    /// Makes a key for these people, with the sealed request that binds it to them. The request goes as `kmsMessage`
    /// into the call that makes their conversation; until then the key is its maker's alone.
    ///
    /// # Errors
    /// As for [`Client::ask`].
    pub async fn make_key<E>(
        &mut self,
        users: Vec<String>,
        now: Instant,
        mut relay: impl AsyncFnMut(Vec<String>, Instant) -> Result<(Vec<String>, Instant), E>,
    ) -> Result<(KeyUri, String), AskError<E>> {
        let (made, now) = self.ask_until(Request::CreateKeys { count: 1 }, now, &mut relay).await?;
        let key = made.keys.into_iter().next().ok_or(RequestError::Unexpected)?.uri;
        let id = self.wrap(Request::CreateResource { users, keys: vec![key.clone()] }, now)?;
        match self.outcome(id, now, relay).await?.0 {
            Event::Wrapped { message, .. } => Ok((key, message)),
            Event::Answered { outcome, .. } => Err(outcome.err().unwrap_or(RequestError::Unexpected).into()),
        }
    }

    /// The answer, and when it came.
    async fn ask_until<E>(
        &mut self,
        request: Request,
        now: Instant,
        relay: impl AsyncFnMut(Vec<String>, Instant) -> Result<(Vec<String>, Instant), E>,
    ) -> Result<(Response, Instant), AskError<E>> {
        let id = self.submit(request, now)?;
        match self.outcome(id, now, relay).await? {
            (Event::Answered { outcome, .. }, now) => Ok((*outcome?, now)),
            (Event::Wrapped { .. }, _) => Err(RequestError::Unexpected.into()),
        }
    }

    async fn outcome<E>(
        &mut self,
        id: RequestId,
        mut now: Instant,
        mut relay: impl AsyncFnMut(Vec<String>, Instant) -> Result<(Vec<String>, Instant), E>,
    ) -> Result<(Event, Instant), AskError<E>> {
        let Awaited { client, id } = &mut Awaited { client: self, id };
        loop {
            let ours = client.events.iter().position(|event| event.id() == *id);
            if let Some(event) = ours.and_then(|ours| client.events.remove(ours)) {
                return Ok((event, now));
            }
            // Whatever waits has a deadline.
            let Some(until) = client.deadline() else { return Err(RequestError::Silent.into()) };
            let messages = client.messages.drain(..).collect();
            let (replies, then) = relay(messages, until).await.map_err(AskError::Relay)?;
            now = now.max(then);
            for reply in replies {
                // Replies to others, late ones and repeated ones do occur.
                let _ = client.handle_reply(&reply, now);
            }
            if until <= now {
                client.handle_timeout(now);
            }
        }
    }
}

/// A request whose outcome is awaited: nobody wants it any more when this is dropped.
struct Awaited<'a> {
    client: &'a mut Client,
    id: RequestId,
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        self.client.pending.remove(&self.id);
        self.client.events.retain(|event| event.id() != self.id);
    }
}

impl Event {
    fn id(&self) -> RequestId {
        match self {
            Self::Answered { id, .. } | Self::Wrapped { id, .. } => *id,
        }
    }
}
