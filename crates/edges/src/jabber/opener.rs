//! What the Jabber edge asks of the Webex side when it delivers: sealed bodies opened, and who the other
//! participant of a conversation is.

use std::future::Future;
use std::pin::Pin;

use router::ids::{ActivityId, ConversationId, PersonId, Time};
use router::inbound::Cause;
use zeroize::Zeroizing;

/// A text that was opened; wiped when it is dropped and never shown.
pub struct Cleartext(Zeroizing<String>);

impl Cleartext {
    /// Takes over a text.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text, to be written to the wire and nowhere else.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Cleartext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cleartext({} bytes)", self.0.len())
    }
}

/// Why the Webex side could not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// It may answer later; this is in the way.
    #[error("not now: {0:?} is in the way")]
    Later(Cause),
    /// It never will, for this reason.
    #[error("{0}")]
    Wedged(Box<str>),
}

/// The answer to one question of an [`Opener`].
pub type Opening<'a, T> = Pin<Box<dyn Future<Output = Result<T, OpenError>> + Send + 'a>>;

/// Answers what a delivery towards Jabber needs from Webex. May take as long as it likes: whoever asks
/// stops waiting by itself (rule 14).
pub trait Opener: Send + Sync {
    /// Opens a sealed body of `sender`'s in this conversation with the key at `key`, fetched through whichever of the
    /// two has a socket (rule 15).
    fn open<'a>(
        &'a self,
        conversation: &'a ConversationId,
        sender: &'a PersonId,
        key: &'a str,
        jwe: &'a str,
    ) -> Opening<'a, Cleartext>;

    /// Who besides `sender` takes part in this one-to-one conversation.
    fn recipient<'a>(
        &'a self,
        conversation: &'a ConversationId,
        sender: &'a PersonId,
    ) -> Opening<'a, PersonId>;

    /// When `author` wrote this activity in this conversation; `None` where the cloud does not say.
    fn written<'a>(
        &'a self,
        conversation: &'a ConversationId,
        author: &'a PersonId,
        activity: &'a ActivityId,
    ) -> Opening<'a, Option<Time>>;
}
