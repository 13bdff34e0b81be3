//! The table of the overview, section 9.3, row by row, with both sides of every border.

use std::time::Duration;

use presence_map::{AWAY_AFTER, ENDS_AFTER, Session, Show, Status, Translation, translate};

const MOMENT: Duration = Duration::from_millis(1);

fn minutes(n: u64) -> Duration {
    Duration::from_secs(n * 60)
}

fn hours(n: u64) -> Duration {
    minutes(n * 60)
}

fn available(valid_for: Duration) -> Translation {
    Translation { show: Show::Available, text: "@ Webex", session: Session::Held, valid_for: Some(valid_for) }
}

fn away(valid_for: Option<Duration>) -> Translation {
    Translation { show: Show::Away, text: "@ Webex", session: Session::Held, valid_for }
}

const BUSY: Translation =
    Translation { show: Show::DoNotDisturb, text: "", session: Session::Held, valid_for: None };
const OFFLINE: Translation =
    Translation { show: Show::Offline, text: "", session: Session::Ended, valid_for: None };

#[test]
fn pr_a1_active_within_ten_minutes_is_available() {
    let border = minutes(10) + MOMENT;
    assert_eq!(translate(Status::ByActivity, Some(Duration::ZERO)), available(border));
    assert_eq!(translate(Status::ByActivity, Some(minutes(9))), available(minutes(1) + MOMENT));
    // Exactly ten minutes is still available; a moment later it is not.
    assert_eq!(translate(Status::ByActivity, Some(minutes(10))), available(MOMENT));
    assert_eq!(translate(Status::ByActivity, Some(minutes(10) + MOMENT)).show, Show::Away);
}

#[test]
fn pr_a2_from_over_ten_minutes_to_72_hours_is_away() {
    let first = minutes(10) + MOMENT;
    assert_eq!(translate(Status::ByActivity, Some(first)), away(Some(hours(72) - minutes(10))));
    for idle in [hours(2), hours(30)] {
        assert_eq!(translate(Status::ByActivity, Some(idle)).show, Show::Away);
    }
    // Exactly 72 hours is still away; a moment later the session ends.
    assert_eq!(translate(Status::ByActivity, Some(hours(72))), away(Some(MOMENT)));
    assert_eq!(translate(Status::ByActivity, Some(hours(72) + MOMENT)), OFFLINE);
}

#[test]
fn pr_a3_over_72_hours_or_never_ends_the_session() {
    for idle in [Some(hours(72) + MOMENT), Some(hours(10_000)), Some(Duration::MAX), None] {
        assert_eq!(translate(Status::ByActivity, idle), OFFLINE, "{idle:?}");
    }
}

/// Every idle time that is on one side of a border, and never.
fn any() -> Vec<Option<Duration>> {
    [Duration::ZERO, minutes(10), minutes(10) + MOMENT, hours(72), hours(72) + MOMENT, Duration::MAX]
        .into_iter()
        .map(Some)
        .chain([None])
        .collect()
}

#[test]
fn pr_a4_out_of_office_is_away_and_keeps_the_session() {
    for idle in any() {
        assert_eq!(translate(Status::OutOfOffice, idle), away(None), "{idle:?}");
    }
}

#[test]
fn pr_a5_hidden_is_away_and_never_ends_the_session() {
    for idle in any() {
        assert_eq!(translate(Status::Hidden, idle), away(None), "{idle:?}");
    }
}

#[test]
fn pr_a6_do_not_disturb_is_shown_as_such() {
    for idle in any() {
        assert_eq!(translate(Status::DoNotDisturb, idle), BUSY, "{idle:?}");
    }
}

#[test]
fn pr_a7_after_do_not_disturb_activity_decides_at_once() {
    for (idle, show) in [(minutes(5), Show::Available), (hours(5), Show::Away), (hours(80), Show::Offline)] {
        assert_eq!(translate(Status::DoNotDisturb, Some(idle)), BUSY);
        assert_eq!(translate(Status::ByActivity, Some(idle)).show, show);
    }
}

#[test]
fn pr_a8_out_of_office_and_active_again_is_available() {
    assert_eq!(translate(Status::OutOfOffice, Some(Duration::ZERO)).show, Show::Away);
    assert_eq!(translate(Status::ByActivity, Some(Duration::ZERO)).show, Show::Available);
}

#[test]
fn valid_for_leads_exactly_to_the_next_row() {
    for idle in [Duration::ZERO, minutes(3), minutes(10), minutes(10) + MOMENT, hours(71), hours(72)] {
        let now = translate(Status::ByActivity, Some(idle));
        let wait = now.valid_for.expect("activity has borders");
        let then = translate(Status::ByActivity, Some(idle + wait));
        let just_before = translate(Status::ByActivity, Some(idle + wait - MOMENT));
        assert_ne!((now.show, now.session), (then.show, then.session), "{idle:?}");
        assert_eq!((now.show, now.session), (just_before.show, just_before.session), "{idle:?}");
    }
}

#[test]
fn what_is_finer_than_a_millisecond_does_not_cross_a_border() {
    let nearly = MOMENT - Duration::from_nanos(1);
    assert_eq!(translate(Status::ByActivity, Some(AWAY_AFTER + nearly)).show, Show::Available);
    assert_eq!(translate(Status::ByActivity, Some(ENDS_AFTER + nearly)).session, Session::Held);
}

#[test]
fn text_stands_beside_green_and_amber_only() {
    let statuses = [Status::ByActivity, Status::Hidden, Status::DoNotDisturb, Status::OutOfOffice];
    for status in statuses {
        for idle in any() {
            let said = translate(status, idle);
            let webex = matches!(said.show, Show::Available | Show::Away);
            assert_eq!(said.text == "@ Webex", webex, "{status:?} {idle:?}");
            assert_eq!(said.session == Session::Ended, said.show == Show::Offline, "{status:?} {idle:?}");
        }
    }
}
