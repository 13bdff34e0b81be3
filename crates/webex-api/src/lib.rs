#![doc = include_str!("../README.md")]

pub mod activity;
pub mod auth;
pub mod catalog;
#[cfg(feature = "client")]
pub mod client;
pub mod conversation;
pub mod device;
pub mod endpoint;
mod error;
pub mod files;
mod ids;
pub mod kms_messages;
pub mod mercury;
pub mod people;
pub mod presence;
mod random;
mod time;
pub mod typing;
mod url;

pub use self::error::{ApiError, Fate, StatusError};
pub use self::ids::{
    ActivityId, ClientTempId, ConversationId, EnvelopeId, IdError, KmsUri, OrgId, PersonId, TrackingId,
};
pub use self::random::Random;
pub use self::time::{Timestamp, TimestampError};
pub use self::url::{Url, UrlError};
