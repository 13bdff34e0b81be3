//! Bytes into the reader of AXL answers, and the rows of whatever it takes into the directory.

use std::collections::BTreeSet;

use axl_client::users::{Directory, Pages, escape};
use axl_client::{AxlError, Client, Session};
use bytes::Bytes;

pub(crate) fn run(data: &[u8]) {
    let [status, body @ ..] = data else { return };
    let client = Client::new("https://imp.example:8443", "axl", "secret").expect("an address");
    let mut pages = Pages::new(1_000);
    let request = axl_client::users::bulk_query(pages.next().expect("a first page"));
    let status = [200, 200, 200, 500, 503, 401, 404, 302][usize::from(status % 8)];
    let response = http::Response::builder()
        .status(status)
        .header("set-cookie", "JSESSIONIDSSO=1; Path=/; Secure")
        .body(Bytes::copy_from_slice(body))
        .expect("a response");
    match client.parse(&mut Session::new(), &request, &response) {
        Ok(rows) => {
            let nodes = BTreeSet::from(["1".to_owned()]);
            let directory = Directory::read(&rows, &nodes);
            assert!(directory.users.len() <= rows.len(), "users out of nothing");
            let reversed: Vec<_> = rows.iter().rev().cloned().collect();
            assert_eq!(directory, Directory::read(&reversed, &nodes), "the order of the rows decides");
            pages.took(rows.len());
        }
        Err(error) => {
            let _ = (error.fate(), error.to_string());
            if let AxlError::TooLarge { suggested, .. } = error {
                // However wrong the hint is, asking for less comes to an end.
                let tries = (0..64).take_while(|_| pages.too_large(suggested)).count();
                assert!(tries < 64, "pages that never get smaller");
            }
        }
    }
    if let Ok(text) = std::str::from_utf8(body) {
        let escaped = escape(text);
        let node = escaped.rsplit_once('@').map_or("", |(node, _)| node);
        assert!(!node.contains(|c| " \"&'/:<>@".contains(c)), "a forbidden character in {escaped:?}");
    }
}
