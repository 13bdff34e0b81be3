use std::path::PathBuf;

use super::settings::{Fallback, SETTINGS};
use super::*;

const EXAMPLE: &str = include_str!("../../connector.example.toml");

/// A folder with every file that the example names.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("connector-config-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        for setting in SETTINGS.iter().filter(|s| s.key.ends_with("_file") || s.key == "resource_groups") {
            let (Fallback::Required(literal) | Fallback::Optional(literal) | Fallback::Default(literal)) =
                setting.fallback;
            std::fs::write(path.join(literal.trim_matches('"')), "0".repeat(64)).unwrap();
        }
        let earlier = format!("{},2026-01-31\n\n{},2026-02-28\n", "1".repeat(64), "2".repeat(64));
        std::fs::write(path.join("earlier.keys"), earlier).unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["connector.corp.example".to_owned()]).unwrap();
        for pem in ["ca.pem", "kms-ca.pem", "imp-ca.pem", "connector.pem"] {
            std::fs::write(path.join(pem), made.cert.pem()).unwrap();
        }
        let other = rcgen::KeyPair::generate().unwrap();
        for (file, content) in [
            ("connector.key", made.signing_key.serialize_pem()),
            ("other.key", other.serialize_pem()),
            ("two-lines", "a token\nand more".into()),
            ("tokens.csv", "40e8a6f4-0000-4000-8000-000000000001,refresh\n".into()),
            ("groups.csv", "# who is where\n\na@corp.example,europe\n".into()),
            ("users.csv", "a@corp.example,a@corp.example,true\nb@corp.example,nobody,true\n".into()),
        ] {
            std::fs::write(path.join(file), content).unwrap();
        }
        Self(path)
    }

    fn mistakes(&self, text: &str) -> Vec<String> {
        match parse(text, &self.0) {
            Ok(_) => Vec::new(),
            Err(mistakes) => mistakes.iter().map(ToString::to_string).collect(),
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The example with everything that is optional given.
fn full() -> String {
    let mut text = String::new();
    for line in EXAMPLE.lines() {
        let name = line.trim_start_matches("# ").split(" = ").next().unwrap_or("");
        let optional = line.starts_with("# ") && SETTINGS.iter().any(|s| s.key == name);
        // The directory file would make other settings unneeded.
        text.push_str(if optional && name != "users" { &line[2..] } else { line });
        text.push('\n');
    }
    text
}

#[test]
fn the_example_file_is_the_list_of_settings() {
    if std::env::var_os("CONNECTOR_WRITE_EXAMPLE").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/connector.example.toml"), example()).unwrap();
        return;
    }
    assert_eq!(
        EXAMPLE,
        example(),
        "connector.example.toml is out of date: CONNECTOR_WRITE_EXAMPLE=1 cargo test -p connector-bin example"
    );
}

#[test]
fn the_example_with_every_setting_is_read_without_a_mistake() {
    let folder = Folder::new("full");
    assert_eq!(folder.mistakes(&full()), Vec::<String>::new());
    let config = parse(&full(), &folder.0).unwrap();
    let node = Node { name: "imp1.corp.example".into(), host: "imp1.corp.example".into(), port: 7400 };
    assert_eq!(config.imp[0].nodes, [node]);
    // The trusted port of IM and Presence speaks nothing else.
    assert_eq!(config.imp[0].tls, LinkTls::Off);
    assert_eq!(config.imp[0].axl.as_ref().unwrap().url, "https://imp1.corp.example:8443/axl/");
    let proxy = config.webex.proxy.unwrap();
    assert_eq!((proxy.host.as_str(), proxy.port), ("proxy.corp.example", 3128));
    assert_eq!(proxy.credentials.unwrap().0, "connector");
    assert_eq!(config.limits.source_ports, Some(30_000..=35_999));
    assert_eq!(config.store.retention, Duration::from_secs(30 * 86_400));
    let earlier: Vec<_> =
        config.organization.earlier_keys.iter().map(|(key, replaced)| (key.key()[0], replaced.0)).collect();
    assert_eq!(earlier, [(0x11, 1_769_904_000_000), (0x22, 1_772_323_200_000)], "when those days are over");
}

#[test]
fn each_line_of_the_earlier_keys_is_looked_at() {
    let folder = Folder::new("earlier");
    let zeros = "0".repeat(64);
    for (line, good) in [
        (format!("{zeros},2026-01-31"), true),
        (format!("{zeros} , 2026-01-31"), true),
        (zeros.clone(), false),
        (format!("{zeros},"), false),
        (format!("{zeros},2026-13-31"), false),
        (format!("{zeros},31.01.2026"), false),
        (format!("0{zeros},2026-01-31"), false),
        ("secret,2026-01-31".to_owned(), false),
    ] {
        std::fs::write(folder.0.join("earlier.keys"), format!("{zeros},2026-01-31\n{line}\n")).unwrap();
        let mistakes = folder.mistakes(&full());
        let expected = "organization.earlier_keys_file: line 2 of the file: expected 64 hexadecimal digits";
        assert_eq!(mistakes.is_empty(), good, "`{line}`: {mistakes:?}");
        assert!(
            mistakes.iter().all(|m| m.contains(expected) && !m.contains("secret")),
            "`{line}`: {mistakes:?}"
        );
    }
}

#[test]
fn an_empty_file_is_told_everything_that_is_missing_at_once() {
    let folder = Folder::new("empty");
    let mistakes = folder.mistakes("");
    for key in ["organization.id", "organization.key_file", "store.path", "webex.client_id", "imp.publisher"]
    {
        assert!(mistakes.iter().any(|m| m.contains(key)), "{key} is not among {mistakes:#?}");
    }
}

#[test]
fn each_mistake_names_its_line_and_what_is_expected() {
    let folder = Folder::new("rows");
    // (what the full example says, what stands there instead, the mistake)
    let rows = [
        ("id = \"3333", "id = 7 # \"3333", "organization.id: expected a text in quotes"),
        ("id = \"3333", "id = \"x3333", "organization.id: expected a UUID"),
        (
            "timezone = \"+00:00\"",
            "timezone = \"Berlin\"",
            "organization.timezone: expected an offset such as \"+01:00\"",
        ),
        ("retention = \"30d\"", "retention = \"30 days\"", "store.retention: expected a duration such as"),
        ("retention = \"30d\"", "retention = \"1h\"", "store.retention: expected at least \"1d\""),
        ("key_file = \"store.key\"", "key_file = \"none.key\"", "store.key_file: cannot read"),
        (
            "discovery_url = \"https",
            "discovery_url = \"ftp",
            "webex.discovery_url: expected an address that begins with https:// or http://",
        ),
        (
            "discovery_url = \"https",
            "discovery_url = \"http",
            "webex.discovery_url: plain http is refused off loopback",
        ),
        (
            "token_source = \"organization\"",
            "token_source = \"magic\"",
            "webex.token_source: expected one of \"organization\", \"user\", \"relay\"",
        ),
        (
            "machine_token_file =",
            "# machine_token_file =",
            "webex.machine_token_file: is needed with token_source",
        ),
        ("proxy = \"http", "proxy = \"https", "webex.proxy: expected an address that begins with http://"),
        ("proxy = \"http://", "proxy = \"http://me:secret@", "webex.proxy: expected http://HOST:PORT"),
        (
            "proxy = \"http://proxy.corp.example:3128",
            "proxy = \"http://proxy/x",
            "webex.proxy: expected http://HOST:PORT",
        ),
        ("proxy_user = \"conn", "proxy_user = \"a:conn", "webex.proxy_user: expected a name without a colon"),
        ("proxy_user =", "# proxy_user =", "webex.proxy_user: is needed with proxy_password_file"),
        (
            "proxy_password_file =",
            "# proxy_password_file =",
            "webex.proxy_password_file: is needed with proxy_user",
        ),
        (
            "deliver_to_pending = false",
            "deliver_to_pending = \"no\"",
            "webex.deliver_to_pending: expected true or false",
        ),
        ("domains = [\"corp.example\"]", "domains = []", "imp.domains: expected at least one domain"),
        ("component =", "# component =", "imp.component: is needed with link = \"a\""),
        ("deliveries = 256", "deliveries = 0", "limits.deliveries: expected a whole number from 1 to 100000"),
        ("30000-35999", "35999-30000", "limits.source_ports: expected FIRST-LAST such as"),
        ("30000-35999", "30000", "limits.source_ports: expected FIRST-LAST such as"),
        ("30000-35999", "0-65536", "limits.source_ports: expected FIRST-LAST such as"),
        ("free_space = \"256MiB\"", "free_space = \"256MB\"", "limits.free_space: expected a size such as"),
        ("listen = \"127.0.0.1:9280\"", "listen = \"9280\"", "status.listen: expected an address and port"),
        (
            "time_scale = 1",
            "time_scale = 20",
            "testing.time_scale: above 1 is refused unless every address is on loopback",
        ),
        ("level = \"info\"", "level = \"edges=loud\"", "log.level: `edges=loud` is no level or filter"),
        (
            "machine_token_file = \"machine.token\"",
            "machine_token_file = \"two-lines\"",
            "webex.machine_token_file: the file holds what no access token can hold",
        ),
        (
            "user_tokens_file = \"tokens.csv\"",
            "user_tokens_file = \"two-lines\"",
            "two-lines line 1: expected person id,refresh token",
        ),
        ("ca_file = \"ca.pem\"", "ca_file = \"none.pem\"", "webex.ca_file: cannot read"),
        (
            "kms_ca_file = \"kms-ca.pem\"",
            "kms_ca_file = \"store.key\"",
            "store.key holds no certificate in PEM",
        ),
        (
            "certificate_key_file = \"connector.key\"",
            "certificate_key_file = \"other.key\"",
            "imp.certificate_key_file: ",
        ),
        (
            "nodes = []",
            "nodes = [\"imp1:many\"]",
            "imp.nodes: `imp1:many` is no host, host:port or name=host:port",
        ),
        (
            "resource_groups = \"groups.csv\"",
            "resource_groups = \"two-lines\"",
            "two-lines line 1: expected mail,group",
        ),
        (
            "# users = \"users.csv\"",
            "users = \"users.csv\"",
            "users.csv line 2: the second column is no mail address",
        ),
        ("[status]", "[statue]", "statue: no such table"),
        (
            "poll = \"10m\"",
            "polls = \"10m\"",
            "presence.polls: no such setting; [presence] has poll, subscribe",
        ),
    ];
    for (from, to, expected) in rows {
        let text = full();
        assert!(text.contains(from), "the example has no `{from}`");
        let broken = text.replacen(from, to, 1);
        let line = text.lines().position(|l| l.contains(from)).unwrap() + 1;
        let mistakes = folder.mistakes(&broken);
        let found = mistakes.iter().find(|m| m.contains(expected));
        let found = found.unwrap_or_else(|| panic!("`{to}`: {mistakes:#?}"));
        // A setting that is missing is reported at the head of its table.
        if !to.starts_with('#') {
            assert!(found.starts_with(&format!("line {line}: ")), "`{to}` is on line {line}: {found}");
        }
    }
}

#[test]
fn several_mistakes_are_reported_together() {
    let folder = Folder::new("several");
    let text = full().replace("deliveries = 256", "deliveries = 0").replace("poll = \"10m\"", "poll = 10");
    assert_eq!(folder.mistakes(&text).len(), 2);
}

#[test]
fn what_is_not_toml_names_the_line() {
    let folder = Folder::new("toml");
    let mistakes = folder.mistakes("[organization]\nid = \n");
    assert!(mistakes[0].starts_with("line 2: file: "), "{mistakes:?}");
}

#[test]
fn a_node_is_a_host_with_or_without_a_port_and_a_name() {
    let folder = Folder::new("nodes");
    let nodes = "nodes = [\"imp1.corp.example\", \"sub=10.0.0.2:7401\", \"[::1]:7402\", \"[::1]\"]";
    let config = parse(&full().replace("nodes = []", nodes), &folder.0).unwrap();
    let node = |name: &str, host: &str, port| Node { name: name.into(), host: host.into(), port };
    let expected = [
        node("imp1.corp.example", "imp1.corp.example", 7400),
        node("sub", "10.0.0.2", 7401),
        node("::1", "::1", 7402),
        node("::1", "::1", 7400),
    ];
    assert_eq!(config.imp[0].nodes, expected);
}

#[test]
fn clocks_run_faster_only_where_everything_is_on_loopback() {
    let folder = Folder::new("scale");
    let local = full()
        .replace("time_scale = 1", "time_scale = 20")
        .replace("https://u2c.wbx2.com", "http://127.0.0.1:1")
        .replace("http://proxy.corp.example:3128", "http://[::1]:3128")
        .replace("axl_url = \"https://imp1.corp.example:8443", "axl_url = \"https://localhost:8443")
        .replace("nodes = []", "nodes = [\"[::1]:7400\"]");
    assert_eq!(folder.mistakes(&local), Vec::<String>::new());
    let one_time = local.replace("link = \"a\"", "link = \"c\"");
    let rows = [
        local.replace("http://127.0.0.1:1", "https://u2c.wbx2.com"),
        local.replace("[::1]:3128", "proxy:3128"),
        local.replace("https://localhost:8443", "https://imp1.corp.example:8443"),
        local.replace("nodes = [\"[::1]:7400\"]", "nodes = [\"[::1]:7400\", \"10.0.0.2\"]"),
        // Passwords are asked for at an address of the corporation.
        one_time,
    ];
    for row in rows {
        let mistakes = folder.mistakes(&row);
        let expected = "testing.time_scale: above 1 is refused unless every address is on loopback";
        assert!(mistakes.len() == 1 && mistakes[0].ends_with(expected), "{mistakes:?}");
    }
}

#[test]
fn axl_is_on_port_8443_of_the_publisher_unless_it_is_said_to_be_elsewhere() {
    let folder = Folder::new("axl");
    let text = full().replace("axl_url =", "# axl_url =").replace("login_url =", "# login_url =");
    let of = |text: &str| {
        let imp = parse(text, &folder.0).unwrap().imp.remove(0);
        (imp.axl.unwrap().url, imp.login_url)
    };
    let (axl, login) = of(&text);
    assert_eq!(axl, "https://imp1.corp.example:8443/axl/");
    assert_eq!(login, "https://imp1.corp.example:8443/EPASSoap/service/v80");
    let with_port =
        text.replace("publisher = \"imp1.corp.example\"", "publisher = \"imp1.corp.example:443\"");
    assert_eq!(of(&with_port).0, "https://imp1.corp.example:443/axl/");
}
