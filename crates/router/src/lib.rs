//! Every decision of the Hybrid Message connector, without I/O.

pub mod envelope;
pub mod ids;
pub mod inbound;
pub mod outbound;
pub mod outbox;
pub mod tag;
