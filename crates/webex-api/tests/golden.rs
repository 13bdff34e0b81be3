//! Each endpoint against recorded JSON in `tests/json`: what is sent, and what is read from answers
//! that also hold fields, verbs and statuses nobody has told us of.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use bytes::Bytes;
use http::{Request, Response};
use serde_json::Value;
use webex_api::activity::{
    Action, Activity, Comment, Object, ParentKind, Post, SharedFile, Target, Text, Verb,
};
use webex_api::auth::{AccessToken, Client, Grant, TokenRequest};
use webex_api::catalog::{self, Service};
use webex_api::endpoint::{Context, Endpoint};
use webex_api::presence::Status;
use webex_api::{
    ApiError, Timestamp, Url, conversation, device, files, kms_messages, people, presence, typing,
};

const ALICE: &str = "11111111-1111-4111-8111-111111111111";
const BOB: &str = "22222222-2222-4222-8222-222222222222";
const BASE: &str = "https://base.example/api";
const CONVERSATION: &str = "https://conv-a.example/conversation/api/v1/conversations/c1";

fn id<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

fn written<E: Endpoint>(endpoint: E) -> Request<Bytes> {
    let token = AccessToken::try_from("canary-token".to_owned()).unwrap();
    let (base, tracking_id, device) = (id(BASE), id("track_1"), id("https://wdm-a.example/d1"));
    let context =
        Context { base: &base, token: Some(&token), device: Some(&device), tracking_id: &tracking_id };
    let request = endpoint.into_http(&context).unwrap();
    assert_eq!(request.headers()["trackingid"], "track_1");
    request
}

/// The request line, and the body compared with its file.
fn line<E: Endpoint>(endpoint: E, body: Option<&str>) -> String {
    let request = written(endpoint);
    assert_eq!(request.headers()["authorization"], "Bearer canary-token");
    assert_eq!(request.headers()["cisco-device-url"], "https://wdm-a.example/d1");
    assert!(!format!("{request:?}").contains("canary"), "the token is marked as sensitive");
    match body {
        Some(name) => {
            assert_eq!(request.headers()["content-type"], "application/json");
            let sent: Value = serde_json::from_slice(request.body()).unwrap();
            assert_eq!(sent, serde_json::from_str::<Value>(&file(name)).unwrap(), "{name}");
        }
        None => assert!(request.body().is_empty()),
    }
    format!("{} {}", request.method(), request.uri())
}

fn file(name: &str) -> String {
    let path = format!("{}/tests/json/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn read<E: Endpoint>(name: &str) -> E::Response {
    E::from_http(Response::new(file(name).into())).unwrap()
}

fn status<E: Endpoint>(status: u16) -> Result<E::Response, ApiError> {
    E::from_http(Response::builder().status(status).body(Bytes::new()).unwrap())
}

#[test]
fn catalog() {
    assert_eq!(line(catalog::Get::Full, None), "GET https://base.example/api/catalog?format=hostmap");
    assert_eq!(
        line(catalog::Get::Limited(id("o1")), None),
        "GET https://base.example/api/limited/catalog?orgId=o1&format=hostmap"
    );
    let catalog = read::<catalog::Get>("catalog.json");
    let base = |service| catalog.base(service).map(Url::as_str);
    assert_eq!(base(Service::Wdm), Some("https://wdm-a.example/wdm/api/v1"));
    assert_eq!(base(Service::Hydra), None);
}

#[test]
fn tokens() {
    let client = Client { id: "client id".into(), secret: "canary:secret".to_owned().into() };
    let actor = AccessToken::try_from("canary-machine".to_owned()).unwrap();
    for (grant, form) in [
        (
            Grant::Refresh("canary-refresh".to_owned().into()),
            "grant_type=refresh_token&refresh_token=canary-refresh",
        ),
        (
            Grant::ClientCredentials { scope: "a b".into() },
            "grant_type=client_credentials&scope=a%20b&self_contained_token=true",
        ),
        (
            Grant::Exchange { subject: id(ALICE), actor },
            "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange\
             &subject_token=11111111-1111-4111-8111-111111111111&subject_token_type=urn%3Alab%3Aperson\
             &actor_token=canary-machine\
             &actor_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aaccess_token",
        ),
    ] {
        let asked = TokenRequest { client: client.clone(), grant };
        assert!(!format!("{asked:?}").contains("canary"), "secrets are not printed");
        let request = written(asked);
        assert_eq!(request.method(), "POST");
        assert_eq!(request.uri(), "https://base.example/api/idb/oauth2/v1/access_token");
        assert_eq!(request.headers()["content-type"], "application/x-www-form-urlencoded");
        // base64 of `client%20id:canary%3Asecret`
        assert_eq!(request.headers()["authorization"], "Basic Y2xpZW50JTIwaWQ6Y2FuYXJ5JTNBc2VjcmV0");
        assert_eq!(request.body(), form);
    }
    let tokens = read::<TokenRequest>("tokens.json");
    assert_eq!(tokens.access_token.expose(), "canary-access");
    assert_eq!(tokens.refresh_token.as_ref().unwrap().expose(), "canary-refresh");
    assert_eq!(tokens.expires_in.as_secs(), 1_209_599);
    assert!(!format!("{tokens:?}").contains("canary"));
    let body = r#"{"error":"invalid_grant","error_description":"expired"}"#;
    let refused = Response::builder().status(400).body(body.into()).unwrap();
    assert_eq!(TokenRequest::from_http(refused).unwrap_err().to_string(), "400 Bad Request: invalid_grant");
}

#[test]
fn devices() {
    let registration = device::Registration {
        name: "connector".into(),
        device_type: "DESKTOP".into(),
        model: "connector".into(),
        localized_model: "Connector".into(),
        system_name: "connector".into(),
        system_version: "1".into(),
    };
    let url: Url = id("https://wdm-a.example/wdm/api/v1/devices/d1");
    assert_eq!(
        line(device::Create(registration.clone()), Some("device.request.json")),
        "POST https://base.example/api/devices?includeUpstreamServices=all"
    );
    let refresh = written(device::Refresh { url: url.clone(), registration });
    assert_eq!((refresh.method().as_str(), refresh.uri().path()), ("PUT", "/wdm/api/v1/devices/d1"));
    assert_eq!(line(device::Delete(url.clone()), None), format!("DELETE {url}"));
    assert_eq!(line(device::List, None), "GET https://base.example/api/devices");
    let device = read::<device::Create>("device.json");
    assert_eq!((device.url, device.user_id), (url, Some(id(ALICE))));
    assert!(device.web_socket_url.is_secure());
    let names: Vec<_> = read::<device::List>("devices.json").into_iter().map(|device| device.name).collect();
    assert_eq!(names, [Some("connector".to_owned())], "a device without a socket is none of ours");
    assert_eq!(status::<device::List>(404).unwrap(), []);
    assert!(status::<device::Delete>(404).is_ok());
    assert!(status::<device::Refresh>(404).unwrap_err().is_refusal());
}

#[test]
fn people() {
    assert_eq!(line(people::List::First { max: 100 }, None), "GET https://base.example/api/people?max=100");
    assert_eq!(
        line(people::List::ById(vec![id("a"), id("b")]), None),
        "GET https://base.example/api/people?id=a%2Cb"
    );
    let next = r#"<https://hydra.example/v1/people?max=100&cursor=x>; rel="next""#;
    let response = Response::builder().header("link", next).body(file("people.json").into()).unwrap();
    let page = people::List::from_http(response).unwrap();
    let next = page.next.unwrap();
    assert_eq!(line(people::List::Next(next.clone()), None), format!("GET {next}"));
    assert_eq!(page.unreadable, 1);
    let [alice, bob] = &page.people[..] else { panic!("two people") };
    assert_eq!((alice.id.as_str(), bob.id.as_str()), (ALICE, BOB));
    assert_eq!(alice.org_id.as_ref().unwrap().as_str(), "33333333-3333-4333-8333-333333333333");
    assert_eq!(alice.licenses.as_ref().unwrap(), &["L1", "L2"]);
    assert_eq!((alice.invite_pending, bob.invite_pending, bob.licenses.is_none()), (false, true, true));

    assert_eq!(line(people::Me, None), "GET https://base.example/api/people/me");
    let emails = vec!["a@corp.example".to_owned(), "nobody@corp.example".to_owned()];
    assert_eq!(
        line(people::Lookup { emails }, Some("users.request.json")),
        "POST https://base.example/api/users"
    );
    let found: Vec<_> = read::<people::Lookup>("users.json").into_iter().collect();
    assert_eq!(found, [("a@corp.example".to_owned(), id(ALICE))]);
}

#[test]
fn conversations() {
    assert_eq!(
        line(conversation::FindDirect(id(BOB)), None),
        format!(
            "GET {BASE}/conversations/user/{BOB}?uuidEntryFormat=true&personRefresh=true&activitiesLimit=0\
             &includeConvWithDeletedUserUUID=true&includeParticipants=true"
        )
    );
    assert!(status::<conversation::FindDirect>(404).unwrap().is_none());
    assert!(!status::<conversation::FindDirect>(503).unwrap_err().is_refusal());
    let create = conversation::Create {
        me: id(ALICE),
        other: id(BOB),
        key: id("kms://kms.example/keys/k1"),
        kms_message: "wrapped-request".into(),
    };
    assert_eq!(line(create, Some("create.request.json")), format!("POST {BASE}/conversations"));
    let locked = conversation::CreateLocked {
        me: id(ALICE),
        others: vec![id(BOB)],
        title: Text::new("jwe-title".into()),
        key: id("kms://kms.example/keys/k1"),
        kms_message: "wrapped-request".into(),
    };
    assert_eq!(line(locked, Some("create-locked.request.json")), format!("POST {BASE}/conversations"));
    let one = conversation::GetActivity { conversation: id(CONVERSATION), id: id("act-1") };
    assert_eq!(line(one, None), format!("GET {CONVERSATION}/activities/act-1"));
    assert!(line(conversation::Get(id(CONVERSATION)), None).starts_with(&format!("GET {CONVERSATION}?")));
    let found = read::<conversation::Get>("conversation.json");
    assert!(found.is_direct());
    assert_eq!(found.default_activity_encryption_key_url, Some(id("kms://kms.example/keys/k2")));
    assert_eq!(found.kms_message.as_deref(), Some("wrapped-answer"));
    let [alice, bob] = found.participants() else { panic!("two participants") };
    assert_eq!((&alice.id, &alice.last_seen_activity), (&Some(id(ALICE)), &Some(id("act-9"))));
    assert_eq!((&bob.id, bob.email.as_deref()), (&None, Some("b@corp.example")), "an address is no person");
    assert_eq!(found.target().unwrap().url.as_str(), CONVERSATION);

    let since = Some(Timestamp(5_000));
    let rest = "personRefresh=true&uuidEntryFormat=true&activitiesLimit=0&participantsLimit=0&sinceDate=5000";
    assert_eq!(
        line(conversation::List::First { cluster: None, since }, None),
        format!("GET {BASE}/conversations?{rest}")
    );
    let listed = read::<conversation::List>("conversations.json");
    assert_eq!((listed.conversations.len(), listed.unreadable), (1, 1));
    let cluster = listed.additional_urls.first().cloned();
    assert_eq!(
        line(conversation::List::First { cluster, since }, None),
        format!("GET https://conv-k.example/conversation/api/v1/conversations?{rest}")
    );
    let page = conversation::Activities {
        conversation: id(CONVERSATION),
        since,
        until: Some(Timestamp(9_000)),
        limit: 50,
    };
    assert_eq!(
        line(page, None),
        format!("GET {CONVERSATION}/activities?lastActivityFirst=false&limit=50&sinceDate=5000&maxDate=9000")
    );
}

fn post(action: Action) -> Post {
    let target = Target {
        id: id("c1"),
        url: id(CONVERSATION),
        kms_resource_object_url: Some(id("kms://kms.example/resources/r1")),
    };
    Post { target, actor: id(ALICE), client_temp_id: id("temp-1"), action }
}

fn comment(content: Option<&str>) -> Comment {
    Comment {
        display_name: Text::new("jwe-text".into()),
        content: content.map(|html| Text::new(html.into())),
        key: id("kms://kms.example/keys/k2"),
    }
}

#[test]
fn posts() {
    let edit = Action::Edit { original: id("act-1"), comment: comment(Some("jwe-html")) };
    for (action, body) in [
        (Action::Comment(comment(None)), "post.request.json"),
        (edit, "edit.request.json"),
        (Action::Acknowledge { id: id("act-1") }, "acknowledge.request.json"),
        (Action::Delete { id: id("act-1") }, "delete.request.json"),
    ] {
        let expected = format!("POST {CONVERSATION}/activities?personRefresh=true");
        assert_eq!(line(post(action), Some(body)), expected);
    }
}

#[test]
fn files() {
    let file = |mime: &str| SharedFile {
        display_name: Text::new("jwe-name".into()),
        file_size: 13,
        mime_type: mime.into(),
        url: id("https://files.example/1"),
        scr: Text::new("jwe-scr".into()),
    };
    let share = |files| {
        let comment = Some(Text::new("jwe-text".into()));
        post(Action::Share { comment, files, key: id("kms://kms.example/keys/k2") })
    };
    assert_eq!(
        line(share(vec![file("text/plain")]), Some("share.request.json")),
        format!("POST {CONVERSATION}/content?personRefresh=true&transcode=true&async=false")
    );
    for (types, category) in [
        (vec!["image/png", "image/gif"], "images"),
        (vec!["video/mp4"], "videos"),
        (vec!["image/png", "video/mp4"], "documents"),
    ] {
        let request = written(share(types.into_iter().map(file).collect()));
        let sent: Value = serde_json::from_slice(request.body()).unwrap();
        assert_eq!(sent["object"]["contentCategory"], category);
    }

    let body = |request: &Request<Bytes>| String::from_utf8(request.body().to_vec()).unwrap();
    let answer = |json: &str| Response::new(Bytes::from(json.to_owned()));
    let space = written(files::GetSpace { conversation: id(CONVERSATION) });
    assert_eq!((space.method().as_str(), space.uri().to_string()), ("PUT", format!("{CONVERSATION}/space")));
    let space =
        files::GetSpace::from_http(answer(r#"{"spaceUrl":"https://files.example/v1/spaces/s"}"#)).unwrap();
    let open = files::OpenUpload { space, size: 13, file_type: Some(".txt".into()) };
    let open = written(open);
    assert_eq!(open.uri(), "https://files.example/v1/spaces/s/upload_sessions?transcode=true");
    assert_eq!(body(&open), r#"{"fileSize":13,"claimedFileType":".txt","uploadProtocol":"content-length"}"#);
    let upload = answer(
        r#"{"uploadUrl":"https://u.example/1","finishUploadUrl":"https://u.example/2","url":"x","fileUploadSizeLimit":2048}"#,
    );
    let upload = files::OpenUpload::from_http(upload).unwrap();
    assert_eq!((upload.upload_url, upload.limit), (id("https://u.example/1"), Some(2048)));
    let finish = written(files::FinishUpload { url: upload.finish_upload_url, size: 13, sha256: [0xa5; 32] });
    assert_eq!(finish.uri(), "https://u.example/2?transcode=true");
    assert_eq!(body(&finish), format!(r#"{{"fileSize":13,"fileHash":"{}"}}"#, "a5".repeat(32)));
    let file =
        files::FinishUpload::from_http(answer(r#"{"downloadUrl":"https://f.example/v1/1?x"}"#)).unwrap();
    let resolve = written(files::Resolve { file });
    assert_eq!(resolve.uri(), "https://f.example/v1/download/endpoints");
    assert_eq!(body(&resolve), r#"{"endpoints":["https://f.example/v1/1?x"]}"#);
    let real = answer(r#"{"endpoints":{"https://f.example/v1/1?x":"https://real.example/1"}}"#);
    assert_eq!(files::Resolve::from_http(real).unwrap(), Some(id("https://real.example/1")));
    assert_eq!(files::Resolve::from_http(answer(r#"{"endpoints":{}}"#)).unwrap(), None);
    assert_eq!(status::<files::Resolve>(404).unwrap(), None, "the file itself is fetched then");
    assert!(status::<files::Resolve>(403).is_err());
    assert!(files::GetSpace::from_http(answer(r#"{"spaceUrl":"no address"}"#)).is_err());
}

#[test]
fn activities() {
    let page = read::<conversation::Activities>("activities.json");
    assert_eq!((page.entries, page.unreadable, page.activities.len()), (9, 1, 8));
    assert!(!format!("{page:?}").contains("canary"), "texts are not printed");
    let mut activities = page.activities.into_iter();
    let mut next = || activities.next().unwrap();

    let said = next();
    assert_eq!((said.verb, said.published), (Verb::Post, Some(Timestamp(1_714_557_600_123))));
    assert_eq!(said.client_temp_id, Some(id("temp-1")));
    assert_eq!(said.actor.unwrap().id, Some(id(ALICE)));
    assert!(said.target.unwrap().is_direct());
    let Some(Object::Comment { display_name, content }) = said.object else { panic!("a comment") };
    assert_eq!((display_name.unwrap().as_str(), content.unwrap().as_str()), ("canary text", "canary html"));

    let parent = next().parent.unwrap();
    assert_eq!((parent.id, parent.kind), (id("act-1"), ParentKind::Edit));

    let read_up_to = next();
    assert_eq!(read_up_to.verb, Verb::Acknowledge);
    assert!(matches!(read_up_to.object, Some(Object::Activity { id, .. }) if id.as_str() == "act-1"));

    let shared = next();
    assert_eq!(shared.key(), Some(&id("kms://kms.example/keys/k3")));
    let Some(Object::Content { files, .. }) = shared.object else { panic!("files") };
    assert_eq!(files.first().unwrap().file_size, Some(13));

    assert!(matches!(next().object, Some(Object::Comment { display_name: None, content: None })));
    assert!(next().conversation().unwrap().is_direct(), "of a creation the conversation is the object");

    let Activity { verb, object, .. } = next();
    assert_eq!(verb, Verb::Other("pin".into()));
    assert!(matches!(object, Some(Object::Other(kind)) if kind == "novelty"));

    let added = next();
    assert_eq!(added.parent.unwrap().kind, ParentKind::Other("novelty".into()));
    assert!(matches!(added.object, Some(Object::Person(person)) if person.id == Some(id(BOB))));
}

#[test]
fn hints_keys_and_presence() {
    let typing =
        typing::Typing { url: id(CONVERSATION), conversation: id("c1"), state: typing::State::Typing };
    assert_eq!(line(typing, Some("typing.request.json")), format!("POST {CONVERSATION}/status/typing"));
    assert!(status::<typing::Typing>(204).is_ok());

    assert_eq!(line(kms_messages::GetInfo(id(ALICE)), None), format!("GET {BASE}/kms/{ALICE}"));
    assert_eq!(read::<kms_messages::GetInfo>("kms-info.json").kms_cluster, id("kms://kms.example"));
    let send = kms_messages::Send {
        destination: id("kms://kms.example"),
        kms_messages: vec!["one".into(), "two".into()],
    };
    assert_eq!(line(send, Some("kms-send.request.json")), format!("POST {BASE}/kms/messages"));

    let list = presence::List { subjects: vec![id(ALICE)] };
    assert_eq!(line(list, Some("presence.request.json")), format!("POST {BASE}/compositions"));
    let told = read::<presence::List>("presence.json");
    let statuses: Vec<_> = told.iter().map(|presence| presence.status.clone()).collect();
    assert_eq!(statuses, [Some(Status::DoNotDisturb), Some(Status::Other("holographic".into())), None]);
    assert_eq!(told[0].last_active, Some(Timestamp(1_714_554_000_000)));

    let subscribe =
        presence::Subscribe { subjects: vec![id(ALICE)], ttl: std::time::Duration::from_secs(600) };
    assert_eq!(line(subscribe, Some("subscribe.request.json")), format!("POST {BASE}/subscriptions"));
    let answers = read::<presence::Subscribe>("subscribe.json");
    assert_eq!(answers.iter().map(|answer| answer.response_code).collect::<Vec<_>>(), [200, 403]);
    assert_eq!(answers[0].status.as_ref().unwrap().status, Some(Status::Active));
}

#[test]
fn an_answer_that_is_something_else_is_an_error() {
    for body in ["", "{", "[]", "null", r#"{"items":5}"#, "\u{feff}{}", &"[".repeat(100_000)] {
        let answer = || Response::new(Bytes::from(body.to_owned()));
        for error in [
            conversation::Get::from_http(answer()).unwrap_err(),
            conversation::Activities::from_http(answer()).unwrap_err(),
            Post::from_http(answer()).unwrap_err(),
            people::List::from_http(answer()).unwrap_err(),
            TokenRequest::from_http(answer()).unwrap_err(),
        ] {
            assert_eq!(error.to_string(), "answer cannot be read", "{}", body.len());
            assert!(!error.is_refusal(), "it may have been carried out");
        }
    }
}
