//! The connector's sockets, clocks and tasks: the Jabber edge, the Webex edge, and the hub between them
//! and the router.

pub mod jabber;
pub mod port;
pub mod seam;
pub mod vault;
pub mod webex;
