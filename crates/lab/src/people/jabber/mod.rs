//! Jabber puppets: each person's XMPP client, an ordinary one with copies and stream management.

mod client;
mod rooms;
mod shown;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};

use self::client::{Client, Command};
use super::{Act, Puppet, PuppetError};
use crate::ctx::Ctx;
use crate::fault::Kind;
use crate::seen::{self, App};

/// How many things a person may ask for before the client has done the first.
const COMMANDS: usize = 1_024;

const KINDS: &[Kind] = &[
    Kind {
        name: "jabber-high-priority",
        explanation: "Half of the Jabber clients that sign in do so with priority 5, so that other sessions get copies only.",
        unkind: true,
    },
    Kind {
        name: "jabber-locks-resource",
        explanation: "A Jabber client answers the full JID that it last heard from (RFC 6121 §5.1), not the bare one.",
        unkind: true,
    },
    Kind {
        name: "jabber-since-12-5",
        explanation: "Jabber clients are of version 12.5 or later: they show nothing of a message for somebody who was not there and that was not stored.",
        unkind: false,
    },
    Kind {
        name: "jabber-reuses-ids",
        explanation: "While on, a Jabber client numbers its messages, from 1 again with every new stream.",
        unkind: false,
    },
    Kind {
        name: "jabber-forges-copies",
        explanation: "With a message goes one that looks like a copy of another, which nobody may believe.",
        unkind: false,
    },
    Kind {
        name: "jabber-noise",
        explanation: "With a message go a headline, an invitation to a room and a question that nobody can answer.",
        unkind: false,
    },
];

/// Makes the Jabber client of everybody who has one; `port` is the client door. The people of the lab's contract and
/// `signed_in` of the added users sign in at once, others when they are first asked to do something.
pub fn start(ctx: &Arc<Ctx>, port: u16, signed_in: usize) {
    ctx.faults.register(KINDS);
    let added = ctx.options.users as usize;
    let people: Vec<_> = ctx.people.all().into_iter().filter(|person| !person.jid.is_empty()).collect();
    let at_once = people.len().saturating_sub(added) + signed_in;
    for (index, person) in people.into_iter().enumerate() {
        let Some(client) = Client::new(Arc::clone(ctx), port, &person) else { continue };
        let (commands, inbox) = mpsc::channel(COMMANDS);
        let puppet = Arc::new(Jabber { me: seen::Client::new(&person.name, App::Jabber), commands });
        ctx.puppets.add(&person.name, App::Jabber, puppet);
        ctx.spawn(client.run(inbox, index < at_once));
    }
}

/// One person's Jabber client; a task of its own holds the stream.
#[derive(Debug)]
pub struct Jabber {
    me: seen::Client,
    commands: mpsc::Sender<Command>,
}

impl Jabber {
    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, PuppetError>>) -> Command,
    ) -> Result<T, PuppetError> {
        let gone = || PuppetError::Offline(self.me.clone());
        let (answer, answered) = oneshot::channel();
        self.commands.send(command(answer)).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

impl Puppet for Jabber {
    fn say<'a>(&'a self, to: &'a str, text: &'a str) -> BoxFuture<'a, Result<String, PuppetError>> {
        Box::pin(self.ask(|answer| Command::Say { to: to.to_owned(), text: text.to_owned(), answer }))
    }

    fn act<'a>(&'a self, act: &'a Act) -> BoxFuture<'a, Result<(), PuppetError>> {
        Box::pin(self.ask(|answer| Command::Act { act: act.clone(), answer }))
    }
}
