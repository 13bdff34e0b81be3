//! People: pages, licences, addresses.

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use lab::people::LICENSE_ID;
use serde_json::{Value, json};

use super::{get, lab, lab_with, send, token, user};

#[tokio::test(start_paused = true)]
async fn an_administrator_pages_through_the_organization() {
    let lab = lab_with(|options| options.users = 150).await;
    let admin = format!("Bearer {}", lab.endpoints().admin_token);
    let mut people: Vec<Value> = Vec::new();
    let mut next = Some("/v1/people?max=100".to_owned());
    let mut pages = 0;
    while let Some(path) = next {
        let answer = get(&lab, &path, &admin).await;
        people.extend(answer.body["items"].as_array().unwrap().iter().cloned());
        let link = answer.header("link");
        next = link
            .strip_prefix('<')
            .and_then(|link| link.split_once(">; rel=\"next\""))
            .map(|(url, _)| url.to_owned());
        pages += 1;
    }
    assert_eq!((pages, people.len()), (2, 157), "heidi is of another organization, the bot is nobody");
    let of = |name: &str| {
        let mail = user(&lab, name).mail;
        people.iter().find(|person| person["emails"][0] == mail.as_str()).cloned().unwrap_or_default()
    };
    let licensed = |person: &Value| person["licenses"].as_array().unwrap().contains(&json!(LICENSE_ID));
    assert!(licensed(&of("alice")) && licensed(&of("u00150")) && !licensed(&of("carol")));
    assert_eq!(
        (of("frank")["invitePending"].clone(), of("bob")["invitePending"].clone()),
        (json!(true), json!(false))
    );
    assert!(of("heidi").is_null());
    let id = of("bob")["id"].as_str().unwrap().to_owned();
    let decoded = String::from_utf8(STANDARD_NO_PAD.decode(&id).unwrap()).unwrap();
    assert_eq!(decoded, format!("ciscospark://us/PEOPLE/{}", user(&lab, "bob").person_id));
    let one = get(&lab, &format!("/v1/people?id={id}"), &admin).await.body;
    assert_eq!(one["items"].as_array().unwrap().len(), 1);
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn addresses_are_looked_up_as_sent_and_nobody_is_made() {
    let lab = lab().await;
    let asked = json!([{"email": "A.Liddell@corp.example"}, {"email": "nobody@corp.example"}]);
    let path = "/conversation/api/v1/users?shouldCreateUsers=true";
    let found = send(&lab, "POST", path, &token(&lab, "bob"), asked).await.body;
    assert_eq!(found["A.Liddell@corp.example"]["id"], user(&lab, "alice").person_id);
    assert!(found["nobody@corp.example"]["id"].is_null());
    lab.stop().await;
}
