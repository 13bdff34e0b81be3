//! Lines into a Mercury socket: each is a text frame, but `!7`, which lets seven seconds pass, and `#4401 why`, which
//! closes the socket.

use std::time::{Duration, Instant};

use webex_api::Random;
use webex_api::auth::AccessToken;
use webex_api::mercury::{Config, Output, Socket};

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut now = start();
    let token: AccessToken = AccessToken::try_from("token".to_owned()).expect("a token");
    let random = Random::new(|| 4);
    let mut socket = Socket::new(Config::default(), &token, random, now);
    let mut closed = drain(&mut socket, false);
    for line in text.lines() {
        if let Some(seconds) = line.strip_prefix('!') {
            now += Duration::from_secs(seconds.parse::<u64>().unwrap_or(1) % 1_000);
            for tries in 0.. {
                let Some(due) = socket.deadline().filter(|due| *due <= now) else { break };
                assert!(tries < 10_000, "a deadline that never moves on");
                socket.handle_timeout(due.max(now));
                closed = drain(&mut socket, closed);
            }
        } else if let Some(close) = line.strip_prefix('#') {
            let (code, reason) = close.split_once(' ').unwrap_or((close, ""));
            socket.handle_close(code.parse().ok(), reason);
        } else {
            let _ = socket.handle_text(line, now);
        }
        closed = drain(&mut socket, closed);
    }
}

#[allow(clippy::disallowed_methods, reason = "which moment it is changes nothing")]
fn start() -> Instant {
    Instant::now()
}

/// Takes what the socket has to say; after its end it has nothing to say.
fn drain(socket: &mut Socket, mut closed: bool) -> bool {
    while let Some(output) = socket.poll_output() {
        assert!(!closed, "after its end a socket says {output:?}");
        match output {
            Output::Closed(_) => closed = true,
            Output::Event(envelope) => {
                // What the connector does with it: acknowledge, twice for good measure.
                if let Some(id) = &envelope.id {
                    socket.acknowledge(id);
                    socket.acknowledge(id);
                }
            }
            _ => {}
        }
    }
    closed
}
