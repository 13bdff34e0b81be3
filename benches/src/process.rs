//! Another process, seen through `/proc`: the time it used, the memory it has.

use std::fs;
use std::time::Duration;

/// A running process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process(pub(crate) u32);

/// What the kernel reports times in; the same on every Linux (`USER_HZ`).
const TICK: Duration = Duration::from_millis(10);

impl Process {
    /// User and system time so far, of all threads, those that have ended included. Exact to 10 ms.
    pub(crate) fn cpu(self) -> Duration {
        let stat = self.read("stat");
        // The second field is the program's name, in parentheses, with whatever is in it.
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
        let ticks = |n: usize| fields.get(n).and_then(|field| field.parse::<u32>().ok()).unwrap_or(0);
        TICK * (ticks(11) + ticks(12))
    }

    /// The time used so far by the threads of this name that run now. Exact to the nanosecond.
    pub(crate) fn cpu_of_threads(self, name: &str) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.0)).into_iter().flatten().flatten();
        let named = tasks.filter(|task| {
            fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim_end() == name)
        });
        let used = named.filter_map(|task| {
            let stat = fs::read_to_string(task.path().join("schedstat")).ok()?;
            stat.split(' ').next()?.parse().ok().map(Duration::from_nanos)
        });
        used.sum()
    }

    /// Resident memory in KiB.
    pub(crate) fn resident(self) -> i64 {
        self.status("VmRSS:")
    }

    /// The most resident memory that it ever had, in KiB.
    pub(crate) fn peak(self) -> i64 {
        self.status("VmHWM:")
    }

    /// Open descriptors.
    pub(crate) fn descriptors(self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.0)).map_or(0, Iterator::count)
    }

    fn status(self, name: &str) -> i64 {
        let status = self.read("status");
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    }

    fn read(self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.0)).unwrap_or_default()
    }
}
