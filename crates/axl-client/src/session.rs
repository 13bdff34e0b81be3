//! Cookies, so that not every request logs in anew.

use std::collections::BTreeMap;
use std::fmt;

use http::header::{COOKIE, HeaderMap, HeaderValue, SET_COOKIE};

/// At most this many cookies are kept.
const COOKIES: usize = 16;
/// A longer cookie is not kept (octets of name and value).
const COOKIE_BYTES: usize = 4096;

/// What the publisher wants back with the next request (`JSESSIONID`, `JSESSIONIDSSO`).
///
/// One value per publisher; losing it costs one login. `Debug` shows names, never values.
#[derive(Clone, Default)]
pub struct Session {
    cookies: BTreeMap<String, String>,
}

impl Session {
    /// A session that has not logged in.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets everything, which is the thing to do after [`AxlError::Unauthorized`](crate::AxlError::Unauthorized).
    pub fn clear(&mut self) {
        self.cookies.clear();
    }

    /// Takes the cookies of an answer (RFC 6265 §5.2, name and value only: path and age do not matter for one
    /// address and one process).
    pub(crate) fn take(&mut self, headers: &HeaderMap) {
        for header in headers.get_all(SET_COOKIE) {
            let Ok(text) = header.to_str() else { continue };
            let mut attributes = text.split(';');
            let pair = attributes.next().unwrap_or_default();
            let Some((name, value)) = pair.split_once('=') else { continue };
            let (name, value) = (name.trim(), value.trim());
            if name.is_empty() || name.len() + value.len() > COOKIE_BYTES {
                continue;
            }
            let expired = attributes.any(|a| a.trim().eq_ignore_ascii_case("max-age=0"));
            if value.is_empty() || expired {
                self.cookies.remove(name);
            } else if self.cookies.len() < COOKIES || self.cookies.contains_key(name) {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
    }

    /// Adds the cookies to a request.
    pub(crate) fn give(&self, headers: &mut HeaderMap) {
        if self.cookies.is_empty() {
            return;
        }
        let text: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if let Ok(mut value) = HeaderValue::from_str(&text.join("; ")) {
            value.set_sensitive(true);
            headers.insert(COOKIE, value);
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.cookies.keys()).finish()
    }
}
