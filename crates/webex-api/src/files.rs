//! Files: where their ciphertext is put and fetched. How it is sealed is the key service's matter, not this crate's.
//!
//! A file is shared in five steps: [`GetSpace`], [`OpenUpload`], the bytes themselves
//! ([`Http::upload`](crate::client::Http::upload)), [`FinishUpload`], and an activity with
//! [`Action::Share`](crate::activity::Action::Share). It is fetched in two: [`Resolve`] and the bytes
//! ([`Http::download`](crate::client::Http::download)).

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use serde::{Deserialize, Serialize};

use crate::endpoint::{Context, Destination, Endpoint, json, read};
use crate::{ApiError, Url};

/// `PUT {conversation.url}/space`: where files of a conversation are put. The answer is the space's address.
#[derive(Clone, Debug)]
pub struct GetSpace {
    /// The conversation's address.
    pub conversation: Url,
}

impl Endpoint for GetSpace {
    type Response = Url;

    fn destination(&self) -> Destination<'_> {
        Destination::Address(&self.conversation)
    }

    fn into_http(self, context: &Context<'_>) -> Result<Request<Bytes>, ApiError> {
        #[derive(Serialize)]
        struct Body {}
        json(Method::PUT, &self.conversation.join(["space"]), context, &Body {})
    }

    fn from_http(response: Response<Bytes>) -> Result<Url, ApiError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Body {
            space_url: Url,
        }
        Ok(read::<Body>(response)?.space_url)
    }
}

/// `POST {space}/upload_sessions`: announces an upload.
#[derive(Clone, Debug)]
pub struct OpenUpload {
    /// What [`GetSpace`] answered.
    pub space: Url,
    /// The length of the ciphertext in bytes, which is that of the file.
    pub size: u64,
    /// The end of the file's name with its dot, `.txt`; `None`: it has none.
    pub file_type: Option<String>,
}

/// Where the bytes of one upload go.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Upload {
    /// Takes the bytes, from whoever knows the address.
    pub upload_url: Url,
    /// Is told when they are all there.
    pub finish_upload_url: Url,
    /// The largest upload in MiB; `None`: not told.
    #[serde(rename = "fileUploadSizeLimit")]
    pub limit: Option<u64>,
}

impl Endpoint for OpenUpload {
    type Response = Upload;

    fn destination(&self) -> Destination<'_> {
        Destination::Address(&self.space)
    }

    fn into_http(self, context: &Context<'_>) -> Result<Request<Bytes>, ApiError> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Body<'a> {
            file_size: u64,
            #[serde(skip_serializing_if = "Option::is_none")]
            claimed_file_type: Option<&'a str>,
            upload_protocol: &'static str,
        }
        let body = Body {
            file_size: self.size,
            claimed_file_type: self.file_type.as_deref(),
            upload_protocol: "content-length",
        };
        let url = self.space.join(["upload_sessions"]).with_query([("transcode", "true")]);
        json(Method::POST, &url, context, &body)
    }

    fn from_http(response: Response<Bytes>) -> Result<Upload, ApiError> {
        read(response)
    }
}

/// `POST {finishUploadUrl}`: the bytes are there. The answer is the address that the share and the reference name.
#[derive(Clone, Debug)]
pub struct FinishUpload {
    /// From [`Upload`].
    pub url: Url,
    /// How many bytes were sent.
    pub size: u64,
    /// Their SHA-256. What the official client sends here is another value, so a service hardly checks it.
    pub sha256: [u8; 32],
}

impl Endpoint for FinishUpload {
    type Response = Url;

    fn destination(&self) -> Destination<'_> {
        Destination::Address(&self.url)
    }

    fn into_http(self, context: &Context<'_>) -> Result<Request<Bytes>, ApiError> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Body {
            file_size: u64,
            file_hash: String,
        }
        let file_hash = self.sha256.iter().map(|byte| format!("{byte:02x}")).collect();
        let url = self.url.with_query([("transcode", "true")]);
        json(Method::POST, &url, context, &Body { file_size: self.size, file_hash })
    }

    fn from_http(response: Response<Bytes>) -> Result<Url, ApiError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Body {
            download_url: Url,
        }
        Ok(read::<Body>(response)?.download_url)
    }
}

/// `POST /v1/download/endpoints` at the host of a file: where it can be fetched now.
#[derive(Clone, Debug)]
pub struct Resolve {
    /// The file's address, from its activity or its reference.
    pub file: Url,
}

impl Endpoint for Resolve {
    /// `None`: the host knows no such step (404) or names no other address; the file is fetched at its own.
    type Response = Option<Url>;

    fn destination(&self) -> Destination<'_> {
        Destination::Address(&self.file)
    }

    fn into_http(self, context: &Context<'_>) -> Result<Request<Bytes>, ApiError> {
        #[derive(Serialize)]
        struct Body<'a> {
            endpoints: [&'a Url; 1],
        }
        let url = self.file.with_path(["v1", "download", "endpoints"]);
        json(Method::POST, &url, context, &Body { endpoints: [&self.file] })
    }

    fn from_http(response: Response<Bytes>) -> Result<Option<Url>, ApiError> {
        #[derive(Deserialize)]
        struct Body {
            endpoints: std::collections::BTreeMap<String, Url>,
        }
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        // One was asked for, so one is what there is, under whatever spelling.
        Ok(read::<Body>(response)?.endpoints.into_values().next())
    }
}
