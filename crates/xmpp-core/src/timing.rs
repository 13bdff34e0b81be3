//! How long a stream waits.

use std::time::Duration;

/// The waits of one stream. `Default` gives the values in the fields' descriptions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Timing {
    /// How long one step of a negotiation may take; default 20 seconds.
    pub step: Duration,
    /// After how long without having written anything a sign of life is sent: an `<r/>` where stream
    /// management runs, a space otherwise; default 60 seconds.
    pub keepalive: Duration,
    /// After how long without having read anything a stream with stream management counts as dead; default
    /// 5 minutes, and to be several times `keepalive`. Without stream management nothing obliges the peer to
    /// speak, so silence proves nothing and does not end the stream.
    pub silence: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            step: Duration::from_secs(20),
            keepalive: Duration::from_secs(60),
            silence: Duration::from_secs(300),
        }
    }
}
