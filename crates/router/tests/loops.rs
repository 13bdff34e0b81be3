//! Nothing that we wrote is ever routed again, early or late.

mod rig;

use rig::{Rig, tagger};
use router::envelope::{Kind, TypingOrigin};
use router::ids::{ConversationId, JabberId, SourceId, StanzaId};
use router::inbound::Outcome;
use router::outbox::EntryState;

#[test]
fn our_own_stanza_is_not_carried_back() {
    let mut rig = Rig::new();
    rig.webex("ann", "ann", "bob", "activity");
    let (ticket, entry, _) = rig.delivery();
    // Its copies overtake the receipt, and come again after it.
    rig.jabber("bob", "ann", "bob", entry.derived.as_str(), "hello");
    rig.jabber("ann", "ann", "bob", entry.derived.as_str(), "hello");
    rig.delivered(ticket, &entry);
    rig.jabber("bob", "ann", "bob", entry.derived.as_str(), "hello");
    assert!(rig.deliveries().is_empty());
    assert_eq!(rig.router.counters().own, 3);
}

#[test]
fn the_origin_id_is_enough_where_a_server_changes_ids() {
    let mut rig = Rig::new();
    let ours = tagger().derive("text", &SourceId::new("activity"), 0, 0);
    let mut origin = rig.jabber_origin("bob", "ann", "bob", "changed-by-the-server", "hello");
    origin.origin_id = Some(ours.as_str().into());
    rig.jabber_with(origin, Kind::Text, "hello");
    assert!(rig.deliveries().is_empty());
}

#[test]
fn another_connector_of_the_organization_is_recognized_without_asking() {
    // Not in our store, but written under the organization's key.
    let foreign = tagger().derive("text", &SourceId::new("an activity that we never saw"), 0, 0);
    let mut rig = Rig::new();
    rig.jabber("bob", "ann", "bob", foreign.as_str(), "hello");
    let mut origin = rig.webex_origin("ann", "ann", "bob", "activity");
    origin.client_temp_id = Some(foreign.as_str().into());
    rig.webex_with(origin, Kind::Text);
    assert!(rig.deliveries().is_empty());
}

#[test]
fn an_own_post_that_comes_back_is_its_receipt() {
    for by_iv in [false, true] {
        let mut rig = Rig::new();
        rig.jabber("ann", "ann", "bob", "1", "hello");
        let (ticket, entry, _) = rig.delivery();
        let mut origin = rig.webex_origin("bob", "ann", "bob", "posted");
        match by_iv {
            true => origin.iv = entry.iv,
            false => origin.client_temp_id = Some(entry.derived.as_str().into()),
        }
        rig.webex_with(origin.clone(), Kind::Text);
        rig.pass(std::time::Duration::from_secs(1));
        assert!(matches!(rig.state(entry.id), EntryState::Done(Some(_))), "by IV: {by_iv}");
        // What the edge says later has no say any more, and the post is never a message.
        rig.receipt(ticket, Outcome::Unknown);
        rig.webex_with(origin, Kind::Text);
        assert!(rig.deliveries().is_empty());
        assert!(rig.router.idle());
    }
}

#[test]
fn our_own_marks_and_hints_do_not_come_back() {
    let mut rig = Rig::new();
    rig.webex("ann", "ann", "bob", "activity");
    let (ticket, entry, _) = rig.delivery();
    rig.delivered(ticket, &entry);
    // Bob reads in Jabber; the mark is set in Webex, and comes back from there.
    let origin = rig.jabber_origin("bob", "bob", "ann", "mark", "");
    let read = Kind::Read(router::envelope::Marked::Stanza(StanzaId::new(entry.derived.as_str())));
    rig.jabber_with(origin, read, "");
    let (ticket, mark, _) = rig.delivery();
    rig.webex_read("bob", "bob", "ann", "activity");
    rig.delivered(ticket, &mark);
    assert!(rig.deliveries().is_empty());

    // Bob types in Jabber, is shown typing in Webex, and ann's socket tells of it.
    let from = |s: &str, f: &str, t: &str, id: &str| TypingOrigin::Jabber {
        session: rig::person(s),
        from: JabberId::new(format!("{f}@x")),
        to: JabberId::new(format!("{t}@x")),
        stanza: StanzaId::new(id),
    };
    rig.typing(from("bob", "bob", "ann", "t1"), true);
    assert_eq!(rig.hints().len(), 1);
    let back = TypingOrigin::Webex {
        socket: rig::person("ann"),
        actor: rig::person("bob"),
        conversation: ConversationId::new("ann+bob"),
    };
    rig.typing(back, true);
    assert!(rig.hints().is_empty());
    // A hint that we sent to Jabber is copied to the recipient's session.
    let ours = tagger().derive("typing", &SourceId::new("any"), 0, 0);
    rig.typing(from("bob", "ann", "bob", ours.as_str()), true);
    assert!(rig.hints().is_empty());
}
