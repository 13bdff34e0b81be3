//! Jabber clients of others: slixmpp, a library that bots are made with, and profanity, which people use in terminals.

mod profanity;
mod slixmpp;

pub use profanity::Profanity;
pub use slixmpp::Slixmpp;
