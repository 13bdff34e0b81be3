//! Presence of everybody who is served: read every ten minutes in batches, and followed in between.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use presence_map::Status as Shown;
use router::ids::PersonId;
use router::inbound::{Inbound, Observation};
use tokio::time::Instant;
use webex_api::presence::{List, MAX_SUBJECTS, Presence, Status, Subscribe};

use super::http::CloudError;
use super::intake::{person, time};
use super::{Side, locked};
use crate::crash;
use crate::probe::causes;

/// How presence is watched.
#[derive(Clone, Copy, Debug)]
pub struct PresenceConfig {
    /// How often everybody is read; 10 min.
    pub poll: Duration,
    /// Whether changes are subscribed to as well.
    pub subscribe: bool,
}

/// A subscription outlives the poll that renews it by this.
const SPARE: Duration = Duration::from_secs(60);
/// From one question to the next, so that the organization is not asked at once.
const BETWEEN: Duration = Duration::from_millis(200);
/// How soon people are looked for who have come since the last poll, and somebody to ask as.
const LOOK: Duration = Duration::from_secs(2);

/// What the cloud says about one person, in the router's terms.
pub(super) fn observation(presence: &Presence, side: &Side) -> Observation {
    let subject = person(&presence.subject);
    let status = match &presence.status {
        Some(Status::DoNotDisturb) => Shown::DoNotDisturb,
        Some(Status::OutOfOffice) => Shown::OutOfOffice,
        // What a person hides, the cloud does not know.
        None | Some(Status::Unknown) => Shown::Hidden,
        Some(_) => Shown::ByActivity,
    };
    let ours = side.cloud.device(&subject);
    let by_our_device =
        ours.is_some_and(|ours| presence.last_seen_device_url.as_deref() == Some(ours.as_str()));
    Observation {
        person: subject,
        status,
        last_active: presence.last_active.map(time),
        by_our_device,
        at: side.cloud.now(),
    }
}

/// Reads everybody's presence again and again, spread over the time of a poll.
pub(super) async fn run(side: Arc<Side>, config: PresenceConfig) {
    let mut read: BTreeMap<PersonId, Instant> = BTreeMap::new();
    let mut failed: BTreeSet<PersonId> = BTreeSet::new();
    loop {
        let served = side.served();
        read.retain(|person, _| served.contains(person));
        let now = Instant::now();
        let mut due: Vec<PersonId> =
            served.into_iter().filter(|person| read.get(person).is_none_or(|at| *at <= now)).collect();
        due.truncate(MAX_SUBJECTS);
        let asker = asker(&locked(&side.attached), &due, &mut failed);
        let Some(asker) = asker.filter(|_| !due.is_empty()) else {
            tokio::time::sleep(side.scale().of(LOOK)).await;
            continue;
        };
        match batch(&side, &asker, &due, config).await {
            Ok(seen) => {
                crash::point(crash::STATUS_READ);
                if !side.hub.take(Inbound::Statuses(seen)).await {
                    return;
                }
                tokio::time::sleep(side.scale().of(BETWEEN)).await;
                for person in due {
                    // Jitter parts those who came together.
                    read.insert(person, now + side.generator.jittered(config.poll));
                }
            }
            Err(error) => {
                tracing::warn!(error = causes(&error), "presence not read");
                let wait = match error {
                    CloudError::Limited { after, .. } => after,
                    _ => {
                        failed.insert(asker);
                        side.scale().of(Duration::from_secs(10))
                    }
                };
                tokio::time::sleep(side.generator.jittered(wait)).await;
            }
        }
    }
}

/// As whom is asked: one of those in question if possible, and nobody whose questions failed before, unless all
/// have.
fn asker(
    attached: &BTreeSet<PersonId>,
    due: &[PersonId],
    failed: &mut BTreeSet<PersonId>,
) -> Option<PersonId> {
    if attached.is_subset(failed) {
        failed.clear();
    }
    let fit = |person: &&PersonId| attached.contains(*person) && !failed.contains(*person);
    due.iter().find(fit).or_else(|| attached.iter().find(fit)).cloned()
}

/// One question about at most fifty people.
async fn batch(
    side: &Side,
    asker: &PersonId,
    people: &[PersonId],
    config: PresenceConfig,
) -> Result<Vec<Observation>, CloudError> {
    let mut subjects: Vec<webex_api::PersonId> =
        people.iter().filter_map(|person| person.as_str().parse().ok()).collect();
    let mut seen = Vec::new();
    if config.subscribe {
        let subscribe = Subscribe { subjects: subjects.clone(), ttl: config.poll + SPARE };
        match side.cloud.send_as(asker, subscribe).await {
            Ok(answers) => {
                for answer in answers.into_iter().filter(|answer| answer.response_code == 200) {
                    if let Some(presence) = answer.status {
                        subjects.retain(|subject| *subject != answer.subject);
                        seen.push(observation(&presence, side));
                    }
                }
            }
            Err(error @ (CloudError::Limited { .. } | CloudError::Token { .. })) => return Err(error),
            Err(error) => tracing::debug!(%error, "presence cannot be subscribed to"),
        }
    }
    if !subjects.is_empty() {
        let told = side.cloud.send_as(asker, List { subjects }).await?;
        seen.extend(told.iter().map(|presence| observation(presence, side)));
    }
    Ok(seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_failed_does_not_ask_again_before_all_others() {
        let people: Vec<PersonId> = ["ann", "bob", "eve"].map(PersonId::new).into();
        let attached: BTreeSet<PersonId> = people.iter().cloned().collect();
        let (mut failed, due) = (BTreeSet::new(), &people[1..]);
        let mut asked = Vec::new();
        for _ in 0..4 {
            let next = asker(&attached, due, &mut failed).unwrap();
            asked.push(next.to_string());
            failed.insert(next);
        }
        assert_eq!(asked, ["bob", "eve", "ann", "bob"]);
        assert_eq!(asker(&BTreeSet::new(), due, &mut failed), None, "nobody can ask");
    }
}
