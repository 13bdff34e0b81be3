//! Keeps what passes between the connector and a server, byte for byte, so that it can be read again without either.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Stands before a door, and notes what passes.
#[derive(Debug)]
pub struct Recorder {
    /// Where to connect to in place of the door.
    pub port: u16,
    lines: Arc<Mutex<String>>,
}

impl Recorder {
    /// Before the door at this address.
    ///
    /// # Errors
    /// There is no free port.
    pub fn before(door: &str) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let lines = Arc::new(Mutex::new(String::new()));
        let (door, notes) = (door.to_owned(), Arc::clone(&lines));
        std::thread::spawn(move || {
            for (number, near) in (1..).zip(listener.incoming().map_while(Result::ok)) {
                let Ok(far) = TcpStream::connect(&door) else { continue };
                for (who, mut from, mut to) in
                    [("C", copy(&near), copy(&far)), ("S", copy(&far), copy(&near))]
                {
                    let notes = Arc::clone(&notes);
                    std::thread::spawn(move || {
                        let mut bytes = [0; 16 * 1024];
                        while let Ok(read @ 1..) = from.read(&mut bytes) {
                            let text = String::from_utf8_lossy(&bytes[..read]);
                            let line = format!("{who}{number} {}\n", serde_json::Value::from(text));
                            notes.lock().unwrap_or_else(PoisonError::into_inner).push_str(&line);
                            if to.write_all(&bytes[..read]).is_err() {
                                break;
                            }
                        }
                        let _ = to.shutdown(Shutdown::Write);
                    });
                }
            }
        });
        Ok(Self { port, lines })
    }

    /// Writes what has passed so far: a line for each piece, `S` what the server said, `C` what the connector said, with
    /// the number of the connection and the piece as a JSON string.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, file: &Path) -> io::Result<()> {
        fs::write(file, &*self.lines.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn copy(stream: &TcpStream) -> TcpStream {
    stream.try_clone().expect("a socket can be shared")
}
