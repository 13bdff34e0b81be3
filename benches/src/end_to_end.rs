//! What 1,000 messages cost the connector, each way: time of its process, and transactions of its store.

use std::time::{Duration, Instant};

use lab::people::People;

use crate::calibration::calibrate;
use crate::world::{Way, World, build_connector, name, pairs};
use crate::{Failure, Size};

/// Prints time and commits each way, at full load and unloaded.
///
/// # Errors
/// A message is lost, or something does not start.
pub(crate) async fn run(size: Size) -> Result<(), Failure> {
    build_connector()?;
    let conversations = size.of(40, 2);
    let each = size.of(250, 5);
    let pairs = pairs(conversations);
    // The second of each pair is enabled too, or is not: then each message comes once only.
    for both in [false, true] {
        if !asked(if both { "both" } else { "one" }) {
            continue;
        }
        println!("end-to-end: {}", if both { "both enabled" } else { "the writer enabled" });
        measure(size, &pairs, each, both).await?;
    }
    Ok(())
}

/// Whether this part is to be measured: `BENCH_ONLY` may name `one` or `both`, `webex` or `jabber`, apart by commas.
fn asked(part: &str) -> bool {
    let Ok(only) = std::env::var("BENCH_ONLY") else { return true };
    let group = if matches!(part, "one" | "both") { ["one", "both"] } else { ["webex", "jabber"] };
    let named: Vec<&str> = only.split(',').filter(|named| group.contains(named)).collect();
    named.is_empty() || named.contains(&part)
}

async fn measure(size: Size, pairs: &[(u32, u32)], each: usize, both: bool) -> Result<(), Failure> {
    let users = pairs.len() as u32 * 2;
    let change = |people: &People| {
        for (_, reader) in pairs {
            let _ = people.update(&name(*reader), |person| person.enabled = both);
        }
    };
    let mut world = World::start_with(size.lab(users), crate::LIMITS, change).await?;
    let enabled = u64::from(if both { users } else { users / 2 });
    world.ready(enabled, enabled).await?;
    world.sign_in(1..=users).await?;
    for way in [Way::ToWebex, Way::ToJabber] {
        // Conversations are made, keys fetched and connections opened.
        world.carry(way, pairs, size.of(10, 1)).await?;
        world.idle().await?;
    }
    for way in [Way::ToWebex, Way::ToJabber] {
        if !asked(match way {
            Way::ToWebex => "webex",
            Way::ToJabber => "jabber",
        }) {
            continue;
        }
        println!(" {way:?}");
        for _ in 0..size.of(3, 1) {
            loaded(&mut world, way, pairs, each).await?;
        }
        unloaded(&mut world, way, &pairs[..1], size.of(200, 3)).await?;
        backlog(&mut world, way, pairs, size.of(100, 2)).await?;
    }
    Ok(())
}

/// All at once, as fast as the stand-ins take and give.
async fn loaded(world: &mut World, way: Way, pairs: &[(u32, u32)], each: usize) -> Result<(), Failure> {
    let calibration = calibrate()?;
    let count = pairs.len() * each;
    let process = world.process();
    let (cpu, store, (commits, timed), began) =
        (process.cpu(), process.cpu_of_threads("store"), world.commits().await?, Instant::now());
    world.carry(way, pairs, each).await?;
    world.idle().await?;
    let took = began.elapsed();
    let per_1000 = |time: Duration| time.as_secs_f64() * 1e6 / count as f64;
    let (cpu, store) = (per_1000(process.cpu() - cpu), per_1000(process.cpu_of_threads("store") - store));
    let (after, timed_after) = world.commits().await?;
    println!(
        "  {count} messages in {:.1} s: {cpu:.1} CPU-ms per 1,000 ({store:.1} of it the store), calibration {calibration:.1} ms, \
         ratio {:.2}; {:.3} commits a message",
        took.as_secs_f64(),
        cpu / calibration,
        (after - commits - (timed_after - timed)) as f64 / count as f64,
    );
    Ok(())
}

/// One message at a time: how often the store commits for it.
async fn unloaded(world: &mut World, way: Way, pair: &[(u32, u32)], count: usize) -> Result<(), Failure> {
    let (commits, timed) = world.commits().await?;
    let process = world.process();
    let cpu = process.cpu();
    for _ in 0..count {
        world.carry(way, pair, 1).await?;
    }
    world.idle().await?;
    let (after, timed_after) = world.commits().await?;
    let cpu = (process.cpu() - cpu).as_secs_f64() * 1e6 / count as f64;
    let timed = timed_after - timed;
    println!(
        "  one at a time: {:.2} commits a message, and {timed} by the timer in all; {cpu:.0} CPU-ms per 1,000",
        (after - commits - timed) as f64 / count as f64
    );
    Ok(())
}

/// The connector finds everything waiting: as much load as there can be.
async fn backlog(world: &mut World, way: Way, pairs: &[(u32, u32)], each: usize) -> Result<(), Failure> {
    let count = pairs.len() * each;
    let (commits, timed) = world.commits().await?;
    let process = world.process();
    let cpu = process.cpu();
    world.signal("-STOP")?;
    let written = world.write(way, pairs, each).await;
    world.signal("-CONT")?;
    written?.arrive(world).await?;
    world.idle().await?;
    let (after, timed_after) = world.commits().await?;
    println!(
        "  {count} waiting at once: {:.3} commits a message; {:.1} CPU-ms per 1,000",
        (after - commits - (timed_after - timed)) as f64 / count as f64,
        (process.cpu() - cpu).as_secs_f64() * 1e6 / count as f64,
    );
    Ok(())
}
