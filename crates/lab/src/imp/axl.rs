//! AXL as the publisher of IM and Presence answers it, on that node's own database.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, StatusCode, header};
use xmpp_core::Element;

use super::end_users;
use super::nodes::Nodes;
use super::sql::{Record, Select, SqlError, Table};
use crate::ctx::{AXL_PASSWORD, AXL_USER, Ctx};
use crate::http::{Answer, Call, serve as serve_http};
use crate::net::Listener;
use crate::people::Person;

/// An answer of more rows than this is a fault, as one of more than 8 MB is.
const ROWS: usize = 12_000;

const USERS: &[&str] = &[
    "pkid",
    "userid",
    "xcp_user_id",
    "imaddress",
    "xep106imaddress",
    "directoryuri",
    "mailid",
    "status",
    "tkassignmentstate",
    "primarynodeid",
    "xep106userid",
    "enablecups",
];
const NODES: &[&str] = &["id", "name", "isprimary", "tkhaserverstate", "jsmid", "subclusterid"];
const GROUPS: &[&str] = &["id", "name", "haenabled"];

/// Answers requests until the lab stops.
pub(crate) async fn serve(ctx: Arc<Ctx>, listener: Listener, tls: Option<Arc<rustls::ServerConfig>>) {
    let shared = Arc::clone(&ctx);
    let changes = Arc::new(Changes::new(&ctx));
    let queue = Arc::downgrade(&changes);
    ctx.people.watch(move |person| {
        if let Some(queue) = queue.upgrade() {
            queue.note(&person.person_id);
        }
    });
    let answer = move |call: Call| {
        let (ctx, changes) = (Arc::clone(&shared), Arc::clone(&changes));
        async move {
            // The login service is behind the same port.
            match call.segments()[..] {
                ["EPASSoap", "service", "v80"] => super::epas::answer(&ctx, &call),
                _ => answer(&ctx, &changes, &call),
            }
        }
    };
    serve_http(ctx, listener, tls.map(tokio_rustls::TlsAcceptor::from), answer).await;
}

fn answer(ctx: &Ctx, changes: &Changes, call: &Call) -> Answer {
    let faults = &ctx.faults;
    let credentials = format!("Basic {}", STANDARD.encode(format!("{AXL_USER}:{AXL_PASSWORD}")));
    if call.segments().iter().filter(|segment| !segment.is_empty()).ne(["axl"].iter()) {
        return Answer::empty(StatusCode::NOT_FOUND);
    }
    if call.method != Method::POST {
        return Answer::empty(StatusCode::METHOD_NOT_ALLOWED);
    }
    if call.header("authorization") != Some(&credentials) || faults.hit("axl-unauthorized", None) {
        return Answer::empty(StatusCode::UNAUTHORIZED)
            .with(header::WWW_AUTHENTICATE, "Basic realm=\"Cisco Web Services Realm\"");
    }
    if faults.hit("axl-forbidden", None) {
        return Answer::empty(StatusCode::FORBIDDEN);
    }
    if let Some(seconds) = faults.hit_value("axl-unavailable", None, 1) {
        return Answer::empty(StatusCode::SERVICE_UNAVAILABLE).with(header::RETRY_AFTER, seconds.to_string());
    }
    if faults.hit("axl-fault", None) {
        return fault(None, "Maximum AXL Memory Allocation Consumed. Please retry your request later.", "");
    }
    let action = call.header("soapaction").unwrap_or_default();
    if !(action.len() > 2 && action.starts_with('"') && action.ends_with('"')) {
        return fault(None, "the SOAPAction header is missing or not quoted", "");
    }
    let Some(request) = std::str::from_utf8(&call.body).ok().and_then(Request::read) else {
        return fault(None, "the body is not a SOAP 1.1 request", "");
    };
    let answered = match request.operation.as_str() {
        "executeSQLQuery" => execute(ctx, &request),
        "getUser" => end_users::get(ctx, &request),
        "listUser" => end_users::list(ctx, &request),
        "listChange" if !faults.is_on("axl-no-changes") => Ok(changes.since(ctx, &request)),
        "listProcessNode" => {
            let usage = |node| if node == 0 { "Publisher" } else { "Subscriber" };
            let node = |n| thing("processNode", &[("name", &*Nodes::name(n)), ("nodeUsage", usage(n))]);
            Ok((0..ctx.nodes.count()).map(node).collect())
        }
        "listPresenceRedundancyGroup" => {
            let (first, second) = (Nodes::name(0), Nodes::name(1));
            let mut fields = vec![("name", "DefaultCUPSubcluster"), ("server1", first.as_str())];
            match ctx.nodes.count() {
                1 => fields.push(("haEnabled", "false")),
                _ => fields.extend([("server2", second.as_str()), ("haEnabled", "true")]),
            }
            Ok(thing("presenceRedundancyGroup", &fields))
        }
        other => Err((None, format!("Operation {other} is not implemented."))),
    };
    let mut body = match answered {
        Ok(inside) => {
            let inside = match request.operation.as_str() {
                "listChange" => inside,
                _ => format!("<return>{inside}</return>"),
            };
            let (operation, namespace) = (&request.operation, escape(&request.namespace));
            envelope(&format!(
                "<ns:{operation}Response xmlns:ns=\"{namespace}\">{inside}</ns:{operation}Response>"
            ))
        }
        Err((code, message)) => return fault(code, &message, &request.operation),
    };
    if faults.hit("axl-garbage", None) {
        body.truncate(body.len() / 2);
    }
    let cookie = format!("JSESSIONID={}; Path=/axl; HttpOnly", ctx.rng.uuid());
    let answer = Answer::bytes(StatusCode::OK, "text/xml;charset=UTF-8", Bytes::from(body));
    if call.header("cookie").is_some() { answer } else { answer.with(header::SET_COOKIE, cookie) }
}

/// The queue of changes: who has changed, in order, since it was built.
struct Changes(Mutex<ChangeQueue>);

struct ChangeQueue {
    id: String,
    people: Vec<String>,
}

impl Changes {
    fn new(ctx: &Ctx) -> Self {
        Self(Mutex::new(ChangeQueue { id: ctx.rng.uuid(), people: Vec::new() }))
    }

    fn queue(&self) -> MutexGuard<'_, ChangeQueue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, person: &str) {
        self.queue().people.push(person.to_owned());
    }

    /// What is new since the change that a request names; nothing where it names none, or one of another queue.
    fn since(&self, ctx: &Ctx, request: &Request) -> String {
        let mut queue = self.queue();
        if ctx.faults.hit("axl-queue-rebuilt", None) {
            *queue = ChangeQueue { id: ctx.rng.uuid(), people: Vec::new() };
        }
        let asked = request.element.children().find(|child| child.name() == "startChangeId");
        let known = queue.people.len();
        let first = asked
            .filter(|start| start.attr("queueId") == Some(&queue.id))
            .and_then(|start| start.text().trim().parse::<usize>().ok())
            .map_or(known, |next| next.saturating_sub(1).min(known));
        let changes: String = (first + 1..)
            .zip(&queue.people[first..])
            .map(|(id, person)| {
                format!(
                    "<change uuid=\"{{{person}}}\" type=\"User\"><id>{id}</id><action>u</action><serviceType/>\
                     <doGet>true</doGet></change>"
                )
            })
            .collect();
        format!(
            "<queueInfo><firstChangeId>0</firstChangeId><lastChangeId>{known}</lastChangeId>\
             <nextStartChangeId>{}</nextStartChangeId><queueId>{}</queueId></queueInfo><changes>{changes}</changes>",
            known + 1,
            queue.id
        )
    }
}

/// One question.
pub(super) struct Request {
    pub(super) operation: String,
    namespace: String,
    pub(super) element: Element,
}

impl Request {
    fn read(body: &str) -> Option<Self> {
        const SOAP: &str = "http://schemas.xmlsoap.org/soap/envelope/";
        // The schema leaves the arguments in no namespace at all, which the parser would not have.
        let unqualified = Some("unqualified".to_owned());
        let envelope = Element::from_reader_with_prefixes(body.as_bytes(), unqualified).ok()?;
        let element =
            envelope.is("Envelope", SOAP).then(|| envelope.get_child("Body", SOAP))??.children().next()?;
        let (operation, namespace) = (element.name().to_owned(), element.ns());
        namespace.starts_with("http://www.cisco.com/AXL/API/").then(|| Self {
            operation,
            namespace,
            element: element.clone(),
        })
    }

    /// What an argument says. It is not namespaced in the schema; in whatever namespace it comes, its name is what
    /// counts.
    pub(super) fn argument(&self, name: &str) -> Option<String> {
        self.element.children().find(|child| child.name() == name).map(Element::text)
    }
}

/// A fault: its code, and what it says.
pub(super) type Refusal = (Option<i32>, String);

fn execute(ctx: &Ctx, request: &Request) -> Result<String, Refusal> {
    let refuse = |error: SqlError| (Some(error.code), error.message);
    let sql = request.argument("sql").unwrap_or_default();
    let select = Select::parse(&sql).map_err(refuse)?;
    let selected = match select.table.as_str() {
        "enterprisenode" => select.run(&nodes(ctx)),
        "enterprisesubcluster" => select.run(&groups(ctx)),
        _ => select.run(&accounts(ctx)),
    };
    let selected = selected.map_err(refuse)?;
    too_large(ctx, selected.matched, select.first.unwrap_or(usize::MAX))?;
    let mut inside = String::new();
    for row in selected.rows {
        inside.push_str("<row>");
        for (column, value) in row {
            match value {
                Some(value) => inside.push_str(&format!("<{column}>{}</{column}>", escape(&value))),
                None => inside.push_str(&format!("<{column}/>")),
            }
        }
        inside.push_str("</row>");
    }
    Ok(inside)
}

/// Refuses an answer of more rows than fit in one: so many match, and so many are wanted at most.
pub(super) fn too_large(ctx: &Ctx, matched: usize, first: usize) -> Result<(), Refusal> {
    let most = match ctx.faults.is_on("axl-too-large") {
        true => ctx.faults.hit_value("axl-too-large", None, 5).and_then(|rows| usize::try_from(rows).ok()),
        false => None,
    };
    let most = most.unwrap_or(ROWS);
    if first.min(matched) <= most {
        return Ok(());
    }
    Err((
        None,
        format!(
            "Query request too large. Total rows matched: {matched} rows. Suggested row fetch: less than {most} rows"
        ),
    ))
}

/// Who has an account, as a row: a user, and the number of the node that homes the user; none is another cluster's.
pub(super) struct Account {
    pub(super) person: Person,
    pub(super) node: Option<usize>,
}

impl Record for Account {
    fn value(&self, column: &str) -> Option<Cow<'_, str>> {
        let person = &self.person;
        Some(match column {
            "pkid" => person.person_id.as_str().into(),
            "userid" | "xep106userid" => person.name.as_str().into(),
            "xcp_user_id" | "imaddress" | "xep106imaddress" => person.jid.as_str().into(),
            "directoryuri" | "mailid" => person.mail.as_str().into(),
            "status" | "tkassignmentstate" => "1".into(),
            "primarynodeid" => (self.node? + 1).to_string().into(),
            "enablecups" => "t".into(),
            _ => return None,
        })
    }
}

/// Everybody who has an account, as they are now.
pub(super) fn accounts(ctx: &Ctx) -> Table<Account> {
    let mut rows: Vec<Account> = Vec::new();
    for person in ctx.people.all().into_iter().filter(|person| !person.jid.is_empty()) {
        let node = Some(ctx.nodes.home(&person.jid));
        rows.push(Account { person, node });
    }
    if ctx.faults.is_on("axl-intercluster")
        && let Some(like) = rows.first().map(|account| account.person.clone())
    {
        let person = Person {
            person_id: "ffffffff-0000-4000-8000-000000000001".to_owned(),
            name: "yuri".to_owned(),
            jid: "yuri@lab.example".to_owned(),
            mail: "yuri@corp.example".to_owned(),
            ..like
        };
        rows.push(Account { person, node: None });
    }
    Table { name: "enduser", columns: USERS, rows }
}

type Row = BTreeMap<&'static str, String>;

/// The nodes of this cluster.
fn nodes(ctx: &Ctx) -> Table<Row> {
    let node = |n: usize| {
        Row::from([
            ("id", (n + 1).to_string()),
            ("name", Nodes::name(n)),
            ("isprimary", if n == 0 { "t" } else { "f" }.to_owned()),
            ("tkhaserverstate", ctx.nodes.state(n).to_owned()),
            ("jsmid", format!("jsm-1.imp{}-lab-example", n + 1)),
            ("subclusterid", "1".to_owned()),
        ])
    };
    let rows = (0..ctx.nodes.count()).map(node).collect();
    Table { name: "enterprisenode", columns: NODES, rows }
}

/// The one redundancy group.
fn groups(ctx: &Ctx) -> Table<Row> {
    let redundant = if ctx.nodes.count() > 1 { "t" } else { "f" };
    let group = Row::from([
        ("id", "1".to_owned()),
        ("name", "DefaultCUPSubcluster".to_owned()),
        ("haenabled", redundant.to_owned()),
    ]);
    Table { name: "enterprisesubcluster", columns: GROUPS, rows: vec![group] }
}

fn thing(name: &str, fields: &[(&str, &str)]) -> String {
    let fields: String = fields.iter().map(|(field, text)| element(field, text)).collect();
    format!("<{name} uuid=\"{{11111111-2222-3333-4444-555555555555}}\">{fields}</{name}>")
}

/// A field, or one without a value where there is no text.
pub(super) fn element(name: &str, text: &str) -> String {
    if text.is_empty() { format!("<{name}/>") } else { format!("<{name}>{}</{name}>", escape(text)) }
}

fn envelope(body: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><soapenv:Envelope \
         xmlns:soapenv=\"http://schemas.xmlsoap.org/soap/envelope/\"><soapenv:Body>{body}</soapenv:Body></soapenv:Envelope>"
    )
}

fn fault(code: Option<i32>, message: &str, operation: &str) -> Answer {
    let message = escape(message);
    let code = code.map(|code| format!("<axlcode>{code}</axlcode>")).unwrap_or_default();
    let body = envelope(&format!(
        "<soapenv:Fault><faultcode>soapenv:Client</faultcode><faultstring>{message}</faultstring><detail><axlError>\
         {code}<axlmessage>{message}</axlmessage><request>{}</request></axlError></detail></soapenv:Fault>",
        escape(operation)
    ));
    Answer::bytes(StatusCode::INTERNAL_SERVER_ERROR, "text/xml;charset=UTF-8", Bytes::from(body))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
