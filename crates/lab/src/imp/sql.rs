//! The little of SQL that a reader of AXL needs: one table, a page of it, conditions joined by `and`.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// One row. Tables are large, so a value is made when somebody asks for it.
pub(crate) trait Record {
    /// What is in a column; `None` is NULL.
    fn value(&self, column: &str) -> Option<Cow<'_, str>>;
}

/// A row of few columns, as it is written down; what is not there is NULL.
impl Record for BTreeMap<&'static str, String> {
    fn value(&self, column: &str) -> Option<Cow<'_, str>> {
        self.get(column).map(|value| Cow::Borrowed(value.as_str()))
    }
}

/// A table: what it is called, its columns in order, and its rows.
pub(crate) struct Table<R> {
    pub(crate) name: &'static str,
    pub(crate) columns: &'static [&'static str],
    pub(crate) rows: Vec<R>,
}

/// Why a statement was not run, with the database's code for it.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct SqlError {
    pub(crate) code: i32,
    pub(crate) message: String,
}

impl SqlError {
    fn syntax() -> Self {
        Self { code: -201, message: "A syntax error has occurred.".to_owned() }
    }

    fn table(name: &str) -> Self {
        Self { code: -206, message: format!("The specified table ({name}) is not in the database.") }
    }

    fn column(name: &str) -> Self {
        Self { code: -217, message: format!("Column ({name}) not found in any table in the query.") }
    }
}

/// A statement that was understood.
#[derive(Debug)]
pub(crate) struct Select {
    skip: usize,
    /// How many rows at most; `None`: all.
    pub(crate) first: Option<usize>,
    columns: Vec<String>,
    pub(crate) table: String,
    conditions: Vec<(String, Condition)>,
    order_by: Option<String>,
}

#[derive(Debug)]
enum Condition {
    Null(bool),
    Equal(String, bool),
    Like(String),
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Token {
    Word(String),
    Text(String),
    Symbol(char),
}

fn tokens(sql: &str) -> Result<Vec<Token>, SqlError> {
    let mut tokens = Vec::new();
    let mut chars = sql.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_whitespace() => {}
            '\'' => {
                let mut text = String::new();
                loop {
                    match chars.next() {
                        Some('\'') if chars.peek() == Some(&'\'') => text.extend(chars.next()),
                        Some('\'') => break,
                        Some(other) => text.push(other),
                        None => return Err(SqlError::syntax()),
                    }
                }
                tokens.push(Token::Text(text));
            }
            c if c.is_alphanumeric() || c == '_' => {
                let mut word: String = c.to_lowercase().collect();
                while let Some(next) = chars.next_if(|n| n.is_alphanumeric() || matches!(n, '_' | '.')) {
                    word.extend(next.to_lowercase());
                }
                tokens.push(Token::Word(word));
            }
            ',' | '=' | '<' | '>' | '!' | '(' | ')' | '*' => tokens.push(Token::Symbol(c)),
            _ => return Err(SqlError::syntax()),
        }
    }
    Ok(tokens)
}

struct Parser(std::iter::Peekable<std::vec::IntoIter<Token>>);

impl Parser {
    fn word(&mut self) -> Result<String, SqlError> {
        match self.0.next() {
            Some(Token::Word(word)) => Ok(word),
            _ => Err(SqlError::syntax()),
        }
    }

    fn text(&mut self) -> Result<String, SqlError> {
        match self.0.next() {
            Some(Token::Text(text)) => Ok(text),
            _ => Err(SqlError::syntax()),
        }
    }

    fn expect(&mut self, word: &str) -> Result<(), SqlError> {
        if self.word()? == word { Ok(()) } else { Err(SqlError::syntax()) }
    }

    fn symbol(&mut self, symbol: char) -> bool {
        self.0.next_if_eq(&Token::Symbol(symbol)).is_some()
    }

    fn keyword(&mut self, word: &str) -> bool {
        self.0.next_if_eq(&Token::Word(word.to_owned())).is_some()
    }

    /// A number after a keyword, if that keyword stands here and a number follows it.
    fn number_after(&mut self, keyword: &str) -> Result<Option<usize>, SqlError> {
        if !self.keyword(keyword) {
            return Ok(None);
        }
        self.word()?.parse().map(Some).map_err(|_| SqlError::syntax())
    }

    /// A column, which may stand in `lower(…)`: comparisons have no case here anyway.
    fn column(&mut self) -> Result<String, SqlError> {
        let word = self.word()?;
        if matches!(word.as_str(), "lower" | "upper") && self.symbol('(') {
            let column = self.word()?;
            return if self.symbol(')') { Ok(column) } else { Err(SqlError::syntax()) };
        }
        Ok(word)
    }

    fn condition(&mut self) -> Result<(String, Condition), SqlError> {
        let column = self.column()?;
        if self.keyword("is") {
            let not = self.keyword("not");
            self.expect("null")?;
            return Ok((column, Condition::Null(!not)));
        }
        if self.keyword("like") {
            return Ok((column, Condition::Like(self.text()?)));
        }
        if self.symbol('=') {
            return Ok((column, Condition::Equal(self.text()?, true)));
        }
        let unequal = (self.symbol('<') && self.symbol('>')) || (self.symbol('!') && self.symbol('='));
        if unequal { Ok((column, Condition::Equal(self.text()?, false))) } else { Err(SqlError::syntax()) }
    }
}

impl Select {
    /// Reads a statement.
    pub(crate) fn parse(sql: &str) -> Result<Self, SqlError> {
        let mut parser = Parser(tokens(sql)?.into_iter().peekable());
        parser.expect("select")?;
        let skip = parser.number_after("skip")?.unwrap_or(0);
        let first = parser.number_after("first")?;
        let mut columns = Vec::new();
        loop {
            if parser.symbol('*') {
                columns.push("*".to_owned());
            } else {
                columns.push(parser.word()?);
            }
            if !parser.symbol(',') {
                break;
            }
        }
        parser.expect("from")?;
        let table = parser.word()?;
        let mut conditions = Vec::new();
        if parser.keyword("where") {
            conditions.push(parser.condition()?);
            while parser.keyword("and") {
                conditions.push(parser.condition()?);
            }
        }
        let mut order_by = None;
        if parser.keyword("order") {
            parser.expect("by")?;
            order_by = Some(parser.column()?);
            let _ = parser.keyword("asc");
        }
        if parser.0.next().is_some() {
            return Err(SqlError::syntax());
        }
        Ok(Self { skip, first, columns, table, conditions, order_by })
    }

    /// The columns and rows that it selects of its table: how many match in all, and those of its page.
    pub(crate) fn run<R: Record>(&self, table: &Table<R>) -> Result<Selected, SqlError> {
        if table.name != self.table {
            return Err(SqlError::table(&self.table));
        }
        let find = |name: &str| {
            let bare = name.strip_prefix(table.name).and_then(|rest| rest.strip_prefix('.')).unwrap_or(name);
            table
                .columns
                .iter()
                .find(|column| **column == bare)
                .copied()
                .ok_or_else(|| SqlError::column(name))
        };
        let mut columns = Vec::new();
        for column in &self.columns {
            if column == "*" {
                columns.extend(table.columns);
            } else {
                columns.push(find(column)?);
            }
        }
        let mut conditions = Vec::new();
        for (column, condition) in &self.conditions {
            conditions.push((find(column)?, condition));
        }
        let order_by = self.order_by.as_deref().map(find).transpose()?;
        let matches = |row: &&R| conditions.iter().all(|(column, it)| it.holds(row.value(column).as_deref()));
        let mut rows: Vec<&R> = table.rows.iter().filter(matches).collect();
        if let Some(column) = order_by {
            rows.sort_by(|one, other| one.value(column).cmp(&other.value(column)));
        }
        let matched = rows.len();
        let page = rows.into_iter().skip(self.skip).take(self.first.unwrap_or(usize::MAX));
        let value = |row: &R, column: &str| row.value(column).map(Cow::into_owned);
        let rows = page.map(|row| columns.iter().map(|c| (*c, value(row, c))).collect()).collect();
        Ok(Selected { matched, rows })
    }
}

/// What a statement selects.
#[derive(Debug)]
pub(crate) struct Selected {
    /// How many rows match, on all pages.
    pub(crate) matched: usize,
    /// The rows of the page, their columns in the order asked for.
    pub(crate) rows: Vec<Vec<(&'static str, Option<String>)>>,
}

impl Condition {
    /// Whether it holds for a value. Comparisons have no case, as in the product; NULL is like nothing.
    fn holds(&self, value: Option<&str>) -> bool {
        match (self, value) {
            (Self::Null(wanted), value) => value.is_none() == *wanted,
            (_, None) => false,
            (Self::Equal(text, equal), Some(value)) => {
                (value.to_lowercase().cmp(&text.to_lowercase()) == Ordering::Equal) == *equal
            }
            (Self::Like(pattern), Some(value)) => is_like(&value.to_lowercase(), &pattern.to_lowercase()),
        }
    }
}

/// `%` stands for anything.
pub(crate) fn is_like(value: &str, pattern: &str) -> bool {
    match pattern.split_once('%') {
        None => value == pattern,
        Some((before, after)) => value.strip_prefix(before).is_some_and(|rest| {
            (0..=rest.len()).filter(|at| rest.is_char_boundary(*at)).any(|at| is_like(&rest[at..], after))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table<BTreeMap<&'static str, String>> {
        let row = |id: &str, userid: &str, mail: Option<&str>| {
            let mut row = BTreeMap::from([("pkid", id.to_owned()), ("userid", userid.to_owned())]);
            row.extend(mail.map(|mail| ("mailid", mail.to_owned())));
            row
        };
        let rows =
            vec![row("3", "Carol", None), row("1", "alice", Some("a@c")), row("2", "o'b", Some("b@c"))];
        Table { name: "enduser", columns: &["pkid", "userid", "mailid"], rows }
    }

    fn ask(sql: &str) -> Result<String, i32> {
        let selected =
            Select::parse(sql).and_then(|select| select.run(&table())).map_err(|error| error.code)?;
        let text = |row: &Vec<(&str, Option<String>)>| {
            row.iter().map(|(_, value)| value.clone().unwrap_or("NULL".into())).collect::<Vec<_>>().join(",")
        };
        Ok(selected.rows.iter().map(text).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn selections() {
        for (sql, expected) in [
            ("select userid from enduser", Ok("Carol alice o'b")),
            ("SELECT userid FROM enduser ORDER BY pkid", Ok("alice o'b Carol")),
            ("select skip 1 first 1 pkid, userid from enduser order by pkid", Ok("2,o'b")),
            ("select first 2 mailid from enduser order by pkid", Ok("a@c b@c")),
            ("select pkid from enduser where mailid is null", Ok("3")),
            ("select pkid from enduser where mailid is not null and userid = 'ALICE'", Ok("1")),
            ("select pkid from enduser where lower(userid) like '%aro%'", Ok("3")),
            ("select pkid from enduser where userid = 'o''b'", Ok("2")),
            ("select pkid from enduser where enduser.userid <> 'carol' order by pkid", Ok("1 2")),
            ("select * from enduser where pkid = '1'", Ok("1,alice,a@c")),
            ("select x from enduser", Err(-217)),
            ("select pkid from enduser where x = '1'", Err(-217)),
            ("select pkid from nowhere", Err(-206)),
            ("select from enduser", Err(-201)),
            ("select pkid from enduser where pkid = 'open", Err(-201)),
            ("delete from enduser", Err(-201)),
            ("select pkid from enduser; drop", Err(-201)),
        ] {
            assert_eq!(ask(sql), expected.map(str::to_owned), "{sql}");
        }
    }
}
