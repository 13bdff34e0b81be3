//! An end for what hangs: a test that waits for ever fails its part, and does not hold up whoever waits for it.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

/// A watch over the processes below one.
pub(crate) struct Watch {
    over: Sender<()>,
    thread: JoinHandle<bool>,
}

/// Ends all processes below `ancestor` once `limit` has passed.
pub(crate) fn watch(ancestor: u32, limit: Duration) -> Watch {
    let (over, waits) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let hangs = waits.recv_timeout(limit) == Err(RecvTimeoutError::Timeout);
        if hangs {
            end(&below(ancestor, &parents()));
        }
        hangs
    });
    Watch { over, thread }
}

impl Watch {
    /// Ends the watch: whether it had to end anything.
    pub(crate) fn stop(self) -> bool {
        let _ = self.over.send(());
        self.thread.join().unwrap_or(false)
    }
}

fn end(processes: &[u32]) {
    let ids = processes.iter().map(u32::to_string);
    if let Err(error) = Command::new("kill").arg("-KILL").args(ids).status() {
        eprintln!("xtask: cannot run kill: {error}");
    }
}

/// Each process and the one that started it, from Linux's `/proc`; nothing elsewhere.
fn parents() -> BTreeMap<u32, u32> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().filter_map(|entry| {
        let id = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        Some((id, parent(&stat)?))
    });
    processes.collect()
}

/// The fourth field of a line of `/proc/ID/stat`, whose second one is a name in brackets that may hold anything.
fn parent(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

fn below(ancestor: u32, parents: &BTreeMap<u32, u32>) -> Vec<u32> {
    let mut found = vec![ancestor];
    let mut next = 0;
    while let Some(&one) = found.get(next) {
        found.extend(parents.iter().filter(|(_, parent)| **parent == one).map(|(id, _)| *id));
        next += 1;
    }
    found.split_off(1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

    use super::*;

    #[test]
    fn children_and_theirs_are_found_by_whatever_name() {
        assert_eq!(parent("7 (a) b) S 5 7 7"), Some(5));
        let parents = [(2, 1), (3, 2), (4, 1), (5, 9), (9, 0)].into();
        assert_eq!(below(1, &parents), [2, 4, 3]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_hangs_is_ended() {
        // The shell is not ended itself, and says how its child did.
        let mut shell = Command::new("sh").args(["-c", "sleep 60; exit $?"]).spawn().unwrap();
        let watch = watch(shell.id(), Duration::from_millis(200));
        assert_eq!(shell.wait().unwrap().code(), Some(128 + 9));
        assert!(watch.stop());
    }
}
