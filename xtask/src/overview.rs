//! Is `docs/overview-map.md` complete and true? Every behaviour of the product overview has an id; each
//! id has one row there, and what a row names exists. So do the tests behind the promises.

use std::collections::BTreeMap;
use std::fs;

use crate::parts::root;

/// The sections of the overview: prefix, and how many items it has.
const SECTIONS: &[(&str, u32)] = &[
    ("CMP-", 6),
    ("LIC-", 10),
    ("IX-T", 16),
    ("IX-", 15),
    ("CAP-", 24),
    ("TOP-", 6),
    ("SC-", 28),
    ("CT-", 3),
    ("DM-", 22),
    ("OFF-", 11),
    ("GRP-", 14),
    ("PR-", 50),
    ("PR-A", 9),
    ("PR-B", 56),
    ("FT-", 9),
    ("MIG-", 19),
    ("SEC-", 2),
    ("FJ-", 12),
    ("FW-", 9),
    ("CON-", 2),
    ("PORT-", 7),
];

/// Checks the map.
pub(crate) fn check() -> Result<(), String> {
    let path = root().join("docs/overview-map.md");
    let text = fs::read_to_string(&path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    let read = |file: &str| fs::read_to_string(root().join(file)).ok();
    let mut wrong = faults(&text, &read);
    for document in
        ["docs/guarantees.md", "docs/mechanisms.md", "docs/protocol/axl.md", "docs/protocol/xmpp.md"]
    {
        let text = read(document).ok_or_else(|| format!("cannot read {document}"))?;
        wrong.extend(cited(&text, &read).into_iter().map(|fault| format!("{document}: {fault}")));
    }
    if wrong.is_empty() {
        let (built, open) = count(&text);
        println!(
            "overview: {built} items built and tested or said in the documents, {open} open, each with its reason"
        );
        Ok(())
    } else {
        Err(wrong.join("\n"))
    }
}

fn rows(text: &str) -> impl Iterator<Item = (&str, &str, &str)> {
    text.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ");
        let (id, state, what) = (cells.next()?, cells.next()?, cells.next()?);
        SECTIONS.iter().any(|(prefix, _)| id.starts_with(prefix)).then_some((id, state, what))
    })
}

fn count(text: &str) -> (usize, usize) {
    let open = rows(text).filter(|(_, state, _)| *state == "open").count();
    (rows(text).count() - open, open)
}

fn ids() -> Vec<String> {
    let all = SECTIONS.iter().flat_map(|(prefix, n)| (1..=*n).map(move |i| format!("{prefix}{i:02}")));
    // Tables count without a leading zero where they have fewer than ten rows.
    all.map(|id| id.replace("PR-A0", "PR-A")).collect()
}

/// A row is `| ID | state | what |`: `built` names tests as `file::test`, separated by commas; `doc` names
/// a file; `open` and `out` give the reason.
fn faults(text: &str, read: &dyn Fn(&str) -> Option<String>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut seen: BTreeMap<&str, u32> = BTreeMap::new();
    for (id, state, what) in rows(text) {
        *seen.entry(id).or_default() += 1;
        match state {
            "built" => {
                for test in what.split(", ") {
                    let Some((file, name)) = test.trim_matches('`').split_once("::") else {
                        wrong.push(format!("{id}: `{test}` is not of the form file::test"));
                        continue;
                    };
                    match read(file) {
                        None => wrong.push(format!("{id}: there is no file {file}")),
                        Some(content)
                            if !content.contains(&format!("fn {name}("))
                                && !content.contains(&format!("\"{name}\"")) =>
                        {
                            wrong.push(format!("{id}: {file} has no test {name}"));
                        }
                        Some(_) => {}
                    }
                }
            }
            "doc" => {
                if read(what.trim_matches('`')).is_none() {
                    wrong.push(format!("{id}: there is no file {what}"));
                }
            }
            "open" | "out" if what.len() < 10 => wrong.push(format!("{id}: give the reason")),
            "open" | "out" => {}
            other => wrong.push(format!("{id}: `{other}` is not one of built, doc, open, out")),
        }
    }
    for id in ids() {
        match seen.get(id.as_str()) {
            None => wrong.push(format!("{id} has no row")),
            Some(1) => {}
            Some(n) => wrong.push(format!("{id} has {n} rows")),
        }
    }
    wrong
}

/// Each `file::test` in a text names a test that is there; a macro may make it.
fn cited(text: &str, read: &dyn Fn(&str) -> Option<String>) -> Vec<String> {
    let tests = text.split('`').skip(1).step_by(2).filter_map(|code| code.split_once(".rs::"));
    tests
        .filter_map(|(file, name)| match read(&format!("{file}.rs")) {
            None => Some(format!("there is no file {file}.rs")),
            Some(content) if !content.contains(name) => Some(format!("{file}.rs has no test {name}")),
            Some(_) => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(row: &str) -> String {
        let others: Vec<String> = ids()
            .iter()
            .filter(|id| *id != "IX-T01")
            .map(|id| format!("| {id} | out | not of this product |"))
            .collect();
        format!("{}\n{row}\n", others.join("\n"))
    }

    fn reader(file: &str) -> Option<String> {
        (file == "a.rs").then(|| "fn it_works() {}".to_owned())
    }

    #[test]
    fn a_row_that_names_a_test_is_held_to_it() {
        assert!(faults(&map("| IX-T01 | built | `a.rs::it_works` |"), &reader).is_empty());
        assert_eq!(
            faults(&map("| IX-T01 | built | `a.rs::it_flies` |"), &reader),
            ["IX-T01: a.rs has no test it_flies"]
        );
        assert_eq!(
            faults(&map("| IX-T01 | built | `b.rs::it_works` |"), &reader),
            ["IX-T01: there is no file b.rs"]
        );
    }

    #[test]
    fn a_promise_is_held_to_its_tests() {
        assert!(cited("All is well (`a.rs::it_works`).", &reader).is_empty());
        assert_eq!(cited("`x`, `a.rs::it_flies`", &reader), ["a.rs has no test it_flies"]);
        assert_eq!(cited("| `b.rs::it_works` |", &reader), ["there is no file b.rs"]);
    }

    #[test]
    fn a_missing_or_double_row_is_named() {
        assert_eq!(faults(&map(""), &reader), ["IX-T01 has no row"]);
        let twice = map("| IX-T01 | out | not of this product |\n| IX-T01 | out | not of this product |");
        assert_eq!(faults(&twice, &reader), ["IX-T01 has 2 rows"]);
    }
}
