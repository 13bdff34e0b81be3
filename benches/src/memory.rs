//! What an idle user costs, and whether messages leave anything behind.

use std::time::{Duration, Instant};

use crate::world::{Way, World, build_connector, pairs};
use crate::{Failure, Size};

/// Prints the resident memory of one more idle enabled user on link A, Mercury socket and session included, and what the
/// connector does while nobody does anything.
///
/// # Errors
/// The users do not come up.
pub(crate) async fn idle(size: Size) -> Result<(), Failure> {
    build_connector()?;
    let mut found = Vec::new();
    for users in [size.of(1000, 5), size.of(6000, 10)] {
        let mut world = World::start(size.lab(users), crate::LIMITS).await?;
        let took = world.ready(u64::from(users), u64::from(users)).await?;
        let resident = settled(&mut world, size).await?;
        println!(
            "memory: {users} users up in {:.0} s, {resident} KiB resident, {} descriptors",
            took.as_secs_f64(),
            world.process().descriptors()
        );
        println!("memory: {users} idle users take {:.1} ms of CPU a second", idling(&world, size).await);
        found.push((i64::from(users), resident));
    }
    if let [(few, less), (many, more)] = found[..] {
        println!(
            "memory: {:.1} KiB for each further idle user (goal 24)",
            (more - less) as f64 / (many - few) as f64
        );
    }
    Ok(())
}

/// How many ms of CPU a second are used while nobody does anything: pings, mostly.
async fn idling(world: &World, size: Size) -> f64 {
    let watched = size.of(Duration::from_secs(30), Duration::from_millis(100));
    let before = world.process().cpu();
    tokio::time::sleep(watched).await;
    (world.process().cpu() - before).as_secs_f64() * 1e3 / watched.as_secs_f64()
}

/// Resident memory once it has stayed the same for five seconds, within 64 KiB; at most a minute.
pub(crate) async fn settled(world: &mut World, size: Size) -> Result<i64, Failure> {
    world.idle().await?;
    let started = Instant::now();
    let mut last = world.process().resident();
    loop {
        tokio::time::sleep(size.of(Duration::from_secs(5), Duration::from_millis(100))).await;
        let now = world.process().resident();
        if (now - last).abs() <= 64 || started.elapsed() > Duration::from_secs(60) {
            return Ok(now);
        }
        last = now;
    }
}

/// Prints what is resident after every ten thousand messages, and how much more after ten times as many as first.
/// `BENCH_MESSAGES` says how many are carried in all, 100,000 without it: more of them show whether it grows on.
///
/// # Errors
/// A message is lost.
pub(crate) async fn leak(size: Size) -> Result<(), Failure> {
    build_connector()?;
    let pairs = pairs(size.of(20, 1));
    let users = pairs.len() as u32 * 2;
    let mut world = World::start(size.lab(users), crate::LIMITS).await?;
    world.ready(u64::from(users), u64::from(users)).await?;
    world.sign_in(1..=users).await?;
    let each = size.of(250, 1);
    let round = pairs.len() * each * 2;
    let messages = std::env::var("BENCH_MESSAGES").ok().map_or(Ok(round * COMPARED), |n| n.parse())?;
    let mut first = 0;
    for done in 1..=messages.div_ceil(round) {
        for way in [Way::ToWebex, Way::ToJabber] {
            world.carry(way, &pairs, each).await?;
        }
        // In between nothing waits: a connector that is busy all the time is what is looked at.
        let compared = done == 1 || done % COMPARED == 0;
        let resident = if compared { settled(&mut world, size).await? } else { world.process().resident() };
        println!("leak: {resident} KiB resident after {} messages", done * round);
        match done {
            1 => first = resident,
            COMPARED => println!("leak: {} KiB more after ten times as many (goal 4096)", resident - first),
            _ => {}
        }
    }
    Ok(())
}

/// How many times as many messages are compared with the first.
const COMPARED: usize = 10;
