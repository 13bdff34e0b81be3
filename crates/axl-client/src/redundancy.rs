//! Presence redundancy groups: who takes over for whom.

use crate::answer::Row;

/// Up to two nodes that stand in for each other.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Group {
    /// The group's name.
    pub name: String,
    /// The nodes' names, one or two.
    pub nodes: Vec<String>,
    /// Whether high availability is enabled; whether it is at work is in [`nodes`](crate::nodes).
    pub enabled: bool,
}

impl Group {
    /// Reads a row of [`Request::list_presence_redundancy_group`](crate::Request::list_presence_redundancy_group);
    /// `None` if it has no name.
    pub fn read(row: &Row) -> Option<Self> {
        Some(Self {
            name: row.text("name")?.to_owned(),
            nodes: ["server1", "server2"].iter().filter_map(|s| row.text(s)).map(str::to_owned).collect(),
            enabled: row.flag("haEnabled").unwrap_or(false),
        })
    }
}
