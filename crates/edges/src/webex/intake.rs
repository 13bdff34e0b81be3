//! An activity becomes what the router decides on. Its text stays as it came: nothing is opened here.

use kms_client::jose::jwe;
use router::envelope::{Body, Envelope, Kind, Marked, Origin, Via, WebexOrigin};
use router::ids::{ActivityId, ConversationId, PersonId, Time};
use webex_api::activity::{Activity, Object, ParentKind, Text, Verb};
use webex_api::conversation::Conversation;
use webex_api::{KmsUri, Timestamp};

/// Where an activity was read.
#[derive(Clone, Debug)]
pub(crate) struct Reading<'a> {
    /// On whose socket, or in whose listing.
    pub(crate) socket: &'a PersonId,
    /// How it came.
    pub(crate) via: Via,
    /// When, by our clock.
    pub(crate) arrived: Time,
    /// When, by the cloud's clock: for what the cloud put no time on.
    pub(crate) cloud: Time,
}

pub(super) fn person(id: &webex_api::PersonId) -> PersonId {
    PersonId::new(id.as_str().to_ascii_lowercase())
}

pub(super) fn time(moment: Timestamp) -> Time {
    Time(moment.millis())
}

impl Reading<'_> {
    /// What the activity is to the router; the error says why it is nothing to it. `within` is the
    /// conversation that was listed, for what a listing leaves out of its activities.
    pub(crate) fn take(
        &self,
        activity: &Activity,
        within: Option<&Conversation>,
    ) -> Result<(Envelope, Vec<Body>), &'static str> {
        let (kind, parts) = kind(activity)?;
        let conversation = activity.conversation().or(within).ok_or("no conversation")?;
        let address = conversation.url.as_ref().or_else(|| within?.url.as_ref()).ok_or("no address")?;
        let actor = activity.actor.as_ref().and_then(|actor| actor.id.as_ref()).ok_or("no actor")?;
        let iv = parts.iter().find_map(|part| match part {
            Body::Sealed { jwe, .. } => jwe::iv(jwe),
            _ => None,
        });
        let origin = WebexOrigin {
            socket: self.socket.clone(),
            via: self.via,
            activity: ActivityId::new(activity.id.as_str()),
            conversation: ConversationId::new(address.as_str()),
            one_on_one: conversation.is_direct() || within.is_some_and(Conversation::is_direct),
            actor: person(actor),
            published: activity.published.map_or(self.cloud, time),
            client_temp_id: activity.client_temp_id.as_ref().map(|id| id.as_str().into()),
            iv,
        };
        Ok((Envelope { origin: Origin::Webex(origin), kind, arrived: self.arrived }, parts))
    }

    /// That somebody has read up to an activity, as a conversation says it of its participants: the read
    /// marks themselves are in no listing (rule 20).
    pub(super) fn seen(
        &self,
        conversation: &Conversation,
        reader: &PersonId,
        last: &webex_api::ActivityId,
        at: Timestamp,
    ) -> Option<Envelope> {
        let origin = WebexOrigin {
            socket: self.socket.clone(),
            via: self.via,
            // Made up, but always the same for the same mark.
            activity: ActivityId::new(format!("read {last} {reader}")),
            conversation: ConversationId::new(conversation.url.as_ref()?.as_str()),
            one_on_one: conversation.is_direct(),
            actor: reader.clone(),
            published: time(at),
            client_temp_id: None,
            iv: None,
        };
        let kind = Kind::Read(Marked::Activity(ActivityId::new(last.as_str())));
        Some(Envelope { origin: Origin::Webex(origin), kind, arrived: self.arrived })
    }
}

fn kind(activity: &Activity) -> Result<(Kind, Vec<Body>), &'static str> {
    let key = activity.key();
    match (&activity.verb, &activity.object) {
        (Verb::Post, Some(Object::Comment { display_name, content })) => {
            let text = display_name.as_ref().or(content.as_ref()).ok_or("no text")?;
            let parts = vec![body(text, key)];
            match &activity.parent {
                Some(parent) if parent.kind == ParentKind::Edit => {
                    Ok((Kind::Edit { of: ActivityId::new(parent.id.as_str()) }, parts))
                }
                _ => Ok((Kind::Text, parts)),
            }
        }
        (Verb::Share, Some(Object::Content { display_name, files, .. })) => {
            let text = display_name.iter().map(|text| body(text, key));
            // The name tells what the address leads to, and stays sealed like any text.
            let lines = files.iter().filter_map(|file| {
                let link = Body::Clear(file.url.as_ref()?.as_str().into());
                Some(file.display_name.iter().map(|name| body(name, key)).chain([link]))
            });
            let parts: Vec<Body> = text.chain(lines.flatten()).collect();
            if parts.is_empty() { Err("no files") } else { Ok((Kind::Files, parts)) }
        }
        (Verb::Delete, Some(Object::Activity { id, .. })) => {
            Ok((Kind::Delete { of: ActivityId::new(id.as_str()) }, Vec::new()))
        }
        (Verb::Tombstone, _) => Ok((Kind::Tombstone, Vec::new())),
        (Verb::Acknowledge, Some(Object::Activity { id, .. })) => {
            Ok((Kind::Read(Marked::Activity(ActivityId::new(id.as_str()))), Vec::new()))
        }
        _ => Err("nothing that is said"),
    }
}

/// Without a key the text is plain: agents of the organization may write so.
fn body(text: &Text, key: Option<&KmsUri>) -> Body {
    match key {
        Some(key) => Body::Sealed { key: key.as_str().into(), jwe: text.as_str().into() },
        None => Body::Clear(text.as_str().into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JWE: &str = "eyJlbmMiOiJBMjU2R0NNIiwiYWxnIjoiZGlyIn0..AAECAwQFBgcICQoL.AA.AAAAAAAAAAAAAAAAAAAAAA";

    fn activity(json: &str) -> Activity {
        let frame = format!(
            r#"{{"id":"act-1","published":"2024-05-01T10:00:00.000Z",
                "actor":{{"id":"AAAAAAAA-1111-4111-8111-111111111111"}},
                "target":{{"id":"c1","url":"https://c.example/conversations/c1","tags":["ONE_ON_ONE"]}},{json}}}"#
        );
        serde_json::from_str(&frame).unwrap()
    }

    fn take(json: &str) -> Result<(Envelope, Vec<Body>), &'static str> {
        let socket = PersonId::new("bob");
        let reading = Reading { socket: &socket, via: Via::Socket, arrived: Time(1), cloud: Time(2) };
        reading.take(&activity(json), None)
    }

    #[test]
    fn a_post_keeps_its_seal() {
        let json = format!(
            r#""verb":"post","encryptionKeyUrl":"kms://k/keys/1","clientTempId":"t",
               "object":{{"objectType":"comment","displayName":"{JWE}"}}"#
        );
        let (envelope, parts) = take(&json).unwrap();
        assert_eq!(envelope.kind, Kind::Text);
        assert_eq!(parts, [Body::Sealed { key: "kms://k/keys/1".into(), jwe: JWE.into() }]);
        let Origin::Webex(origin) = envelope.origin else { panic!("from Webex") };
        assert_eq!(origin.iv, Some([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]));
        assert_eq!(origin.actor.as_str(), "aaaaaaaa-1111-4111-8111-111111111111");
        assert_eq!(origin.conversation.as_str(), "https://c.example/conversations/c1");
        assert_eq!((origin.one_on_one, origin.published), (true, Time(1_714_557_600_000)));
    }

    #[test]
    fn of_a_post_with_markup_the_plain_form_is_read() {
        let (envelope, parts) = take(
            r#""verb":"post","object":{"objectType":"comment","displayName":"**bold** and a list",
               "content":"<strong>bold</strong> and <ul><li>a list</li></ul>"}"#,
        )
        .unwrap();
        assert_eq!((envelope.kind, parts), (Kind::Text, vec![Body::Clear("**bold** and a list".into())]));
    }

    #[test]
    fn each_verb_has_its_kind() {
        let of = ActivityId::new("old");
        for (json, kind) in [
            (
                r#""verb":"post","parent":{"id":"old","type":"edit"},
                   "object":{"objectType":"comment","displayName":"x"}"#,
                Kind::Edit { of: of.clone() },
            ),
            (
                r#""verb":"post","parent":{"id":"old","type":"reply"},
                   "object":{"objectType":"comment","displayName":"x"}"#,
                Kind::Text,
            ),
            (
                r#""verb":"delete","object":{"objectType":"activity","id":"old"}"#,
                Kind::Delete { of: of.clone() },
            ),
            (r#""verb":"tombstone","object":{"objectType":"comment"}"#, Kind::Tombstone),
            (
                r#""verb":"acknowledge","object":{"objectType":"activity","id":"old"}"#,
                Kind::Read(Marked::Activity(of)),
            ),
        ] {
            assert_eq!(take(json).unwrap().0.kind, kind, "{json}");
        }
    }

    #[test]
    fn a_share_is_its_text_then_name_and_link_of_each_file() {
        let json = format!(
            r#""verb":"share","encryptionKeyUrl":"kms://k/keys/1",
               "object":{{"objectType":"content","displayName":"{JWE}","files":{{"items":[
                 {{"objectType":"file","displayName":"{JWE}","url":"https://f.example/1"}},
                 {{"objectType":"file","url":"https://f.example/2"}},
                 {{"objectType":"file","displayName":"{JWE}"}}]}}}}"#
        );
        let (envelope, parts) = take(&json).unwrap();
        let sealed = || Body::Sealed { key: "kms://k/keys/1".into(), jwe: JWE.into() };
        let link = |url: &str| Body::Clear(url.into());
        assert_eq!(envelope.kind, Kind::Files);
        assert_eq!(parts, [sealed(), sealed(), link("https://f.example/1"), link("https://f.example/2")]);
    }

    #[test]
    fn what_says_nothing_is_left_out() {
        for json in [
            r#""verb":"add","object":{"objectType":"person","id":"x"}"#,
            r#""verb":"pin""#,
            r#""verb":"post","object":{"objectType":"comment"}"#,
            r#""verb":"share","object":{"objectType":"content"}"#,
        ] {
            assert!(take(json).is_err(), "{json}");
        }
    }
}
