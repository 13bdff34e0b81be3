//! What has changed since a publisher was asked last (`listChange`).
//!
//! A publisher keeps a queue of changes and can be asked what is new in it; it tells nobody by itself. Not everything that
//! matters is in the queue, and a queue may be built anew, so that something is new is a reason to read everything again,
//! and nothing more is read out of it.

use crate::answer::Row;
use crate::error::BadRequest;
use crate::request::{Request, check_characters, element};

/// How far a queue was read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mark {
    /// Which queue: another id is another queue, of which nothing was read.
    pub queue: String,
    /// The first change that was not read.
    pub next: u64,
}

/// What a queue said.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Changes {
    /// Where to go on.
    pub mark: Mark,
    /// How many things have changed since the mark that was asked with.
    pub count: usize,
}

impl Changes {
    /// Reads the answer to [`Request::list_change`]; `None` if it says nothing of its queue.
    pub fn read(rows: &[Row]) -> Option<Self> {
        let queue = rows.iter().find(|row| row.text("queueId").is_some())?;
        let next = queue.number("nextStartChangeId").and_then(|next| u64::try_from(next).ok())?;
        let mark = Mark { queue: queue.text("queueId")?.to_owned(), next };
        let count = rows.iter().filter(|row| row.text("action").is_some()).count();
        Some(Self { mark, count })
    }

    /// Whether everything is to be read again: something has changed, or the queue is not the one that was asked.
    pub fn is_news(&self, before: Option<&Mark>) -> bool {
        self.count > 0 || before.is_some_and(|before| before.queue != self.mark.queue)
    }
}

impl Request {
    /// `listChange`: what has changed of users, of where they are assigned, and of nodes and their groups. Without a mark
    /// only where the queue stands.
    ///
    /// # Errors
    ///
    /// [`BadRequest::Character`] if XML cannot carry the queue's id.
    pub fn list_change(since: Option<&Mark>) -> Result<Self, BadRequest> {
        let mut arguments = String::new();
        if let Some(Mark { queue, next }) = since {
            check_characters(queue)?;
            let queue = queue.replace('&', "&amp;").replace('<', "&lt;").replace('\'', "&apos;");
            arguments.push_str(&format!("<startChangeId queueId='{queue}'>{next}</startChangeId>"));
        }
        arguments.push_str("<objectList>");
        for object in ["User", "AssignedPresenceUsers", "PresenceRedundancyGroup", "ProcessNode"] {
            element(&mut arguments, "object", object);
        }
        arguments.push_str("</objectList>");
        Ok(Self { operation: "listChange", arguments })
    }
}
