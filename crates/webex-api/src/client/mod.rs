//! The driver (feature `client`): a REST client on hyper and rustls, and the Mercury socket on
//! tokio-tungstenite. Needs a tokio runtime with time and, for [`TcpDial`], I/O.

mod dial;
mod files;
mod http;
mod mercury;
mod proxy;
mod session;
#[cfg(feature = "system")]
pub mod system;

pub use self::dial::{BoxFuture, BoxIo, Dial, Io, TcpDial};
pub use self::files::Download;
pub use self::http::{Answer, Caller, Http, HttpConfig};
pub use self::mercury::{MercuryConfig, MercuryError, MercurySocket};
pub use self::proxy::{ProxyDial, ProxyError};
pub use self::session::{Happened, Session, SessionConfig, SessionError};
