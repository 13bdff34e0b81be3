//! A scripted scene: people on both sides write to each other, and then the sixteen interactions of the product
//! overview are played. What is judged is only what people's own clients received.

use std::future::Future;
use std::io::Write;
use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::{
    ctx::Ctx,
    launch::Lab,
    options::TokenSource,
    people::PuppetError,
    seen::{App, Client, Direction, Kind, Line},
};

/// How long something may be on its way before the tour judges nevertheless.
const PATIENCE: Duration = Duration::from_secs(12);

/// Who writes what to whom, in which client, before the sixteen interactions.
const SCENE: &[(&str, App, &str, &str)] = &[
    ("alice", App::Webex, "bob", "Morning Bob, I moved to the Webex App. Are you still on Jabber?"),
    ("bob", App::Jabber, "alice", "I am. And yet here you are in my Jabber window."),
    ("carol", App::Jabber, "alice", "Alice, may I have the slides?"),
    ("alice", App::Webex, "carol", "On their way."),
    ("erin", App::Jabber, "bob", "Lunch at noon?"),
    ("bob", App::Webex, "erin", "Noon it is. Äpfel & <b>bread</b> 🥪"),
];

/// A row of the table: id, sender, sender's client, recipient, recipient's client, whether it arrives.
type Row = (&'static str, &'static str, App, &'static str, App, bool);

/// The sixteen interactions; carol and dave are not enabled, alice and bob are.
const TABLE: [Row; 16] = [
    ("IX-T01", "carol", App::Webex, "dave", App::Webex, true),
    ("IX-T02", "carol", App::Webex, "dave", App::Jabber, false),
    ("IX-T03", "carol", App::Webex, "bob", App::Webex, true),
    ("IX-T04", "carol", App::Webex, "bob", App::Jabber, false),
    ("IX-T05", "dave", App::Jabber, "carol", App::Webex, false),
    ("IX-T06", "dave", App::Jabber, "carol", App::Jabber, true),
    ("IX-T07", "carol", App::Jabber, "bob", App::Webex, true),
    ("IX-T08", "carol", App::Jabber, "bob", App::Jabber, true),
    ("IX-T09", "alice", App::Webex, "dave", App::Webex, true),
    ("IX-T10", "alice", App::Webex, "dave", App::Jabber, true),
    ("IX-T11", "alice", App::Webex, "bob", App::Webex, true),
    ("IX-T12", "alice", App::Webex, "bob", App::Jabber, true),
    ("IX-T13", "alice", App::Jabber, "dave", App::Webex, true),
    ("IX-T14", "alice", App::Jabber, "dave", App::Jabber, true),
    ("IX-T15", "bob", App::Jabber, "alice", App::Webex, true),
    ("IX-T16", "bob", App::Jabber, "alice", App::Jabber, true),
];

/// Who of them is enabled, whatever is done behind the tour's back.
const ENABLED: [&str; 3] = ["alice", "bob", "erin"];

/// Without tokens nobody has a Mercury socket, so nothing comes from Webex.
const NEEDS_A_SOCKET: [&str; 2] = ["IX-T10", "IX-T12"];

/// What the connector itself says about a message.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// Whether it arrives, carried or native.
    pub arrives: bool,
    /// The rule that decided.
    pub rule: String,
}

/// A message whose verdict is asked for.
#[derive(Clone, Debug)]
pub struct Question {
    /// The sender's bare JID.
    pub sender: String,
    /// The client that the sender writes in.
    pub from: App,
    /// The recipient's bare JID.
    pub recipient: String,
    /// The client that the recipient looks in.
    pub to: App,
}

/// One interaction as it was played.
#[derive(Clone, Debug, Serialize)]
pub struct Interaction {
    /// Its id in the overview's table.
    pub id: &'static str,
    /// Who wrote in which client.
    pub sender: String,
    /// Who looked in which client.
    pub recipient: String,
    /// Whether the table says that it arrives.
    pub expected: bool,
    /// Whether the recipient's client received it.
    pub arrived: bool,
    /// How often the recipient's client received it; once, where it arrived.
    pub times: usize,
    /// The connector's own verdict.
    pub rule: String,
    /// From writing to the first arrival; `None` where it did not arrive.
    pub milliseconds: Option<i64>,
}

/// One message of the scene as it was seen.
#[derive(Clone, Debug, Serialize)]
pub struct Sighting {
    /// In which client.
    pub client: String,
    /// Milliseconds after it was written.
    pub milliseconds: i64,
}

/// One message of the scene.
#[derive(Clone, Debug, Serialize)]
pub struct Spoken {
    /// Who wrote in which client.
    pub sender: String,
    /// To whom.
    pub recipient: String,
    /// What.
    pub text: String,
    /// Which clients saw it, in order.
    pub seen: Vec<Sighting>,
    /// Each client that should have seen it did, once, and no other; and nothing was on its way any more.
    pub as_expected: bool,
}

/// What was played and seen.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The scene.
    pub scene: Vec<Spoken>,
    /// The sixteen interactions.
    pub interactions: Vec<Interaction>,
    /// Everything was seen as the overview says.
    pub as_expected: bool,
}

/// Plays the tour in a lab whose connector runs, telling the story on `out` as it happens; `judge` asks the
/// connector for its verdict.
///
/// # Errors
/// A person could not write, or `out` cannot be written.
pub async fn play<J, F>(lab: &Lab, judge: J, out: &mut (dyn Write + Send)) -> Result<Report, TourError>
where
    J: Fn(Question) -> F,
    F: Future<Output = Option<Verdict>>,
{
    let ctx = lab.ctx();
    let relay = ctx.options.token_source == TokenSource::Relay;
    let mut rested = settle(lab).await;
    let mut scene = Vec::new();
    for step in SCENE {
        scene.push(speak(lab, step, out).await?);
    }

    writeln!(out, "\nThe sixteen interactions, judged when nothing is on its way:\n")?;
    let mut played = Vec::new();
    for (id, sender, from, recipient, to, arrives) in TABLE {
        let question = Question { sender: jid(ctx, sender), from, recipient: jid(ctx, recipient), to };
        let verdict = judge(question).await;
        let text = format!("{id} {sender} in {from} to {recipient} in {to}");
        let written = ctx.clock.now().0;
        ctx.puppets.get(&Client::new(sender, from))?.say(recipient, &text).await?;
        let expected = arrives && !(relay && NEEDS_A_SOCKET.contains(&id));
        played.push((
            id,
            Client::new(sender, from),
            Client::new(recipient, to),
            expected,
            verdict,
            text,
            written,
        ));
    }
    rested &= settle(lab).await;
    let mut interactions = Vec::new();
    for (id, sender, recipient, expected, verdict, text, written) in played {
        let lines = received(ctx, &recipient, &text);
        interactions.push(Interaction {
            id,
            sender: sender.to_string(),
            recipient: recipient.to_string(),
            expected,
            arrived: !lines.is_empty(),
            times: lines.len(),
            rule: verdict.map_or_else(|| "the connector gave no verdict".into(), |v| v.rule),
            milliseconds: lines.first().map(|line| line.ms - written),
        });
    }
    table(&interactions, out)?;
    if !rested {
        writeln!(out, "\nNOT AT REST: something was still on its way when this was judged")?;
    }
    let right = |i: &Interaction| i.times == usize::from(i.expected);
    let as_expected =
        rested && interactions.iter().all(right) && scene.iter().all(|spoken| spoken.as_expected);
    Ok(Report { scene, interactions, as_expected })
}

/// Why the tour could not be played to its end.
#[derive(Debug, thiserror::Error)]
pub enum TourError {
    /// A person could not write.
    #[error("a message could not be written: {0}")]
    Puppet(#[from] PuppetError),
    /// A person of the scene has no such client.
    #[error(transparent)]
    Nobody(#[from] crate::people::Nobody),
    /// The story cannot be written.
    #[error("the story cannot be written: {0}")]
    Out(#[from] std::io::Error),
}

/// One message of the scene: written, waited for, and told.
async fn speak(
    lab: &Lab,
    (sender, from, recipient, text): &(&'static str, App, &'static str, &'static str),
    out: &mut (dyn Write + Send),
) -> Result<Spoken, TourError> {
    let ctx = lab.ctx();
    let author = Client::new(*sender, *from);
    let written = ctx.clock.now().0;
    let after = ctx.seen.all_after(0).last().map_or(0, |line| line.n);
    ctx.puppets.get(&author)?.say(recipient, text).await?;
    writeln!(out, "{sender} writes to {recipient} in {from}: {text}")?;
    let rested = settle(lab).await;
    let fits = |line: &Line| {
        line.kind == Kind::Message && line.text.contains(text) && line.client != author.to_string()
    };
    let lines: Vec<Line> = ctx.seen.all_after(after).into_iter().filter(fits).collect();
    let mut seen = Vec::new();
    for line in &lines {
        let milliseconds = line.ms - written;
        writeln!(out, "    seen by {} after {milliseconds} ms", line.client)?;
        seen.push(Sighting { client: line.client.clone(), milliseconds });
    }
    let mut clients: Vec<&str> = seen.iter().map(|s| s.client.as_str()).collect();
    clients.sort_unstable();
    // The author's other client shows the own half, where the connector carries it there.
    let wanted = audience(&author, recipient, ctx.options.token_source);
    let as_expected = rested && clients == wanted;
    if !as_expected {
        writeln!(out, "    NOT AS EXPECTED: should be seen by {}", wanted.join(", "))?;
    }
    Ok(Spoken {
        sender: author.to_string(),
        recipient: (*recipient).to_owned(),
        text: (*text).to_owned(),
        seen,
        as_expected,
    })
}

/// Which clients see a message besides the one that it was written in, in order of their names.
fn audience(author: &Client, recipient: &str, source: TokenSource) -> Vec<String> {
    let enabled = |name: &str| ENABLED.contains(&name);
    // Those who are enabled have enrolled; for anybody without a token a bot speaks.
    let relayed = match source {
        TokenSource::Organization => false,
        TokenSource::User => !enabled(&author.name),
        TokenSource::Relay => true,
    };
    let crosses = match author.app {
        App::Webex => enabled(&author.name) && !relayed,
        App::Jabber => enabled(&author.name) || enabled(recipient),
    };
    let other = match author.app {
        App::Webex => App::Jabber,
        App::Jabber => App::Webex,
    };
    let mut wanted = vec![Client::new(recipient, author.app).to_string()];
    if crosses {
        wanted.push(Client::new(recipient, other).to_string());
        // A relayed text is in the bot's voice, in a space without its author.
        if !(relayed && other == App::Webex) {
            wanted.push(Client::new(&author.name, other).to_string());
        }
    }
    wanted.sort_unstable();
    wanted
}

fn jid(ctx: &Ctx, name: &str) -> String {
    ctx.people.by_name(name).map_or_else(String::new, |person| person.jid)
}

/// What a client received with this text in it.
fn received(ctx: &Ctx, client: &Client, text: &str) -> Vec<Line> {
    let fits =
        |line: &Line| line.kind == Kind::Message && line.dir == Direction::In && line.text.contains(text);
    ctx.seen.after(client, 0).into_iter().filter(fits).collect()
}

/// Waits until nothing is on its way, three times in a row, for what has just left one place may not have been
/// counted in the next. False if something still was when patience ran out: what did not arrive proves nothing then.
async fn settle(lab: &Lab) -> bool {
    let until = Instant::now() + PATIENCE;
    let mut quiet = 0;
    while quiet < 3 && Instant::now() < until {
        sleep(Duration::from_millis(20)).await;
        quiet = if lab.is_idle().await { quiet + 1 } else { 0 };
    }
    quiet == 3
}

fn table(interactions: &[Interaction], out: &mut (dyn Write + Send)) -> std::io::Result<()> {
    writeln!(out, "{:7} {:13} {:13} {:8} {:10} {:>6}  rule", "", "from", "to", "expected", "seen", "ms")?;
    for i in interactions {
        let expected = if i.expected { "arrives" } else { "does not" };
        let seen = match i.times {
            0 => "no".to_owned(),
            1 => "yes".to_owned(),
            n => format!("{n} times"),
        };
        let ms = i.milliseconds.map_or_else(|| "-".to_owned(), |ms| ms.to_string());
        let mark = if i.times == usize::from(i.expected) { "" } else { "   <-- NOT AS EXPECTED" };
        writeln!(
            out,
            "{:7} {:13} {:13} {expected:8} {seen:10} {ms:>6}  {}{mark}",
            i.id, i.sender, i.recipient, i.rule
        )?;
    }
    Ok(())
}
