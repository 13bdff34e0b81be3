//! Which crate may depend on which: the table of ARCHITECTURE.md, compared with the dependency graph.

use std::process::Command;

use serde_json::Value;

use crate::parts::root;

/// Our crates, and the crates of ours that each may depend on (normal and build dependencies).
const ARROWS: &[(&str, &[&str])] = &[
    ("xmpp-core", &[]),
    ("kms-client", &[]),
    ("webex-api", &[]),
    ("axl-client", &[]),
    ("presence-map", &[]),
    ("router", &["presence-map"]),
    ("store", &["router"]),
    ("edges", &["router", "presence-map", "xmpp-core", "kms-client", "webex-api", "axl-client"]),
    ("lab", &["xmpp-core", "kms-client", "webex-api", "axl-client"]),
    ("connector-bin", &["edges", "store", "router", "lab"]),
    (
        "benches",
        &[
            "xmpp-core",
            "kms-client",
            "webex-api",
            "axl-client",
            "presence-map",
            "router",
            "store",
            "edges",
            "lab",
        ],
    ),
    ("examples", &["xmpp-core", "kms-client", "webex-api", "axl-client", "presence-map", "router"]),
    ("tests", &["router", "store", "edges", "lab"]),
    ("faulty-vfs", &[]),
    ("fuzz", &["xmpp-core", "kms-client", "webex-api", "axl-client", "presence-map", "router", "edges"]),
    ("xtask", &[]),
];

/// What no crate below the edges may need, unless behind a feature.
const DRIVERS: &[&str] = &[
    "tokio",
    "tokio-rustls",
    "tokio-tungstenite",
    "tokio-util",
    "hyper",
    "hyper-util",
    "rustls",
    "rusqlite",
];
const SANS_IO: &[&str] = &["xmpp-core", "kms-client", "webex-api", "axl-client", "presence-map", "router"];

/// Compares; names every arrow that points the wrong way.
pub(crate) fn check() -> Result<(), String> {
    let out = Command::new("cargo")
        .args(["metadata", "--format-version", "1", "--no-deps", "--locked"])
        .current_dir(root())
        .output()
        .map_err(|e| format!("cannot run cargo metadata: {e}"))?;
    if !out.status.success() {
        return Err(String::from_utf8_lossy(&out.stderr).into_owned());
    }
    let metadata: Value = serde_json::from_slice(&out.stdout).map_err(|e| e.to_string())?;
    let packages = metadata["packages"].as_array().ok_or("cargo metadata has no packages")?;
    let wrong: Vec<String> = packages.iter().flat_map(wrong_arrows).collect();
    if wrong.is_empty() {
        println!("{} crates, every arrow as in ARCHITECTURE.md", packages.len());
        Ok(())
    } else {
        Err(wrong.join("\n"))
    }
}

fn wrong_arrows(package: &Value) -> Vec<String> {
    let name = package["name"].as_str().unwrap_or_default();
    let Some((_, allowed)) = ARROWS.iter().find(|(crate_name, _)| *crate_name == name) else {
        return vec![format!("{name} is not in the table of crates (xtask/src/arrows.rs)")];
    };
    let mut wrong = Vec::new();
    for dependency in package["dependencies"].as_array().into_iter().flatten() {
        let to = dependency["name"].as_str().unwrap_or_default();
        let for_tests = dependency["kind"] == "dev";
        if for_tests {
            continue;
        }
        let ours = ARROWS.iter().any(|(crate_name, _)| *crate_name == to);
        if ours && !allowed.contains(&to) {
            wrong.push(format!("{name} must not depend on {to}"));
        }
        let optional = dependency["optional"] == true;
        if SANS_IO.contains(&name) && DRIVERS.contains(&to) && !optional {
            wrong.push(format!("{name} is without I/O: {to} must be optional, behind its driver feature"));
        }
        if name == "presence-map" {
            wrong.push(format!("presence-map depends on nothing at all, not on {to}"));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_arrow_that_points_the_wrong_way_is_named() {
        let lab =
            json!({"name": "lab", "dependencies": [{"name": "router", "kind": null, "optional": false}]});
        assert_eq!(wrong_arrows(&lab), ["lab must not depend on router"]);
    }

    #[test]
    fn a_driver_must_be_behind_a_feature() {
        let with = |optional: bool| json!({"name": "xmpp-core", "dependencies": [{"name": "tokio", "kind": null, "optional": optional}]});
        assert!(wrong_arrows(&with(true)).is_empty());
        assert_eq!(wrong_arrows(&with(false)).len(), 1);
    }

    #[test]
    fn a_new_crate_must_be_entered() {
        assert_eq!(wrong_arrows(&json!({"name": "utils", "dependencies": []})).len(), 1);
    }
}
