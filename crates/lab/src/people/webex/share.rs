//! Sharing a file: sealed, uploaded, referred to.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use http::Method;
use ring::aead;
use serde_json::{Value, json};
use webex_api::Url;

use super::{Line, WebexApp, failed, raw::Raw};
use crate::people::{Act, PuppetError};

impl WebexApp {
    /// Seals a file with a key of its own, uploads it, and posts the reference sealed with the conversation's key.
    pub(super) async fn share(&self, line: &Line, act: &Act) -> Result<(), PuppetError> {
        let plain = STANDARD
            .decode(&act.base64)
            .map_err(|_| PuppetError::Unsupported("the content is not base64"))?;
        let target = self.target_with(line, act.recipient()).await?;
        let (key, iv): ([u8; 32], [u8; 12]) = (self.ctx.rng.bytes(), self.ctx.rng.bytes());
        let aad = self.ctx.clock.now().rfc3339();
        let mut bytes = plain;
        let cipher =
            aead::UnboundKey::new(&aead::AES_256_GCM, &key).map_err(|_| failed("the key is unusable"))?;
        let tag = aead::LessSafeKey::new(cipher)
            .seal_in_place_separate_tag(
                aead::Nonce::assume_unique_for_key(iv),
                aead::Aad::from(aad.as_bytes()),
                &mut bytes,
            )
            .map_err(|_| failed("the file cannot be sealed"))?;
        let address = |url: &Value| {
            url.as_str().and_then(|url| url.parse::<Url>().ok()).ok_or_else(|| failed("no address"))
        };
        let send = |raw: Raw| self.send(line, raw);
        let space = send(Raw::json(Method::PUT, target.url.join(["space"]), &json!({}))).await?;
        let session = address(&space["spaceUrl"])?.join(["upload_sessions"]);
        let size = bytes.len();
        let session =
            Raw::json(Method::POST, session, &json!({"fileSize": size, "uploadProtocol": "content-length"}));
        let session = send(session).await?;
        send(Raw::bytes(Method::PUT, address(&session["uploadUrl"])?, bytes.into())).await?;
        let done =
            send(Raw::json(Method::POST, address(&session["finishUploadUrl"])?, &json!({"fileSize": size})))
                .await?;
        let url = done["downloadUrl"].clone();
        let b64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let reference = json!({
            "enc": "A256GCM", "key": b64(&key), "iv": b64(&iv), "aad": aad, "loc": url, "tag": b64(tag.as_ref()),
        });
        let name = self.sealed(line, &target, &act.name).await?;
        let reference = self.sealed(line, &target, &reference.to_string()).await?;
        let activity = json!({
            "objectType": "activity",
            "verb": "share",
            "clientTempId": self.ctx.rng.uuid(),
            "encryptionKeyUrl": name.key,
            "actor": {"objectType": "person", "id": self.me.person_id, "entryUUID": self.me.person_id},
            "target": {"objectType": "conversation", "id": target.id.as_str(), "url": target.url.as_str()},
            "object": {
                "objectType": "content",
                "contentCategory": "documents",
                "files": {"items": [{
                    "objectType": "file",
                    "displayName": name.display_name,
                    "fileSize": size,
                    "mimeType": "application/octet-stream",
                    "url": url,
                    "scr": reference.display_name,
                }]},
            },
        });
        send(Raw::json(Method::POST, target.url.join(["content"]), &activity)).await.map(drop)
    }
}
