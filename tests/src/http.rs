//! As much of an HTTP client as the lab's control interface and the status page need.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

/// The body of a GET of this URL.
///
/// # Errors
/// The address, and why there was no answer with a 2xx status.
pub fn get(url: &str) -> Result<String, String> {
    exchange("GET", url, "", "")
}

/// The same with this access token.
///
/// # Errors
/// The address, and why there was no answer with a 2xx status.
pub fn get_as(url: &str, token: &str) -> Result<String, String> {
    exchange("GET", url, &format!("authorization: Bearer {token}\r\n"), "")
}

/// The JSON answer to a POST of this JSON; null where the answer is empty.
///
/// # Errors
/// The address, and why there was no answer with a 2xx status, or no JSON in it.
pub fn post(url: &str, body: &Value) -> Result<Value, String> {
    let answer = exchange("POST", url, "", &body.to_string())?;
    if answer.trim().is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_str(&answer).map_err(|e| format!("{url}: {e}"))
}

fn exchange(method: &str, url: &str, headers: &str, body: &str) -> Result<String, String> {
    let about = |e: &dyn std::fmt::Display| format!("{method} {url}: {e}");
    let rest = url.strip_prefix("http://").ok_or_else(|| about(&"only plain http on loopback"))?;
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let path = if path.is_empty() { "/" } else { path };
    let mut tcp = TcpStream::connect(host).map_err(|e| about(&e))?;
    tcp.set_read_timeout(Some(Duration::from_secs(60))).map_err(|e| about(&e))?;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-type: application/json\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    );
    tcp.write_all(request.as_bytes()).map_err(|e| about(&e))?;
    let mut answer = Vec::new();
    tcp.read_to_end(&mut answer).map_err(|e| about(&e))?;
    let answer = String::from_utf8(answer).map_err(|e| about(&e))?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| about(&"the answer has no body"))?;
    let body = if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        unchunked(body).ok_or_else(|| about(&"bad chunks"))?
    } else {
        body.to_owned()
    };
    let status = head.split(' ').nth(1).unwrap_or_default();
    if status.starts_with('2') { Ok(body) } else { Err(about(&format!("status {status}: {body}"))) }
}

fn unchunked(mut body: &str) -> Option<String> {
    let mut whole = String::new();
    loop {
        let (size, rest) = body.split_once("\r\n")?;
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
        if size == 0 {
            return Some(whole);
        }
        whole.push_str(rest.get(..size)?);
        body = rest.get(size + 2..)?;
    }
}
