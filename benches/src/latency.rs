//! How much later a message is seen for going through the connector.

use std::fs::File;
use std::io::Write as _;
use std::time::{Duration, Instant};

use crate::world::{Way, World, build_connector, pairs};
use crate::{Failure, Size};

/// Between two messages at 50 a second.
const PAUSE: Duration = Duration::from_millis(20);

/// Prints the 99th percentile of the time from writing to being seen, beside that of a bare write and `fdatasync`.
///
/// # Errors
/// A message is lost, or something does not start.
pub(crate) async fn run(size: Size) -> Result<(), Failure> {
    build_connector()?;
    let pairs = pairs(size.of(10, 1));
    let users = pairs.len() as u32 * 2;
    let mut world = World::start(size.lab(users), crate::LIMITS).await?;
    world.ready(u64::from(users), u64::from(users)).await?;
    world.sign_in(1..=users).await?;
    let mut file = File::create(world.folder().join("bare"))?;
    for way in [Way::ToWebex, Way::ToJabber] {
        world.carry(way, &pairs, 2).await?;
        world.idle().await?;
        let (mut seen, mut bare) = (Vec::new(), Vec::new());
        for n in 0..size.of(1500, 5) {
            let began = Instant::now();
            seen.push(world.one(way, pairs[n % pairs.len()]).await?);
            let write = Instant::now();
            file.write_all(&[0; 4096])?;
            file.sync_data()?;
            bare.push(write.elapsed());
            tokio::time::sleep(PAUSE.saturating_sub(began.elapsed())).await;
        }
        let (p50, p99) = (percentile(&mut seen, 50), percentile(&mut seen, 99));
        let (bare_50, bare_99) = (percentile(&mut bare, 50), percentile(&mut bare, 99));
        println!(
            "latency {way:?}: p50 {p50:.1} ms, p99 {p99:.1} ms from client to client; a bare write and fdatasync p50 {bare_50:.1} ms, p99 {bare_99:.1} ms"
        );
    }
    Ok(())
}

fn percentile(times: &mut [Duration], percent: usize) -> f64 {
    times.sort_unstable();
    let at = (times.len() * percent / 100).min(times.len().saturating_sub(1));
    times.get(at).map_or(0.0, Duration::as_secs_f64) * 1e3
}
