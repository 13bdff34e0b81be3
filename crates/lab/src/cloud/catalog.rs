//! The service catalog: every service at the lab's one origin.

use serde_json::{Value, json};

use super::Cloud;
use crate::http::{Answer, Handled};

impl Cloud {
    /// Both catalogs are equal; the first service must be `conversation`, since all share one host and clients take
    /// the first that has it for public ids.
    pub(crate) fn catalog(&self) -> Handled {
        let links: [(&str, &str); 12] = [
            ("conversation", "/conversation/api/v1"),
            ("wdm", "/wdm/api/v1"),
            ("encryption", "/encryption/api/v1"),
            ("apheleia", "/apheleia/api/v1"),
            ("feature", "/feature/api/v1"),
            ("metrics", "/metrics/api/v1"),
            ("hydra", "/v1"),
            ("files", "/files"),
            ("directorySearch", "/dss/api/v1"),
            ("u2c", "/u2c/api/v1"),
            ("idbroker", ""),
            ("identity", ""),
        ];
        let origin = &self.origin;
        let authority = origin.split_once("://").map_or(origin.as_str(), |(_, authority)| authority);
        // Written by hand, because the order of the services matters and a JSON map would sort them.
        let links: Vec<String> = links
            .iter()
            .map(|(name, path)| format!("{}:{}", json!(name), json!(format!("{origin}{path}"))))
            .collect();
        let hosts = json!({authority: [{
            "host": authority.split(':').next(),
            "ttl": -1,
            "priority": 1,
            "id": "urn:TEAM:us-east-2_a:identityLookup",
        }]});
        let body =
            format!(r#"{{"format":"hostmap","serviceLinks":{{{}}},"hostCatalog":{hosts}}}"#, links.join(","));
        let mut answer = Answer::ok(&Value::Null);
        answer.body = body.into();
        Ok(answer)
    }
}
