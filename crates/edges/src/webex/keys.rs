//! What the Webex side asks of the vault, and what it hands to it.

use router::ids::PersonId;
use webex_api::Url;

use crate::jabber::{Cleartext, Opening};

/// What a new one-to-one conversation needs from the key service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewConversation {
    /// The URI of a new key, bound to nothing yet.
    pub key: Box<str>,
    /// The wrapped request that binds it to a resource with both people, as the `kmsMessage` of the call.
    pub kms_message: String,
}

/// Seals and opens texts, and speaks to the key service for people who have a Mercury socket, for only there do its
/// answers arrive. May take as long as it likes: whoever asks stops waiting by itself (rule 14).
pub trait Keys: Send + Sync {
    /// This person's socket is ready; the key service knows it by the device's address. Said again for each
    /// new socket. Nothing is asked of the key service by it (rule 15).
    fn attached(&self, person: &PersonId, device: &Url);

    /// This person has no socket for now: answers on their way are lost.
    fn detached(&self, person: &PersonId);

    /// Answers of the key service, as they came on this person's socket.
    fn replies(&self, person: &PersonId, messages: Vec<String>);

    /// Seals a text with the key at `key`, fetched through the served person `via` if need be.
    fn seal<'a>(
        &'a self,
        via: &'a PersonId,
        key: &'a str,
        iv: &'a [u8; 12],
        text: &'a str,
    ) -> Opening<'a, String>;

    /// Opens a sealed body with the key at `key`, fetched through the served person `via` if need be.
    fn open<'a>(&'a self, via: &'a PersonId, key: &'a str, jwe: &'a str) -> Opening<'a, Cleartext>;

    /// A new key for a conversation of these people, made by the served person `via`, one of them.
    fn new_conversation<'a>(
        &'a self,
        via: &'a PersonId,
        people: &'a [PersonId; 2],
    ) -> Opening<'a, NewConversation>;
}
