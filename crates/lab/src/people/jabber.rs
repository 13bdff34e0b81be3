//! A person's Jabber: a client stream of its own.
