//! Absolute addresses as the cloud hands them out.

use std::fmt;
use std::str::FromStr;

use http::Uri;
use serde::{Deserialize, Serialize};

/// An absolute `http`, `https`, `ws` or `wss` address with a host; kept and sent as it was written.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Url(Box<str>);

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
        matches!(self.to_uri().scheme_str(), Some("https" | "wss"))
    }

    /// The host, brackets of an IPv6 address removed.
    pub fn host(&self) -> String {
        let uri = self.to_uri();
        let host = uri.host().expect("checked when the Url was made");
        host.trim_start_matches('[').trim_end_matches(']').to_owned()
    }

    /// The port, written or implied by the scheme.
    pub fn port(&self) -> u16 {
        self.to_uri().port_u16().unwrap_or(if self.is_secure() { 443 } else { 80 })
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
        let uri: Uri = text.parse().map_err(|_| UrlError::Malformed)?;
        let scheme = uri.scheme_str().unwrap_or_default();
        let host = uri.host().unwrap_or_default();
        if !matches!(scheme, "http" | "https" | "ws" | "wss") || host.is_empty() {
            return Err(UrlError::NotAbsolute);
        }
        Ok(Self(text.into()))
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
        url.0.into()
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
        let url: Url = "https://[::1]/a".parse().unwrap();
        assert_eq!((url.host().as_str(), url.port(), url.is_secure()), ("::1", 443, true));
        let url: Url = "ws://localhost:81/a".parse().unwrap();
        assert_eq!((url.host().as_str(), url.port(), url.is_secure()), ("localhost", 81, false));
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
