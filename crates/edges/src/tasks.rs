//! Tasks with names and one owner: told to stop together, and noticed when they die.

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;

/// A group of named tasks.
#[derive(Debug, Default)]
pub struct Tasks {
    set: JoinSet<()>,
    names: HashMap<Id, Box<str>>,
    stop: CancellationToken,
}

/// A task has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskEnded {
    /// Its name.
    pub name: Box<str>,
    /// It panicked, or was aborted; its neighbours cannot count on it any more.
    pub died: bool,
}

impl Tasks {
    /// No tasks yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a task under this name.
    pub fn spawn(&mut self, name: impl Into<Box<str>>, task: impl Future<Output = ()> + Send + 'static) {
        let id = self.set.spawn(task).id();
        self.names.insert(id, name.into());
    }

    /// Cancelled when the tasks are to stop; each task watches it.
    #[must_use]
    pub fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// The next task that ends; `None` if there is none left. Cancel safe.
    pub async fn ended(&mut self) -> Option<TaskEnded> {
        let (id, died) = match self.set.join_next_with_id().await? {
            Ok((id, ())) => (id, false),
            Err(error) => (error.id(), true),
        };
        let name = self.names.remove(&id).unwrap_or_default();
        Some(TaskEnded { name, died })
    }

    /// Tells all tasks to stop, waits for them, and ends whatever still runs after `grace`; says whose
    /// names those were.
    pub async fn shut_down(&mut self, grace: Duration) -> Vec<Box<str>> {
        self.stop.cancel();
        let all_ended = async { while self.ended().await.is_some() {} };
        if tokio::time::timeout(grace, all_ended).await.is_ok() {
            return Vec::new();
        }
        let mut late: Vec<Box<str>> = self.names.drain().map(|(_, name)| name).collect();
        late.sort_unstable();
        self.set.shutdown().await;
        late
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_dead_task_is_noticed_by_name() {
        let mut tasks = Tasks::new();
        tasks.spawn("lives", std::future::pending());
        tasks.spawn("dies", async { panic!("on purpose") });
        assert_eq!(tasks.ended().await, Some(TaskEnded { name: "dies".into(), died: true }));
    }

    #[tokio::test(start_paused = true)]
    async fn tasks_stop_when_told_and_are_ended_when_they_do_not() {
        let mut tasks = Tasks::new();
        let stop = tasks.stop();
        tasks.spawn("obeys", async move { stop.cancelled().await });
        tasks.spawn("hangs", std::future::pending());
        assert_eq!(tasks.shut_down(Duration::from_secs(1)).await, ["hangs".into()]);
        assert_eq!(tasks.ended().await, None);
    }
}
