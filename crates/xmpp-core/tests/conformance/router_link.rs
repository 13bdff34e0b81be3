//! The initiating side of a link to a jabberd2 router.

use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use md5::{Digest as _, Md5};
use xmpp_core::router_link::{Config, Login};

use crate::{drive, entropy};

fn login_machine() -> Login {
    Login::new(Config::new("connector", "secret".into(), entropy()), Instant::now()).unwrap()
}

/// The router's proof for the digest response that we wrote (RFC 2831 §2.1.3).
fn proof(written: &str) -> String {
    let hex = |text: &[u8]| Md5::digest(text).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let response = written.split("xmpp-sasl'>").nth(1).unwrap().split('<').next().unwrap();
    let response = String::from_utf8(BASE64.decode(response).unwrap()).unwrap();
    let cnonce = response.split("cnonce=\"").nth(1).unwrap().split('"').next().unwrap();
    let mut a1 = Md5::digest("connector:jabberd-router:secret").to_vec();
    a1.extend_from_slice(format!(":abc:{cnonce}").as_bytes());
    let a2 = hex(b":xmpp/jabberd-router");
    hex(format!("{}:abc:00000001:{cnonce}:auth:{a2}", hex(&a1)).as_bytes())
}

#[test]
fn router_links() {
    let open = "<stream:stream xmlns:stream='http://etherx.jabber.org/streams' id='s' version='1.0'>";
    let offer = "<stream:features xmlns:stream='http://etherx.jabber.org/streams'>\
        <mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>DIGEST-MD5</mechanism></mechanisms></stream:features>";
    let sasl = |name: &str, text: &str| {
        format!("<{name} xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{}</{name}>", BASE64.encode(text))
    };
    let challenge = sasl(
        "challenge",
        "realm=\"jabberd-router\",nonce=\"abc\",qop=\"auth\",charset=utf-8,algorithm=md5-sess",
    );
    let (forged, silent) =
        (sasl("success", "rspauth=00"), "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>");
    let digest = drive(login_machine(), &[open, offer, &challenge], Instant::now()).1;
    let proof = sasl("success", &format!("rspauth={}", proof(&digest)));
    let features = "<stream:features/>";
    let bound = "<bind xmlns='http://jabberd.jabberstudio.org/ns/component/1.0'/>";
    let up = "<presence xmlns='http://jabberd.jabberstudio.org/ns/component/1.0' from='sm'/>";
    let login = vec![open, offer, &challenge, &proof, open, features];
    let and = |more: &[&'static str]| [&login[..], more].concat();
    for (what, peer, outcome) in [
        ("bound", and(&[bound]), "established connector"),
        ("a presence before", and(&[up, bound]), "established connector"),
        (
            "not bound",
            and(&["<bind xmlns='http://jabberd.jabberstudio.org/ns/component/1.0' error='name in use'/>"]),
            "binding refused: name in use",
        ),
        (
            "wrong secret",
            vec![
                open,
                offer,
                &challenge,
                "<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><not-authorized/></failure>",
            ],
            "authentication refused: not-authorized",
        ),
        (
            "a router that does not know the secret",
            vec![open, offer, &challenge, &forged],
            "bad SASL exchange: the server did not prove that it knows the password",
        ),
        (
            "no proof",
            vec![open, offer, &challenge, silent],
            "bad SASL exchange: the server did not prove that it knows the password",
        ),
        ("success at once", vec![open, offer, silent], "bad SASL exchange: success out of turn"),
        ("no mechanism of ours", vec![open, features], "no usable SASL mechanism; offered: "),
        (
            "closed",
            vec![open, "</stream:stream>"],
            "the peer closed the stream while waiting for stream features",
        ),
    ] {
        let (got, written, _) = drive(login_machine(), &peer, Instant::now());
        assert_eq!(got, outcome, "{what}; we wrote {written}");
    }

    let (_, written, _) = drive(login_machine(), &login, Instant::now());
    let header = "<?xml version='1.0'?><stream:stream xmlns:stream='http://etherx.jabber.org/streams' \
        to='jabberd-router' version='1.0'>";
    let auth = "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='DIGEST-MD5'/>";
    assert!(written.starts_with(&[header, auth].concat()), "{written}");
    let bind = "<bind xmlns='http://jabberd.jabberstudio.org/ns/component/1.0' name='connector'/>";
    assert!(written.ends_with(&[header, bind].concat()), "{written}");
}
