//! Mechanisms that can be switched off, without a line of the connector for it: by what its disk does with a commit, by
//! the waits that it is given, or by the key under which it looks for its own ids.

use std::time::Duration;

use connector_edges::seam::Generator;
use router::ids::{ConversationId, SourceId};
use router::outbox::{Batch, Change, Lane};
use router::times::Times;

/// What is switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Off {
    /// Rule 1: our ids are not recognized.
    OwnIds,
    /// Rule 4: a source id is no key.
    Repeats,
    /// Rule 5: a text that is sealed again has another IV.
    FixedIv,
    /// Rule 7: what comes from Webex has no lane, each message is delivered by itself.
    Lanes,
    /// Rule 8: nothing is held.
    Holds,
    /// Rule 8: a release is not committed.
    Releases,
    /// Rule 10: *absent* counts soon.
    Settle,
    /// Rule 11: places in the stream are not committed.
    Places,
    /// Rule 11: what resumes a stream is not committed.
    Resumption,
    /// Rules 16 and 17: who is whom, and since when, is not committed.
    Directory,
}

impl Off {
    /// All of them.
    pub(super) const ALL: [Self; 10] = [
        Self::OwnIds,
        Self::Repeats,
        Self::FixedIv,
        Self::Lanes,
        Self::Holds,
        Self::Releases,
        Self::Settle,
        Self::Places,
        Self::Resumption,
        Self::Directory,
    ];

    /// What the disk makes of a batch.
    pub(super) fn spoil(self, mut batch: Batch, chance: &Generator) -> Batch {
        match self {
            Self::Repeats => {
                for input in &mut batch.inputs {
                    input.source = SourceId::new(chance.uuid());
                }
            }
            Self::Lanes => {
                for input in &mut batch.inputs {
                    if let Lane::ToJabber(_) = input.lane {
                        input.lane = Lane::ToJabber(ConversationId::new(chance.uuid()));
                    }
                }
            }
            Self::Releases => batch.changes.retain(|change| !matches!(change, Change::Release(_))),
            Self::Places => batch.changes.retain(|change| !matches!(change, Change::Attempt(_, Some(_)))),
            Self::Resumption => batch
                .changes
                .retain(|change| !matches!(change, Change::Keep(key, _) if key.starts_with("jabber"))),
            Self::Directory => batch.changes.retain(|change| !matches!(change, Change::Directory(_))),
            Self::OwnIds | Self::FixedIv | Self::Holds | Self::Settle => {}
        }
        batch
    }

    /// What becomes of the connector's waits.
    pub(super) fn shorten(self, times: &mut Times) {
        match self {
            Self::Holds => (times.hold, times.hold_silence, times.catch_up) = Default::default(),
            // Long enough to be asked at all, and shorter than the cloud may take.
            Self::Settle => times.settle = Duration::from_secs(3),
            _ => {}
        }
    }
}
