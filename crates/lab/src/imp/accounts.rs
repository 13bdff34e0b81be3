//! Who may log in, and as whom.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use xmpp_core::accept::Authenticator;
use xmpp_core::sasl::Mechanism;
use xmpp_core::{BareJid, Secret};

use crate::clock::Time;
use crate::ctx::{
    Ctx, SECOND_TRUSTED_NAME, SERVICE_JID, SERVICE_PASSWORD, TOKEN_KEY, TRUSTED_NAME, TRUSTED_SECRET,
};

/// The accounts of the lab, the service account of link B, the tokens of link C and the component of link A.
pub(crate) struct Accounts(pub(crate) Arc<Ctx>);

impl Authenticator for Accounts {
    fn mechanisms(&self, _encrypted: bool) -> Vec<Mechanism> {
        vec![Mechanism::ScramSha256, Mechanism::ScramSha1, Mechanism::Plain, Mechanism::CiscoVtgToken]
    }

    fn password(&self, account: &BareJid) -> Option<Secret> {
        if account.as_str() == SERVICE_JID {
            return Some(SERVICE_PASSWORD.into());
        }
        self.0.people.by_jid(account.as_str()).map(|person| person.password.into())
    }

    /// The service account may act as everybody, and everybody as themselves.
    fn authorize(&self, authenticated: &BareJid, asked: &BareJid) -> bool {
        let is_service = authenticated.as_str() == SERVICE_JID;
        authenticated == asked || (is_service && self.0.people.by_jid(asked.as_str()).is_some())
    }

    fn token(&self, account: &BareJid, token: &str) -> bool {
        self.0.people.by_jid(account.as_str()).is_some()
            && token_names(token, account.as_str(), self.0.clock.now())
    }

    fn component(&self, name: &str) -> Option<Secret> {
        [TRUSTED_NAME, SECOND_TRUSTED_NAME].contains(&name).then(|| TRUSTED_SECRET.into())
    }
}

/// Whether a token is a JWT (RFC 7519) for this account, signed with HS256 and the lab's token key, and still valid. That is
/// the form of token that is best known for such logins; the product's own is made by its web service.
fn token_names(token: &str, account: &str, now: Time) -> bool {
    let checked = || -> Option<bool> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let json = |part: &str| -> Option<serde_json::Value> {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
        };
        let key = hmac::Key::new(hmac::HMAC_SHA256, TOKEN_KEY.as_bytes());
        hmac::verify(&key, signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).ok()?).ok()?;
        let claims = json(claims)?;
        let valid = claims.get("exp")?.as_i64()?.saturating_mul(1000) > now.0;
        Some(json(header)?.get("alg")? == "HS256" && claims.get("jid")? == account && valid)
    };
    checked().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(header: &str, claims: &str, secret: &str) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(hmac::sign(&key, signed.as_bytes())))
    }

    #[test]
    fn a_token_names_one_account_until_it_expires() {
        let hs = r#"{"alg":"HS256","typ":"JWT"}"#;
        let alice = r#"{"jid":"alice@lab.example","exp":100}"#;
        let good = token(hs, alice, TOKEN_KEY);
        assert!(token_names(&good, "alice@lab.example", Time(99_999)));
        assert!(!token_names(&good, "alice@lab.example", Time(100_000)), "expired");
        assert!(!token_names(&good, "bob@lab.example", Time(0)), "another's");
        assert!(!token_names(&token(hs, alice, "guess"), "alice@lab.example", Time(0)), "wrong secret");
        assert!(!token_names(
            &token(r#"{"alg":"none"}"#, alice, TRUSTED_SECRET),
            "alice@lab.example",
            Time(0)
        ));
        for bad in ["", ".", "..", "a.b.c", &good[..good.len() - 2]] {
            assert!(!token_names(bad, "alice@lab.example", Time(0)), "{bad}");
        }
    }
}
