//! Rows of the bulk query into users.

use std::collections::BTreeSet;

use axl_client::users::{
    BULK_QUERY, BULK_QUERY_WITHOUT_ADDRESSES, Directory, Home, Pages, Problem, Reading, Scheme, bulk_query,
    bulk_query_without_addresses, escape,
};
use axl_client::{Page, Row, Select};
use proptest::prelude::*;

fn nodes() -> BTreeSet<String> {
    ["1".to_owned(), "2".to_owned()].into()
}

fn row(userid: &str, im: &str, mail: &str, node: &str) -> Row {
    let fields = [
        ("userid", userid),
        ("imaddress", im),
        ("mailid", mail),
        ("primarynodeid", node),
        ("enablecups", "t"),
    ];
    Row::from_iter(fields)
}

fn problems(rows: &[Row]) -> Vec<String> {
    Directory::read(rows, &nodes()).problems.iter().map(ToString::to_string).collect()
}

#[test]
fn the_bulk_query_is_a_select() {
    assert!(Select::new(format!("select skip 0 first 9 {BULK_QUERY}")).is_ok());
    assert!(Select::new(format!("select skip 0 first 9 {BULK_QUERY_WITHOUT_ADDRESSES}")).is_ok());
    for query in [bulk_query, bulk_query_without_addresses] {
        assert_eq!(query(Page { skip: 0, first: 9 }).operation(), "executeSQLQuery");
    }
}

#[test]
fn jid_and_mail_are_two_names_in_lower_case() {
    let directory =
        Directory::read(&[row("Alice", "Alice@Lab.example", "A.Liddell@Corp.example", "1")], &nodes());
    let alice = &directory.users["alice@lab.example"];
    assert_eq!(alice.mail.as_deref(), Some("a.liddell@corp.example"));
    assert_eq!(alice.home, Home::Here("1".into()));
    assert_eq!(alice.userid, "alice");
    assert!(directory.problems.is_empty());
}

/// What the row says counts; where it says nothing, what the deployment's addresses are made of.
#[test]
fn an_address_that_is_not_told_follows_from_the_scheme() {
    let row = |userid: &str, im: &str, uri: &str| {
        Row::from_iter([("userid", userid), ("imaddress", im), ("directoryuri", uri), ("primarynodeid", "1")])
    };
    let rows = [
        row("Alice", "told@lab.example", "Alice.L@Corp.example"),
        row("O'Hara", "", "o'hara@corp.example"),
        row("Bob", "", ""),
        row("", "", "carol@corp.example"),
    ];
    for (scheme, jids, problems) in [
        (
            Scheme::UserId("im.example".into()),
            vec!["bob@im.example", "o\\27hara@im.example", "told@lab.example"],
            vec![Problem::NoJid("".into())],
        ),
        (
            Scheme::DirectoryUri,
            vec!["carol@corp.example", "o\\27hara@corp.example", "told@lab.example"],
            vec![Problem::NoJid("bob".into())],
        ),
        (
            Scheme::Unknown,
            vec!["told@lab.example"],
            ["", "bob", "o'hara"].map(|userid| Problem::NoJid(userid.into())).to_vec(),
        ),
    ] {
        let mut reading = Reading::new(nodes(), scheme.clone());
        rows.chunks(3).for_each(|page| reading.take(page));
        let mut directory = reading.finish();
        assert_eq!(directory.users.keys().collect::<Vec<_>>(), jids, "{scheme:?}");
        directory.problems.retain(|problem| !matches!(problem, Problem::NoMail(_)));
        assert_eq!(directory.problems.into_iter().collect::<Vec<_>>(), problems, "{scheme:?}");
    }
}

#[test]
fn users_of_other_clusters_are_known_and_not_served() {
    let rows = [
        row("a", "a@lab.example", "a@corp.example", "1"),
        row("b", "b@lab.example", "b@corp.example", ""),
        row("c", "c@lab.example", "c@corp.example", "99"),
    ];
    let directory = Directory::read(&rows, &nodes());
    assert_eq!((directory.users.len(), directory.served()), (3, 1));
    assert_eq!(directory.users["b@lab.example"].home, Home::Elsewhere);
    assert_eq!(directory.users["c@lab.example"].home, Home::Elsewhere);
}

#[test]
fn a_user_that_is_switched_off_is_not_there() {
    let off = Row::from_iter([("userid", "a"), ("imaddress", "a@lab.example"), ("enablecups", "f")]);
    assert_eq!(Directory::read(&[off], &nodes()), Directory::default());
}

#[test]
fn node_parts_are_escaped_once() {
    for (plain, escaped) in [
        ("o'hara@lab.example", "o\\27hara@lab.example"),
        ("d'artagnan le\\20@lab.example", "d\\27artagnan\\20le\\5c20@lab.example"),
        ("a\\b@lab.example", "a\\b@lab.example"),
        ("a@b@lab.example", "a\\40b@lab.example"),
        ("no-at", "no-at"),
    ] {
        assert_eq!(escape(plain), escaped);
    }
    let given =
        Row::from_iter([("imaddress", "o'hara@lab.example"), ("xep106imaddress", "O\\27Hara@lab.example")]);
    let directory = Directory::read(&[given], &nodes());
    assert!(directory.users.contains_key("o\\27hara@lab.example"), "{directory:?}");
}

#[test]
fn of_several_rows_the_one_with_a_node_is_taken() {
    let rows =
        [row("a", "a@lab.example", "a@corp.example", ""), row("a", "a@lab.example", "a@corp.example", "2")];
    let directory = Directory::read(&rows, &nodes());
    assert_eq!(directory.users["a@lab.example"].home, Home::Here("2".into()));
    assert_eq!(problems(&rows), ["user `a` has several rows"]);
}

#[test]
fn every_conflict_is_reported_and_the_user_left_out_or_unmatched() {
    let rows = [
        row("a", "a@lab.example", "shared@corp.example", "1"),
        row("b", "b@lab.example", "Shared@corp.example", "1"),
        row("c", "c@lab.example", "", "1"),
        row("d", "d@lab.example", "c@lab.example", "1"),
        row("e", "e@lab.example", "e@lab.example", "1"),
        row("f", "same@lab.example", "f@corp.example", "1"),
        row("g", "same@lab.example", "g@corp.example", "1"),
        row("h", "", "h@corp.example", "1"),
        row("i", "lab.example/x", "i@corp.example", "1"),
    ];
    let directory = Directory::read(&rows, &nodes());
    let mails: Vec<_> =
        directory.users.iter().map(|(jid, user)| (jid.as_str(), user.mail.as_deref())).collect();
    assert_eq!(
        mails,
        [
            ("a@lab.example", None),
            ("b@lab.example", None),
            ("c@lab.example", None),
            ("d@lab.example", None),
            ("e@lab.example", Some("e@lab.example")),
        ]
    );
    assert_eq!(
        problems(&rows),
        [
            "user `h` has no IM address",
            "`lab.example/x` is not an IM address",
            "several users have the IM address same@lab.example",
            "c@lab.example has no mail address",
            "several users have the mail address shared@corp.example",
            "the mail address c@lab.example is another user's IM address",
        ]
    );
    assert!(directory.problems.contains(&Problem::NoJid("h".into())));
}

#[test]
fn pages_shrink_until_the_server_is_content() {
    let all: Vec<Row> = (0..250).map(|n| row(&format!("u{n}"), "x@lab.example", "", "1")).collect();
    let server = |page: Page, most: u64| -> Result<Vec<Row>, u64> {
        if page.first > most {
            return Err(most);
        }
        Ok(all.iter().skip(page.skip as usize).take(page.first as usize).cloned().collect())
    };
    for (first, most) in [(1000, 1000), (1000, 100), (250, 250), (50, 7), (1, 1)] {
        let mut pages = Pages::new(first);
        let (mut asked, mut read) = (0, Vec::new());
        while let Some(page) = pages.next() {
            asked += 1;
            assert!(asked < 1000);
            match server(page, most) {
                Ok(rows) => {
                    pages.took(rows.len());
                    read.extend(rows);
                }
                Err(suggested) => assert!(pages.too_large(suggested)),
            }
        }
        assert_eq!(read, all);
    }
    let mut stuck = Pages::new(1);
    assert!(!stuck.too_large(12_000));
    let mut pages = Pages::new(0);
    pages.took(0);
    assert_eq!(pages.next(), None);
}

proptest! {
    /// Rows come in any order and the same directory comes out; a mail names at most one user.
    #[test]
    fn order_does_not_matter(
        fields in proptest::collection::vec(("[ab]?", "[ab@. ]{0,5}", "([ab]@c)?", "[139]?"), 0..8),
        seed in any::<u64>(),
    ) {
        let rows: Vec<Row> = fields.iter().map(|(u, im, mail, node)| row(u, im, mail, node)).collect();
        let mut turned = rows.clone();
        if !turned.is_empty() {
            let by = seed as usize % turned.len();
            turned.rotate_left(by);
        }
        turned.reverse();
        let directory = Directory::read(&rows, &nodes());
        prop_assert_eq!(&Directory::read(&turned, &nodes()), &directory);
        let mut by_pages = Reading::new(nodes(), Scheme::Unknown);
        turned.chunks(3).for_each(|page| by_pages.take(page));
        prop_assert_eq!(&by_pages.finish(), &directory);
        let mails: Vec<_> = directory.users.values().filter_map(|user| user.mail.clone()).collect();
        let distinct: BTreeSet<_> = mails.iter().cloned().collect();
        prop_assert_eq!(distinct.len(), mails.len());
    }
}
