//! The nodes of the cluster and how they fare.
//!
//! The schema of AXL knows which nodes there are; how they fare is only in the database of IM and Presence.

use crate::answer::Row;
use crate::request::{Request, Select};

/// What a node does for its users (`tkhaserverstate`). The table is not published; these values were seen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// 2: no redundancy configured, or nothing to do.
    Idle,
    /// 3: serves its own users.
    Normal,
    /// 4: serves its own users and those of its partner.
    Backup,
    /// Another number: in transition or failed.
    Other(i64),
    /// The column was not there or held no number.
    Unknown,
}

/// One IM and Presence node, as the cluster's database knows it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Node {
    /// The id that `primarynodeid` of a user refers to.
    pub id: String,
    /// Host name or address.
    pub name: String,
    /// Whether it is the publisher; `None` where the column is absent.
    pub primary: Option<bool>,
    /// How it fares.
    pub state: State,
}

impl Node {
    /// Asks for the nodes of this cluster.
    pub fn query() -> Request {
        let select = "select id, name, isprimary, tkhaserverstate from enterprisenode order by id";
        Request::execute_sql_query(&Select::new(select).expect("a select"))
    }

    /// Reads a row of [`query`](Self::query); `None` if it has no id or no name.
    pub fn read(row: &Row) -> Option<Self> {
        let state = match row.number("tkhaserverstate") {
            Some(2) => State::Idle,
            Some(3) => State::Normal,
            Some(4) => State::Backup,
            Some(other) => State::Other(other),
            None => State::Unknown,
        };
        Some(Self {
            id: row.text("id")?.to_owned(),
            name: row.text("name")?.to_owned(),
            primary: row.flag("isprimary"),
            state,
        })
    }
}
