//! The file of settings, table by table: what each setting must be, and which go together.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use connector_edges::webex_api::auth::AccessToken;
use connector_edges::webex_api::{Timestamp, Url};
use router::ids::Time;

use super::reader::{At, Mistake, Reader};
use super::{
    Axl, Config, Deployment, Directory, Imp, Limits, LinkKind, LinkProtocol, LinkTls, LinkTokens, Log, Node,
    Organization, Presence, Proxy, Secret, Store, TokenSource, Webex, files,
};
use crate::plan::deployment::{Host, Size};
use crate::{telemetry, tls};

/// The file on its way to being understood, and the folder that its paths start from.
pub(super) struct File<'a> {
    reader: Reader<'a>,
    folder: &'a Path,
}

impl<'a> File<'a> {
    /// Nothing is read yet.
    pub(super) fn new(text: &'a str, folder: &'a Path) -> Self {
        Self { reader: Reader::new(text), folder }
    }

    /// What it says, and every mistake in it.
    pub(super) fn read(mut self) -> (Option<Config>, Vec<Mistake>) {
        let config = self.config();
        (config, self.reader.finish())
    }

    // Every table is read before the first `?`, so that all mistakes are found.
    fn config(&mut self) -> Option<Config> {
        let organization = self.organization();
        let store = self.store();
        let directory = self.directory();
        let from_file = directory.as_ref().is_some_and(|d| d.users.is_some());
        let webex = self.webex(from_file);
        let imp = self.imps(from_file);
        let deployment = self.deployment(directory.as_ref());
        let presence = self.presence();
        let limits = self.limits();
        let status = self.status();
        let log = self.log();
        let time_scale = self.reader.number(At { table: "testing", index: 0 }, "time_scale", 1..1001);
        let config = Config {
            organization: organization?,
            store: store?,
            webex: webex?,
            imp: imp?,
            directory: directory?,
            deployment: deployment?,
            presence: presence?,
            limits: limits?,
            status: status?,
            log: log?,
            time_scale: time_scale?,
        };
        self.refuse_insecure(&config);
        Some(config)
    }

    fn log(&mut self) -> Option<Log> {
        let at = At { table: "log", index: 0 };
        let level = self.reader.text(at, "level");
        if let Some(level) = &level
            && let Err(e) = telemetry::filter(level)
        {
            self.reader.wrong(at, "level", format!("`{level}` is no level or filter: {e}"));
        }
        let lines_per_minute = self.reader.number(at, "lines_per_minute", 0..1_000_001);
        Some(Log { level: level?, lines_per_minute: lines_per_minute? })
    }

    fn organization(&mut self) -> Option<Organization> {
        let at = At { table: "organization", index: 0 };
        let id = self.reader.text(at, "id");
        if id.as_deref().is_some_and(|id| !is_uuid(id)) {
            self.reader.wrong(at, "id", "expected a UUID such as \"33333333-3333-4333-8333-333333333333\"");
        }
        let key = self.key(at, "key_file");
        let earlier_keys = self.earlier_keys(at, "earlier_keys_file");
        let timezone = self.reader.text(at, "timezone").and_then(|text| {
            let minutes = offset_minutes(&text);
            if minutes.is_none() {
                self.reader.wrong(at, "timezone", "expected an offset such as \"+01:00\"");
            }
            minutes
        });
        Some(Organization { id: id?.to_lowercase(), key: key?, earlier_keys, timezone: timezone? })
    }

    fn store(&mut self) -> Option<Store> {
        let at = At { table: "store", index: 0 };
        let path = self.path(at, "path");
        let key = self.key(at, "key_file");
        let retention = self.reader.duration(at, "retention");
        if retention.is_some_and(|r| r < Duration::from_secs(86_400)) {
            self.reader.wrong(
                at,
                "retention",
                "expected at least \"1d\": repeats are told by what is remembered",
            );
        }
        Some(Store { path: path?, key: key?, retention: retention? })
    }

    fn webex(&mut self, from_file: bool) -> Option<Webex> {
        let at = At { table: "webex", index: 0 };
        let discovery_url = self.url(at, "discovery_url", &["https", "http"]);
        let token_source = self.reader.choice(
            at,
            "token_source",
            &[
                ("organization", TokenSource::Organization),
                ("user", TokenSource::User),
                ("relay", TokenSource::Relay),
            ],
        );
        let client_id = self.reader.text(at, "client_id");
        let client_secret = self.secret(at, "client_secret_file");
        let machine_token = self.token(at, "machine_token_file");
        if token_source == Some(TokenSource::Organization) && machine_token.is_none() {
            self.reader.wrong(at, "machine_token_file", "is needed with token_source = \"organization\"");
        }
        let user_tokens = self.rows(at, "user_tokens_file", files::user_tokens).unwrap_or_default();
        let bot_token = self.token(at, "bot_token_file");
        if token_source == Some(TokenSource::Relay) && bot_token.is_none() {
            self.reader.wrong(at, "bot_token_file", "is needed with token_source = \"relay\"");
        }
        let admin_token = self.token(at, "admin_token_file");
        if from_file && admin_token.is_none() && machine_token.is_none() {
            let what = "is needed to look people up, unless machine_token_file is given";
            self.reader.wrong(at, "admin_token_file", what);
        }
        let license_id = self.reader.text(at, "license_id");
        let message_license_id = self.reader.text(at, "message_license_id");
        if !from_file {
            if admin_token.is_none() {
                self.reader.wrong(
                    at,
                    "admin_token_file",
                    "is needed to read people, unless [directory] users is given",
                );
            }
            if license_id.is_none() {
                self.reader.wrong(
                    at,
                    "license_id",
                    "is needed to tell who is enabled, unless [directory] users is given",
                );
            }
        }
        let ca_file = self.path(at, "ca_file");
        let kms_ca_file = self.path(at, "kms_ca_file");
        for (key, path) in [("ca_file", &ca_file), ("kms_ca_file", &kms_ca_file)] {
            if let Some(path) = path {
                self.usable(at, key, tls::authorities(path));
            }
        }
        let proxy = self.proxy(at);
        let notices = self.reader.boolean(at, "notices");
        let deliver_to_pending = self.reader.boolean(at, "deliver_to_pending");
        Some(Webex {
            discovery_url: discovery_url?,
            token_source: token_source?,
            client_id: client_id?,
            client_secret: client_secret?,
            machine_token,
            user_tokens,
            bot_token,
            admin_token,
            license_id,
            message_license_id,
            ca_file,
            kms_ca_file,
            proxy,
            notices: notices?,
            deliver_to_pending: deliver_to_pending?,
        })
    }

    fn proxy(&mut self, at: At) -> Option<Proxy> {
        let url = self.url(at, "proxy", &["http"]);
        let user = self.reader.text(at, "proxy_user");
        if user.as_deref().is_some_and(|user| user.is_empty() || user.contains(':')) {
            self.reader.wrong(at, "proxy_user", "expected a name without a colon");
        }
        let password = self.secret(at, "proxy_password_file");
        let credentials = match (user, password) {
            (Some(user), Some(password)) => Some((user, password)),
            (Some(_), None) => {
                self.reader.wrong(at, "proxy_password_file", "is needed with proxy_user");
                None
            }
            (None, Some(_)) => {
                self.reader.wrong(at, "proxy_user", "is needed with proxy_password_file");
                None
            }
            (None, None) => None,
        };
        let url = url?;
        let Some((host, port)) = place(&url) else {
            let expected =
                "expected http://HOST:PORT; user and password are proxy_user and proxy_password_file";
            self.reader.wrong(at, "proxy", expected);
            return None;
        };
        Some(Proxy { host, port, credentials })
    }

    fn imps(&mut self, from_file: bool) -> Option<Vec<Imp>> {
        let at = At { table: "imp", index: 0 };
        match self.reader.count("imp") {
            0 => {
                self.reader.wrong(
                    at,
                    "publisher",
                    "is needed: one [[imp]] table for each IM and Presence cluster",
                );
                None
            }
            n if n > 5 => {
                self.reader.wrong(at, "publisher", "at most five IM and Presence clusters can be served");
                None
            }
            n => {
                let imps: Vec<Option<Imp>> = (0..n).map(|index| self.imp(index, from_file)).collect();
                imps.into_iter().collect()
            }
        }
    }

    fn imp(&mut self, index: usize, from_file: bool) -> Option<Imp> {
        let at = At { table: "imp", index };
        let publisher = self.reader.text(at, "publisher");
        let link = self.reader.choice(
            at,
            "link",
            &[("a", LinkKind::Trusted), ("b", LinkKind::Service), ("c", LinkKind::Token)],
        );
        let domains = self.reader.texts(at, "domains");
        if domains.as_ref().is_some_and(Vec::is_empty) {
            self.reader.wrong(at, "domains", "expected at least one domain");
        }
        let component = self.reader.text(at, "component");
        if link == Some(LinkKind::Trusted) && component.is_none() {
            self.reader.wrong(at, "component", "is needed with link = \"a\"");
        }
        let service_jid = self.reader.text(at, "service_jid");
        if link == Some(LinkKind::Service) && service_jid.is_none() {
            self.reader.wrong(at, "service_jid", "is needed with link = \"b\"");
        }
        let tokens = self.reader.choice(
            at,
            "tokens",
            &[("one-time", LinkTokens::OneTime), ("signed", LinkTokens::Signed)],
        );
        if (link, tokens) == (Some(LinkKind::Token), Some(LinkTokens::OneTime)) && service_jid.is_none() {
            self.reader.wrong(at, "service_jid", "is needed with link = \"c\" and tokens = \"one-time\"");
        }
        let login_url = self.url(at, "login_url", &["https", "http"]);
        let secret = self.secret(at, "secret_file");
        let protocol = self.reader.choice(
            at,
            "protocol",
            &[("component", LinkProtocol::Component), ("jabberd2", LinkProtocol::Jabberd2)],
        );
        let tls = self.reader.choice(
            at,
            "tls",
            &[("required", LinkTls::Required), ("direct", LinkTls::Direct), ("off", LinkTls::Off)],
        );
        let ca_file = self.path(at, "ca_file");
        let certificate_file = self.path(at, "certificate_file");
        let certificate_key_file = self.path(at, "certificate_key_file");
        if let Some(path) = &ca_file {
            self.usable(at, "ca_file", tls::authorities(path));
        }
        let certificate = match (certificate_file, certificate_key_file) {
            (Some(chain), Some(key)) => {
                let chain_is = tls::certificates(&chain);
                if self.usable(at, "certificate_file", chain_is.as_ref().map_err(Clone::clone)) {
                    self.usable(at, "certificate_key_file", tls::own(chain_is.unwrap_or_default(), &key));
                }
                Some((chain, key))
            }
            (Some(_), None) => {
                self.reader.wrong(at, "certificate_key_file", "is needed with certificate_file");
                None
            }
            (None, Some(_)) => {
                self.reader.wrong(at, "certificate_file", "is needed with certificate_key_file");
                None
            }
            (None, None) => None,
        };
        let axl_url = self.url(at, "axl_url", &["https", "http"]);
        let directory_uris =
            self.reader.choice(at, "address_scheme", &[("userid", false), ("directory-uri", true)]);
        let axl_user = self.reader.text(at, "axl_user");
        let axl_password = self.secret(at, "axl_password_file");
        if !from_file {
            for (key, missing) in
                [("axl_user", axl_user.is_none()), ("axl_password_file", axl_password.is_none())]
            {
                if missing {
                    self.reader.wrong(at, key, "is needed to read users, unless [directory] users is given");
                }
            }
        }
        let publisher = publisher?;
        let host = publisher.rsplit_once(':').map_or(publisher.as_str(), |(host, _)| host).to_owned();
        let port = if publisher.contains(':') { "" } else { ":8443" };
        let usual = |path: &str| format!("https://{publisher}{port}{path}");
        let axl = match (axl_user, axl_password) {
            (Some(user), Some(password)) => {
                Some(Axl { url: axl_url.unwrap_or_else(|| usual("/axl/")), user, password })
            }
            _ => None,
        };
        let login_url = login_url.unwrap_or_else(|| usual("/EPASSoap/service/v80"));
        let nodes = self.nodes(at, &host, if link? == LinkKind::Trusted { 7400 } else { 5222 });
        Some(Imp {
            publisher,
            nodes: nodes?,
            link: link?,
            domains: domains?,
            component,
            service_jid,
            secret: secret?,
            protocol: protocol?,
            tokens: tokens?,
            login_url,
            tls: tls?,
            ca_file,
            certificate,
            directory_uris: directory_uris?,
            axl,
        })
    }

    fn directory(&mut self) -> Option<Directory> {
        let at = At { table: "directory", index: 0 };
        let users = self.rows(at, "users", files::users);
        let refresh = self.reader.duration(at, "refresh");
        let resource_groups = self.rows(at, "resource_groups", files::resource_groups);
        Some(Directory { users, refresh: refresh?, resource_groups })
    }

    fn deployment(&mut self, directory: Option<&Directory>) -> Option<Deployment> {
        let at = At { table: "deployment", index: 0 };
        let cluster = self.reader.text(at, "cluster");
        let node = self.reader.text(at, "node");
        let is_name = |node: &str| {
            !node.is_empty() && node.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'))
        };
        if node.as_deref().is_some_and(|node| !is_name(node)) {
            self.reader.wrong(at, "node", "expected a name of letters, digits, dots and hyphens");
        }
        let primary = self.reader.boolean(at, "primary");
        let resource_group = self.reader.text(at, "resource_group");
        if resource_group.is_some() && directory.is_some_and(|d| d.resource_groups.is_none()) {
            self.reader.wrong(
                at,
                "resource_group",
                "needs directory.resource_groups, which says who is in it",
            );
        }
        let sizes = [("small", Size::Small), ("medium", Size::Medium), ("large", Size::Large)];
        let size = self.reader.choice(at, "size", &sizes);
        let shared = self.reader.boolean(at, "shared_host");
        let users_per_node = self.reader.number(at, "users_per_node", 1..15_001).map(u64::from);
        if shared == Some(true) && users_per_node.is_none() {
            self.reader.wrong(at, "users_per_node", "is needed with shared_host = true");
        }
        let mra = self.reader.boolean(at, "mra");
        let federation = self.reader.boolean(at, "federation");
        let government = self.reader.boolean(at, "government");
        Some(Deployment {
            cluster: cluster?,
            node: node?,
            primary: primary?,
            resource_group,
            host: Host { size: size?, users_per_node, shared: shared?, mra: mra?, ..Host::default() },
            federation: federation?,
            government: government?,
        })
    }

    fn presence(&mut self) -> Option<Presence> {
        let at = At { table: "presence", index: 0 };
        let poll = self.reader.duration(at, "poll");
        let subscribe = self.reader.boolean(at, "subscribe");
        Some(Presence { poll: poll?, subscribe: subscribe? })
    }

    fn limits(&mut self) -> Option<Limits> {
        let at = At { table: "limits", index: 0 };
        let deliveries = self.reader.number(at, "deliveries", 1..100_001);
        let sessions_per_second = self.reader.number(at, "sessions_per_second", 1..10_001);
        let handshakes = self.reader.number(at, "handshakes", 1..10_001);
        let requests_per_second = self.reader.number(at, "requests_per_second", 1..100_001);
        let messages_per_minute = self.reader.number(at, "messages_per_minute", 1..100_001);
        let source_ports = self.reader.text(at, "source_ports").and_then(|text| {
            let ports = ports(&text);
            if ports.is_none() {
                self.reader.wrong(at, "source_ports", "expected FIRST-LAST such as \"30000-35999\"");
            }
            ports
        });
        let free_space = self.reader.size(at, "free_space");
        let grace = self.reader.duration(at, "grace");
        Some(Limits {
            deliveries: deliveries?,
            sessions_per_second: sessions_per_second?,
            handshakes: handshakes?,
            requests_per_second: requests_per_second?,
            messages_per_minute: messages_per_minute?,
            source_ports,
            free_space: free_space?,
            grace: grace?,
        })
    }

    fn status(&mut self) -> Option<SocketAddr> {
        let at = At { table: "status", index: 0 };
        let text = self.reader.text(at, "listen")?;
        let address = text.parse().ok();
        if address.is_none() {
            self.reader.wrong(at, "listen", "expected an address and port such as \"127.0.0.1:9280\"");
        }
        address
    }

    /// Plain text and fast clocks are for loopback alone.
    fn refuse_insecure(&mut self, config: &Config) {
        let webex = At { table: "webex", index: 0 };
        let cloud_on_loopback = host_of_url(&config.webex.discovery_url).is_some_and(is_loopback);
        if config.webex.discovery_url.starts_with("http:") && !cloud_on_loopback {
            self.reader.wrong(webex, "discovery_url", "plain http is refused off loopback: use https");
        }
        for (index, imp) in config.imp.iter().enumerate() {
            let at = At { table: "imp", index };
            if let Some(axl) = &imp.axl
                && axl.url.starts_with("http:")
                && !host_of_url(&axl.url).is_some_and(is_loopback)
            {
                self.reader.wrong(at, "axl_url", "plain http is refused off loopback: use https");
            }
            if imp.login_url.starts_with("http:") && !host_of_url(&imp.login_url).is_some_and(is_loopback) {
                self.reader.wrong(at, "login_url", "plain http is refused off loopback: use https");
            }
        }
        let proxy_on_loopback = config.webex.proxy.as_ref().is_none_or(|proxy| is_loopback(&proxy.host));
        let imp_on_loopback = config.imp.iter().all(|imp| {
            // Where nothing asks for one-time passwords, their address is not used.
            let logins = (imp.link == LinkKind::Token).then_some(&imp.login_url);
            let mut urls = imp.axl.iter().map(|axl| &axl.url).chain(logins);
            urls.all(|url| host_of_url(url).is_some_and(is_loopback))
                && imp.nodes.iter().all(|node| is_loopback(&node.host))
        });
        if config.time_scale > 1 && !(proxy_on_loopback && cloud_on_loopback && imp_on_loopback) {
            let at = At { table: "testing", index: 0 };
            self.reader.wrong(at, "time_scale", "above 1 is refused unless every address is on loopback");
        }
    }

    fn path(&mut self, at: At, key: &'static str) -> Option<PathBuf> {
        self.reader.path(at, key).map(|path| self.folder.join(path))
    }

    /// Whether what was found there can be used; a mistake if not.
    fn usable<T>(&mut self, at: At, key: &'static str, found: Result<T, String>) -> bool {
        let wrong = found.err();
        let usable = wrong.is_none();
        if let Some(what) = wrong {
            self.reader.wrong(at, key, what);
        }
        usable
    }

    /// The content of a file of rows; where it has a mistake nothing is in it, and that is reported. `None` where the
    /// setting is not given.
    fn rows<T: Default>(
        &mut self,
        at: At,
        key: &'static str,
        read: impl Fn(&Path) -> Result<T, String>,
    ) -> Option<T> {
        let found = read(&self.path(at, key)?);
        Some(found.unwrap_or_else(|what| {
            self.reader.wrong(at, key, what);
            T::default()
        }))
    }

    /// An access token out of its file.
    fn token(&mut self, at: At, key: &'static str) -> Option<AccessToken> {
        let token = AccessToken::try_from(self.secret(at, key)?.0);
        if token.is_err() {
            self.reader.wrong(
                at,
                key,
                "the file holds what no access token can hold: expected one line of ASCII",
            );
        }
        token.ok()
    }

    /// The nodes of a cluster: `host`, `host:port` or `name=host:port`; the publisher's host alone if none is given.
    fn nodes(&mut self, at: At, publisher: &str, usual: u16) -> Option<Vec<Node>> {
        let mut given = self.reader.texts(at, "nodes")?;
        if given.is_empty() {
            given.push(publisher.to_owned());
        }
        let nodes: Vec<_> = given.iter().map(|text| node(text, usual).ok_or(text)).collect();
        for text in nodes.iter().filter_map(|node| node.as_ref().err()) {
            self.reader.wrong(at, "nodes", format!("`{text}` is no host, host:port or name=host:port"));
        }
        Some(nodes.into_iter().flatten().collect())
    }

    fn secret(&mut self, at: At, key: &'static str) -> Option<Secret> {
        let path = self.path(at, key)?;
        match std::fs::read_to_string(&path) {
            Ok(text) if text.trim().is_empty() => {
                self.reader.wrong(at, key, format!("{} is empty", path.display()));
                None
            }
            Ok(text) => Some(Secret(text.trim().to_owned())),
            Err(e) => {
                let what = match e.kind() {
                    std::io::ErrorKind::InvalidData => {
                        format!("{} holds something else than text", path.display())
                    }
                    _ => format!("cannot read {}: {e}", path.display()),
                };
                self.reader.wrong(at, key, what);
                None
            }
        }
    }

    fn key(&mut self, at: At, key: &'static str) -> Option<Secret> {
        let secret = self.secret(at, key)?;
        if !is_key(&secret.0) {
            self.reader.wrong(
                at,
                key,
                "the file must hold 64 hexadecimal digits (make one: openssl rand -hex 32)",
            );
            return None;
        }
        Some(secret)
    }

    fn earlier_keys(&mut self, at: At, key: &'static str) -> Vec<(Secret, Time)> {
        let Some(file) = self.secret(at, key) else { return Vec::new() };
        let mut keys = Vec::new();
        for (n, line) in file.0.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            match line.split_once(',').and_then(|(key, day)| Some((key.trim(), end_of_day(day.trim())?))) {
                Some((key, replaced)) if is_key(key) => keys.push((Secret(key.to_owned()), replaced)),
                _ => self.reader.wrong(
                    at,
                    key,
                    format!(
                        "line {} of the file: expected 64 hexadecimal digits, a comma and a day such as 2026-01-31",
                        n + 1
                    ),
                ),
            }
        }
        keys
    }

    fn url(&mut self, at: At, key: &'static str, schemes: &[&str]) -> Option<String> {
        let text = self.reader.text(at, key)?;
        let scheme_fits =
            schemes.iter().any(|s| text.strip_prefix(s).is_some_and(|rest| rest.starts_with("://")));
        if !scheme_fits || host_of_url(&text).is_none_or(str::is_empty) {
            self.reader.wrong(
                at,
                key,
                format!("expected an address that begins with {}://", schemes.join(":// or ")),
            );
            return None;
        }
        Some(text)
    }
}

fn is_key(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// When a day is over, in UTC.
fn end_of_day(day: &str) -> Option<Time> {
    let begins: Timestamp = format!("{day}T00:00:00Z").parse().ok()?;
    Some(Time(begins.millis()).after(Duration::from_secs(86_400)))
}

/// `FIRST-LAST`, both inside.
fn ports(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-')?;
    let (first, last): (u16, u16) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    (0 < first && first <= last).then_some(first..=last)
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.char_indices().all(|(i, c)| match i {
            8 | 13 | 18 | 23 => c == '-',
            _ => c.is_ascii_hexdigit(),
        })
}

fn offset_minutes(text: &str) -> Option<i32> {
    let sign = match text.get(..1)? {
        "+" => 1,
        "-" => -1,
        _ => return None,
    };
    let (hours, minutes) = text.get(1..)?.split_once(':')?;
    if hours.len() != 2 || minutes.len() != 2 {
        return None;
    }
    let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
    (hours <= 14 && minutes < 60).then_some(sign * (hours * 60 + minutes))
}

fn host_of_url(url: &str) -> Option<&str> {
    let rest = url.split_once("://")?.1;
    let authority = rest.split(['/', '?', '#']).next()?;
    Some(match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    })
}

/// Host, without brackets, and port of an address in which there is nothing else.
fn place(url: &str) -> Option<(String, u16)> {
    let url: Url = url.trim_end_matches('/').parse().ok()?;
    let rest = url.as_str().split_once("://")?.1;
    let alone = !rest.contains(['@', '/', '?', '#']);
    alone.then(|| (url.host().to_owned(), url.port()))
}

/// `host`, `host:port` or `name=host:port`.
fn node(text: &str, usual: u16) -> Option<Node> {
    let (name, address) = text.split_once('=').map_or((None, text), |(name, address)| (Some(name), address));
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map(|(host, port)| (host, port.strip_prefix(':')))?,
        None => address.split_once(':').map_or((address, None), |(host, port)| (host, Some(port))),
    };
    let port = port.map_or(Some(usual), |port| port.parse().ok())?;
    let name = name.unwrap_or(host);
    let fits = !name.is_empty() && !host.is_empty() && !host.contains(char::is_whitespace);
    fits.then(|| Node { name: name.to_owned(), host: host.to_owned(), port })
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
