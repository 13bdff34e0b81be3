//! Users as AXL itself tells of them, without SQL: one by name, or all whose name is like a pattern.

use std::borrow::Cow;

use super::axl::{Account, Refusal, Request, accounts, element, too_large};
use super::sql::is_like;
use crate::ctx::Ctx;

/// What can be asked of a user. The last two are told of one user alone, as in the schema.
const TAGS: &[&str] = &[
    "userid",
    "mailid",
    "directoryUri",
    "homeCluster",
    "imAndPresenceEnable",
    "displayName",
    "enableUserToHostConferenceNow",
];
const OF_A_LIST: usize = 5;

/// `getUser`: the user of this name, or of this id.
pub(super) fn get(ctx: &Ctx, request: &Request) -> Result<String, Refusal> {
    let tags = tags(request, TAGS)?;
    let name = request.argument("userid");
    let id = request.argument("uuid").map(|id| id.trim_matches(['{', '}']).to_owned());
    let Some(wanted) = name.clone().or_else(|| id.clone()) else {
        return Err((Some(5003), "Neither a userid nor a uuid was given".to_owned()));
    };
    let is_it = |account: &Account| match &name {
        Some(name) => account.person.name.eq_ignore_ascii_case(name),
        None => Some(&account.person.person_id) == id.as_ref(),
    };
    match accounts(ctx).rows.into_iter().find(is_it) {
        Some(account) => Ok(user(&account, &tags)),
        None => Err((Some(5007), format!("Item not valid: The specified {wanted} was not found"))),
    }
}

/// `listUser`: those whose name is like a pattern, or a page of them.
pub(super) fn list(ctx: &Ctx, request: &Request) -> Result<String, Refusal> {
    let tags = tags(request, &TAGS[..OF_A_LIST])?;
    let pattern = request
        .element
        .children()
        .find(|child| child.name() == "searchCriteria")
        .and_then(|criteria| criteria.children().find(|child| child.name() == "userid"))
        .map(|pattern| pattern.text().to_lowercase());
    let Some(pattern) = pattern else {
        return Err((Some(5003), "No search criteria were given".to_owned()));
    };
    let mut found = accounts(ctx).rows;
    found.retain(|account| is_like(&account.person.name.to_lowercase(), &pattern));
    found.sort_by(|one, other| one.person.name.cmp(&other.person.name));
    let number = |name: &str| request.argument(name).and_then(|text| text.trim().parse::<usize>().ok());
    // Without `first`, `skip` is not read.
    let (skip, first) = match number("first") {
        Some(first) => (number("skip").unwrap_or(0), first),
        None => (0, usize::MAX),
    };
    too_large(ctx, found.len(), first)?;
    Ok(found.iter().skip(skip).take(first).map(|account| user(account, &tags)).collect())
}

/// The fields asked for; all that there are where none is named.
fn tags(request: &Request, known: &[&'static str]) -> Result<Vec<&'static str>, Refusal> {
    let Some(returned) = request.element.children().find(|child| child.name() == "returnedTags") else {
        return Ok(known.to_vec());
    };
    let find = |name: &str| known.iter().find(|tag| **tag == name).copied();
    let unknown = |name: &str| (None, format!("The tag {name} is not one of {}", request.operation));
    returned.children().map(|tag| find(tag.name()).ok_or_else(|| unknown(tag.name()))).collect()
}

fn user(account: &Account, tags: &[&'static str]) -> String {
    let Account { person, node } = account;
    let value = |tag: &str| -> Cow<'_, str> {
        match tag {
            "userid" | "displayName" => person.name.as_str().into(),
            "mailid" | "directoryUri" => person.mail.as_str().into(),
            "homeCluster" => node.is_some().to_string().into(),
            "imAndPresenceEnable" => "true".into(),
            _ => "false".into(),
        }
    };
    let fields: String = tags.iter().map(|tag| element(tag, &value(tag))).collect();
    format!("<user uuid=\"{{{}}}\">{fields}</user>", person.person_id.to_uppercase())
}
