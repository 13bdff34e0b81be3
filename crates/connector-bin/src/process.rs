//! What this process asks of the system: file descriptors, since each socket takes one and most systems give 1,024 to whoever
//! does not ask; small pages of memory; and that no image of its memory comes to lie on a disk.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::{Config, LinkKind};

/// What is open besides one socket for each person and client stream: the store and its log, links, connections for
/// requests, and listings.
const OTHERS: u64 = 500;

/// Asks for as many descriptors as the system allows, and for no core dumps: keys and texts are in them.
pub(crate) fn prepare() {
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        // What is refused here is said by whoever compares the limit with what is needed.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    }
}

/// Asks for no more huge pages, of 2 MiB, which are resident whole as soon as anything is in one and stay so when little is
/// left of a burst. Those of the start remain: what is used again and again lies in them, and is found faster.
pub(crate) fn no_more_huge_pages() {
    // Only Linux has them. Where this is refused, more memory is resident, and nothing else is different.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

/// How many descriptors this process may have; `None`: as many as it likes.
pub(crate) fn descriptors_limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// How many descriptors it has now; `None` where the system does not show them under `/proc`.
pub(crate) fn open_descriptors() -> Option<usize> {
    // One of them is what they are counted with.
    Some(std::fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1))
}

/// Whether there are descriptors enough for so many enabled people.
///
/// # Errors
/// It is not: what is needed, and where it is raised.
pub(crate) fn enough_descriptors(config: &Config, enabled: u64) -> Result<String, String> {
    let streams = config.imp.iter().any(|imp| imp.link != LinkKind::Trusted);
    let needed = enabled * if streams { 2 } else { 1 } + OTHERS;
    match descriptors_limit() {
        Some(limit) if limit < needed => Err(format!(
            "{enabled} enabled people take up to {needed} descriptors, and this process may have {limit}: raise its hard \
             limit (`LimitNOFILE=` of its systemd unit, `ulimit -Hn` of a shell)"
        )),
        Some(limit) => Ok(format!("{enabled} enabled people take up to {needed} of {limit}")),
        None => Ok(format!("{enabled} enabled people take up to {needed}, and there is no limit")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_core_is_dumped_and_no_more_pages_are_huge() {
        prepare();
        assert_eq!(getrlimit(Resource::Core).current, Some(0));
        no_more_huge_pages();
        #[cfg(target_os = "linux")]
        assert_ne!(rustix::thread::transparent_huge_pages_are_disabled(), Ok(false));
    }
}
