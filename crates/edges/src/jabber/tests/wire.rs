//! What servers have said to the connector, byte for byte as it was kept (`tests/wire`, recorded by
//! `RECORD_WIRE=1 cargo test -p tests --test servers`), is read as it was then.
//!
//! Beside each recording stands what is read out of it. `WRITE_WIRE=1` writes that anew, for a person to look at.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use router::envelope::{Body, Origin, TypingOrigin};
use router::ids::{ImpStreamId, PersonId, StreamId, Time, Upstream};
use router::inbound::Inbound;
use xmpp_core::session_control::{Control, ControlEvent, Request, parse_request};
use xmpp_core::xml::{Frame, Limits, Reader};
use xmpp_core::{Element, FullJid, ns};

use super::super::intake::{self, Me, Reading};

/// Later than every recording, so that each stamp counts as old.
const NOW: Time = Time(4_000_000_000_000);

/// One connection of a recording, read from both sides.
struct Wire {
    said: Reader,
    asked: Reader,
    control: Control,
    /// The sessions of a trusted link, by our ids.
    sessions: BTreeMap<u64, FullJid>,
    /// The session of a client stream.
    bound: Option<FullJid>,
    stanzas: u64,
}

/// What was read of a recording.
#[derive(Default)]
struct Read {
    lines: String,
    ignored: BTreeMap<&'static str, u32>,
}

impl Wire {
    fn new() -> Self {
        Self {
            said: Reader::new(Limits::default()),
            asked: Reader::new(Limits::default()),
            control: Control::new("connector"),
            sessions: BTreeMap::new(),
            bound: None,
            stanzas: 0,
        }
    }

    /// Our side: which sessions were asked for.
    fn asked(&mut self, bytes: &[u8]) {
        self.asked.feed(bytes);
        while let Some(frame) = self.asked.next().expect("what we wrote can be read") {
            match frame {
                Frame::Open(header) => {
                    let component = header.to.filter(|_| header.content_ns == ns::COMPONENT_ACCEPT);
                    self.control = component.map_or_else(|| Control::new("connector"), Control::new);
                }
                Frame::Element(element) => {
                    if let Some(Request::Start(start)) = parse_request(&element) {
                        let jid = start.target.try_into_full().expect("a start names a full JID");
                        let asked = self.control.start(&start.id.unwrap_or_default(), &jid);
                        assert_eq!(asked, element, "what was written then is written now");
                    }
                }
                Frame::Close => {}
            }
        }
    }

    /// The server's side.
    fn said(&mut self, bytes: &[u8], read: &mut Read) {
        self.said.feed(bytes);
        while let Some(frame) = self.said.next().expect("what a server says can be read") {
            let Frame::Element(element) = frame else { continue };
            if element.is("success", ns::SASL) {
                // Both sides begin anew.
                self.said.restart();
                self.asked.restart();
                continue;
            }
            self.stanzas += 1;
            let bound = element.get_child("bind", ns::BIND).and_then(|bind| bind.get_child("jid", ns::BIND));
            if let Some(jid) = bound {
                self.bound = jid.text().parse().ok();
            } else if let Some(jid) = self.bound.clone() {
                self.stanza(&jid, &element, read);
            } else if element.is("route", ns::ROUTE) {
                match self.control.handle(element) {
                    ControlEvent::Started { session, jid, .. } => {
                        let _ = writeln!(read.lines, "{jid} is started");
                        self.sessions.insert(session.ours, jid);
                    }
                    ControlEvent::Stanza { session, stanza } => {
                        let jid = self.sessions[&session.ours].clone();
                        self.stanza(&jid, &stanza, read);
                    }
                    ControlEvent::Ended { session } => {
                        let _ = writeln!(read.lines, "{} is ended", self.sessions[&session.ours]);
                    }
                    _ => *read.ignored.entry("of the link itself").or_default() += 1,
                }
            }
        }
    }

    fn stanza(&self, jid: &FullJid, stanza: &Element, read: &mut Read) {
        let person = PersonId::new(jid.to_bare().as_str());
        let me = Me { person: &person, jid, utc_offset: 0, archive: None };
        let upstream = Upstream { stream: StreamId::Imp(ImpStreamId::new("wire")), n: self.stanzas };
        let line = match intake::read(stanza, &me, &upstream, NOW) {
            Reading::Inbound(inbound) => line(&inbound),
            Reading::Answer(answer) => {
                format!("a request, answered by {}", answer.attr("type").unwrap_or_default())
            }
            Reading::Client { jid, priority } => format!("{jid} has the priority {priority:?}"),
            Reading::Response { ok, .. } => {
                *read.ignored.entry(if ok { "results" } else { "refusals" }).or_default() += 1;
                return;
            }
            Reading::Ignored(why) => {
                *read.ignored.entry(why).or_default() += 1;
                return;
            }
        };
        let _ = writeln!(read.lines, "{jid}: {line}");
    }
}

/// What is handed to the router.
fn line(inbound: &Inbound) -> String {
    match inbound {
        Inbound::Message(envelope, parts, _) => {
            let Origin::Jabber(origin) = &envelope.origin else { panic!("not from Jabber") };
            let parts: Vec<&str> = parts
                .iter()
                .map(|part| match part {
                    Body::Clear(text) => &**text,
                    other => panic!("{other:?}"),
                })
                .collect();
            let stamped = if origin.stamp.is_some() { ", stamped" } else { "" };
            let from = &origin.from;
            format!(
                "{:?}, {:?}{stamped}, from {from} to {}: {parts:?}",
                envelope.kind, origin.form, origin.to
            )
        }
        Inbound::Typing(typing, _) => {
            let TypingOrigin::Jabber { from, to, .. } = &typing.from else { panic!("not from Jabber") };
            format!("typing {} from {from} to {to}", typing.active)
        }
        other => panic!("{other:?}"),
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/wire")
}

fn replayed(recording: &Path) -> String {
    let text = fs::read_to_string(recording).unwrap();
    let (mut wires, mut read) = (BTreeMap::new(), Read::default());
    for line in text.lines() {
        let (head, piece) = line.split_once(' ').unwrap();
        let piece: String = serde_json::from_str(piece).unwrap();
        let (side, number) = head.split_at(1);
        let wire = wires.entry(number.parse::<u32>().unwrap()).or_insert_with(Wire::new);
        match side {
            "C" => wire.asked(piece.as_bytes()),
            _ => wire.said(piece.as_bytes(), &mut read),
        }
    }
    let ignored: String = read.ignored.iter().map(|(why, count)| format!("{count} times {why}\n")).collect();
    read.lines + "\n" + &ignored
}

#[test]
fn what_servers_have_said_is_read_as_it_was() {
    let mut recordings: Vec<PathBuf> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "wire"))
        .collect();
    recordings.sort();
    let names: Vec<_> = recordings.iter().map(|path| path.file_stem().unwrap().to_str().unwrap()).collect();
    let pairs = [
        "a-jabberd2",
        "a-prosody-with-our-module",
        "a-stand-in",
        "b-ejabberd",
        "b-stand-in",
        "c-ejabberd",
        "c-stand-in",
    ];
    assert_eq!(names, pairs, "each pair that has sessions");
    for recording in &recordings {
        let (read, kept) = (replayed(recording), recording.with_extension("read"));
        if std::env::var_os("WRITE_WIRE").is_some() {
            fs::write(&kept, &read).unwrap();
            continue;
        }
        assert_eq!(read, fs::read_to_string(&kept).unwrap(), "{}", recording.display());
        // Whatever else there is, what clients of others wrote is among it.
        for text in ["from slixmpp", "from profanity"] {
            assert!(read.contains(&format!("to bob@lab.example: [{text:?}]")), "{text}: {read}");
        }
    }
}
