//! `connector lab`: stand-ins for both sides, and the connector between them, in one process.

use std::io::Write;
use std::time::Duration;

use connector_edges::probe::causes;
use lab::seen::App;
use lab::tour::{self, Question, Report, Verdict};
use lab::{Lab, endpoints::Endpoints, options::Options};
use router::entitlement::Client;
use router::ids::JabberId;

use crate::app::{self, Connector};
use crate::{config, telemetry};

/// How long a connector that has just started may take until everything is read and every session is open.
const READY: Duration = Duration::from_secs(60);

/// What the lab command is asked.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    options: Options,
    /// Play a scene and the sixteen interactions, then end: status 0 if all was seen as the overview says.
    #[arg(long, conflicts_with = "stand_ins")]
    tour: bool,
    /// With --tour: print what was seen as one JSON document, and nothing else.
    #[arg(long, requires = "tour")]
    json: bool,
    /// The log filter of the connector and the stand-ins.
    #[arg(long, value_name = "FILTER", default_value = "warn")]
    log: String,
}

/// Runs the lab until Ctrl-C, or plays the tour.
///
/// # Errors
/// What is wrong, and what to do; or that the tour was not seen as expected.
pub(crate) async fn run(args: Args) -> Result<(), String> {
    telemetry::start(&args.log, 0)?;
    let stand_ins = args.options.stand_ins;
    let mut lab = Lab::start(args.options).await.map_err(|e| causes(&e))?;
    if stand_ins {
        print_endpoints(lab.endpoints());
        app::stop_signal().await;
        lab.stop().await;
        return Ok(());
    }
    let connector = start_connector(&mut lab).await?;
    lab.publish_endpoints().map_err(|e| format!("--endpoints: {e}"))?;
    let done = if args.tour {
        let report = play(&lab, &connector, args.json).await;
        connector.until(std::future::ready(()), false).await.and(report).and_then(|report| verdict(&report))
    } else {
        print_endpoints(lab.endpoints());
        connector.until(app::stop_signal(), false).await
    };
    lab.stop().await;
    done
}

/// Starts the connector with the settings that the lab wrote, and waits until it has read everything.
async fn start_connector(lab: &mut Lab) -> Result<Connector, String> {
    let path = lab.endpoints().connector_config.clone();
    let config = config::load(&path).map_err(|mistakes| app::report(&path, &mistakes))?;
    let connector = Connector::start(config, None).await?;
    lab.connector(std::process::id());
    let ready = async {
        loop {
            let status = connector.hub.status().await;
            if status.is_some_and(|s| s.router.enabled > 0) && connector.hub.idle().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    match tokio::time::timeout(READY, ready).await {
        Ok(()) => Ok(connector),
        Err(_) => {
            Err("the connector did not get ready within a minute; --log debug says where it waits".into())
        }
    }
}

async fn play(lab: &Lab, connector: &Connector, json: bool) -> Result<Report, String> {
    let judge = |question: Question| {
        let hub = connector.hub.clone();
        async move {
            let (sender, recipient) = (JabberId::new(question.sender), JabberId::new(question.recipient));
            let verdict = hub.judge(sender, client(question.from), recipient, client(question.to)).await?;
            Some(Verdict { arrives: verdict.arrives, rule: verdict.rule.to_owned() })
        }
    };
    let (mut stdout, mut nowhere) = (std::io::stdout(), std::io::sink());
    let out: &mut (dyn Write + Send) = if json { &mut nowhere } else { &mut stdout };
    let report = tour::play(lab, judge, out).await.map_err(|e| causes(&e))?;
    if json {
        println!("{}", serde_json::to_string_pretty(&report).map_err(|e| e.to_string())?);
    }
    Ok(report)
}

fn verdict(report: &Report) -> Result<(), String> {
    if report.as_expected { Ok(()) } else { Err("the tour was not seen as the overview says".into()) }
}

fn client(app: App) -> Client {
    match app {
        App::Jabber => Client::Jabber,
        App::Webex => Client::Webex,
    }
}

fn print_endpoints(endpoints: &Endpoints) {
    println!("XMPP clients      {}", endpoints.xmpp_client);
    println!("trusted link      {}", endpoints.xmpp_trusted);
    println!("AXL               {}", endpoints.axl);
    println!("Webex cloud       {}  (the SDK's discovery address: {0}/u2c/api/v1)", endpoints.cloud);
    println!("control           {}", endpoints.control);
    if let Some(status) = &endpoints.status {
        println!("connector status  {status}/status");
    }
    println!("settings          {}", endpoints.connector_config.display());
    println!(
        "\nLog in with any XMPP client: server {}, password `secret`, no TLS unless --tls.\n",
        endpoints.xmpp_client
    );
    for user in endpoints.users.iter().take(8) {
        let enabled = if user.enabled { "enabled" } else { "not enabled" };
        println!("  {:24} {:28} {enabled}", user.jid, user.mail);
    }
    if endpoints.users.len() > 8 {
        println!("  … and {} more", endpoints.users.len() - 8);
    }
    println!("\nCtrl-C ends it.");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A lab with a connector on free ports, and the tour played in it after `meddle`.
    async fn toured(meddle: impl FnOnce(&Lab)) -> Report {
        toured_as(lab::options::TokenSource::Organization, meddle).await
    }

    /// One lab at a time: between the choice of a status port and its use another would take it.
    static ONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

    /// The same, acting as people by this right.
    async fn toured_as(token_source: lab::options::TokenSource, meddle: impl FnOnce(&Lab)) -> Report {
        let _one = ONE.lock().await;
        let state = std::env::temp_dir().join(format!("connector-tour-{}", lab::ctx::TRUSTED_NAME));
        let state = state.join(format!("{}-{:?}", std::process::id(), std::thread::current().id()));
        let options =
            Options { time_scale: 20, token_source, state: Some(state.clone()), ..Options::default() };
        let mut lab = Lab::start(options).await.unwrap();
        let connector = {
            meddle(&lab);
            start_connector(&mut lab).await.unwrap()
        };
        let report = play(&lab, &connector, false).await.unwrap();
        connector.until(std::future::ready(()), false).await.unwrap();
        lab.stop().await;
        let _ = std::fs::remove_dir_all(state);
        report
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_tour_is_seen_as_the_overview_says() {
        let report = toured(|_| {}).await;
        assert!(report.as_expected, "{report:#?}");
        assert_eq!(report.interactions.len(), 16);
        assert_eq!(report.interactions.iter().filter(|i| i.arrived).count(), 13);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_bot_relays_for_those_without_a_token() {
        let enrolled = toured_as(lab::options::TokenSource::User, |_| {}).await;
        assert!(enrolled.as_expected, "{enrolled:#?}");
        let relayed = toured_as(lab::options::TokenSource::Relay, |_| {}).await;
        assert!(relayed.as_expected, "{relayed:#?}");
        let missing: Vec<_> = relayed.interactions.iter().filter(|i| !i.arrived).map(|i| i.id).collect();
        assert_eq!(missing, ["IX-T02", "IX-T04", "IX-T05", "IX-T10", "IX-T12"]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_tour_fails_with_bob_disabled_behind_its_back() {
        let disable = serde_json::from_value(serde_json::json!({"name": "bob", "enabled": false})).unwrap();
        let report = toured(|lab| lab.ctx().people.change(&disable).unwrap()).await;
        assert!(!report.as_expected);
        // Which ends the process with status 1.
        assert_eq!(verdict(&report).unwrap_err(), "the tour was not seen as the overview says");
        let wrong: Vec<_> =
            report.interactions.iter().filter(|i| i.expected && !i.arrived).map(|i| i.id).collect();
        assert_eq!(wrong, ["IX-T07"]);
    }
}
