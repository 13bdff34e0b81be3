//! Logs in to an XMPP server by hand: the negotiation is a machine without I/O, and this is its loop. Every
//! step is printed; what proves the password is not.
//!
//! Against the lab (`cargo run -- lab` prints its client door), or any server that allows plain TCP:
//!
//!     cargo run -p examples --example xmpp_login -- 127.0.0.1:5222 alice@lab.example secret
//!
//! Against a server of your own lab with TLS use the driver instead (`xmpp_core::tokio::Connection`).

use std::error::Error;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use xmpp_core::Entropy;
use xmpp_core::c2s::{Config, Negotiation, StartTls};
use xmpp_core::negotiation::{Machine as _, Output};
use xmpp_core::sasl::Credentials;
use xmpp_core::xml::{Limits, Reader};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [address, jid, password] = &args[..] else {
        return Err("usage: xmpp_login HOST:PORT JID PASSWORD".into());
    };
    let credentials = Credentials::Password(password.as_str().into());
    let config = Config::new(jid.parse()?, credentials, Entropy::system()?);

    let mut tcp =
        TcpStream::connect(address.as_str()).map_err(|e| format!("cannot connect to {address}: {e}"))?;
    tcp.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut reader = Reader::new(Limits::default());
    let mut negotiation = Negotiation::new(config, StartTls::Off, Instant::now());
    let mut bytes = [0; 4096];
    loop {
        while let Some(output) = negotiation.poll_output() {
            match output {
                Output::Write(out) => {
                    println!("→ {}", shown(&String::from_utf8_lossy(&out)));
                    tcp.write_all(&out)?;
                }
                Output::Restart => reader.restart(),
                Output::StartTls => return Err("this example speaks plain TCP only".into()),
                Output::Established(session) => {
                    println!("\nbound as {}", session.jid());
                    println!(
                        "stream management: {}",
                        if session.is_managed() { "on" } else { "not offered" }
                    );
                    tcp.write_all(b"</stream:stream>")?;
                    return Ok(());
                }
            }
        }
        match reader.next()? {
            Some(frame) => negotiation.handle(frame, Instant::now())?,
            None => {
                let n = tcp.read(&mut bytes)?;
                if n == 0 {
                    return Err("the server closed the connection".into());
                }
                println!("← {}", shown(&String::from_utf8_lossy(&bytes[..n])));
                reader.feed(&bytes[..n]);
            }
        }
    }
}

/// The text without the content of SASL elements.
fn shown(xml: &str) -> String {
    for name in ["auth", "response"] {
        if let Some(start) = xml.find(&format!("<{name} "))
            && let Some(open) = xml[start..].find('>')
        {
            return format!("{}…</{name}>", &xml[..=start + open]);
        }
    }
    xml.to_owned()
}
