//! `POST {conversation.url}/status/typing`: tells the others that somebody is typing.

use bytes::Bytes;
use http::{Method, Request, Response};
use serde::Serialize;

use crate::endpoint::{Context, Destination, Endpoint, accepted, json};
use crate::{ApiError, ConversationId, Url};

/// Whether the token's person is typing.
#[derive(Clone, Debug)]
pub struct Typing {
    /// The conversation's address.
    pub url: Url,
    /// The conversation.
    pub conversation: ConversationId,
    /// Begins, or has stopped.
    pub state: State,
}

/// The two things that can be said about typing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// Is typing from now on.
    Typing,
    /// Has stopped.
    Paused,
}

impl State {
    /// The event type by which the cloud names it, in both directions.
    pub fn event_type(self) -> &'static str {
        match self {
            Self::Typing => "status.start_typing",
            Self::Paused => "status.stop_typing",
        }
    }
}

impl Endpoint for Typing {
    type Response = ();

    fn destination(&self) -> Destination<'_> {
        Destination::Address(&self.url)
    }

    fn into_http(self, context: &Context<'_>) -> Result<Request<Bytes>, ApiError> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Body<'a> {
            conversation_id: &'a ConversationId,
            event_type: &'static str,
        }
        let body = Body { conversation_id: &self.conversation, event_type: self.state.event_type() };
        json(Method::POST, &self.url.join(["status", "typing"]), context, &body)
    }

    fn from_http(response: Response<Bytes>) -> Result<(), ApiError> {
        accepted(response).map(drop)
    }
}
