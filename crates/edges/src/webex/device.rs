//! A person's device: registered under our own name, kept, and used again.

use router::ids::PersonId;
use router::inbound::Inbound;
use webex_api::Url;
use webex_api::auth::AccessToken;
use webex_api::device::{Create, Delete, Device, List, Refresh, Registration};
use webex_api::mercury::Fate;

use super::Side;
use super::http::CloudError;
use crate::probe::causes;

/// By this name we know our own devices among the person's.
const NAME: &str = "Hybrid Message connector";

fn registration() -> Registration {
    Registration {
        name: NAME.to_owned(),
        device_type: "DESKTOP".to_owned(),
        model: "hybrid-message-connector".to_owned(),
        localized_model: NAME.to_owned(),
        system_name: "hybrid-message-connector".to_owned(),
        system_version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

const KEPT: &str = "webex/device/";

/// The name under which a person's device is kept.
pub(super) fn key(person: &PersonId) -> Box<str> {
    format!("{KEPT}{person}").into()
}

/// Whose device is kept under this name; `None`: something else is.
pub(super) fn owner(key: &str) -> Option<PersonId> {
    key.strip_prefix(KEPT).map(PersonId::new)
}

/// The device that was kept under that name.
pub(super) fn kept(value: &[u8]) -> Option<Device> {
    serde_json::from_slice(value).ok()
}

/// A device to open a socket with: the one at hand, renewed or replaced as the last socket's fate wants.
pub(super) async fn ready(
    side: &Side,
    person: &PersonId,
    held: Option<Device>,
    fate: Fate,
) -> Result<Device, CloudError> {
    let device = match (held, fate) {
        (Some(held), Fate::Reconnect | Fate::NewToken) => return Ok(held),
        (Some(held), Fate::Renew) => {
            let refresh = Refresh { url: held.url, registration: registration() };
            match side.cloud.send_as(person, refresh).await {
                Ok(device) => device,
                Err(error) if error.is_refusal() => register(side, person).await?,
                Err(error) => return Err(error),
            }
        }
        (Some(held), Fate::Register) => {
            // Whether it is still there or not, we are done with it.
            if let Err(error) = side.cloud.send_as(person, Delete(held.url)).await {
                tracing::debug!(%person, %error, "old device not deleted");
            }
            register(side, person).await?
        }
        (None, _) => register(side, person).await?,
    };
    let value = serde_json::to_vec(&device).expect("a device is texts").into();
    side.hub.answer(Inbound::Keep { key: key(person), value: Some(value), ask: 0 });
    Ok(device)
}

/// Registers a new device. At the limit, devices of ours make room; the user's own are never touched.
async fn register(side: &Side, person: &PersonId) -> Result<Device, CloudError> {
    let create = Create(registration());
    let refused = match side.cloud.send_as(person, create.clone()).await {
        Err(error) if error.api().is_some_and(webex_api::ApiError::is_device_limit) => error,
        other => return other,
    };
    let devices = side.cloud.send_as(person, List).await?;
    let ours: Vec<Device> =
        devices.into_iter().filter(|device| device.name.as_deref() == Some(NAME)).collect();
    if ours.is_empty() {
        return Err(refused);
    }
    for device in ours {
        side.cloud.send_as(person, Delete(device.url)).await?;
    }
    side.cloud.send_as(person, create).await
}

/// Gives the person's device up, for somebody who is no longer served.
pub(super) async fn give_up(side: &Side, person: &PersonId, device: Url) {
    let deleted = side.cloud.send_as(person, Delete(device)).await;
    forget(side, person, deleted);
}

/// The same with the last token of a person for whom there will be no other.
pub(super) async fn give_up_with(side: &Side, person: &PersonId, device: Url, token: &AccessToken) {
    let deleted = side.cloud.send(Delete(device), Some(token)).await;
    forget(side, person, deleted);
}

fn forget(side: &Side, person: &PersonId, deleted: Result<(), CloudError>) {
    if let Err(error) = deleted {
        tracing::warn!(%person, error = causes(&error), "device not deleted: it stays among the person's devices");
    }
    side.cloud.set_device(person, None);
    side.hub.answer(Inbound::Keep { key: key(person), value: None, ask: 0 });
}
