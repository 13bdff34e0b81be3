//! Two people talk across the connector: one in Jabber, one in the Webex App, both ordinary clients of their own
//! side. Everything goes through the control interface of a lab that runs.
//!
//!     cargo run -- lab --endpoints lab.json
//!     cargo run -p examples --example lab_world -- lab.json [JABBER_USER WEBEX_USER]
//!
//! With the endpoints document of another lab (addresses and people are read from it) it runs against that one.

use std::error::Error;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (file, in_jabber, in_webex) = match &args[..] {
        [file] => (file, "carol", "alice"),
        [file, in_jabber, in_webex] => (file, in_jabber.as_str(), in_webex.as_str()),
        _ => return Err("usage: lab_world ENDPOINTS_FILE [JABBER_USER WEBEX_USER]".into()),
    };
    let endpoints: Value = serde_json::from_str(&std::fs::read_to_string(file)?)?;
    let control = endpoints["control"].as_str().ok_or("the document has no `control`")?;

    talk(control, &format!("{in_jabber}/jabber"), &format!("{in_webex}/webex"), "Can you read me in Webex?")?;
    talk(
        control,
        &format!("{in_webex}/webex"),
        &format!("{in_jabber}/jabber"),
        "I can. And you me, in Jabber?",
    )?;
    Ok(())
}

/// Writes in one client, and waits until the other client shows it.
fn talk(control: &str, from: &str, to: &str, text: &str) -> Result<(), Box<dyn Error>> {
    let recipient = to.split('/').next().unwrap_or(to);
    let before = seen(control, to)?.len();
    let start = Instant::now();
    call(control, "POST", "/say", &json!({"client": from, "to": recipient, "text": text}).to_string())?;
    println!("{from} writes: {text}");
    while start.elapsed() < Duration::from_secs(20) {
        if seen(control, to)?[before..].iter().any(|line| line["text"] == text && line["dir"] == "in") {
            println!("{to} reads it after {} ms", start.elapsed().as_millis());
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(format!("{to} did not receive it: is the connector of this lab running?").into())
}

fn seen(control: &str, client: &str) -> Result<Vec<Value>, Box<dyn Error>> {
    let lines = call(control, "GET", &format!("/seen?client={client}&after=0"), "")?;
    lines.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// One HTTP exchange; the lab answers without chunks.
fn call(base: &str, method: &str, path: &str, body: &str) -> Result<String, Box<dyn Error>> {
    let host = base.strip_prefix("http://").ok_or("the control interface is plain http")?;
    let mut tcp = TcpStream::connect(host)?;
    let length = body.len();
    write!(
        tcp,
        "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    tcp.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
    if head.starts_with("HTTP/1.1 2") { Ok(body.to_owned()) } else { Err(format!("{path}: {body}").into()) }
}
