//! Files: sealed, uploaded and referred to; and fetched and opened again by whoever is shown one.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures_util::stream;
use kms_client::{
    SystemRandom,
    file::{Opener, Reference, Sealer},
    uri::KeyUri,
};
use sha2::{Digest, Sha256};
use webex_api::{
    activity::{self, Action, Activity, SharedFile, Text},
    files,
};

use super::{Line, WebexApp, failed};
use crate::people::{Act, PuppetError};

impl WebexApp {
    /// Seals a file with a key of its own, uploads it, and posts the reference sealed with the conversation's key.
    pub(super) async fn share(&self, line: &Line, act: &Act) -> Result<(), PuppetError> {
        let mut bytes = STANDARD
            .decode(&act.base64)
            .map_err(|_| PuppetError::Unsupported("the content is not base64"))?;
        let target = self.target_with(line, act.recipient()).await?;
        let mut sealer = Sealer::new(&mut SystemRandom::new(), &self.ctx.clock.now().rfc3339());
        sealer.update(&mut bytes).map_err(failed)?;

        let space = self.send(line, files::GetSpace { conversation: target.url.clone() }).await?;
        let size = bytes.len() as u64;
        let file_type = act.name.rsplit_once('.').map(|(_, end)| format!(".{end}"));
        let upload = self.send(line, files::OpenUpload { space, size, file_type }).await?;
        let sha256 = Sha256::digest(&bytes).into();
        let pieces = stream::iter([Ok(Bytes::from(bytes))]);
        self.http.upload(&upload.upload_url, size, pieces).await.map_err(failed)?;
        let finish = files::FinishUpload { url: upload.finish_upload_url, size, sha256 };
        let url = self.send(line, finish).await?;

        let name = self.sealed(line, &target, &act.name).await?;
        let key: KeyUri = name.key.as_str().parse().map_err(failed)?;
        let reference = sealer.finish(url.as_str());
        let scr = reference.seal(&line.keys.get(&key).await?, &self.ctx.rng.bytes()).map_err(failed)?;
        let file = SharedFile {
            display_name: name.display_name,
            file_size: size,
            mime_type: "application/octet-stream".to_owned(),
            url,
            scr: Text::new(scr),
        };
        let share = Action::Share { comment: None, files: vec![file], key: name.key };
        self.post(line, target, share).await.map(drop)
    }

    /// Fetches and opens a file that is shown; the name it has, if its bytes are those that were sealed.
    pub(super) async fn fetch(
        &self,
        line: &Line,
        activity: &Activity,
        file: Option<&activity::File>,
    ) -> Result<String, String> {
        let file = file.ok_or("there is no file")?;
        let name = self.open(line, activity, file.display_name.as_ref()).await?;
        let sealed = file.scr.as_ref().ok_or("the file has no reference")?;
        let key: KeyUri = activity.key().ok_or("no key is named")?.as_str().parse().map_err(text)?;
        let key = line.keys.get(&key).await.map_err(text)?;
        let reference = Reference::open(&key, sealed.as_str()).map_err(text)?;
        let at: webex_api::Url = reference.location().parse().map_err(text)?;
        let at = match self.send(line, files::Resolve { file: at.clone() }).await.map_err(text)? {
            Some(real) => real,
            None => at,
        };
        let mut download = self.http.download(&at, Some(&line.token)).await.map_err(text)?;
        let mut opener = Opener::new(&reference);
        while let Some(piece) = download.piece().await.map_err(text)? {
            opener.update(&mut piece.to_vec()).map_err(text)?;
        }
        opener.finish().map_err(text)?;
        Ok(name)
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
