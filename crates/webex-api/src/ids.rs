//! Identifiers of the cloud, each valid by construction: 1 to 512 visible ASCII characters.
//!
//! The cloud treats its identifiers as opaque, so these types do too. The check only keeps out what
//! could never be sent back in a header, a path or a log line.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize};

/// The longest identifier that is accepted, in bytes.
const MAX_BYTES: usize = 512;

/// Why a text is not an identifier.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{what} must be 1 to {MAX_BYTES} visible ASCII characters")]
pub struct IdError {
    what: &'static str,
}

fn check(what: &'static str, text: &str) -> Result<(), IdError> {
    let good = (1..=MAX_BYTES).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    if good { Ok(()) } else { Err(IdError { what }) }
}

/// Reads a text and makes of it what it says, without a copy of it in between.
pub(crate) fn from_text<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: FromStr<Err: fmt::Display>,
    D: Deserializer<'de>,
{
    struct Text<T>(PhantomData<T>);

    impl<T: FromStr<Err: fmt::Display>> Visitor<'_> for Text<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string")
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
            text.parse().map_err(E::custom)
        }
    }

    deserializer.deserialize_str(Text(PhantomData))
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
        #[serde(into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The identifier as the cloud writes it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                check(stringify!($name), text)?;
                Ok(Self(text.into()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                check(stringify!($name), &text)?;
                Ok(Self(text.into()))
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0.as_ref().to_owned()
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                from_text(deserializer)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

ids! {
    /// A person in the identity service (a UUID); never an e-mail address, never a JID.
    PersonId;
    /// An organization (a UUID).
    OrgId;
    /// A conversation inside its cluster; to reach it, use its [`Url`](crate::Url).
    ConversationId;
    /// An activity: a message, an edit, a read mark.
    ActivityId;
    /// Chosen by the author of an activity and echoed back, so that a repeated POST is recognizable.
    ClientTempId;
    /// Names one request in the cloud's logs; unique for each request, echoed in the answer.
    TrackingId;
    /// One Mercury frame; what an acknowledgement names.
    EnvelopeId;
    /// A key, resource or cluster at the key service (`kms://host/kind/uuid`), carried unread.
    KmsUri;
}

impl PersonId {
    /// Reads the public API's form of the same person: base64 of `ciscospark://us/PEOPLE/<uuid>`.
    /// A text that is no such form is taken as the identifier itself.
    ///
    /// # Errors
    /// When neither reading gives a valid identifier.
    pub fn from_public(text: &str) -> Result<Self, IdError> {
        decode_public(text, "PEOPLE").as_deref().unwrap_or(text).parse()
    }
}

impl OrgId {
    /// Reads the public API's form of the same organization, as [`PersonId::from_public`] does.
    ///
    /// # Errors
    /// When neither reading gives a valid identifier.
    pub fn from_public(text: &str) -> Result<Self, IdError> {
        decode_public(text, "ORGANIZATION").as_deref().unwrap_or(text).parse()
    }
}

/// `kind` is the path segment before the identifier; the region segment is not compared.
fn decode_public(text: &str, kind: &str) -> Option<String> {
    let text = text.trim_end_matches('=');
    let bytes = STANDARD_NO_PAD.decode(text).or_else(|_| URL_SAFE_NO_PAD.decode(text)).ok()?;
    let uri = String::from_utf8(bytes).ok()?;
    let mut parts = uri.strip_prefix("ciscospark://")?.splitn(3, '/');
    let (_region, found, id) = (parts.next()?, parts.next()?, parts.next()?);
    (found == kind).then(|| id.to_owned())
}

impl ClientTempId {
    /// A new one (a UUID of version 4).
    pub fn random(random: &mut crate::Random) -> Self {
        Self(uuid(random.next_u128()).into())
    }
}

impl TrackingId {
    /// The form clients use: a prefix, the client's own random part, and the count of its requests.
    ///
    /// # Errors
    /// When the prefix holds anything but visible ASCII, or is too long.
    pub fn numbered(prefix: &str, client: u128, n: u64) -> Result<Self, IdError> {
        format!("{prefix}_{}_{n}", uuid(client)).try_into()
    }
}

/// Writes 128 random bits as a UUID of version 4 (RFC 9562 §5.4).
pub(crate) fn uuid(random: u128) -> String {
    let bits = (random & !(0xf << 76) & !(0x3 << 62)) | (4 << 76) | (2 << 62);
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_refuse_what_no_header_can_carry() {
        for bad in ["", "a b", "a\r\nb", "é", &"x".repeat(513)] {
            assert!(bad.parse::<ActivityId>().is_err(), "{bad:?}");
        }
        assert_eq!("a-1".parse::<ActivityId>().unwrap().as_str(), "a-1");
    }

    #[test]
    fn public_person_ids_and_plain_ones_name_the_same_person() {
        let uuid = "11111111-1111-4111-8111-111111111111";
        let public = STANDARD_NO_PAD.encode(format!("ciscospark://us/PEOPLE/{uuid}"));
        assert_eq!(PersonId::from_public(&public).unwrap().as_str(), uuid);
        assert_eq!(PersonId::from_public(uuid).unwrap().as_str(), uuid);
        let room = STANDARD_NO_PAD.encode(format!("ciscospark://us/ROOM/{uuid}"));
        assert_eq!(PersonId::from_public(&room).unwrap().as_str(), room, "a room is no person");
    }

    #[test]
    fn random_bits_become_a_version_4_uuid() {
        assert_eq!(uuid(u128::MAX), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(uuid(0), "00000000-0000-4000-8000-000000000000");
    }
}
