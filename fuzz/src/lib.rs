#![doc = include_str!("../README.md")]

mod answers;
mod jose;
mod kms_reply;
mod mercury_frames;
mod router_ops;
mod soap;
mod stanza;
mod stream_ops;
mod xml_stream;

use std::fmt;

/// One thing that is given bad input.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name, which is its corpus folder's too.
    pub name: &'static str,
    /// Takes any bytes. It panics where a promise of the crate under test is broken, and only there.
    pub run: fn(&[u8]),
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "answers", run: answers::run },
    Target { name: "jose", run: jose::run },
    Target { name: "kms_reply", run: kms_reply::run },
    Target { name: "mercury_frames", run: mercury_frames::run },
    Target { name: "router_ops", run: router_ops::run },
    Target { name: "soap", run: soap::run },
    Target { name: "stanza", run: stanza::run },
    Target { name: "stream_ops", run: stream_ops::run },
    Target { name: "xml_stream", run: xml_stream::run },
];

/// The target of that name.
#[must_use]
pub fn target(name: &str) -> Option<Target> {
    TARGETS.iter().copied().find(|target| target.name == name)
}
