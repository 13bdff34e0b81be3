//! Absolute addresses as the cloud hands them out.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use http::Uri;
use serde::{Deserialize, Deserializer, Serialize};

/// An absolute `http`, `https`, `ws` or `wss` address with a host; kept and sent as it was written.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(into = "String")]
pub struct Url(Arc<str>);

/// Why a text is not an absolute address.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// It is longer than 8 KiB or holds characters that no address may hold.
    #[error("malformed address")]
    Malformed,
    /// Its scheme is none of `http`, `https`, `ws`, `wss`, or its host is missing.
    #[error("address must be absolute, with scheme http, https, ws or wss")]
    NotAbsolute,
}

const MAX_BYTES: usize = 8 * 1024;

impl Url {
    /// The address as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The address for an HTTP client.
    pub fn to_uri(&self) -> Uri {
        self.0.parse().expect("checked when the Url was made")
    }

    /// Whether the connection is encrypted: `https` or `wss`.
    pub fn is_secure(&self) -> bool {
        let scheme = self.0.split("://").next().unwrap_or_default();
        scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("wss")
    }

    /// The host, brackets of an IPv6 address removed.
    pub fn host(&self) -> &str {
        self.host_and_port().0
    }

    /// The port, written or implied by the scheme.
    pub fn port(&self) -> u16 {
        let written = self.host_and_port().1.and_then(|port| port.parse().ok());
        written.unwrap_or(if self.is_secure() { 443 } else { 80 })
    }

    /// By hand, since it was read as a whole when the Url was made, and is asked for with each request.
    fn host_and_port(&self) -> (&str, Option<&str>) {
        let after = self.0.find("://").map_or(0, |at| at + 3);
        let authority = self.0[after..].split(['/', '?', '#']).next().unwrap_or_default();
        let place = authority.rsplit('@').next().unwrap_or_default();
        match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, rest)) => (host, rest.strip_prefix(':')),
            None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
        }
    }

    /// Appends path segments, each percent-encoded; a slash at the end of the base is not doubled.
    #[must_use]
    pub fn join<'a>(&self, segments: impl IntoIterator<Item = &'a str>) -> Self {
        let (path, query) = match self.0.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (&*self.0, None),
        };
        let mut out = path.trim_end_matches('/').to_owned();
        for segment in segments {
            out.push('/');
            encode(segment, &mut out);
        }
        if let Some(query) = query {
            out.push('?');
            out.push_str(query);
        }
        Self(out.into())
    }

    /// Another path at the same place: scheme, host and port stay, path and query are replaced.
    #[must_use]
    pub(crate) fn with_path<'a>(&self, segments: impl IntoIterator<Item = &'a str>) -> Self {
        let after = self.0.find("://").map_or(0, |at| at + 3);
        let end = self.0[after..].find(['/', '?', '#']).map_or(self.0.len(), |at| after + at);
        Self(self.0[..end].into()).join(segments)
    }

    /// Appends query parameters, percent-encoded.
    #[must_use]
    pub fn with_query<'a>(&self, pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut out = self.0.to_string();
        let mut separator = if out.contains('?') { '&' } else { '?' };
        for (key, value) in pairs {
            out.push(separator);
            encode(key, &mut out);
            out.push('=');
            encode(value, &mut out);
            separator = '&';
        }
        Self(out.into())
    }
}

/// Percent-encodes everything but the unreserved characters of RFC 3986 §2.3.
pub(crate) fn encode(text: &str, out: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

/// A form body (`application/x-www-form-urlencoded`).
pub(crate) fn form(pairs: &[(&str, &str)]) -> String {
    let mut out = String::new();
    for (key, value) in pairs {
        if !out.is_empty() {
            out.push('&');
        }
        encode(key, &mut out);
        out.push('=');
        encode(value, &mut out);
    }
    out
}

impl FromStr for Url {
    type Err = UrlError;
    fn from_str(text: &str) -> Result<Self, UrlError> {
        if text.len() > MAX_BYTES {
            return Err(UrlError::Malformed);
        }
        if is_plain(text) {
            return Ok(Self(text.into()));
        }
        let uri: Uri = text.parse().map_err(|_| UrlError::Malformed)?;
        let scheme = uri.scheme_str().unwrap_or_default();
        let host = uri.host().unwrap_or_default();
        if !matches!(scheme, "http" | "https" | "ws" | "wss") || host.is_empty() {
            return Err(UrlError::NotAbsolute);
        }
        Ok(Self(text.into()))
    }
}

/// Whether an address is of the plain form that almost all have, and certainly one. Most are read in answers and events,
/// and never used.
fn is_plain(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else { return false };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (host, port) = authority.split_once(':').unwrap_or((authority, "80"));
    matches!(scheme, "http" | "https" | "ws" | "wss")
        && !host.is_empty()
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.')
        && (1..=5).contains(&port.len())
        && port.bytes().all(|byte| byte.is_ascii_digit())
        && path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte))
}

impl<'de> Deserialize<'de> for Url {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::ids::from_text(deserializer)
    }
}

impl TryFrom<String> for Url {
    type Error = UrlError;
    fn try_from(text: String) -> Result<Self, UrlError> {
        text.parse()
    }
}

impl From<Url> for String {
    fn from(url: Url) -> Self {
        url.0.as_ref().to_owned()
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_absolute_addresses_are_urls() {
        for bad in ["", "/a", "host", "kms://h/keys/1", "http://", "http://a b/"] {
            assert!(bad.parse::<Url>().is_err(), "{bad:?}");
        }
        for (address, host, port, secure) in [
            ("https://[::1]/a", "::1", 443, true),
            ("https://[::1]:8443", "::1", 8443, true),
            ("ws://localhost:81/a", "localhost", 81, false),
            ("HTTPS://h?a=b://c:1", "h", 443, true),
            ("http://u:p@h:82/x@y:3", "h", 82, false),
            ("http://h:x/", "h", 80, false),
            ("http://h:/", "h", 80, false),
        ] {
            let url: Url = address.parse().unwrap();
            assert_eq!((url.host(), url.port(), url.is_secure()), (host, port, secure), "{address}");
            let uri = url.to_uri();
            assert_eq!(uri.host().unwrap().trim_matches(['[', ']']), host, "as the HTTP client has it");
            assert_eq!(uri.port_u16().unwrap_or(if secure { 443 } else { 80 }), port);
        }
    }

    #[test]
    fn what_is_plainly_an_address_is_one_to_the_http_client() {
        for plain in
            ["http://h", "https://conv-a.wbx2.com/a/b-c/~d.e_f", "wss://127.0.0.1:18080/", "ws://a:1/b//"]
        {
            assert!(is_plain(plain), "{plain}");
            assert!(plain.parse::<Uri>().is_ok_and(|uri| uri.host().is_some()), "{plain}");
        }
        for other in [
            "http:///a",
            "http://:80/a",
            "http://h:/",
            "http://h:123456/",
            "http://h/a?b",
            "http://u@h/",
            "ftp://h/",
            "//h/a",
        ] {
            assert!(!is_plain(other), "{other}");
        }
    }

    #[test]
    fn segments_and_queries_are_encoded() {
        let base: Url = "http://h/v1/?x=1".parse().unwrap();
        assert_eq!(base.join(["a/b", "ü"]).as_str(), "http://h/v1/a%2Fb/%C3%BC?x=1");
        assert_eq!(base.with_query([("k", "a b&c")]).as_str(), "http://h/v1/?x=1&k=a%20b%26c");
        let at: Url = "http://h:81/v1/?x=1".parse().unwrap();
        assert_eq!(at.with_path(["a", "b"]).as_str(), "http://h:81/a/b");
        assert_eq!("http://h".parse::<Url>().unwrap().with_path(["a"]).as_str(), "http://h/a");
        assert_eq!(form(&[("grant_type", "urn:a"), ("t", "x+y")]), "grant_type=urn%3Aa&t=x%2By");
    }
}
