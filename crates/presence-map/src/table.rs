//! The table, and the one function that reads it.

use core::time::Duration;

/// Longer idle than this is away.
pub const AWAY_AFTER: Duration = Duration::from_secs(10 * 60);

/// Longer idle than this ends the session.
pub const ENDS_AFTER: Duration = Duration::from_secs(72 * 60 * 60);

/// What Webex may say about a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// Active or inactive: the time of last activity decides.
    ByActivity,
    /// The person hides the status.
    Hidden,
    /// Do not disturb.
    DoNotDisturb,
    /// Out of office, from the calendar.
    OutOfOffice,
}

/// What a Jabber user sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Show {
    /// Green.
    Available,
    /// Amber.
    Away,
    /// Red.
    DoNotDisturb,
    /// Grey.
    Offline,
}

/// Whether a session is held on IM and Presence for the person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Session {
    /// It is opened, or kept.
    Held,
    /// It is ended, or never opened.
    Ended,
}

/// What a status means in Jabber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// The availability to submit.
    pub show: Show,
    /// The text beside it; may be empty.
    pub text: &'static str,
    /// Whether there is a session to submit it on.
    pub session: Session,
    /// After this long, time alone changes the translation; `None`: never. At exactly this much more idle
    /// time the next row holds, which begins one millisecond after the border that still belongs to this.
    pub valid_for: Option<Duration>,
}

/// The smallest step of time that the borders tell apart.
const STEP: Duration = Duration::from_millis(1);

const WEBEX: &str = "@ Webex";
const ZERO: Duration = Duration::ZERO;
const EVER: Duration = Duration::MAX;

/// For one status, from just over the first duration up to and including the second.
struct Row(Status, Duration, Duration, Show, &'static str, Session);

impl Row {
    fn holds(&self, status: Status, idle: Duration) -> bool {
        self.0 == status && (self.1 == ZERO || idle > self.1) && idle <= self.2
    }
}

#[rustfmt::skip]
const TABLE: &[Row] = &[
    //  Webex status          idle over   up to        Jabber shows        text   session
    Row(Status::Hidden,       ZERO,       EVER,        Show::Away,         WEBEX, Session::Held),  // PR-A5
    Row(Status::DoNotDisturb, ZERO,       EVER,        Show::DoNotDisturb, "",    Session::Held),  // PR-A6
    Row(Status::OutOfOffice,  ZERO,       EVER,        Show::Away,         WEBEX, Session::Held),  // PR-A4
    Row(Status::ByActivity,   ZERO,       AWAY_AFTER,  Show::Available,    WEBEX, Session::Held),  // PR-A1
    Row(Status::ByActivity,   AWAY_AFTER, ENDS_AFTER,  Show::Away,         WEBEX, Session::Held),  // PR-A2
    Row(Status::ByActivity,   ENDS_AFTER, EVER,        Show::Offline,      "",    Session::Ended), // PR-A3
];

/// Translates a status and the time since the person last used Webex; `None`: never used, or not told.
#[must_use]
pub fn translate(status: Status, idle: Option<Duration>) -> Translation {
    // Whoever never used Webex has been idle for ever.
    let for_ever = idle.unwrap_or(EVER);
    // Borders are whole milliseconds: what is finer belongs to the millisecond that it is part of.
    let idle = Duration::new(for_ever.as_secs(), for_ever.subsec_millis() * 1_000_000);
    let row = TABLE.iter().find(|row| row.holds(status, idle));
    let Some(Row(_, _, until, show, text, session)) = row else {
        // Every status ends with a row up to EVER, so there is always one; this is its value.
        return Translation { show: Show::Offline, text: "", session: Session::Ended, valid_for: None };
    };
    let valid_for = (*until != EVER).then(|| *until - idle + STEP);
    Translation { show: *show, text, session: *session, valid_for }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_of_each_status_leave_no_gap_and_do_not_overlap() {
        for status in [Status::ByActivity, Status::Hidden, Status::DoNotDisturb, Status::OutOfOffice] {
            let mut until = ZERO;
            for row in TABLE.iter().filter(|row| row.0 == status) {
                assert_eq!(row.1, until, "{status:?}");
                assert!(row.2 > row.1);
                until = row.2;
            }
            assert_eq!(until, EVER, "{status:?}");
        }
    }
}
