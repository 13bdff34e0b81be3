//! The Jabber side as one value: sessions held on IM and Presence, what they bring, what they send.

mod opener;

pub use opener::{Cleartext, OpenError, Opener, Opening};
