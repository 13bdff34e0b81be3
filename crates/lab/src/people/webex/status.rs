//! The status of others, as the App shows it beside their pictures.

use std::time::Duration;

use webex_api::presence::{Presence, Status, Subscribe};

use super::{Line, WebexApp, failed};
use crate::{
    clock::Time,
    people::{Nobody, PuppetError},
    seen::{Direction, Kind, Sight},
};

/// How long the App follows somebody it was made to look at.
const FOLLOWED: Duration = Duration::from_secs(3_600);

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

impl WebexApp {
    /// Looks at somebody's picture: shows the status now, and each change of it.
    pub(super) async fn follow(&self, line: &Line, to: &str) -> Result<(), PuppetError> {
        let other = self.ctx.people.by_name(to).ok_or_else(|| Nobody(to.to_owned()))?;
        let subjects = vec![other.person_id.parse().map_err(failed)?];
        for told in self.send(line, Subscribe { subjects, ttl: FOLLOWED }).await? {
            match told.status {
                Some(presence) if told.response_code == 200 => self.shows(&presence),
                _ => return Err(failed(format!("the status of {to}: {}", told.response_code))),
            }
        }
        Ok(())
    }

    /// Whoever hides the own status is shown nobody else's.
    pub(super) fn shows(&self, presence: &Presence) {
        let me = self.ctx.people.by_name(&self.me.name);
        let text = if me.is_some_and(|me| me.hidden) {
            String::new()
        } else {
            shown(presence, self.ctx.clock.now())
        };
        self.record_of(presence.subject.as_str(), Kind::Presence, &text);
    }

    /// Records something that somebody else did or is.
    pub(super) fn record_of(&self, person_id: &str, kind: Kind, text: &str) {
        let peer =
            self.ctx.people.by_id(person_id).map_or_else(|| person_id.to_owned(), |person| person.name);
        let sight = Sight { peer, dir: Direction::In, kind, id: String::new(), text: text.to_owned() };
        self.ctx.seen.record(&self.client, sight);
    }
}

/// The picture's mark, and since when the person is away; empty where nothing is shown.
fn shown(presence: &Presence, now: Time) -> String {
    match &presence.status {
        Some(Status::Active) => "active".to_owned(),
        Some(Status::DoNotDisturb) => "crescent moon".to_owned(),
        Some(Status::OutOfOffice) => "airplane".to_owned(),
        Some(Status::Inactive) => {
            presence.last_active.map(|last| since(last.millis(), now.0)).unwrap_or_default()
        }
        Some(Status::Call) => "in a call".to_owned(),
        Some(Status::Meeting | Status::CalendarItem) => "in a meeting".to_owned(),
        Some(Status::Presenting) => "presenting".to_owned(),
        _ => String::new(),
    }
}

fn since(last: i64, now: i64) -> String {
    let ago = now.saturating_sub(last).max(0);
    let counted = |n: i64, what: &str| format!("active {n} {what}{} ago", if n == 1 { "" } else { "s" });
    // Today and yesterday are those of the calendar.
    match now.div_euclid(DAY) - last.div_euclid(DAY) {
        _ if ago < HOUR => counted(ago / MINUTE, "minute"),
        0 => counted(ago / HOUR, "hour"),
        1 => "active yesterday".to_owned(),
        days => counted(days, "day"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn away_is_told_in_minutes_hours_and_days_of_the_calendar() {
        // A day at noon.
        let now = 19_844 * DAY + DAY / 2;
        for (ago, text) in [
            (MINUTE, "active 1 minute ago"),
            (59 * MINUTE, "active 59 minutes ago"),
            (2 * HOUR + 10 * MINUTE, "active 2 hours ago"),
            (11 * HOUR, "active 11 hours ago"),
            (13 * HOUR, "active yesterday"),
            (36 * HOUR, "active yesterday"),
            (37 * HOUR, "active 2 days ago"),
            (-5, "active 0 minutes ago"),
        ] {
            assert_eq!(since(now - ago, now), text);
        }
    }
}
