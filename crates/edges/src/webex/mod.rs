//! The Webex side as one value: sockets of the people we serve, what they bring, what is posted.

mod http;
mod keys;
mod token;

pub use http::{Cloud, CloudConfig, CloudError};
pub use keys::{Keys, NewConversation};
pub use token::{TokenConfig, TokenError, TokenSource, Tokens};
