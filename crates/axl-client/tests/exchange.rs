//! Requests as they go out, and answers of every kind as they come back.

use std::time::Duration;

use axl_client::changes::{Changes, Mark};
use axl_client::nodes::{Node, State};
use axl_client::redundancy::Group;
use axl_client::{
    AxlError, BadRequest, Client, Fate, Limits, Page, Request, Row, Select, Session, Version, XmlError,
};
use bytes::Bytes;
use http::{Response, StatusCode};
use proptest::prelude::*;

fn client() -> Client {
    Client::new("https://imp1.corp.example:8443", "reader", "s3cret").expect("a good address")
}

fn query() -> Request {
    Request::execute_sql_query(&Select::new("select userid from enduser").expect("a select"))
}

fn response(status: u16, body: impl Into<Bytes>) -> Response<Bytes> {
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    response
}

fn envelope(body: &str) -> String {
    format!(
        "<?xml version='1.0' encoding='UTF-8'?><soapenv:Envelope \
         xmlns:soapenv='http://schemas.xmlsoap.org/soap/envelope/'><soapenv:Body>{body}</soapenv:Body></soapenv:Envelope>"
    )
}

fn rows(inside: &str) -> String {
    envelope(&format!(
        "<ns:executeSQLQueryResponse xmlns:ns='http://www.cisco.com/AXL/API/14.0'><return>{inside}</return>\
         </ns:executeSQLQueryResponse>"
    ))
}

fn fault(axl: &str) -> String {
    envelope(&format!(
        "<soapenv:Fault><faultcode>soapenv:Client</faultcode><faultstring>outer words</faultstring>\
         <detail>{axl}</detail></soapenv:Fault>"
    ))
}

fn parse(status: u16, body: impl Into<Bytes>) -> Result<Vec<Row>, AxlError> {
    client().parse(&mut Session::new(), &query(), &response(status, body))
}

#[test]
fn a_request_is_what_the_schema_wants() {
    let mut client = client();
    client.set_version(Version::V14_0);
    let select = Select::new("select userid from enduser where mailid < 'b&c'").unwrap();
    let http = client.request(&Session::new(), &Request::execute_sql_query(&select));
    assert_eq!(http.method(), "POST");
    assert_eq!(http.uri(), "https://imp1.corp.example:8443/axl/");
    assert_eq!(http.headers()["authorization"], "Basic cmVhZGVyOnMzY3JldA==");
    assert_eq!(http.headers()["content-type"], "text/xml; charset=utf-8");
    assert_eq!(http.headers()["soapaction"], "\"CUCM:DB ver=14.0 executeSQLQuery\"");
    assert!(!http.headers().contains_key("cookie"));
    let body = std::str::from_utf8(http.body()).unwrap();
    assert!(body.contains("xmlns:ns='http://www.cisco.com/AXL/API/14.0'"), "{body}");
    assert!(
        body.contains(
            "<ns:executeSQLQuery><sql>select userid from enduser where mailid &lt; 'b&amp;c'</sql></ns:executeSQLQuery>"
        ),
        "{body}"
    );
}

#[test]
fn credentials_and_cookies_are_never_printed() {
    let mut session = Session::new();
    let mut answer = response(200, rows(""));
    answer.headers_mut().append("set-cookie", "JSESSIONID=topsecret; Path=/axl".parse().unwrap());
    let client = client();
    client.parse(&mut session, &query(), &answer).unwrap();
    let request = client.request(&session, &query());
    let printed = format!("{client:?} {session:?} {request:?}");
    for secret in ["s3cret", "topsecret", "cmVhZGVyOnMzY3JldA"] {
        assert!(!printed.contains(secret), "{printed}");
    }
}

#[test]
fn cookies_come_back_until_they_expire_or_the_login_fails() {
    let (client, mut session) = (client(), Session::new());
    let mut answer = response(200, rows(""));
    answer.headers_mut().append("set-cookie", "JSESSIONIDSSO=a1; Path=/; Secure".parse().unwrap());
    answer.headers_mut().append("set-cookie", "JSESSIONID=b2; HttpOnly".parse().unwrap());
    client.parse(&mut session, &query(), &answer).unwrap();
    assert_eq!(client.request(&session, &query()).headers()["cookie"], "JSESSIONID=b2; JSESSIONIDSSO=a1");

    let mut answer = response(200, rows(""));
    answer.headers_mut().append("set-cookie", "JSESSIONID=gone; Max-Age=0".parse().unwrap());
    client.parse(&mut session, &query(), &answer).unwrap();
    assert_eq!(client.request(&session, &query()).headers()["cookie"], "JSESSIONIDSSO=a1");

    client.parse(&mut session, &query(), &response(401, "")).unwrap_err();
    assert!(!client.request(&session, &query()).headers().contains_key("cookie"));
}

#[test]
fn cookies_are_bounded() {
    let (client, mut session) = (client(), Session::new());
    let mut answer = response(200, rows(""));
    for n in 0..100 {
        answer.headers_mut().append("set-cookie", format!("c{n:02}=v").parse().unwrap());
    }
    answer.headers_mut().append("set-cookie", format!("c00={}", "v".repeat(5000)).parse().unwrap());
    client.parse(&mut session, &query(), &answer).unwrap();
    let sent = client.request(&session, &query()).headers()["cookie"].to_str().unwrap().to_owned();
    assert_eq!(sent.split("; ").count(), 16);
    assert!(sent.starts_with("c00=v; "));
}

#[test]
fn an_address_or_a_name_that_cannot_be_used_is_refused() {
    for base in ["", "imp1.corp.example", "ftp://imp1", "https://user@imp1", "https://", "/axl"] {
        assert_eq!(Client::new(base, "u", "p").unwrap_err(), BadRequest::Address(base.to_owned()));
    }
    let elsewhere = Client::new("http://127.0.0.1:8443/other/axl/", "u", "p").unwrap();
    assert_eq!(elsewhere.request(&Session::new(), &query()).uri(), "http://127.0.0.1:8443/other/axl/");
    assert_eq!(Client::new("http://127.0.0.1:8443", "a:b", "p").unwrap_err(), BadRequest::UserName);
}

#[test]
fn rows_are_read_with_their_null_and_their_truths() {
    let got = parse(
        200,
        rows("<row><userid>al&amp;ice</userid><mailid/><enablecups>t</enablecups><n> 12 </n></row><row><userid><![CDATA[<b>]]></userid></row>"),
    )
    .unwrap();
    assert_eq!(got.len(), 2);
    assert_eq!(got[0].text("USERID"), Some("al&ice"));
    assert_eq!(got[0].text("mailid"), None);
    assert_eq!(got[0].text("other"), None);
    assert_eq!(got[0].flag("enablecups"), Some(true));
    assert_eq!(got[0].flag("userid"), None);
    assert_eq!(got[0].number("n"), Some(12));
    assert_eq!(got[0].uuid(), None);
    assert_eq!(got[1].text("userid"), Some("<b>"));
    assert_eq!(parse(200, rows("")).unwrap(), []);
}

#[test]
fn a_group_and_a_user_carry_their_uuid() {
    let request = Request::list_presence_redundancy_group();
    let body = envelope(
        "<ns:listPresenceRedundancyGroupResponse xmlns:ns='http://www.cisco.com/AXL/API/14.0' sequence='1'><return>\
         <presenceRedundancyGroup uuid='{11111111-2222-3333-4444-55555555ABCD}'><name>Default</name>\
         <server1 uuid='{x}'>imp1</server1><server2 uuid='{y}'>imp2</server2><haEnabled>true</haEnabled>\
         </presenceRedundancyGroup></return></ns:listPresenceRedundancyGroupResponse>",
    );
    let got = client().parse(&mut Session::new(), &request, &response(200, body)).unwrap();
    assert_eq!(got[0].uuid(), Some("11111111-2222-3333-4444-55555555abcd"));
    let group = Group::read(&got[0]).unwrap();
    assert_eq!(
        group,
        Group { name: "Default".into(), nodes: vec!["imp1".into(), "imp2".into()], enabled: true }
    );
    assert_eq!(Group::read(&Row::default()), None);
}

#[test]
fn changes_say_where_the_queue_stands_and_how_much_is_new() {
    let answer = |inside: &str| {
        envelope(&format!(
            "<ns:listChangeResponse xmlns:ns='http://www.cisco.com/AXL/API/14.0'>{inside}</ns:listChangeResponse>"
        ))
    };
    let info = |queue: &str, next: u64| {
        format!(
            "<queueInfo><firstChangeId>0</firstChangeId><lastChangeId>{}</lastChangeId>\
             <nextStartChangeId>{next}</nextStartChangeId><queueId>{queue}</queueId></queueInfo>",
            next - 1
        )
    };
    let change = "<change uuid='{x}' type='User'><id>511</id><action>u</action><doGet>true</doGet>\
                  <changedTags><changedTag name='mailid'>new@corp.example</changedTag></changedTags></change>";
    let ask = |since: Option<&Mark>, body: String| {
        let request = Request::list_change(since).unwrap();
        let rows = client().parse(&mut Session::new(), &request, &response(200, body))?;
        Ok::<_, AxlError>(Changes::read(&rows))
    };
    let first = ask(None, answer(&format!("{}<changes/>", info("ABCD", 511)))).unwrap().unwrap();
    assert_eq!((first.mark.queue.as_str(), first.mark.next, first.count), ("ABCD", 511, 0));
    assert!(!first.is_news(None), "of a queue that is asked for the first time nothing is new");
    let mark = first.mark;
    let rest = answer(&format!("{}<changes/>", info("ABCD", 511)));
    assert!(!ask(Some(&mark), rest).unwrap().unwrap().is_news(Some(&mark)));
    let two = format!("{}<changes>{change}{change}</changes>", info("ABCD", 513));
    // With a `<return>` around it, as everything else has.
    for body in [answer(&two), answer(&format!("<return>{two}</return>"))] {
        let two = ask(Some(&mark), body).unwrap().unwrap();
        assert_eq!((two.mark.next, two.count, two.is_news(Some(&mark))), (513, 2, true));
    }
    let rebuilt = ask(Some(&mark), answer(&format!("{}<changes/>", info("EFGH", 1)))).unwrap().unwrap();
    assert!(rebuilt.is_news(Some(&mark)), "nothing was read of another queue");
    for silent in ["", "<changes/>", "<queueInfo><queueId>A</queueId></queueInfo>"] {
        assert_eq!(ask(None, answer(silent)).unwrap_or(None), None, "{silent}");
    }

    let request = Request::list_change(Some(&Mark { queue: "A'<&".into(), next: 7 })).unwrap();
    let body = String::from_utf8(client().request(&Session::new(), &request).body().to_vec()).unwrap();
    assert!(
        body.contains("<startChangeId queueId='A&apos;&lt;&amp;'>7</startChangeId><objectList><object>User<"),
        "{body}"
    );
    let bad = Mark { queue: "\u{0}".into(), next: 0 };
    assert_eq!(Request::list_change(Some(&bad)), Err(BadRequest::Character(0)));
}

#[test]
fn node_states() {
    let read = |state: &str| {
        let row =
            Row::from_iter([("id", "1"), ("name", "imp1"), ("isprimary", "t"), ("tkhaserverstate", state)]);
        Node::read(&row).unwrap().state
    };
    assert_eq!(read("2"), State::Idle);
    assert_eq!(read("3"), State::Normal);
    assert_eq!(read("4"), State::Backup);
    assert_eq!(read("9"), State::Other(9));
    assert_eq!(read(""), State::Unknown);
    assert_eq!(Node::query().operation(), "executeSQLQuery");
}

/// Status, body, what it is, what to do.
#[test]
fn every_failure_has_a_name_and_a_fate() {
    let large = "<axlError><axlcode>-1</axlcode><axlmessage>Query request too large. Total rows matched: 75000. \
                 Suggested row fetch: less than 12000</axlmessage></axlError>";
    let qualified = "<a:axlError xmlns:a='http://www.cisco.com/AXL/API/14.0'><axlcode>5007</axlcode>\
                     <axlmessage>Item not valid: alice</axlmessage></a:axlError>";
    let column = "<axlError><axlcode>-217</axlcode><axlmessage>Column (x) not found</axlmessage></axlError>";
    let no_memory = AxlError::Fault { code: None, message: "Maximum AXL Memory Allocation Consumed".into() };
    assert_eq!(no_memory.fate(), Fate::Retry(None));
    let cases: Vec<(u16, String, AxlError, Fate, &str)> = vec![
        (
            401,
            String::new(),
            AxlError::Unauthorized,
            Fate::Configuration,
            "the publisher refuses the user name or the password (401)",
        ),
        (403, String::new(), AxlError::Forbidden, Fate::Configuration, "the user may not use AXL (403)"),
        (
            404,
            String::new(),
            AxlError::NotActivated,
            Fate::Configuration,
            "no AXL service at this address (404)",
        ),
        (
            503,
            fault(column),
            AxlError::Unavailable { retry_after: None },
            Fate::Retry(None),
            "the AXL service is not available now (503)",
        ),
        (
            500,
            fault(large),
            AxlError::TooLarge { matched: 75000, suggested: 12000 },
            Fate::Smaller(12000),
            "the answer would be too large: 75000 rows matched, fewer than 12000 suggested",
        ),
        (
            500,
            fault(qualified),
            AxlError::Fault { code: Some(5007), message: "Item not valid: alice".into() },
            Fate::Final,
            "fault 5007: Item not valid: alice",
        ),
        (
            200,
            fault(column),
            AxlError::Fault { code: Some(-217), message: "Column (x) not found".into() },
            Fate::Final,
            "fault -217: Column (x) not found",
        ),
        (
            500,
            fault(""),
            AxlError::Fault { code: None, message: "outer words".into() },
            Fate::Final,
            "fault: outer words",
        ),
        (500, "<html>".into(), AxlError::Status(500), Fate::Retry(None), "unexpected HTTP status 500"),
        (302, String::new(), AxlError::Status(302), Fate::Final, "unexpected HTTP status 302"),
        (
            200,
            "<html/>".into(),
            AxlError::Xml(XmlError::Shape("executeSQLQuery")),
            Fate::Retry(None),
            "unreadable answer",
        ),
        (
            200,
            envelope("<a/>"),
            AxlError::Xml(XmlError::Shape("executeSQLQuery")),
            Fate::Retry(None),
            "unreadable answer",
        ),
    ];
    for (status, body, expected, fate, text) in cases {
        let got = parse(status, body.clone()).expect_err(&body);
        assert_eq!(got, expected, "{status} {body}");
        assert_eq!(got.fate(), fate, "{status} {body}");
        assert_eq!(got.to_string(), text);
    }
    let mut busy = response(503, "");
    busy.headers_mut().insert("retry-after", "7".parse().unwrap());
    assert_eq!(
        client().parse(&mut Session::new(), &query(), &busy).unwrap_err().fate(),
        Fate::Retry(Some(Duration::from_secs(7)))
    );
}

#[test]
fn an_answer_to_something_else_is_no_answer() {
    let body = rows("<row><a>1</a></row>").replace("executeSQLQueryResponse", "listUserResponse");
    assert_eq!(parse(200, body), Err(AxlError::Xml(XmlError::Shape("executeSQLQuery"))));
}

#[test]
fn hostile_xml_is_refused() {
    let malformed = |body: &str| match parse(200, body.to_owned()) {
        Err(AxlError::Xml(XmlError::Malformed(_))) => {}
        other => panic!("{body}: {other:?}"),
    };
    malformed("<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><a>&x;</a>");
    malformed(&rows("<row><a>&x;</a></row>"));
    malformed(&rows("<?php ?>"));
    malformed(&rows("<row><a>1</b></row>"));
    malformed(&rows("<row><a b='1' b='2'/></row>"));
    malformed(&rows("<row><x:a/></row>"));
    malformed("");
    malformed(&rows("<row>")[..120]);
    assert!(parse(200, &b"<a>\xff\xfe</a>"[..]).is_err());

    let limit = |body: String, what, most| {
        assert_eq!(parse(200, body).unwrap_err(), AxlError::Xml(XmlError::Limit(what, most)));
    };
    limit(rows(&"<a>".repeat(100_000)), "elements inside each other", 32);
    let many: String = (0..65).map(|n| format!(" a{n}=''")).collect();
    limit(rows(&format!("<row{many}/>")), "attributes", 64);
    limit(rows(&"<r/>".repeat(500_001)), "rows and fields", 500_000);
    limit(" ".repeat((16 << 20) + 1), "octets", 16 << 20);

    let mut small = client();
    let mut limits = Limits::default();
    limits.fields = 2;
    small.set_limits(limits);
    let got = small.parse(&mut Session::new(), &query(), &response(200, rows("<row><a/><b/></row>")));
    assert_eq!(got.unwrap_err(), AxlError::Xml(XmlError::Limit("rows and fields", 2)));
}

#[test]
fn a_long_text_arrives_whole() {
    let text = "ä&amp;".repeat(20_000);
    let got = parse(200, rows(&format!("<row><a>{text}</a></row>"))).unwrap();
    assert_eq!(got[0].text("a").unwrap(), "ä&".repeat(20_000));
}

#[test]
fn versions_go_down_to_an_end() {
    let mut spoken = vec![Version::NEWEST.to_string()];
    let mut version = Version::NEWEST;
    while let Some(older) = version.older() {
        assert!(older < version);
        version = older;
        spoken.push(version.to_string());
    }
    assert_eq!(spoken, ["15.0", "14.0", "12.5", "12.0", "11.5"]);
}

#[test]
fn operations_say_their_own_names() {
    let page = Some(Page { skip: 1, first: 2 });
    for (request, name) in [
        (Request::get_user("a").unwrap(), "getUser"),
        (Request::list_user("%", page).unwrap(), "listUser"),
        (Request::list_presence_redundancy_group(), "listPresenceRedundancyGroup"),
        (Request::list_assigned_presence_users(page), "listAssignedPresenceUsers"),
        (Request::list_process_node(), "listProcessNode"),
        (Request::list_change(None).unwrap(), "listChange"),
    ] {
        assert_eq!(request.operation(), name);
        let http = client().request(&Session::new(), &request);
        let body = String::from_utf8(http.body().to_vec()).unwrap();
        assert!(body.contains(&format!("<ns:{name}><")) && body.contains(&format!("</ns:{name}>")), "{body}");
    }
}

proptest! {
    /// Whatever comes back, there is an answer or an error.
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), status in 200u16..600) {
        let _ = parse(status, bytes);
    }

    /// A cut or a changed octet of a good answer is read or refused, and never makes more rows.
    #[test]
    fn damage_never_panics(at in 0usize..300, octet in any::<u8>(), cut in any::<bool>()) {
        let mut body = rows("<row><userid>alice</userid></row><row><userid>bob</userid></row>").into_bytes();
        let at = at % body.len();
        if cut { body.truncate(at) } else { body[at] = octet }
        if let Ok(rows) = parse(200, body) {
            prop_assert!(!cut && rows.len() <= 2);
        }
    }

    /// What a text says survives the way into a request and out of an answer.
    #[test]
    fn texts_survive(text in "[ -~\u{e4}\u{1f600}\n\r\t]{0,60}") {
        let request = Request::get_user(&text).unwrap();
        let http = client().request(&Session::new(), &request);
        let sent = String::from_utf8(http.body().to_vec()).unwrap();
        let start = sent.find("<userid>").unwrap() + 8;
        let escaped = &sent[start..sent.find("</userid>").unwrap()];
        let got = parse(200, rows(&format!("<row><userid>{escaped}</userid></row>"))).unwrap();
        let trimmed = Some(text.trim()).filter(|t| !t.is_empty());
        prop_assert_eq!(got[0].text("userid"), trimmed);
    }

    /// A statement that is taken goes out as it was written.
    #[test]
    fn statements_never_panic(sql in "\\PC{0,80}") {
        if let Ok(select) = Select::new(sql.clone()) {
            prop_assert_eq!(select.as_str(), sql);
        }
    }
}
