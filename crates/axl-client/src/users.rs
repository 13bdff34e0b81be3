//! Users of IM and Presence: their JID, their mail, and whether they live in this cluster.
//!
//! Publishers know the users of all clusters that they are joined with, and the database holds surprises: two rows for
//! one user after a move that went wrong, two users with one mail, none at all. [`Directory::read`] turns the rows
//! of the bulk query into users that can be relied on, and says of each other one why it was left out.
//! [`Reading`] does the same page by page, so that no more than one page of rows is ever in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::answer::Row;
use crate::request::{Page, Request, Select};

/// The bulk query without its page: every user that IM and Presence is switched on for.
///
/// Users with no node are asked for too: they are known and not served, and a status page counts them.
pub const BULK_QUERY: &str = "pkid, userid, imaddress, xep106imaddress, mailid, directoryuri, enablecups, \
     primarynodeid, tkassignmentstate from enduser where enablecups = 't' order by pkid";

/// The same where the tables have no columns of IM addresses: the query above gets the fault
/// [`NO_SUCH_COLUMN`], and addresses follow from the [`Scheme`].
pub const BULK_QUERY_WITHOUT_ADDRESSES: &str = "pkid, userid, mailid, directoryuri, enablecups, primarynodeid \
     from enduser where enablecups = 't' order by pkid";

/// The fault of a query that names a column which the tables of this release do not have.
pub const NO_SUCH_COLUMN: i64 = -217;

/// The bulk query for one page of users.
pub fn bulk_query(page: Page) -> Request {
    query(BULK_QUERY, page)
}

/// The bulk query for one page of users, where the tables have no columns of IM addresses.
pub fn bulk_query_without_addresses(page: Page) -> Request {
    query(BULK_QUERY_WITHOUT_ADDRESSES, page)
}

fn query(columns: &str, page: Page) -> Request {
    let select = format!("select skip {} first {} {columns}", page.skip, page.first);
    Request::execute_sql_query(&Select::new(select).expect("a select"))
}

/// What IM addresses are made of: a setting of the deployment, the same on all its clusters. It counts for users whose
/// row says none.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Scheme {
    /// The login name in this domain, the default IM domain.
    UserId(String),
    /// The directory URI.
    DirectoryUri,
    /// Not known: a user without an address has none.
    Unknown,
}

/// Reads all pages of the bulk query, however large the server lets a page be.
///
/// Ask [`next`](Self::next), send it, and hand the outcome to [`took`](Self::took) or [`too_large`](Self::too_large).
#[derive(Clone, Debug)]
pub struct Pages {
    first: u64,
    read: u64,
    done: bool,
}

impl Pages {
    /// Begins with pages of `first` rows; at least one.
    pub fn new(first: u64) -> Self {
        Self { first: first.max(1), read: 0, done: false }
    }

    /// The next page to ask for; `None` when all were read.
    pub fn next(&self) -> Option<Page> {
        (!self.done).then_some(Page { skip: self.read, first: self.first })
    }

    /// The page that was asked for had so many rows. One that is not full is the last.
    pub fn took(&mut self, rows: usize) {
        self.done = (rows as u64) < self.first;
        self.read += rows as u64;
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

/// Makes a directory of pages of rows, in any order.
#[derive(Clone, Debug)]
pub struct Reading {
    nodes: BTreeSet<String>,
    scheme: Scheme,
    users: Vec<ImpUser>,
    problems: BTreeSet<Problem>,
}

impl Reading {
    /// Begins; `nodes` are the ids of this cluster's nodes.
    pub fn new(nodes: BTreeSet<String>, scheme: Scheme) -> Self {
        Self { nodes, scheme, users: Vec::new(), problems: BTreeSet::new() }
    }

    /// Takes the rows of a page.
    pub fn take(&mut self, rows: &[Row]) {
        for row in rows.iter().filter(|row| row.flag("enablecups") != Some(false)) {
            match user(row, &self.nodes, &self.scheme) {
                Ok(user) => self.users.push(user),
                Err(problem) => drop(self.problems.insert(problem)),
            }
        }
    }

    /// All pages were taken.
    pub fn finish(self) -> Directory {
        let Self { users: mut rows, mut problems, .. } = self;
        // Of one login name the one with a node here first, then by what is in it, so that the order of the rows does
        // not matter.
        rows.sort_unstable_by(|a, b| {
            (&a.userid, &a.home, &a.jid, &a.mail).cmp(&(&b.userid, &b.home, &b.jid, &b.mail))
        });
        rows.dedup_by(|other, one| {
            let same = other.userid == one.userid;
            if same && other != one {
                problems.insert(Problem::SeveralRows(one.userid.clone()));
            }
            same
        });
        let mut users: BTreeMap<String, ImpUser> = BTreeMap::new();
        let mut shared = BTreeSet::new();
        for user in rows {
            if let Some(before) = users.insert(user.jid.clone(), user) {
                shared.insert(before.jid);
            }
        }
        for jid in shared {
            users.remove(&jid);
            problems.insert(Problem::SharedJid(jid));
        }
        settle_mails(&mut users, &mut problems);
        Directory { users, problems }
    }
}

impl Directory {
    /// Reads the rows of the bulk query at once; `nodes` are the ids of this cluster's nodes.
    ///
    /// The result does not depend on the order of the rows.
    pub fn read(rows: &[Row], nodes: &BTreeSet<String>) -> Self {
        let mut reading = Reading::new(nodes.clone(), Scheme::Unknown);
        reading.take(rows);
        reading.finish()
    }

    /// How many users live on a node of this cluster.
    pub fn served(&self) -> usize {
        self.users.values().filter(|user| user.home != Home::Elsewhere).count()
    }
}

/// Takes away each mail that does not name exactly one person.
fn settle_mails(users: &mut BTreeMap<String, ImpUser>, problems: &mut BTreeSet<Problem>) {
    let mut mails: Vec<&str> = users.values().filter_map(|user| user.mail.as_deref()).collect();
    mails.sort_unstable();
    let shared: BTreeSet<String> =
        mails.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0].to_owned()).collect();
    let wrong = users.values().filter_map(|user| {
        let problem = match &user.mail {
            None => Problem::NoMail(user.jid.clone()),
            Some(mail) if shared.contains(mail) => Problem::SharedMail(mail.clone()),
            Some(mail) if *mail != user.jid && users.contains_key(mail) => {
                Problem::MailIsAnothersJid(mail.clone())
            }
            Some(_) => return None,
        };
        Some((user.jid.clone(), problem))
    });
    for (jid, problem) in wrong.collect::<Vec<_>>() {
        if let Some(user) = users.get_mut(&jid) {
            user.mail = None;
        }
        problems.insert(problem);
    }
}

fn user(row: &Row, nodes: &BTreeSet<String>, scheme: &Scheme) -> Result<ImpUser, Problem> {
    let userid = row.text("userid").unwrap_or_default().to_lowercase();
    let jid = match (row.text("xep106imaddress"), row.text("imaddress"), scheme) {
        (Some(escaped), ..) => escaped.to_lowercase(),
        (None, Some(plain), _) => escape(&plain.to_lowercase()),
        (None, None, Scheme::UserId(domain)) if !userid.is_empty() => escape(&format!("{userid}@{domain}")),
        (None, None, Scheme::DirectoryUri) => match row.text("directoryuri") {
            Some(uri) => escape(&uri.to_lowercase()),
            None => return Err(Problem::NoJid(userid)),
        },
        (None, None, _) => return Err(Problem::NoJid(userid)),
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
