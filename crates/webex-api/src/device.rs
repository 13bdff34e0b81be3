//! Devices (`{wdm}/devices`): a registration owns the address of a Mercury socket.

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use serde::{Deserialize, Serialize};

use crate::catalog::Service;
use crate::endpoint::{Context, Destination, Endpoint, accepted, json, plain, read};
use crate::{ApiError, PersonId, Timestamp, Url};

/// How a device presents itself; shown to the user among their devices.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Registration {
    /// The device's own name; by it a client finds its own devices again.
    pub name: String,
    /// For example `DESKTOP`.
    pub device_type: String,
    /// The kind of client.
    pub model: String,
    /// The same, for people to read.
    pub localized_model: String,
    /// The system it runs on.
    pub system_name: String,
    /// That system's version.
    pub system_version: String,
}

impl Registration {
    /// A desktop client that calls itself so.
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            device_type: "DESKTOP".to_owned(),
            model: name.to_owned(),
            localized_model: name.to_owned(),
            system_name: name.to_owned(),
            system_version: "1".to_owned(),
        }
    }
}

/// A registered device.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Device {
    /// The device's address, which is also its client id at the key service.
    pub url: Url,
    /// Where its Mercury socket is opened.
    pub web_socket_url: Url,
    /// Whose device it is.
    pub user_id: Option<PersonId>,
    /// The name given at registration.
    pub name: Option<String>,
    /// The type given at registration.
    pub device_type: Option<String>,
    /// When it was last registered or refreshed.
    pub modification_time: Option<Timestamp>,
}

/// `POST {wdm}/devices`: registers a device. Past the limit of devices the answer is an error for
/// which [`ApiError::is_device_limit`] holds.
#[derive(Clone, Debug)]
pub struct Create(pub Registration);

/// `PUT {device.url}`: renews a registration. 404 means that the device is gone; register a new one.
#[derive(Clone, Debug)]
pub struct Refresh {
    /// The device's address.
    pub url: Url,
    /// What to register it as.
    pub registration: Registration,
}

/// `GET {wdm}/devices`: the user's devices, those of other clients included.
#[derive(Clone, Copy, Debug)]
pub struct List;

/// `DELETE {device.url}`: gives a device up. One that is already gone counts as given up.
#[derive(Clone, Debug)]
pub struct Delete(pub Url);

/// What the official client asks for; whether less would still bring the socket address is not known.
const UPSTREAM: [(&str, &str); 1] = [("includeUpstreamServices", "all")];

impl Endpoint for Create {
    type Response = Device;

    fn destination(&self) -> Destination<'_> {
        Destination::Service(Service::Wdm)
    }

    fn into_http(self, context: &Context<'_>) -> Result<Request<Bytes>, ApiError> {
        json(Method::POST, &context.base.join(["devices"]).with_query(UPSTREAM), context, &self.0)
    }

    fn from_http(response: Response<Bytes>) -> Result<Device, ApiError> {
        read(response)
    }
}

impl Endpoint for Refresh {
    type Response = Device;

    fn destination(&self) -> Destination<'_> {
        Destination::Address(&self.url)
    }

    fn into_http(self, context: &Context<'_>) -> Result<Request<Bytes>, ApiError> {
        #[derive(Serialize)]
        struct Body<'a> {
            url: &'a Url,
            #[serde(flatten)]
            registration: &'a Registration,
        }
        let body = Body { url: &self.url, registration: &self.registration };
        json(Method::PUT, &self.url.with_query(UPSTREAM), context, &body)
    }

    fn from_http(response: Response<Bytes>) -> Result<Device, ApiError> {
        read(response)
    }
}

impl Endpoint for List {
    type Response = Vec<Device>;

    fn destination(&self) -> Destination<'_> {
        Destination::Service(Service::Wdm)
    }

    fn into_http(self, context: &Context<'_>) -> Result<Request<Bytes>, ApiError> {
        plain(Method::GET, &context.base.join(["devices"]), context)
    }

    /// Devices without an address of ours to use (other kinds of client) are left out; a 404 is an
    /// empty list.
    fn from_http(response: Response<Bytes>) -> Result<Vec<Device>, ApiError> {
        #[derive(Deserialize)]
        struct Body {
            #[serde(default)]
            devices: Vec<serde_json::Value>,
        }
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(Vec::new());
        }
        let body: Body = read(response)?;
        Ok(body.devices.into_iter().filter_map(|device| serde_json::from_value(device).ok()).collect())
    }
}

impl Endpoint for Delete {
    type Response = ();

    fn destination(&self) -> Destination<'_> {
        Destination::Address(&self.0)
    }

    fn into_http(self, context: &Context<'_>) -> Result<Request<Bytes>, ApiError> {
        plain(Method::DELETE, &self.0, context)
    }

    fn from_http(response: Response<Bytes>) -> Result<(), ApiError> {
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(());
        }
        accepted(response).map(drop)
    }
}
