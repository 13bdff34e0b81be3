//! What an idle user costs, and whether messages leave anything behind.

use std::time::{Duration, Instant};

use crate::world::{Way, World, build_connector, pairs};
use crate::{Failure, Size};

/// Prints the resident memory of one more idle enabled user on link A, Mercury socket and session included.
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

/// Prints how much more is resident after ten times as many messages.
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
    let mut found = Vec::new();
    for rounds in [1, 9] {
        for _ in 0..rounds {
            for way in [Way::ToWebex, Way::ToJabber] {
                world.carry(way, &pairs, each).await?;
            }
        }
        found.push(settled(&mut world, size).await?);
    }
    let count = pairs.len() * each * 2;
    println!(
        "leak: {} KiB resident after {count} messages, {} KiB after {}: {} KiB more (goal 4096)",
        found[0],
        found[1],
        count * 10,
        found[1] - found[0]
    );
    Ok(())
}
