//! The bytes of files, piece by piece: neither way is a file held whole.

use std::fmt;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::{HeaderValue, Method, Request, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Body as _, Frame, Incoming};
use tokio::time::{Instant, timeout};

use super::http::{Begun, Caller, Connection, Http};
use crate::endpoint::plain;
use crate::{ApiError, Url};

/// Slower than this many bytes a second on the whole, an upload is given up.
const SLOWEST: u64 = 64 * 1024;

impl Http {
    /// `PUT {uploadUrl}`: the ciphertext of a file, in nobody's name, as the address alone is the permission. It may take
    /// a second more than [`HttpConfig::timeout`](super::HttpConfig::timeout) for every 64 KiB.
    ///
    /// # Errors
    /// As [`ApiError`] says; [`ApiError::Broken`] also when `bytes` ends with an error or is not `size` bytes long.
    pub async fn upload(
        &self,
        url: &Url,
        size: u64,
        bytes: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<(), ApiError> {
        let tracking_id = self.tracking_id();
        let id = HeaderValue::from_str(tracking_id.as_str()).expect("visible ASCII");
        let request = Request::builder()
            .method(Method::PUT)
            .uri(url.as_str())
            .header("x-trans-id", id)
            .header(header::CONTENT_LENGTH, size)
            .body(StreamBody::new(bytes.map(|piece| piece.map(Frame::data))).boxed_unsync())
            .map_err(ApiError::Request)?;
        let deadline = Instant::now() + self.config().timeout + Duration::from_secs(size / SLOWEST);
        let response = self.exchange(request, deadline).await?;
        crate::endpoint::accepted(response).map(drop)
    }

    /// `GET {file}`: the ciphertext of a file, begun. Each piece may take as long as a whole request.
    ///
    /// # Errors
    /// As [`ApiError`] says.
    pub async fn download<'a>(&self, url: &Url, caller: impl Into<Caller<'a>>) -> Result<Download, ApiError> {
        let tracking_id = self.tracking_id();
        let request = plain(Method::GET, url, &caller.into().context(url, &tracking_id))?;
        let deadline = Instant::now() + self.config().timeout;
        let begun = self.begin(request.map(super::http::whole), deadline).await?;
        if !begun.response.status().is_success() {
            let answer = self.read(begun, deadline).await?;
            let (parts, body) = answer.into_parts();
            return Err(ApiError::from_status(parts.status, &parts.headers, &body));
        }
        let Begun { response, connection } = begun;
        let body = response.into_body();
        let length = body.size_hint().exact();
        Ok(Download { body, length, patience: self.config().timeout, connection: Some(connection) })
    }
}

/// A file on its way down.
pub struct Download {
    body: Incoming,
    length: Option<u64>,
    patience: Duration,
    connection: Option<Connection>,
}

impl Download {
    /// How many bytes the file has; `None`: not told beforehand.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// The next piece, of at most some ten KiB; `None`: that was all.
    ///
    /// # Errors
    /// [`ApiError::Broken`] when the connection ends before the file, [`ApiError::Timeout`] when nothing comes.
    pub async fn piece(&mut self) -> Result<Option<Bytes>, ApiError> {
        while let Some(connection) = &self.connection {
            let host = || connection.host_name.clone();
            let frame = timeout(self.patience, self.body.frame()).await;
            match frame.map_err(|_| ApiError::Timeout { host: host() })? {
                Some(Ok(frame)) => {
                    if let Ok(piece) = frame.into_data() {
                        return Ok(Some(piece));
                    }
                }
                Some(Err(error)) => {
                    return Err(ApiError::Broken { host: host(), source: Box::new(error) });
                }
                None => {
                    if let Some(connection) = self.connection.take() {
                        connection.keep();
                    }
                }
            }
        }
        Ok(None)
    }
}

impl fmt::Debug for Download {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Download").field("length", &self.length).finish_non_exhaustive()
    }
}
