//! Bytes as the answer to every endpoint of the cloud, with any status and a few headers.
//!
//! The first byte chooses the endpoint, the second the status; the body is the rest, and is read as an activity too.

use bytes::Bytes;
use webex_api::activity::Activity;
use webex_api::endpoint::Endpoint;
use webex_api::{
    ApiError, Fate, activity, auth, catalog, conversation, device, files, kms_messages, people, presence,
    typing,
};

/// The endpoints that take 404 for an answer: there is no 1:1 yet, there are no devices, the device is gone already, the
/// file's host has no such step.
const MAY_BE_MISSING: [usize; 4] = [6, 10, 19, 25];

const STATUS: [u16; 12] = [200, 201, 204, 302, 400, 401, 403, 404, 409, 429, 500, 503];

/// Reads an answer and throws it away.
type Reader = fn(http::Response<Bytes>) -> Result<(), ApiError>;

pub(crate) fn run(data: &[u8]) {
    let [which, status, body @ ..] = data else { return };
    let status = STATUS[usize::from(*status) % STATUS.len()];
    let read: [Reader; 27] = [
        answer::<activity::Post>,
        answer::<auth::TokenRequest>,
        answer::<catalog::Get>,
        answer::<conversation::Activities>,
        answer::<conversation::Create>,
        answer::<conversation::CreateLocked>,
        answer::<conversation::FindDirect>,
        answer::<conversation::Get>,
        answer::<conversation::List>,
        answer::<device::Create>,
        answer::<device::List>,
        answer::<kms_messages::GetInfo>,
        answer::<people::List>,
        answer::<people::Lookup>,
        answer::<presence::List>,
        answer::<presence::Subscribe>,
        answer::<typing::Typing>,
        answer::<conversation::GetActivity>,
        answer::<device::Refresh>,
        answer::<device::Delete>,
        answer::<people::Me>,
        answer::<kms_messages::Send>,
        answer::<files::GetSpace>,
        answer::<files::OpenUpload>,
        answer::<files::FinishUpload>,
        answer::<files::Resolve>,
        answer::<auth::device_grant::Authorize>,
    ];
    let response = http::Response::builder()
        .status(status)
        .header("retry-after", if body.len() % 2 == 0 { "7" } else { "18446744073709551615" })
        .header("link", format!("<https://a.example/{}>; rel=\"next\"", body.len()))
        .body(Bytes::copy_from_slice(body))
        .expect("a response");
    let which = usize::from(*which) % read.len();
    match read[which](response) {
        Ok(()) => {
            let missing = status == 404 && MAY_BE_MISSING.contains(&which);
            assert!((200..300).contains(&status) || missing, "{status} is taken for yes");
        }
        Err(error) => {
            let _ = error.to_string();
            if let Fate::Later(Some(wait)) = error.fate() {
                assert!(wait.as_secs() <= 86_400, "nobody waits that long: {wait:?}");
            }
        }
    }
    if let Ok(activity) = serde_json::from_slice::<Activity>(body) {
        let _ = (activity.key(), activity.conversation(), format!("{activity:?}"));
    }
}

fn answer<E: Endpoint>(response: http::Response<Bytes>) -> Result<(), ApiError> {
    E::from_http(response).map(drop)
}
