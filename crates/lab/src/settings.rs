//! The connector's settings for this lab: a file that `run --config` takes as it is, and the secrets beside it.

use std::{
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
};

use crate::{
    ctx::Ctx,
    endpoints::{Endpoints, write_atomically},
    options::{Link, TokenSource},
    people::{DOMAIN, LICENSE_ID, SECOND_DOMAIN},
};

/// Writes a file that only its owner may read.
fn write_secret(file: &Path, text: &str) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::{io::Write as _, os::unix::fs::OpenOptionsExt};
        let mut options = fs::OpenOptions::new();
        let mut file = options.create(true).truncate(true).write(true).mode(0o600).open(file)?;
        file.write_all(text.as_bytes())
    }
    #[cfg(not(unix))]
    fs::write(file, text)
}

/// A TOML string.
fn quoted(text: &str) -> String {
    // A JSON string is a TOML basic string, but for the few characters that neither of ours has.
    serde_json::Value::from(text).to_string()
}

/// A key of 64 hexadecimal digits; one that is there already stays, so that a store survives a restart of the lab.
fn write_key(ctx: &Ctx, file: &Path) -> io::Result<()> {
    if file.exists() {
        return Ok(());
    }
    let key = ctx.rng.bytes::<32>().iter().fold(String::new(), |mut text, byte| {
        // Writing to a text cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    });
    write_secret(file, &key)
}

/// Writes the settings and secrets into `state`, and answers the settings' path.
///
/// # Errors
/// What the file system answers.
pub(crate) fn write(ctx: &Ctx, endpoints: &Endpoints, status: &str, state: &Path) -> io::Result<PathBuf> {
    let secret = |name: &str, text: &str| write_secret(&state.join(name), text);
    write_key(ctx, &state.join("organization.key"))?;
    write_key(ctx, &state.join("store.key"))?;
    secret("client.secret", &endpoints.client_secret)?;
    secret("machine.token", &endpoints.machine_token)?;
    secret("admin.token", &endpoints.admin_token)?;
    secret("bot.token", &endpoints.bot.access_token)?;
    secret("axl.password", &endpoints.axl_password)?;
    let mut enrolled = String::new();
    for user in endpoints.users.iter().filter(|user| user.enabled) {
        enrolled.push_str(&format!("{},{}\n", user.person_id, user.refresh_token));
    }
    secret("tokens.csv", &enrolled)?;
    let options = &ctx.options;
    let (link, node, imp_secret) = match options.link {
        Link::A => ("a", &endpoints.xmpp_trusted, endpoints.trusted_secret.as_str()),
        Link::B => ("b", &endpoints.xmpp_client, endpoints.service_password.as_str()),
        Link::C => ("c", &endpoints.xmpp_client, endpoints.service_password.as_str()),
    };
    secret("imp.secret", imp_secret)?;
    let nodes: Vec<String> = match options.link {
        _ if options.imp_nodes < 2 => vec![quoted(node)],
        Link::A => endpoints.nodes.iter().map(|node| quoted(node)).collect(),
        Link::B | Link::C => endpoints.client_nodes.iter().map(|node| quoted(node)).collect(),
    };
    let source = match options.token_source {
        TokenSource::Organization => "organization",
        TokenSource::User => "user",
        TokenSource::Relay => "relay",
    };
    let mut text = String::from("# Settings of the connector for a lab that runs; made by the lab.\n");
    let mut table = |name: &str, settings: &[(&str, String)]| {
        text.push_str(&format!("\n{name}\n"));
        for (name, value) in settings {
            text.push_str(&format!("{name} = {value}\n"));
        }
    };
    table("[organization]", &[("id", quoted(&endpoints.org_id)), ("key_file", quoted("organization.key"))]);
    table(
        "[store]",
        &[("path", quoted(&endpoints.store.to_string_lossy())), ("key_file", quoted("store.key"))],
    );
    let mut webex = vec![
        ("discovery_url", quoted(&format!("{}/u2c/api/v1", endpoints.cloud))),
        ("token_source", quoted(source)),
        ("client_id", quoted(&endpoints.client_id)),
        ("client_secret_file", quoted("client.secret")),
        ("admin_token_file", quoted("admin.token")),
        ("license_id", quoted(LICENSE_ID)),
        ("bot_token_file", quoted("bot.token")),
        // Exactly what the overview shows, and nothing beside it.
        ("notices", "false".to_owned()),
    ];
    match options.token_source {
        TokenSource::Organization => webex.push(("machine_token_file", quoted("machine.token"))),
        TokenSource::User => webex.push(("user_tokens_file", quoted("tokens.csv"))),
        TokenSource::Relay => {}
    }
    if let Some(ca) = &endpoints.ca {
        webex.push(("ca_file", quoted(&ca.to_string_lossy())));
    }
    table("[webex]", &webex);
    let scheme = if options.tls { "https" } else { "http" };
    let mut imp = vec![
        ("publisher", quoted(&endpoints.axl)),
        ("nodes", format!("[{}]", nodes.join(", "))),
        ("link", quoted(link)),
        ("domains", format!("[{}, {}]", quoted(DOMAIN), quoted(SECOND_DOMAIN))),
        ("secret_file", quoted("imp.secret")),
        ("tls", quoted(if options.tls && options.link != Link::A { "required" } else { "off" })),
        ("axl_url", quoted(&format!("{scheme}://{}/axl/", endpoints.axl))),
        ("axl_user", quoted(&endpoints.axl_user)),
        ("axl_password_file", quoted("axl.password")),
    ];
    match options.link {
        Link::A => imp.push(("component", quoted(&endpoints.trusted_name))),
        Link::B => imp.push(("service_jid", quoted(&endpoints.service_jid))),
        Link::C => {
            imp.push(("service_jid", quoted(&endpoints.service_jid)));
            imp.push(("login_url", quoted(&format!("{scheme}://{}/EPASSoap/service/v80", endpoints.axl))));
        }
    }
    table("[[imp]]", &imp);
    // So that a person who is changed behind the connector's back is seen changed within a scene.
    table("[directory]", &[("refresh", quoted("1s"))]);
    table("[deployment]", &[("federation", "true".to_owned())]);
    table("[status]", &[("listen", quoted(status))]);
    table("[testing]", &[("time_scale", options.time_scale.to_string())]);
    let file = state.join("connector.toml");
    write_atomically(&file, text.as_bytes())?;
    Ok(file)
}
