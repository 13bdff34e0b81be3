//! The edge against a server on in-memory pipes, in paused time: the tests are its hub.

mod copies;
mod encryption;
mod far;
mod hostile;
mod messages;
mod nodes;
mod resuming;
mod sessions;
mod wire;
mod world;
