//! The published vectors: an id that was ever written means the same for ever.

use std::fmt::Write;

use router::ids::{DerivedId, PersonId, SourceId, StanzaId};
use router::jabber_source;
use router::tag::Tagger;

const PUBLISHED: &str = include_str!("../../../docs/ids.md");

/// The rows of the table that follows this heading.
fn rows(heading: &str) -> Vec<Vec<&'static str>> {
    let (_, section) = PUBLISHED.split_once(heading).expect("the heading is there");
    let lines = section.lines().skip_while(|line| !line.starts_with("| ---")).skip(1);
    let rows: Vec<Vec<&str>> = lines
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    assert!(!rows.is_empty(), "no rows under {heading}");
    rows
}

fn tagger() -> Tagger {
    Tagger::new(b"the organization's key", &[])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes everything");
        text
    })
}

#[test]
fn ids_are_what_was_published() {
    for row in rows("## Ids of what we write") {
        let [kind, source, occurrence, part, id] = row[..] else { panic!("{row:?}") };
        let number = |text: &str| text.parse().expect("a number");
        let derived = tagger().derive(kind, &SourceId::new(source), number(occurrence), number(part));
        assert_eq!(derived.as_str(), id, "{row:?}");
        assert!(tagger().is_ours(id));
        assert!(tagger().is_ours(&id.to_uppercase()), "servers may change the case");
        assert!(!Tagger::new(b"another organization's key", &[]).is_ours(id));
        assert!(Tagger::new(b"a new key", &[b"the organization's key"]).is_ours(id));
    }
}

#[test]
fn one_changed_digit_is_not_ours() {
    for row in rows("## Ids of what we write") {
        let id = row[4];
        for (at, digit) in id.char_indices().filter(|(_, c)| *c != '-') {
            let other = if digit == '0' { "1" } else { "0" };
            let changed = format!("{}{other}{}", &id[..at], &id[at + 1..]);
            assert!(!tagger().is_ours(&changed), "{changed}");
        }
    }
    for other in ["", "a1", "00000000-0000-8000-8000-000000000000", "urn:uuid:", &"x".repeat(36)] {
        assert!(!tagger().is_ours(other), "{other}");
    }
}

#[test]
fn ivs_are_what_was_published() {
    for row in rows("## IVs") {
        let [id, field, text, iv] = row[..] else { panic!("{row:?}") };
        assert_eq!(hex(&tagger().iv(&DerivedId::new(id), field, text)), iv, "{row:?}");
    }
}

#[test]
fn source_ids_are_what_was_published() {
    for row in rows("## Source ids") {
        let [from, recipient, stanza, text, source] = row[..] else { panic!("{row:?}") };
        let mut hash = [0; 32];
        for (at, byte) in hash.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).expect("hexadecimal digits");
        }
        let derived = jabber_source(from, &PersonId::new(recipient), &StanzaId::new(stanza), &hash);
        assert_eq!(derived.as_str(), source, "{row:?}");
    }
}
