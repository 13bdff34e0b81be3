//! The numbers of the status page in the form that Prometheus and its kin read (OpenMetrics 1.0).

use std::fmt;
use std::sync::Arc;

use connector_edges::hub::Status;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::TypedMetric;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use store::Figures;

use crate::process;

/// What [`Reading::text`] is, as a header says it.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Everything that is counted, at one moment.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) status: Status,
    pub(crate) figures: Arc<Figures>,
    /// People to whom no node gives a session.
    pub(crate) refused_sessions: usize,
    /// People whose token the cloud refuses.
    pub(crate) refused_tokens: usize,
}

impl Reading {
    /// The whole exposition.
    pub(crate) fn text(self) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        text::encode(&mut text, &registry).expect("a string takes all that is written to it");
        text
    }
}

impl Collector for Reading {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Self { status, figures, refused_sessions, refused_tokens } = self;
        let router = &status.router;
        let mut now = |name, help, value: usize| one(&mut encoder, name, help, None, &ConstGauge::new(value));
        now("enabled", "People who are enabled", router.enabled)?;
        now("sessions", "Sessions on IM and Presence", router.sessions)?;
        now("inactive", "Enabled people without a session, for want of activity", router.inactive)?;
        now("catching_up", "People whose conversations are being read again", router.catching_up)?;
        now("refused_sessions", "People to whom no node gives a session", *refused_sessions)?;
        now("refused_tokens", "People whose token the cloud refuses", *refused_tokens)?;
        now("held", "Messages held while somebody catches up or a session opens", router.held)?;
        now("waiting", "Messages that wait to be delivered", router.waiting)?;
        now("lanes", "Conversations in which something waits", router.lanes)?;
        now("in_flight", "Deliveries under way", router.in_flight)?;
        now("unread", "Inputs that wait to be read", status.intake)?;
        now("uncommitted", "Inputs that wait for the next commit", status.uncommitted)?;
        if let Some(open) = process::open_descriptors() {
            now("open_descriptors", "File descriptors in use", open)?;
        }
        if let Some(limit) = process::descriptors_limit() {
            let limit = ConstGauge::new(limit);
            one(&mut encoder, "descriptors_limit", "File descriptors that it may have", None, &limit)?;
        }
        if let Some(room) = status.room {
            let (help, room) = ("What may still be written to the store", ConstGauge::new(room));
            one(&mut encoder, "room", help, Some(&Unit::Bytes), &room)?;
        }
        let age = router.oldest.map_or(0, |oldest| (status.at.0 - oldest.0).max(0));
        let (help, age) =
            ("Age of the oldest message that is not delivered", ConstGauge::new(age as f64 / 1e3));
        one(&mut encoder, "oldest", help, Some(&Unit::Seconds), &age)?;
        let blocked = router.blocked.iter().map(|(cause, lanes)| (&**cause, ConstGauge::new(*lanes)));
        each(
            &mut encoder,
            "blocked",
            "Conversations that wait, by what stands in the way",
            "cause",
            blocked,
        )?;

        let mut sum = |name, help, value: u64| one(&mut encoder, name, help, None, &ConstCounter::new(value));
        sum("delivered", "Messages delivered", router.delivered)?;
        sum("repeats", "Copies of what was known already", router.repeats)?;
        sum("own", "What the connector wrote and saw again", router.own)?;
        sum("dropped", "What found no room and is read again from listings", status.dropped)?;
        sum("commits", "Commits of the store", figures.commits())?;
        let (help, time) =
            ("Time spent in commits", ConstCounter::new(figures.time_in_commits().as_secs_f64()));
        one(&mut encoder, "commit", help, Some(&Unit::Seconds), &time)?;
        let not_carried = router.not_carried.iter().map(|(rule, n)| (&**rule, ConstCounter::new(*n)));
        each(&mut encoder, "not_carried", "Messages that the rules do not carry", "rule", not_carried)?;
        let wedged = router.wedged.iter().map(|(reason, n)| (&**reason, ConstCounter::new(*n)));
        each(&mut encoder, "wedged", "Messages given up", "reason", wedged)?;
        let events = router.events.iter().map(|(event, n)| (*event, ConstCounter::new(*n)));
        each(&mut encoder, "events", "Rarer things", "event", events)
    }
}

fn one(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    metric: &impl EncodeMetric,
) -> fmt::Result {
    let name = format!("connector_{name}");
    metric.encode(encoder.encode_descriptor(&name, help, unit, metric.metric_type())?)
}

/// One metric for each value of a label, and nothing where there is none.
fn each<'a, M: EncodeMetric + TypedMetric>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    label: &str,
    metrics: impl Iterator<Item = (&'a str, M)>,
) -> fmt::Result {
    let name = format!("connector_{name}");
    let mut family = encoder.encode_descriptor(&name, help, None, M::TYPE)?;
    for (value, metric) in metrics {
        metric.encode(family.encode_family(&[(label, value)])?)?;
    }
    Ok(())
}
