//! Users of IM and Presence: their JID, their mail, and whether they live in this cluster.
//!
//! Publishers know the users of all clusters that they are joined with, and the database holds surprises: two rows for
//! one user after a move that went wrong, two users with one mail, none at all. [`Directory::read`] turns the rows
//! of the bulk query into users that can be relied on, and says of each other one why it was left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::answer::Row;
use crate::request::{Page, Request, Select};

/// The bulk query without its page: every user that IM and Presence is switched on for.
///
/// Users with no node are asked for too: they are known and not served, and a status page counts them.
pub const BULK_QUERY: &str = "pkid, userid, imaddress, xep106imaddress, mailid, directoryuri, enablecups, \
     primarynodeid, tkassignmentstate from enduser where enablecups = 't' order by pkid";

/// The bulk query for one page of users.
pub fn bulk_query(page: Page) -> Request {
    let select = format!("select skip {} first {} {BULK_QUERY}", page.skip, page.first);
    Request::execute_sql_query(&Select::new(select).expect("a select"))
}

/// Reads all pages of the bulk query, however large the server lets a page be.
///
/// Ask [`next`](Self::next), send it, and hand the outcome to [`rows`](Self::rows) or [`too_large`](Self::too_large).
#[derive(Clone, Debug)]
pub struct Pages {
    first: u64,
    rows: Vec<Row>,
    done: bool,
}

impl Pages {
    /// Begins with pages of `first` rows; at least one.
    pub fn new(first: u64) -> Self {
        Self { first: first.max(1), rows: Vec::new(), done: false }
    }

    /// The next page to ask for; `None` when all were read.
    pub fn next(&self) -> Option<Page> {
        (!self.done).then_some(Page { skip: self.rows.len() as u64, first: self.first })
    }

    /// Takes the rows of the page that was asked for. A page that is not full is the last.
    pub fn rows(&mut self, rows: Vec<Row>) {
        self.done = (rows.len() as u64) < self.first;
        self.rows.extend(rows);
    }

    /// Takes [`AxlError::TooLarge`](crate::AxlError::TooLarge): the next pages are smaller than `suggested`, and in any
    /// case half of what was too large, so that this always comes to an end. False when a single row is too large.
    pub fn too_large(&mut self, suggested: u64) -> bool {
        if self.first == 1 {
            return false;
        }
        self.first = suggested.saturating_sub(1).clamp(1, self.first / 2);
        true
    }

    /// All rows, once [`next`](Self::next) says `None`.
    pub fn into_rows(self) -> Vec<Row> {
        self.rows
    }
}

/// Where a user's sessions live.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Home {
    /// On this node of this cluster (an id of [`nodes::Node`](crate::nodes::Node)).
    Here(String),
    /// In another cluster: known, not served.
    Elsewhere,
}

/// One user of IM and Presence.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ImpUser {
    /// The login name.
    pub userid: String,
    /// The bare JID as it stands in a stream: lower case, node part escaped by XEP-0106.
    pub jid: String,
    /// The mail address, lower case, by which Webex knows the user; `None` if there is none that can be used.
    pub mail: Option<String>,
    /// The directory URI, lower case; `None` if there is none.
    pub directory_uri: Option<String>,
    /// Where its sessions live.
    pub home: Home,
}

/// Why a user, or its mail, was left out. `Display` is a sentence for an operator.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Problem {
    /// A row with neither an IM address nor anything to make one of; the login name, or what there was of it.
    NoJid(String),
    /// An IM address that is no bare JID.
    BadJid(String),
    /// Two users with one JID: neither is served.
    SharedJid(String),
    /// More than one row for one login name; the one with a node was taken.
    SeveralRows(String),
    /// A user without a mail address, so Webex cannot know it; the JID.
    NoMail(String),
    /// One mail address of several users, so none of them is matched; the mail.
    SharedMail(String),
    /// A mail address that is another user's JID, so that neither can be told apart; the mail.
    MailIsAnothersJid(String),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoJid(userid) => write!(f, "user `{userid}` has no IM address"),
            Self::BadJid(text) => write!(f, "`{text}` is not an IM address"),
            Self::SharedJid(jid) => write!(f, "several users have the IM address {jid}"),
            Self::SeveralRows(userid) => write!(f, "user `{userid}` has several rows"),
            Self::NoMail(jid) => write!(f, "{jid} has no mail address"),
            Self::SharedMail(mail) => write!(f, "several users have the mail address {mail}"),
            Self::MailIsAnothersJid(mail) => {
                write!(f, "the mail address {mail} is another user's IM address")
            }
        }
    }
}

/// The users of one answer, and what was wrong with the rest.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Directory {
    /// By JID, in its order.
    pub users: BTreeMap<String, ImpUser>,
    /// Sorted, each once.
    pub problems: BTreeSet<Problem>,
}

impl Directory {
    /// Reads the rows of the bulk query; `nodes` are the ids of this cluster's nodes.
    ///
    /// The result does not depend on the order of the rows.
    pub fn read(rows: &[Row], nodes: &BTreeSet<String>) -> Self {
        let mut problems = BTreeSet::new();
        let mut by_userid: BTreeMap<String, Vec<ImpUser>> = BTreeMap::new();
        for row in rows.iter().filter(|row| row.flag("enablecups") != Some(false)) {
            match user(row, nodes) {
                Ok(user) => by_userid.entry(user.userid.clone()).or_default().push(user),
                Err(problem) => {
                    problems.insert(problem);
                }
            }
        }
        let mut by_jid: BTreeMap<String, Vec<ImpUser>> = BTreeMap::new();
        for (userid, mut same) in by_userid {
            // The one with a node here first, then by what is in it, so that the order of the rows does not matter.
            same.sort_by(|a, b| (&a.home, &a.jid, &a.mail).cmp(&(&b.home, &b.jid, &b.mail)));
            let one = same.swap_remove(0);
            if same.iter().any(|other| *other != one) {
                problems.insert(Problem::SeveralRows(userid));
            }
            by_jid.entry(one.jid.clone()).or_default().push(one);
        }
        let mut users = BTreeMap::new();
        for (jid, mut same) in by_jid {
            match (same.pop(), same.is_empty()) {
                (Some(user), true) => drop(users.insert(jid, user)),
                _ => drop(problems.insert(Problem::SharedJid(jid))),
            }
        }
        settle_mails(&mut users, &mut problems);
        Self { users, problems }
    }

    /// How many users live on a node of this cluster.
    pub fn served(&self) -> usize {
        self.users.values().filter(|user| user.home != Home::Elsewhere).count()
    }
}

/// Takes away each mail that does not name exactly one person.
fn settle_mails(users: &mut BTreeMap<String, ImpUser>, problems: &mut BTreeSet<Problem>) {
    let mut owners: BTreeMap<String, usize> = BTreeMap::new();
    for mail in users.values().filter_map(|user| user.mail.clone()) {
        *owners.entry(mail).or_default() += 1;
    }
    let jids: BTreeSet<String> = users.keys().cloned().collect();
    for (jid, user) in users {
        let problem = match &user.mail {
            None => Problem::NoMail(jid.clone()),
            Some(mail) if owners[mail] > 1 => Problem::SharedMail(mail.clone()),
            Some(mail) if mail != jid && jids.contains(mail) => Problem::MailIsAnothersJid(mail.clone()),
            Some(_) => continue,
        };
        user.mail = None;
        problems.insert(problem);
    }
}

fn user(row: &Row, nodes: &BTreeSet<String>) -> Result<ImpUser, Problem> {
    let userid = row.text("userid").unwrap_or_default().to_lowercase();
    let jid = match (row.text("xep106imaddress"), row.text("imaddress")) {
        (Some(escaped), _) => escaped.to_lowercase(),
        (None, Some(plain)) => escape(&plain.to_lowercase()),
        (None, None) => return Err(Problem::NoJid(userid)),
    };
    if !is_bare_jid(&jid) {
        return Err(Problem::BadJid(jid));
    }
    let home = match row.text("primarynodeid") {
        Some(node) if nodes.contains(node) => Home::Here(node.to_owned()),
        _ => Home::Elsewhere,
    };
    let lower = |name: &str| row.text(name).map(str::to_lowercase);
    // A row without a login name is known by its JID alone.
    let userid = if userid.is_empty() { jid.clone() } else { userid };
    Ok(ImpUser { userid, jid, mail: lower("mailid"), directory_uri: lower("directoryuri"), home })
}

/// Escapes the node part of an address (XEP-0106 §3); everything before the last `@` is the node part.
pub fn escape(address: &str) -> String {
    let Some((node, domain)) = address.rsplit_once('@') else { return address.to_owned() };
    let mut out = String::with_capacity(address.len() + 8);
    for (at, c) in node.char_indices() {
        match c {
            ' ' | '"' | '&' | '\'' | '/' | ':' | '<' | '>' | '@' => {
                out.push_str(&format!("\\{:02x}", u32::from(c)))
            }
            '\\' if is_escape(&node[at..]) => out.push_str("\\5c"),
            c => out.push(c),
        }
    }
    out.push('@');
    out.push_str(domain);
    out
}

/// A backslash is only escaped where it would begin one of the ten sequences (XEP-0106 §3).
fn is_escape(text: &str) -> bool {
    const SEQUENCES: [&str; 10] = ["20", "22", "26", "27", "2f", "3a", "3c", "3e", "40", "5c"];
    text.get(1..3).is_some_and(|hex| SEQUENCES.contains(&hex.to_ascii_lowercase().as_str()))
}

/// The shape of a bare JID with a node part (RFC 7622 §3.1); full preparation is the XMPP layer's.
fn is_bare_jid(text: &str) -> bool {
    let Some((node, domain)) = text.split_once('@') else { return false };
    let part = |part: &str| {
        !part.is_empty()
            && part.len() <= 1023
            && !part.contains(|c: char| c.is_whitespace() || c.is_control())
    };
    let forbidden = ['"', '&', '\'', '/', ':', '<', '>', '@'];
    part(node)
        && part(domain)
        && !node.contains(forbidden)
        && !domain.contains(['/', '@', '<', '>', '&', '"', '\''])
}
