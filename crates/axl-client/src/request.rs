//! The reading operations of AXL.
//!
//! There is no other way to make a [`Request`] than the functions here, and none of them writes: AXL offers
//! `executeSQLUpdate` and hundreds of operations that change things, and this crate cannot say them.

use std::fmt;

use crate::error::BadRequest;

/// Which rows of a long answer are wanted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Page {
    /// How many rows to pass over.
    pub skip: u64,
    /// How many rows at most; the server answers with a fault when this many would pass 8 MB.
    pub first: u64,
}

/// One reading SQL statement, checked when it is made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Select(String);

impl Select {
    /// Takes a statement.
    ///
    /// # Errors
    ///
    /// [`BadRequest::NotASelect`] unless it is one statement that begins with `select`, without comments, a second
    /// statement, or `into` (Informix writes a table with it); [`BadRequest::Character`] if XML cannot carry it.
    pub fn new(sql: impl Into<String>) -> Result<Self, BadRequest> {
        let sql = sql.into();
        check_characters(&sql)?;
        let words = words_outside_literals(&sql)?;
        match words.first() {
            Some(first) if first == "select" => {}
            _ => return Err(BadRequest::NotASelect("it does not begin with select")),
        }
        if words.iter().any(|word| word == "into") {
            return Err(BadRequest::NotASelect("select into writes"));
        }
        Ok(Self(sql))
    }

    /// The statement.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Select {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The lower-cased words of a statement that are not inside a quoted literal.
fn words_outside_literals(sql: &str) -> Result<Vec<String>, BadRequest> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut before = ' ';
    for c in sql.chars() {
        if let Some(q) = quote {
            if c == q {
                quote = None; // a doubled quote opens the literal again at once
            }
            before = ' ';
            continue;
        }
        match (before, c) {
            ('-', '-') | ('/', '*') => return Err(BadRequest::NotASelect("it holds a comment")),
            (_, '{' | '}') => return Err(BadRequest::NotASelect("it holds a comment")),
            (_, ';') => return Err(BadRequest::NotASelect("it holds a second statement")),
            _ => {}
        }
        if c.is_alphanumeric() || c == '_' {
            word.extend(c.to_lowercase());
        } else if !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
        if c == '\'' || c == '"' {
            quote = Some(c);
        }
        before = c;
    }
    if quote.is_some() {
        return Err(BadRequest::NotASelect("a literal is not closed"));
    }
    if !word.is_empty() {
        words.push(word);
    }
    Ok(words)
}

/// One reading operation with its arguments, ready for [`Client::request`](crate::Client::request).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Request {
    pub(crate) operation: &'static str,
    pub(crate) arguments: String,
}

impl Request {
    /// `executeSQLQuery`: one row per line of the result, one field per column, names in lower case.
    pub fn execute_sql_query(select: &Select) -> Self {
        let mut arguments = String::with_capacity(select.0.len() + 16);
        element(&mut arguments, "sql", &select.0);
        Self { operation: "executeSQLQuery", arguments }
    }

    /// `getUser`: one user of Unified CM by user id.
    ///
    /// # Errors
    ///
    /// [`BadRequest::Character`] if XML cannot carry the user id.
    pub fn get_user(userid: &str) -> Result<Self, BadRequest> {
        check_characters(userid)?;
        let mut arguments = String::new();
        element(&mut arguments, "userid", userid);
        tags(&mut arguments, &[USER_TAGS, &["enableUserToHostConferenceNow", "displayName"]].concat());
        Ok(Self { operation: "getUser", arguments })
    }

    /// `listUser`: the users of Unified CM whose id is like the pattern; `%` is the wildcard.
    ///
    /// # Errors
    ///
    /// [`BadRequest::Character`] if XML cannot carry the pattern.
    pub fn list_user(pattern: &str, page: Option<Page>) -> Result<Self, BadRequest> {
        check_characters(pattern)?;
        Ok(Self::list("listUser", "userid", pattern, USER_TAGS, page))
    }

    /// `listPresenceRedundancyGroup`: all groups of nodes that stand in for each other.
    pub fn list_presence_redundancy_group() -> Self {
        let tags = &["name", "description", "server1", "server2", "haEnabled", "numUsers"];
        Self::list("listPresenceRedundancyGroup", "name", "%", tags, None)
    }

    /// `listAssignedPresenceUsers`: which users are assigned to which node.
    pub fn list_assigned_presence_users(page: Option<Page>) -> Self {
        let tags = &["userid", "server", "presenceRedundancyGroup"];
        Self::list("listAssignedPresenceUsers", "userid", "%", tags, page)
    }

    /// `listProcessNode`: the nodes of the cluster.
    pub fn list_process_node() -> Self {
        Self::list(
            "listProcessNode",
            "name",
            "%",
            &["name", "description", "processNodeRole", "nodeUsage"],
            None,
        )
    }

    /// The operation's name, as AXL spells it.
    pub fn operation(&self) -> &'static str {
        self.operation
    }

    /// All `list` operations have one shape. The XSD orders the arguments: criteria, tags, skip, first.
    fn list(operation: &'static str, by: &str, pattern: &str, wanted: &[&str], page: Option<Page>) -> Self {
        let mut arguments = String::from("<searchCriteria>");
        element(&mut arguments, by, pattern);
        arguments.push_str("</searchCriteria>");
        tags(&mut arguments, wanted);
        if let Some(page) = page {
            element(&mut arguments, "skip", &page.skip.to_string());
            element(&mut arguments, "first", &page.first.to_string());
        }
        Self { operation, arguments }
    }
}

/// What both `getUser` and `listUser` can return and we read.
const USER_TAGS: &[&str] = &["userid", "mailid", "directoryUri", "homeCluster", "imAndPresenceEnable"];

fn tags(out: &mut String, names: &[&str]) {
    out.push_str("<returnedTags>");
    for name in names {
        out.push('<');
        out.push_str(name);
        out.push_str("/>");
    }
    out.push_str("</returnedTags>");
}

/// Writes `<name>text</name>`; `name` is one of ours, `text` is escaped.
pub(crate) fn element(out: &mut String, name: &str, text: &str) {
    out.push('<');
    out.push_str(name);
    out.push('>');
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '\r' => out.push_str("&#13;"), // else a parser makes it a line feed
            c => out.push(c),
        }
    }
    out.push_str("</");
    out.push_str(name);
    out.push('>');
}

/// XML 1.0 §2.2: most control characters and the two non-characters have no form at all.
pub(crate) fn check_characters(text: &str) -> Result<(), BadRequest> {
    match text
        .chars()
        .find(|&c| (c < ' ' && !matches!(c, '\t' | '\n' | '\r')) || matches!(c, '\u{fffe}' | '\u{ffff}'))
    {
        Some(c) => Err(BadRequest::Character(c.into())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_reading_statement_is_a_select() {
        for sql in [
            "select userid from enduser",
            "  SELECT\n count(*) from enduser where mailid like '%;--into{%'",
            "select skip 0 first 10 userid from enduser where mailid = 'o''hara@corp.example'",
        ] {
            Select::new(sql).expect(sql);
        }
        for (sql, why) in [
            ("", "it does not begin with select"),
            ("update enduser set mailid = ''", "it does not begin with select"),
            ("selects from enduser", "it does not begin with select"),
            ("execute procedure x()", "it does not begin with select"),
            ("select 1 from t; delete from enduser", "it holds a second statement"),
            ("select userid from enduser into temp t", "select into writes"),
            ("select userid from enduser INTO\ttemp t", "select into writes"),
            ("select 'it' from t -- ; delete", "it holds a comment"),
            ("select /* x */ 1 from t", "it holds a comment"),
            ("select {x} 1 from t", "it holds a comment"),
            ("select 'open from t", "a literal is not closed"),
            ("select 'a'';' from t; drop table t", "it holds a second statement"),
        ] {
            assert_eq!(Select::new(sql), Err(BadRequest::NotASelect(why)), "{sql}");
        }
        assert_eq!(Select::new("select '\u{1}' from t"), Err(BadRequest::Character(1)));
    }

    #[test]
    fn arguments_are_escaped_and_in_the_order_of_the_schema() {
        let request = Request::list_user("<a&b>%", Some(Page { skip: 5, first: 10 })).unwrap();
        assert_eq!(
            request.arguments,
            "<searchCriteria><userid>&lt;a&amp;b&gt;%</userid></searchCriteria><returnedTags><userid/><mailid/>\
             <directoryUri/><homeCluster/><imAndPresenceEnable/></returnedTags><skip>5</skip><first>10</first>"
        );
        assert_eq!(Request::get_user("a\u{0}"), Err(BadRequest::Character(0)));
    }
}
