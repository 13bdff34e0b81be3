//! Requests into HTTP, and HTTP into rows.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Method, StatusCode, Uri};

use crate::answer::{self, Answer, Limits, Row};
use crate::error::{AxlError, BadRequest};
use crate::request::Request;
use crate::session::Session;

/// The release of AXL that a request is written in; an older server answers a newer one with a fault.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Version {
    /// 11.5
    V11_5,
    /// 12.0
    V12_0,
    /// 12.5
    V12_5,
    /// 14.0
    V14_0,
    /// 15.0
    V15_0,
}

impl Version {
    /// The newest that we speak; go down with [`older`](Self::older) while the server faults.
    pub const NEWEST: Self = Self::V15_0;

    /// The next older one, or `None` after the oldest.
    pub fn older(self) -> Option<Self> {
        match self {
            Self::V15_0 => Some(Self::V14_0),
            Self::V14_0 => Some(Self::V12_5),
            Self::V12_5 => Some(Self::V12_0),
            Self::V12_0 => Some(Self::V11_5),
            Self::V11_5 => None,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::V11_5 => "11.5",
            Self::V12_0 => "12.0",
            Self::V12_5 => "12.5",
            Self::V14_0 => "14.0",
            Self::V15_0 => "15.0",
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One publisher with the credentials to ask it. `Debug` never shows them.
#[derive(Clone)]
pub struct Client {
    uri: Uri,
    authorization: HeaderValue,
    version: Version,
    limits: Limits,
}

impl Client {
    /// A client of the publisher at `base`: scheme, host and port, as in `https://imp1.corp.example:8443`. A path of its
    /// own replaces the usual `/axl/`.
    ///
    /// # Errors
    ///
    /// [`BadRequest::Address`] if `base` has no scheme `http` or `https` or no host; [`BadRequest::UserName`] if the
    /// user name cannot be sent.
    pub fn new(base: &str, user: &str, password: &str) -> Result<Self, BadRequest> {
        let bad = || BadRequest::Address(base.to_owned());
        let parsed: Uri = base.parse().map_err(|_| bad())?;
        let scheme = parsed.scheme_str().filter(|s| matches!(*s, "http" | "https")).ok_or_else(bad)?;
        let authority = parsed.authority().filter(|a| !a.as_str().contains('@')).ok_or_else(bad)?;
        let uri = Uri::builder()
            .scheme(scheme)
            .authority(authority.as_str())
            .path_and_query(Some(parsed.path()).filter(|path| path.len() > 1).unwrap_or("/axl/"))
            .build()
            .map_err(|_| bad())?;
        if user.contains(':') {
            return Err(BadRequest::UserName);
        }
        let mut authorization =
            HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
                .expect("base64 is a valid header value");
        authorization.set_sensitive(true);
        Ok(Self { uri, authorization, version: Version::NEWEST, limits: Limits::default() })
    }

    /// Speaks this version from now on; the newest by default.
    pub fn set_version(&mut self, version: Version) {
        self.version = version;
    }

    /// The version spoken.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Replaces the bounds on answers.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// The HTTP request that asks for it.
    pub fn request(&self, session: &Session, request: &Request) -> http::Request<Bytes> {
        let (version, operation, arguments) = (self.version, request.operation, &request.arguments);
        let body = format!(
            "<?xml version='1.0' encoding='UTF-8'?>\
             <soapenv:Envelope xmlns:soapenv='{soap}' xmlns:ns='http://www.cisco.com/AXL/API/{version}'>\
             <soapenv:Body><ns:{operation}>{arguments}</ns:{operation}></soapenv:Body></soapenv:Envelope>",
            soap = answer::SOAP,
        );
        let action = HeaderValue::from_str(&format!("\"CUCM:DB ver={version} {operation}\""))
            .expect("versions and operations are ASCII");
        let mut http = http::Request::new(Bytes::from(body));
        *http.method_mut() = Method::POST;
        *http.uri_mut() = self.uri.clone();
        let headers = http.headers_mut();
        headers.insert(AUTHORIZATION, self.authorization.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/xml; charset=utf-8"));
        headers.insert(ACCEPT, HeaderValue::from_static("text/xml"));
        headers.insert(HeaderName::from_static("soapaction"), action);
        session.give(headers);
        http
    }

    /// The rows of the answer to `request`; the session keeps its cookies.
    ///
    /// # Errors
    ///
    /// Everything of [`AxlError`]; [`AxlError::fate`] says what to do.
    pub fn parse(
        &self,
        session: &mut Session,
        request: &Request,
        response: &http::Response<Bytes>,
    ) -> Result<Vec<Row>, AxlError> {
        match response.status() {
            StatusCode::UNAUTHORIZED => {
                session.clear();
                return Err(AxlError::Unauthorized);
            }
            StatusCode::FORBIDDEN => return Err(AxlError::Forbidden),
            StatusCode::NOT_FOUND => return Err(AxlError::NotActivated),
            StatusCode::SERVICE_UNAVAILABLE => {
                return Err(AxlError::Unavailable { retry_after: retry_after(response.headers()) });
            }
            _ => {}
        }
        session.take(response.headers());
        let success = response.status().is_success();
        match answer::read(response.body(), request.operation, self.limits) {
            Ok(Answer::Rows(rows)) if success => Ok(rows),
            // A fault comes with 500 (SOAP 1.1 §6.2), but one with 200 is a fault too.
            Ok(Answer::Fault { code, message }) => Err(fault(code, message)),
            Err(error) if success => Err(error.into()),
            Ok(Answer::Rows(_)) | Err(_) => Err(AxlError::Status(response.status().as_u16())),
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("uri", &self.uri)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

fn fault(code: Option<i64>, message: String) -> AxlError {
    let number_after = |marker: &str| -> Option<u64> {
        let rest = &message[message.find(marker)? + marker.len()..];
        let digits = rest.trim_start_matches(|c: char| !c.is_ascii_digit());
        let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        digits[..end].parse().ok()
    };
    if message.contains("too large")
        && let (Some(matched), Some(suggested)) = (number_after("rows matched"), number_after("row fetch"))
    {
        return AxlError::TooLarge { matched, suggested };
    }
    AxlError::Fault { code, message }
}
