//! OAuth: tokens that are issued, refreshed, exchanged and revoked.

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{StatusCode, header};
use kms_client::message::Asker;
use serde_json::{Value, json};
use webex_api::Url;

use super::Cloud;
use crate::{
    clock::Time,
    ctx::{CLIENT_ID, CLIENT_SECRET},
    http::{Answer, Call, Handled},
    people::{ORG_ID, Person},
};

/// How long an access token lives (14 days). Not scaled: it stands on the wire as seconds.
const ACCESS: Duration = Duration::from_secs(14 * 86_400 - 1);
/// How long a refresh token lives (90 days).
const REFRESH: Duration = Duration::from_secs(90 * 86_400 - 1);
/// How long a device grant may be waited for.
const DEVICE_GRANT: Duration = Duration::from_secs(300);
/// How long an authorization code may be used.
const CODE: Duration = Duration::from_secs(60);

const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const SCOPE_REDUCTION: &str = "urn:cisco:oauth:grant-type:scope-reduction";
const ACCESS_TOKEN_TYPE: &str = "urn:ietf:params:oauth:token-type:access_token";
/// What may be refreshed and used for everything that messages need.
const SCOPES: &str = "spark:all spark:kms";

/// Whom a token speaks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Bearer {
    /// A person, or the service bot, by short name.
    Person(String),
    /// The machine account.
    Machine,
    /// The administrator.
    Admin,
}

#[derive(Clone, Debug)]
struct Issued {
    bearer: Bearer,
    scope: String,
    expires: Time,
    /// A built-in person's client has it, which no fault touches.
    puppet: bool,
}

/// A device grant: asked for, perhaps allowed by a person, perhaps fetched.
#[derive(Clone, Debug)]
struct Grant {
    user_code: String,
    allowed: Option<String>,
    expires: Time,
}

/// A code that a person allowed a client to fetch a token with, once.
#[derive(Clone, Debug)]
struct Code {
    person: String,
    redirect_uri: String,
    expires: Time,
}

/// Everything that was issued.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    issued: u64,
    access: BTreeMap<String, Issued>,
    refresh: BTreeMap<String, Issued>,
    grants: BTreeMap<String, Grant>,
    codes: BTreeMap<String, Code>,
}

/// An access token and what refreshes it.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) access: String,
    pub(crate) refresh: String,
}

impl Tokens {
    /// Issues a pair. The access token has three parts, the last the organization; its number rises with every issue.
    pub(crate) fn issue(
        &mut self,
        bearer: Bearer,
        org_id: &str,
        scope: &str,
        now: Time,
        puppet: bool,
    ) -> Pair {
        self.issued += 1;
        let name = match &bearer {
            Bearer::Person(name) => name.as_str(),
            Bearer::Machine => "machine",
            Bearer::Admin => "admin",
        };
        let access = format!("lab_{name}.{}_{org_id}", self.issued);
        let refresh = format!("lab-refresh-{name}-{}", self.issued);
        let issued = |expires| Issued { bearer: bearer.clone(), scope: scope.to_owned(), expires, puppet };
        self.access.insert(access.clone(), issued(now.plus(ACCESS)));
        self.refresh.insert(refresh.clone(), issued(now.plus(REFRESH)));
        Pair { access, refresh }
    }

    fn valid(&self, token: &str, now: Time) -> Option<&Issued> {
        self.access.get(token).filter(|issued| issued.expires > now)
    }

    /// Takes every token of a person away, but for those of the built-in client.
    pub(crate) fn revoke_all(&mut self, name: &str) {
        let of = |issued: &Issued| !issued.puppet && issued.bearer == Bearer::Person(name.to_owned());
        self.access.retain(|_, issued| !of(issued));
        self.refresh.retain(|_, issued| !of(issued));
    }
}

fn refused(error: &str, description: &str) -> Answer {
    Answer::json(StatusCode::BAD_REQUEST, &json!({"error": error, "error_description": description}))
}

impl Cloud {
    /// Whom a request speaks for.
    pub(crate) fn bearer(&self, call: &Call) -> Result<Bearer, Answer> {
        let unauthorized = || {
            Answer::error(
                StatusCode::UNAUTHORIZED,
                1_401_000,
                "The access token is missing, unknown, expired or revoked.",
            )
        };
        let token = call.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        let bearer = self.token_bearer(token.ok_or_else(unauthorized)?.trim()).ok_or_else(unauthorized)?;
        let name = match &bearer {
            Bearer::Person(name) => Some(name.as_str()),
            _ => None,
        };
        if !call.is_puppet() {
            // A bot's token is for good: nothing gives it another.
            let is_bot = |name: &str| self.ctx.people.by_name(name).is_some_and(|person| person.bot);
            let revoked = name.filter(|name| !is_bot(name) && self.ctx.faults.hit("revoke", Some(name)));
            if let Some(name) = revoked {
                self.state().tokens.revoke_all(name);
                return Err(unauthorized());
            }
            if self.ctx.faults.hit("unauthorized", name) {
                return Err(unauthorized());
            }
        }
        Ok(bearer)
    }

    /// The short name of whom a request speaks for, where it speaks for a person.
    pub(crate) fn caller_name(&self, call: &Call) -> Option<String> {
        let token = call.header("authorization")?.strip_prefix("Bearer ")?;
        match self.token_bearer(token.trim())? {
            Bearer::Person(name) => Some(name),
            Bearer::Machine | Bearer::Admin => None,
        }
    }

    /// Whom an access token speaks for.
    pub(crate) fn token_bearer(&self, token: &str) -> Option<Bearer> {
        self.state().tokens.valid(token, self.now()).map(|issued| issued.bearer.clone())
    }

    /// The person that a request speaks for.
    pub(crate) fn caller(&self, call: &Call) -> Result<Person, Answer> {
        let forbidden =
            || Answer::error(StatusCode::FORBIDDEN, 1_403_000, "This needs the token of a person.");
        let Bearer::Person(name) = self.bearer(call)? else { return Err(forbidden()) };
        self.ctx.people.by_name(&name).ok_or_else(forbidden)
    }

    /// Whether what a message to the key service claims is true: the token is that user's and fit for it, and the
    /// device is that user's.
    pub(crate) fn trusts(&self, asker: &Asker) -> bool {
        let state = self.state();
        let Some(issued) = state.tokens.valid(asker.bearer.as_str(), self.now()) else {
            return false;
        };
        let Bearer::Person(name) = &issued.bearer else { return false };
        let person = self.ctx.people.by_name(name);
        issued.scope.split(' ').any(|scope| scope == "spark:kms")
            && person.is_some_and(|person| person.person_id == asker.user)
            && state.devices.owner(&asker.device) == Some(name.as_str())
    }

    fn token_answer(&self, call: &Call, bearer: Bearer, scope: &str) -> Answer {
        let org_id = match &bearer {
            Bearer::Person(name) => self.ctx.people.by_name(name).map(|person| person.org_id),
            Bearer::Machine | Bearer::Admin => None,
        };
        let org_id = org_id.unwrap_or_else(|| ORG_ID.to_owned());
        let name = match &bearer {
            Bearer::Person(name) if !call.is_puppet() => Some(name.clone()),
            _ => None,
        };
        let short = name.and_then(|name| self.ctx.faults.hit_value("short-tokens", Some(&name), 5));
        let life = short.map_or(ACCESS, |seconds| Duration::from_secs(seconds.unsigned_abs()));
        let now = self.now();
        let mut state = self.state();
        let pair = state.tokens.issue(bearer, &org_id, scope, now, call.is_puppet());
        if let Some(issued) = state.tokens.access.get_mut(&pair.access) {
            issued.expires = now.plus(life);
        }
        drop(state);
        Answer::ok(&json!({
            "access_token": pair.access,
            "token_type": "Bearer",
            "expires_in": life.as_secs(),
            "refresh_token": pair.refresh,
            "refresh_token_expires_in": REFRESH.as_secs(),
            "scope": scope,
        }))
    }

    /// `POST /idb/oauth2/v1/access_token` and `POST /v1/access_token`.
    pub(crate) fn token(&self, call: &Call) -> Handled {
        let form = call.form();
        let field = |name: &str| form.get(name).map_or("", String::as_str);
        let grant = field("grant_type");
        // The token that is narrowed proves enough; no client authentication goes with it.
        if grant != SCOPE_REDUCTION && !is_client(call, field("client_id"), field("client_secret")) {
            return Err(Answer::json(
                StatusCode::UNAUTHORIZED,
                &json!({"error": "invalid_client", "error_description": "The client is unknown or its secret is wrong."}),
            ));
        }
        let now = self.now();
        match grant {
            "refresh_token" => {
                let found = self.state().tokens.refresh.get(field("refresh_token")).cloned();
                match found.filter(|issued| issued.expires > now) {
                    Some(issued) => {
                        let name = match &issued.bearer {
                            Bearer::Person(name) => Some(name.as_str()),
                            Bearer::Machine | Bearer::Admin => None,
                        };
                        if !call.is_puppet() && self.ctx.faults.hit("refresh-once", name) {
                            self.state().tokens.refresh.remove(field("refresh_token"));
                        }
                        Ok(self.token_answer(call, issued.bearer, &issued.scope))
                    }
                    None => {
                        Err(refused("invalid_grant", "The refresh token is unknown, expired or revoked."))
                    }
                }
            }
            "authorization_code" => {
                let code = self.state().tokens.codes.remove(field("code"));
                match code.filter(|code| code.expires > now && code.redirect_uri == field("redirect_uri")) {
                    Some(code) => Ok(self.token_answer(call, Bearer::Person(code.person), SCOPES)),
                    None => Err(refused("invalid_grant", "The code is unknown, used or too old.")),
                }
            }
            EXCHANGE => self.exchange(call, &field),
            "client_credentials" => Ok(self.token_answer(call, Bearer::Machine, "webexsquare:admin")),
            SCOPE_REDUCTION => {
                let wide = self.state().tokens.valid(field("token"), now).cloned();
                let wide = wide.ok_or_else(|| refused("invalid_grant", "The token is not valid."))?;
                let has = |scope: &&str| wide.scope.split(' ').any(|had| had == *scope);
                let scope: Vec<&str> = field("scope").split(' ').filter(has).collect();
                if scope.is_empty() {
                    return Err(refused("invalid_scope", "The token has none of these scopes."));
                }
                Ok(self.token_answer(call, wide.bearer, &scope.join(" ")))
            }
            _ => Err(refused("unsupported_grant_type", "This grant is not offered.")),
        }
    }

    /// The lab's own form of RFC 8693: the machine account becomes a person of its organization.
    fn exchange<'a>(&self, call: &Call, field: &dyn Fn(&str) -> &'a str) -> Handled {
        if field("subject_token_type") != "urn:lab:person" || field("actor_token_type") != ACCESS_TOKEN_TYPE {
            return Err(refused("invalid_request", "The token types are not those of this exchange."));
        }
        if self.token_bearer(field("actor_token")) != Some(Bearer::Machine) {
            return Err(refused("invalid_grant", "The actor is not the machine account."));
        }
        match self.ctx.people.by_id(field("subject_token")) {
            Some(person) if person.org_id == ORG_ID && !person.pending && !person.bot => {
                Ok(self.token_answer(call, Bearer::Person(person.name), SCOPES))
            }
            _ => Err(refused("invalid_grant", "The subject is nobody for whom a token can be given.")),
        }
    }

    /// `POST /idb/oauth2/v1/revoke`.
    pub(crate) fn revoke(&self, call: &Call) -> Handled {
        let form = call.form();
        let token = form.get("token").map_or("", String::as_str);
        let mut state = self.state();
        state.tokens.access.remove(token);
        state.tokens.refresh.remove(token);
        Ok(Answer::empty(StatusCode::OK))
    }

    /// `GET /v1/authorize` and `/idb/oauth2/v1/authorize`: the person allows it, and is sent back with a code. In the lab
    /// the name is enough: `&user=NAME`.
    pub(crate) fn authorize(&self, call: &Call) -> Handled {
        let asked = |name: &str| call.query.get(name).map_or("", String::as_str);
        let back: Url = asked("redirect_uri")
            .parse()
            .map_err(|_| refused("invalid_request", "The address to come back to is none."))?;
        if asked("client_id") != CLIENT_ID || asked("response_type") != "code" {
            return Err(refused(
                "invalid_request",
                "The client is unknown, or asks for something else than a code.",
            ));
        }
        let person = self.ctx.people.by_name(asked("user")).filter(|person| !person.pending);
        let person = person
            .ok_or_else(|| refused("access_denied", "Say who you are: add `&user=NAME` to the address."))?;
        let code = self.ctx.rng.uuid();
        let expires = self.now().plus(CODE);
        let allowed = Code { person: person.name, redirect_uri: back.as_str().to_owned(), expires };
        self.state().tokens.codes.insert(code.clone(), allowed);
        let back = back.with_query([("code", code.as_str()), ("state", asked("state"))]);
        Ok(Answer::empty(StatusCode::FOUND).with(header::LOCATION, back.as_str()))
    }

    /// `POST /v1/device/authorize`: a client asks for a code that a person will type in elsewhere.
    pub(crate) fn device_authorize(&self, call: &Call) -> Handled {
        if call.form().get("client_id").map(String::as_str) != Some(CLIENT_ID) {
            return Err(refused("invalid_client", "The client is unknown."));
        }
        let device_code = self.ctx.rng.uuid();
        let user_code = format!("{:06}", self.ctx.rng.below(1_000_000));
        let grant =
            Grant { user_code: user_code.clone(), allowed: None, expires: self.now().plus(DEVICE_GRANT) };
        self.state().tokens.grants.insert(device_code.clone(), grant);
        let page = format!("{}/verify", self.origin);
        Ok(Answer::ok(&json!({
            "device_code": device_code,
            "expires_in": DEVICE_GRANT.as_secs(),
            "user_code": user_code,
            "interval": 1,
            "verification_uri": page,
            "verification_uri_complete": format!("{page}?userCode={user_code}"),
        })))
    }

    /// `/verify?userCode=…&user=NAME`: the person allows it. In the lab the name is enough.
    pub(crate) fn device_verify(&self, call: &Call) -> Handled {
        let refused = |text: &str| Answer::error(StatusCode::BAD_REQUEST, 1_400_002, text);
        let name = call.query.get("user").map_or("", String::as_str);
        let person = self.ctx.people.by_name(name).filter(|person| !person.pending);
        let person = person.ok_or_else(|| refused("Say who you are: add `&user=NAME` to the address."))?;
        let code = call.query.get("userCode").cloned().unwrap_or_default();
        let now = self.now();
        let mut state = self.state();
        let mut grants = state.tokens.grants.values_mut();
        match grants.find(|grant| grant.user_code == code && grant.expires > now) {
            Some(grant) => {
                grant.allowed = Some(person.name);
                Ok(Answer::ok(&Value::String("You may close this page.".to_owned())))
            }
            None => Err(refused("The code is unknown or too old.")),
        }
    }

    /// `POST /v1/device/token`: the client polls until the person has allowed it.
    pub(crate) fn device_token(&self, call: &Call) -> Handled {
        let form = call.form();
        let field = |name: &str| form.get(name).map_or("", String::as_str);
        if !is_client(call, field("client_id"), field("client_secret")) {
            return Err(refused("invalid_client", "The client is unknown or its secret is wrong."));
        }
        let now = self.now();
        let allowed = {
            let mut state = self.state();
            let grants = &mut state.tokens.grants;
            let grant = grants.get(field("device_code")).filter(|grant| grant.expires > now);
            let grant = grant.ok_or_else(|| refused("expired_token", "The code is unknown or too old."))?;
            let Some(name) = grant.allowed.clone() else {
                let body = json!({"message": "precondition_required", "errors": [], "trackingId": null});
                return Err(Answer::json(StatusCode::PRECONDITION_REQUIRED, &body));
            };
            grants.remove(field("device_code"));
            name
        };
        Ok(self.token_answer(call, Bearer::Person(allowed), SCOPES))
    }

    /// A pair for one of the accounts that the endpoints document names.
    pub(crate) fn issue(&self, bearer: Bearer, org_id: &str) -> Pair {
        let scope = match bearer {
            Bearer::Person(_) => SCOPES,
            Bearer::Machine => "webexsquare:admin",
            Bearer::Admin => "spark-admin:people_read",
        };
        self.state().tokens.issue(bearer, org_id, scope, self.now(), false)
    }

    /// The refresh token of a built-in person's client.
    pub(crate) fn issue_to_puppet(&self, person: &Person) -> String {
        let bearer = Bearer::Person(person.name.clone());
        self.state().tokens.issue(bearer, &person.org_id, SCOPES, self.now(), true).refresh
    }
}

/// Whether the caller proved to be the OAuth client of the lab, by Basic authentication or in the form.
fn is_client(call: &Call, form_id: &str, form_secret: &str) -> bool {
    let header = call.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let basic = header
        .and_then(|value| value.strip_prefix("Basic "))
        .and_then(|value| STANDARD.decode(value.trim()).ok())
        .and_then(|bytes| String::from_utf8(bytes).ok());
    match basic.as_deref().and_then(|text| text.split_once(':')) {
        Some((id, secret)) => id == CLIENT_ID && secret == CLIENT_SECRET,
        None => form_id == CLIENT_ID && form_secret == CLIENT_SECRET,
    }
}
