//! `connector restore`: a store that was put back from a backup goes on as what it is (rule 12).

use std::path::Path;

use connector_edges::jabber;
use connector_edges::probe::causes;
use router::ids::BatchId;
use router::outbox::{Batch, Change, Storage};

use crate::{app, config, wiring};

/// Makes the store of these settings fit to be run. Done twice it changes nothing more.
///
/// # Errors
/// What is wrong, and what to do.
pub(crate) fn run(path: &Path) -> Result<(), String> {
    let config = config::load(path).map_err(|mistakes| app::report(path, &mistakes))?;
    let file = config.store.path.display();
    if !config.store.path.exists() {
        return Err(format!("store {file}: is not there; put the backup back first"));
    }
    let mut store = wiring::open_store(&config)?;
    let now = wiring::now();
    let loaded = store.load(now).map_err(|e| causes(&e))?;
    let changes = router::restored(&loaded, jabber::keeps);
    let asked = changes.iter().filter(|change| matches!(change, Change::Attempt(..))).count();
    let again = loaded.entries.len() - asked;
    let batch = Batch { id: BatchId(0), inputs: Vec::new(), changes };
    store.commit(&[batch], now).map_err(|e| causes(&e))?;
    println!(
        "store {file}: put back. Undelivered in it: {asked} towards Webex, asked after before they are sent, and"
    );
    println!("{again} towards Jabber, which may be shown there a second time.");
    println!("`connector run` reads Webex from its start on, or with --since TIME from then on.");
    Ok(())
}
