//! Every setting, once: its name, its default, its unit and what it is for. The example file is made
//! from this list, and the reader takes the defaults from it.

/// One setting.
pub(crate) struct Setting {
    pub(crate) table: &'static str,
    pub(crate) key: &'static str,
    pub(crate) fallback: Fallback,
    /// One sentence, with the unit.
    pub(crate) doc: &'static str,
}

/// What holds where a setting is not given; always a TOML literal.
pub(crate) enum Fallback {
    /// This value.
    Default(&'static str),
    /// Nothing: it must be given. The literal is an example.
    Required(&'static str),
    /// Nothing: it may be left out. The literal is an example.
    Optional(&'static str),
}

use Fallback::{Default, Optional, Required};

#[rustfmt::skip]
pub(crate) const SETTINGS: &[Setting] = &[
    Setting { table: "organization", key: "id", fallback: Required("\"33333333-3333-4333-8333-333333333333\""),
        doc: "The organization's id in Webex, a UUID. Nobody outside it is ever served." },
    Setting { table: "organization", key: "key_file", fallback: Required("\"organization.key\""),
        doc: "File with the organization's key, 64 hexadecimal digits, the same on every connector. It marks what we write." },
    Setting { table: "organization", key: "earlier_keys_file", fallback: Optional("\"earlier.keys\""),
        doc: "File of the keys that key_file has replaced, a line each: the key, a comma, and the day on which it was replaced, as 2026-01-31. What was written under a key is known as ours for 30 days after that day." },
    Setting { table: "organization", key: "timezone", fallback: Default("\"+00:00\""),
        doc: "Offset from UTC of the times shown before late messages, as +HH:MM or -HH:MM." },

    Setting { table: "store", key: "path", fallback: Required("\"connector.db\""),
        doc: "The store: one file (and two beside it) that holds what was accepted and not yet delivered." },
    Setting { table: "store", key: "key_file", fallback: Required("\"store.key\""),
        doc: "File with the key that seals texts at rest, 64 hexadecimal digits. Without it the store cannot be read." },
    Setting { table: "store", key: "retention", fallback: Default("\"30d\""),
        doc: "How long it is remembered which message is which on the other side." },

    Setting { table: "webex", key: "discovery_url", fallback: Default("\"https://u2c.wbx2.com/u2c/api/v1\""),
        doc: "Where the cloud's service catalog is asked for." },
    Setting { table: "webex", key: "token_source", fallback: Default("\"organization\""),
        doc: "How we act as a user: \"organization\" (a machine account's token is exchanged), \"user\" (each user's own refresh token), \"relay\" (a bot)." },
    Setting { table: "webex", key: "client_id", fallback: Required("\"C0ffee\""),
        doc: "Client id of the integration." },
    Setting { table: "webex", key: "client_secret_file", fallback: Required("\"client.secret\""),
        doc: "File with the secret of the integration." },
    Setting { table: "webex", key: "machine_token_file", fallback: Optional("\"machine.token\""),
        doc: "File with the machine account's access token; needed with token_source = \"organization\"." },
    Setting { table: "webex", key: "user_tokens_file", fallback: Optional("\"tokens.csv\""),
        doc: "File of person id,refresh token of people who enrolled elsewhere, with token_source = \"user\"; others enrol by `connector users enroll`." },
    Setting { table: "webex", key: "bot_token_file", fallback: Optional("\"bot.token\""),
        doc: "File with the access token of a bot, which relays for people whom we cannot act as (needed with token_source = \"relay\"), and tells people in Webex what was not delivered." },
    Setting { table: "webex", key: "notices", fallback: Default("true"),
        doc: "The bot also tells a person, once a month at most, that spaces of several people, or what somebody writes who is not enabled, are not shown in Jabber." },
    Setting { table: "webex", key: "admin_token_file", fallback: Optional("\"admin.token\""),
        doc: "File with an administrator's access token, which reads people and their licences; not needed with [directory] users." },
    Setting { table: "webex", key: "license_id", fallback: Optional("\"Y2lzY29zcGFyazovL3VzL0xJQ0VOU0UvSFlCUklE\""),
        doc: "The licence that makes a person enabled for Hybrid Message; not needed with [directory] users." },
    Setting { table: "webex", key: "message_license_id", fallback: Optional("\"Y2lzY29zcGFyazovL3VzL0xJQ0VOU0UvRlJFRQ\""),
        doc: "The licence Message Free, which all users of Jabber should have; `connector plan` names those who lack it." },
    Setting { table: "webex", key: "ca_file", fallback: Optional("\"ca.pem\""),
        doc: "Certificate authorities to trust beside the system's, PEM." },
    Setting { table: "webex", key: "kms_ca_file", fallback: Optional("\"kms-ca.pem\""),
        doc: "Certificate authorities that the key service's own certificate must lead to, PEM (with a key service on premises, that one's); without it any chain that names the service is believed." },
    Setting { table: "webex", key: "proxy", fallback: Optional("\"http://proxy.corp.example:3128\""),
        doc: "HTTP proxy that makes a tunnel (CONNECT) for everything towards the cloud; IM and Presence is reached directly." },
    Setting { table: "webex", key: "proxy_user", fallback: Optional("\"connector\""),
        doc: "User that the proxy wants (Basic authentication); what the proxy is told travels unencrypted." },
    Setting { table: "webex", key: "proxy_password_file", fallback: Optional("\"proxy.password\""),
        doc: "File with that user's password." },
    Setting { table: "webex", key: "deliver_to_pending", fallback: Default("false"),
        doc: "Whether to post to people who never signed in to Webex: the cloud may then mail them an invitation." },

    Setting { table: "imp", key: "publisher", fallback: Required("\"imp1.corp.example\""),
        doc: "The IM and Presence publisher: host, or host:port where AXL is not on 8443." },
    Setting { table: "imp", key: "nodes", fallback: Default("[]"),
        doc: "The nodes that sessions are held on, host or host:port, or name=host:port where the cluster calls it otherwise; the publisher alone if empty. With several, each user's session is on the node that homes the user, or on its partner while that has taken over." },
    Setting { table: "imp", key: "link", fallback: Default("\"a\""),
        doc: "How sessions are held: \"a\" session control over one trusted link (port 7400), \"b\" one client stream a user with a service credential (port 5222), \"c\" one client stream a user with a token (port 5222)." },
    Setting { table: "imp", key: "domains", fallback: Required("[\"corp.example\"]"),
        doc: "The XMPP domains served by this cluster." },
    Setting { table: "imp", key: "component", fallback: Optional("\"connector.corp.example\""),
        doc: "Our name on the trusted link, one per connector; needed with link = \"a\"." },
    Setting { table: "imp", key: "service_jid", fallback: Optional("\"connector@corp.example\""),
        doc: "The account that may act for others: its JID, or its name alone where each domain has an account of that name (ejabberd), needed with link = \"b\"; or an application user of IM and Presence, needed with tokens = \"one-time\"." },
    Setting { table: "imp", key: "tokens", fallback: Default("\"one-time\""),
        doc: "Where the tokens of link c come from: \"one-time\" (IM and Presence makes a password for each login, when service_jid asks for it), or \"signed\" (JSON Web Tokens that we sign, as ejabberd takes them)." },
    Setting { table: "imp", key: "login_url", fallback: Optional("\"https://imp1.corp.example:8443/EPASSoap/service/v80\""),
        doc: "Where one-time passwords are asked for, if not at https://PUBLISHER:8443/EPASSoap/service/v80." },
    Setting { table: "imp", key: "secret_file", fallback: Required("\"imp.secret\""),
        doc: "File with the secret of the component (link a), the password of service_jid (b, c), or the key that signs tokens (c)." },
    Setting { table: "imp", key: "protocol", fallback: Default("\"component\""),
        doc: "What the stream of the trusted link is: \"component\" (XEP-0114), or \"jabberd2\" (that server's router, where component is the name of the router's user)." },
    Setting { table: "imp", key: "tls", fallback: Default("\"off\""),
        doc: "\"required\" (STARTTLS on client streams, TLS from the first byte on the trusted link), \"direct\" (TLS from the first byte), or \"off\": plain TCP, which is what the trusted link of IM and Presence speaks." },
    Setting { table: "imp", key: "ca_file", fallback: Optional("\"imp-ca.pem\""),
        doc: "Certificate authorities to trust on these streams in place of all others, PEM." },
    Setting { table: "imp", key: "certificate_file", fallback: Optional("\"connector.pem\""),
        doc: "Certificate chain that we show to the nodes, PEM." },
    Setting { table: "imp", key: "certificate_key_file", fallback: Optional("\"connector.key\""),
        doc: "File with the private key of that certificate, PEM." },
    Setting { table: "imp", key: "axl_url", fallback: Optional("\"https://imp1.corp.example:8443/axl/\""),
        doc: "Address of AXL where it is not https://PUBLISHER:8443/axl/." },
    Setting { table: "imp", key: "address_scheme", fallback: Default("\"userid\""),
        doc: "What IM addresses are made of where the publisher does not tell them: \"userid\" (the login name in the first of domains) or \"directory-uri\"." },
    Setting { table: "imp", key: "axl_user", fallback: Optional("\"axl-reader\""),
        doc: "User with the role Standard AXL API Access; not needed with [directory] users." },
    Setting { table: "imp", key: "axl_password_file", fallback: Optional("\"axl.password\""),
        doc: "File with that user's password." },

    Setting { table: "directory", key: "users", fallback: Optional("\"users.csv\""),
        doc: "A file of jid,mail,enabled (true or false), read in place of AXL and of people's licences." },
    Setting { table: "directory", key: "refresh", fallback: Default("\"15m\""),
        doc: "How often people are read again." },

    Setting { table: "directory", key: "resource_groups", fallback: Optional("\"groups.csv\""),
        doc: "A file of mail,group: which resource group each user is in. Who is in another group than deployment.resource_group is known and not served." },

    Setting { table: "deployment", key: "cluster", fallback: Default("\"connectors\""),
        doc: "The connector cluster that this connector is in: connectors of one name share the users of their IM and Presence clusters." },
    Setting { table: "deployment", key: "node", fallback: Default("\"connector\""),
        doc: "This connector's name among all of them; its sessions have the resource `webex-` and this." },
    Setting { table: "deployment", key: "primary", fallback: Default("true"),
        doc: "Whether this connector is the one of its cluster that is registered with Webex." },
    Setting { table: "deployment", key: "resource_group", fallback: Optional("\"europe\""),
        doc: "The resource group whose users this connector serves; needs directory.resource_groups." },
    Setting { table: "deployment", key: "size", fallback: Default("\"large\""),
        doc: "How large its host is: \"small\" (5,000 users), \"medium\" (6,500) or \"large\" (15,000)." },
    Setting { table: "deployment", key: "shared_host", fallback: Default("false"),
        doc: "Whether Hybrid Calling or Hybrid Calendar run on its host too; users_per_node then says how many users are left to it." },
    Setting { table: "deployment", key: "users_per_node", fallback: Optional("2000"),
        doc: "How many users it may serve, where that is fewer than its size allows." },
    Setting { table: "deployment", key: "mra", fallback: Default("false"),
        doc: "Whether its host is part of a cluster for Mobile and Remote Access, which leaves 100 users to it." },
    Setting { table: "deployment", key: "federation", fallback: Default("false"),
        doc: "Whether IM and Presence federates with a foreign domain, by XMPP or SIP. What its people write to an enabled person is then also shown in Webex, in a space of the bot's for each of them (webex.bot_token_file)." },
    Setting { table: "deployment", key: "government", fallback: Default("false"),
        doc: "Whether the organization is in the government environment; webex.discovery_url then is that environment's." },

    Setting { table: "presence", key: "poll", fallback: Default("\"10m\""),
        doc: "How often everybody's Webex status is read." },
    Setting { table: "presence", key: "subscribe", fallback: Default("true"),
        doc: "Whether changes are also subscribed to; off is the product's exact behaviour." },

    Setting { table: "limits", key: "deliveries", fallback: Default("256"),
        doc: "Deliveries in flight at the same time." },
    Setting { table: "limits", key: "sessions_per_second", fallback: Default("20"),
        doc: "Sessions opened a second, on all nodes together; whoever was active last is first." },
    Setting { table: "limits", key: "handshakes", fallback: Default("32"),
        doc: "Connections to the cloud being set up at the same time." },
    Setting { table: "limits", key: "requests_per_second", fallback: Default("2000"),
        doc: "Requests to one host of the cloud in a second; further ones wait." },
    Setting { table: "limits", key: "source_ports", fallback: Optional("\"30000-35999\""),
        doc: "Ports that our connections start from, FIRST-LAST, for firewalls that look at them; the system chooses if left out. As many sockets as there are ports can lead to one address of the cloud." },
    Setting { table: "limits", key: "messages_per_minute", fallback: Default("300"),
        doc: "Messages one person may write a minute; above it the sender gets an error." },
    Setting { table: "limits", key: "free_space", fallback: Default("\"256MiB\""),
        doc: "Free disk space below which nothing new is accepted." },
    Setting { table: "limits", key: "grace", fallback: Default("\"10s\""),
        doc: "How long deliveries in flight may take to finish after a request to stop." },

    Setting { table: "status", key: "listen", fallback: Default("\"127.0.0.1:9280\""),
        doc: "Where the status page and metrics are served; keep it on loopback or behind a proxy of yours." },

    Setting { table: "log", key: "level", fallback: Default("\"info\""),
        doc: "\"error\", \"warn\", \"info\", \"debug\" or \"trace\", or a filter such as \"info,edges=debug\". No level ever shows a text or a secret." },
    Setting { table: "log", key: "lines_per_minute", fallback: Default("60"),
        doc: "Lines of one kind that are shown in a minute; of further ones only the number is. 0: all are. What the levels debug and trace show is not counted." },

    Setting { table: "testing", key: "time_scale", fallback: Default("1"),
        doc: "How many times faster than life the waits run; above 1 only where every address is on loopback." },
];

/// Tables of which there may be several.
pub(crate) const REPEATED: &[&str] = &["imp"];

/// The example file: every setting with its default and unit.
pub(crate) fn example() -> String {
    let mut out = String::from(
        "# Settings of the Hybrid Message connector. What stands here are the defaults; what must be given\n\
         # is shown with an example; what may be left out is commented. Secrets are files of their own.\n\
         # Paths are relative to this file. `connector check --config FILE` finds every mistake at once.\n",
    );
    let mut table = "";
    for setting in SETTINGS {
        if setting.table != table {
            table = setting.table;
            let brackets = if REPEATED.contains(&table) { ("[[", "]]") } else { ("[", "]") };
            out.push_str(&format!("\n{}{table}{}\n", brackets.0, brackets.1));
        }
        let need = match setting.fallback {
            Required(_) => " Must be given.",
            Default(_) | Optional(_) => "",
        };
        out.push_str(&format!("# {}{need}\n", setting.doc));
        match setting.fallback {
            Default(literal) | Required(literal) => out.push_str(&format!("{} = {literal}\n", setting.key)),
            Optional(literal) => out.push_str(&format!("# {} = {literal}\n", setting.key)),
        }
    }
    out
}
