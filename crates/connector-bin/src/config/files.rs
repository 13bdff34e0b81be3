//! The files of rows that settings name, and what each row must be.

use std::collections::BTreeMap;
use std::path::Path;

use connector_edges::xmpp_core::BareJid;
use router::ids::{JabberId, PersonId};

use super::Secret;

/// A person of the directory file: JID, mail, and whether enabled.
pub(crate) type User = (JabberId, String, bool);

/// The people of a file of jid,mail,enabled.
///
/// # Errors
/// The file, the line that is wrong, and what is expected.
pub(super) fn users(path: &Path) -> Result<Vec<User>, String> {
    rows(path, |line| {
        let cells: Vec<&str> = line.split(',').map(str::trim).collect();
        let [jid, mail, enabled] = cells[..] else { return Err("expected jid,mail,enabled") };
        let jid: BareJid = jid.parse().map_err(|_| "the first column is no bare JID")?;
        if !mail.contains('@') {
            return Err("the second column is no mail address");
        }
        let enabled = enabled.parse().map_err(|_| "the third column is neither true nor false")?;
        Ok((JabberId::new(jid.to_string().to_lowercase()), mail.to_lowercase(), enabled))
    })
}

/// The resource groups of a file of mail,group.
///
/// # Errors
/// The file, the line that is wrong, and what is expected.
pub(super) fn resource_groups(path: &Path) -> Result<BTreeMap<String, Box<str>>, String> {
    let rows = rows(path, |line| {
        let (mail, group) = line.split_once(',').ok_or("expected mail,group")?;
        Ok((mail.trim().to_lowercase(), group.trim().into()))
    });
    Ok(rows?.into_iter().collect())
}

/// The refresh tokens of a file of person id,refresh token.
///
/// # Errors
/// The file, the line that is wrong, and what is expected.
pub(super) fn user_tokens(path: &Path) -> Result<Vec<(PersonId, Secret)>, String> {
    rows(path, |line| {
        let (person, token) = line.split_once(',').ok_or("expected person id,refresh token")?;
        Ok((PersonId::new(person.trim().to_lowercase()), Secret(token.trim().to_owned())))
    })
}

/// Each line that says something, read.
fn rows<T>(path: &Path, read: impl Fn(&str) -> Result<T, &'static str>) -> Result<Vec<T>, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    let lines =
        text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    lines
        .map(|(n, line)| read(line).map_err(|what| format!("{} line {}: {what}", path.display(), n + 1)))
        .collect()
}
