//! Faults: what can be made to go wrong, by name. What the stand-ins do unkindly by default is a fault that starts switched on.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, futures::Notified};

use crate::generator::Generator;

/// One thing that can be made to go wrong.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// The name in the control interface.
    pub name: &'static str,
    /// What happens while it is on, in one sentence.
    pub explanation: &'static str,
    /// Whether a lab that is not kind starts with it.
    pub unkind: bool,
}

/// A request to switch one fault, as `POST /fault` takes it.
#[derive(Clone, Debug, Deserialize)]
pub struct Switch {
    /// Which fault.
    pub name: String,
    /// On or off.
    pub on: bool,
    /// How many occasions it spoils before it switches itself off; without it, all.
    #[serde(default)]
    pub count: Option<u64>,
    /// With a seed, each occasion is spoiled with a chance of one half, drawn from that seed; without it, each is.
    #[serde(default)]
    pub seed: Option<u64>,
    /// Only occasions of this person; without it, of everybody.
    #[serde(default)]
    pub person: Option<String>,
    /// A number that the fault takes, for instance a close code; its default is in the explanation.
    #[serde(default)]
    pub value: Option<i64>,
    /// A text that the fault takes, for instance the reason of a close; its default is in the explanation.
    #[serde(default)]
    pub text: Option<String>,
}

/// One line of `GET /faults`.
#[derive(Clone, Debug, Serialize)]
pub struct Listed {
    /// The name.
    pub name: &'static str,
    /// What happens while it is on.
    pub explanation: &'static str,
    /// Whether it belongs to what is unkind by default.
    pub unkind: bool,
    /// Whether it is on now.
    pub on: bool,
    /// How many occasions are left; absent when there is no limit.
    pub count: Option<u64>,
    /// How many occasions it has spoiled so far.
    pub hits: u64,
    /// The person it is limited to.
    pub person: Option<String>,
    /// The number it was given.
    pub value: Option<i64>,
    /// The text it was given.
    pub text: Option<String>,
}

/// Why a fault was not switched.
#[derive(Debug, thiserror::Error)]
#[error("there is no fault `{0}`")]
pub struct UnknownFault(pub String);

#[derive(Debug)]
struct State {
    kind: Kind,
    on: bool,
    left: Option<u64>,
    chance: Option<Generator>,
    person: Option<String>,
    value: Option<i64>,
    text: Option<String>,
    hits: u64,
}

/// All faults of a lab.
#[derive(Debug)]
pub struct Faults {
    kind_lab: bool,
    states: Mutex<BTreeMap<&'static str, State>>,
    switched: Notify,
}

impl Faults {
    /// No faults yet; `kind_lab` starts even the unkind ones switched off.
    #[must_use]
    pub fn new(kind_lab: bool) -> Self {
        Self { kind_lab, states: Mutex::default(), switched: Notify::new() }
    }

    fn states(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, State>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes faults known; each stand-in does so once, when it starts.
    pub fn register(&self, kinds: &[Kind]) {
        let mut states = self.states();
        for kind in kinds {
            states.entry(kind.name).or_insert_with(|| State {
                kind: *kind,
                on: kind.unkind && !self.kind_lab,
                left: None,
                chance: None,
                person: None,
                value: None,
                text: None,
                hits: 0,
            });
        }
    }

    /// Switches one.
    ///
    /// # Errors
    /// When no fault has that name.
    pub fn switch(&self, switch: &Switch) -> Result<(), UnknownFault> {
        let mut states = self.states();
        let state = states.get_mut(switch.name.as_str()).ok_or_else(|| UnknownFault(switch.name.clone()))?;
        state.on = switch.on;
        state.left = switch.count;
        state.chance = switch.seed.map(Generator::new);
        state.person.clone_from(&switch.person);
        state.value = switch.value;
        state.text.clone_from(&switch.text);
        drop(states);
        self.switched.notify_waiters();
        Ok(())
    }

    /// Waits until a fault is switched. It notices what happens from this call on, even if it is awaited later.
    pub fn changed(&self) -> Notified<'_> {
        self.switched.notified()
    }

    /// All of them, by name.
    #[must_use]
    pub fn list(&self) -> Vec<Listed> {
        let states = self.states();
        let listed = states.values().map(|state| Listed {
            name: state.kind.name,
            explanation: state.kind.explanation,
            unkind: state.kind.unkind,
            on: state.on,
            count: state.left,
            hits: state.hits,
            person: state.person.clone(),
            value: state.value,
            text: state.text.clone(),
        });
        listed.collect()
    }

    /// Whether this occasion is spoiled. Uses up one of the count. `person` is whom the occasion concerns, by short name.
    pub fn hit(&self, name: &str, person: Option<&str>) -> bool {
        self.hit_value(name, person, 0).is_some()
    }

    /// Like [`Faults::hit`], and with the number that the fault was given, else `default`.
    pub fn hit_value(&self, name: &str, person: Option<&str>, default: i64) -> Option<i64> {
        let mut states = self.states();
        let state = states.get_mut(name)?;
        if !state.on || state.left == Some(0) {
            return None;
        }
        if state.person.is_some() && state.person.as_deref() != person {
            return None;
        }
        if state.chance.as_ref().is_some_and(|chance| chance.below(2) == 0) {
            return None;
        }
        if let Some(left) = &mut state.left {
            *left -= 1;
            state.on = *left > 0;
        }
        state.hits += 1;
        Some(state.value.unwrap_or(default))
    }

    /// The text that a fault was given, else `default`.
    #[must_use]
    pub fn text(&self, name: &str, default: &str) -> String {
        self.states().get(name).and_then(|state| state.text.clone()).unwrap_or_else(|| default.to_owned())
    }

    /// The number of a lasting behaviour while it is on, 0 where it was given none; this counts as no occasion.
    #[must_use]
    pub fn lasting_value(&self, name: &str) -> Option<i64> {
        self.states().get(name).filter(|state| state.on).map(|state| state.value.unwrap_or(0))
    }

    /// Whether a lasting behaviour is on for a person, by short name, without counting this as an occasion.
    #[must_use]
    pub fn is_on_for(&self, name: &str, person: &str) -> bool {
        let concerns = |state: &State| state.person.as_ref().is_none_or(|only| only == person);
        self.states().get(name).is_some_and(|state| state.on && concerns(state))
    }

    /// Whether a lasting behaviour is on, without counting this as an occasion.
    #[must_use]
    pub fn is_on(&self, name: &str) -> bool {
        self.states().get(name).is_some_and(|state| state.on)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: &[Kind] = &[
        Kind { name: "lose", explanation: "loses one", unkind: false },
        Kind { name: "late", explanation: "is late", unkind: true },
    ];

    fn switch(json: &str) -> Switch {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_count_switches_itself_off() {
        let faults = Faults::new(false);
        faults.register(KINDS);
        assert!(!faults.hit("lose", None));
        faults.switch(&switch(r#"{"name":"lose","on":true,"count":2,"value":4401}"#)).unwrap();
        assert_eq!(faults.hit_value("lose", None, 1), Some(4401));
        assert!(faults.hit("lose", None));
        assert!(!faults.hit("lose", None));
        assert!(!faults.is_on("lose"));
    }

    #[test]
    fn a_kind_lab_starts_without_the_unkind_ones() {
        for kind in [true, false] {
            let faults = Faults::new(kind);
            faults.register(KINDS);
            assert_eq!(faults.is_on("late"), !kind);
        }
    }

    #[test]
    fn a_fault_for_one_person_leaves_the_others_alone() {
        let faults = Faults::new(true);
        faults.register(KINDS);
        faults.switch(&switch(r#"{"name":"lose","on":true,"count":1,"person":"bob"}"#)).unwrap();
        assert!(!faults.hit("lose", Some("alice")));
        assert!(!faults.hit("lose", None));
        assert!(faults.hit("lose", Some("bob")));
    }

    #[test]
    fn the_same_seed_spoils_the_same_occasions() {
        let run = || {
            let faults = Faults::new(true);
            faults.register(KINDS);
            faults.switch(&switch(r#"{"name":"lose","on":true,"seed":7}"#)).unwrap();
            (0..64).map(|_| faults.hit("lose", None)).collect::<Vec<_>>()
        };
        assert_eq!(run(), run());
        assert!(run().contains(&true) && run().contains(&false));
    }

    #[test]
    fn an_unknown_name_is_refused() {
        let error = Faults::new(true).switch(&switch(r#"{"name":"nope","on":true}"#)).unwrap_err();
        assert_eq!(error.to_string(), "there is no fault `nope`");
    }
}
