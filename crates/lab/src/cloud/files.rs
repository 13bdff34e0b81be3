//! Files: spaces, uploads in pieces of one, downloads. The bytes are ciphertext; nothing here could tell.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::{
    Cloud,
    conversations::{not_found, text},
};
use crate::http::{Answer, Call, Handled};

/// How many bytes all files together may have; an upload beyond it is refused.
const TOTAL: usize = 512 * 1024 * 1024;

/// What was uploaded, by id.
#[derive(Debug, Default)]
pub(crate) struct Files {
    /// What was announced and did not come yet: how many bytes.
    announced: BTreeMap<String, usize>,
    stored: BTreeMap<String, Bytes>,
    total: usize,
}

fn no_file() -> Answer {
    Answer::error(StatusCode::NOT_FOUND, 1_404_004, "There is no such file.")
}

fn bad(text: &str) -> Answer {
    Answer::error(StatusCode::BAD_REQUEST, 1_400_011, text)
}

impl Cloud {
    /// `PUT /conversations/{id}/space` and `…/space/hidden`.
    pub(crate) fn space(&self, call: &Call, conversation: &str) -> Handled {
        let me = self.caller(call)?;
        self.state().conversations.of_member(conversation, &me.person_id).ok_or_else(not_found)?;
        let hidden = if call.path.last().is_some_and(|last| last == "hidden") { "hidden-" } else { "" };
        let url = format!("{}/files/v1/spaces/{hidden}{conversation}", self.origin);
        Ok(Answer::ok(&json!({"spaceUrl": url})))
    }

    /// Whether the caller is in the conversation that a space belongs to.
    fn may_enter(&self, call: &Call, space: &str) -> Result<(), Answer> {
        let me = self.caller(call)?;
        let conversation = space.strip_prefix("hidden-").unwrap_or(space);
        let mut state = self.state();
        state.conversations.of_member(conversation, &me.person_id).map(drop).ok_or_else(no_file)
    }

    /// `POST /files/v1/spaces/{space}/upload_sessions`.
    pub(crate) fn upload_session(&self, call: &Call, space: &str) -> Handled {
        self.may_enter(call, space)?;
        let body: Value = call.json()?;
        let size = body["fileSize"].as_u64().and_then(|size| usize::try_from(size).ok());
        let size = size.ok_or_else(|| bad("The upload has no size."))?;
        let id = self.ctx.rng.uuid();
        let base = format!("{}/files/v1/spaces/{space}/contents/{id}", self.origin);
        self.state().files.announced.insert(id, size);
        Ok(Answer::ok(&json!({
            "uploadUrl": format!("{base}/upload"),
            "finishUploadUrl": format!("{base}/finish"),
            "url": base,
            "fileUploadSizeLimit": 2048,
        })))
    }

    /// `PUT …/upload`: the bytes; whoever knows the address may.
    pub(crate) fn upload(&self, call: &Call, id: &str) -> Handled {
        let mut state = self.state();
        let files = &mut state.files;
        if files.announced.get(id) != Some(&call.body.len()) {
            return Err(bad("This is not the upload that was announced."));
        }
        if files.total + call.body.len() > TOTAL {
            return Err(Answer::error(
                StatusCode::INSUFFICIENT_STORAGE,
                1_507_000,
                "The lab keeps no more files.",
            ));
        }
        files.total += call.body.len();
        if let Some(before) = files.stored.insert(id.to_owned(), call.body.clone()) {
            files.total -= before.len();
        }
        Ok(Answer::empty(StatusCode::OK))
    }

    /// `POST …/finish`.
    pub(crate) fn upload_finish(&self, call: &Call, space: &str, id: &str) -> Handled {
        self.may_enter(call, space)?;
        let mut state = self.state();
        if !state.files.stored.contains_key(id) {
            return Err(no_file());
        }
        state.files.announced.remove(id);
        let url = format!("{}/files/v1/spaces/{space}/contents/{id}", self.origin);
        Ok(Answer::ok(&json!({"downloadUrl": url})))
    }

    /// `POST /v1/download/endpoints`: real addresses for the addresses in activities; here they are the same.
    pub(crate) fn download_endpoints(&self, call: &Call) -> Handled {
        self.caller(call)?;
        let body: Value = call.json()?;
        let asked = body["endpoints"].as_array().into_iter().flatten().filter_map(text);
        let endpoints: Map<String, Value> = asked.map(|url| (url.clone(), url.into())).collect();
        Ok(Answer::ok(&json!({"endpoints": endpoints})))
    }

    /// `GET …/contents/{id}`: for members of the conversation only.
    pub(crate) fn download(&self, call: &Call, space: &str, id: &str) -> Handled {
        self.may_enter(call, space)?;
        let found = self.state().files.stored.get(id).cloned().ok_or_else(no_file)?;
        Ok(Answer::bytes(StatusCode::OK, "application/octet-stream", found))
    }
}
