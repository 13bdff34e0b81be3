//! As many users as one connector is meant for: their Mercury sockets on TLS, and their sessions.

use std::time::{Duration, Instant};

use lab::options::{Link, Options};
use lab::people::People;
use serde_json::json;

use crate::calibration::calibrate;
use crate::memory::settled;
use crate::world::{Way, World, build_connector, name, pairs};
use crate::{Failure, Size};

/// Handshakes in flight at most.
const HANDSHAKES: u32 = 32;

/// Descriptors of a connector without users.
const OTHERS: usize = 16;

/// Prints how long all sockets take to come up on TLS, device registration included, what they weigh, and how long they
/// take to come back after all were cut at once, and after the connector was killed.
///
/// # Errors
/// They do not come up or back, or a message written meanwhile is lost.
pub(crate) async fn sockets(size: Size) -> Result<(), Failure> {
    build_connector()?;
    let users = size.of(15_000, 20);
    let settings = format!("[limits]\nhandshakes = {HANDSHAKES}\nsessions_per_second = 1000\n");
    let mut world = World::start(Options { tls: true, ..size.lab(users) }, &settings).await?;
    let began = Instant::now();
    let up = attached(&mut world, users, began).await?;
    let cpu = world.process().cpu();
    let caught_up = world.ready(u64::from(users), u64::from(users)).await? + up;
    let resident = settled(&mut world, size).await?;
    println!(
        "sockets: {users} up in {:.0} s of which the connector used {:.0} s; caught up and with sessions after {:.0} s; {:.0} MiB \
         resident, peak {:.0} MiB (goal 1229)",
        up.as_secs_f64(),
        cpu.as_secs_f64(),
        caught_up.as_secs_f64(),
        resident as f64 / 1024.0,
        world.process().peak() as f64 / 1024.0
    );
    let pairs = pairs(size.of(10, 2));
    world.sign_in(1..=pairs.len() as u32 * 2).await?;
    world.carry(Way::ToJabber, &pairs, 2).await?;
    let cpu = world.process().cpu();
    world.control("fault", &json!({"name": "mercury-cut", "on": true, "count": users})).await?;
    let began = Instant::now();
    while world.count("catching_up").await < u64::from(users) / 2 {
        world.wait_a_little(began).await?;
    }
    let written = world.write(Way::ToJabber, &pairs, 20).await?;
    let back = attached(&mut world, users, began).await?;
    world.ready(u64::from(users), u64::from(users)).await?;
    let caught_up = began.elapsed();
    written.arrive(&mut world).await?;
    println!(
        "sockets: all cut at once, all back after {:.0} s ({:.0} s of the connector's time), caught up after {:.0} s; nothing lost",
        back.as_secs_f64(),
        (world.process().cpu() - cpu).as_secs_f64(),
        caught_up.as_secs_f64()
    );
    let to_jabber = world.write(Way::ToJabber, &pairs, 20).await?;
    let to_webex = world.write(Way::ToWebex, &pairs, 20).await?;
    let began = Instant::now();
    world.restart()?;
    let back = attached(&mut world, users, began).await?;
    world.ready(u64::from(users), u64::from(users)).await?;
    let caught_up = began.elapsed();
    to_jabber.arrive(&mut world).await?;
    to_webex.arrive(&mut world).await?;
    println!(
        "sockets: killed and started again, all back after {:.0} s ({:.0} s of its time), caught up and with sessions after {:.0} s; \
         nothing lost",
        back.as_secs_f64(),
        world.process().cpu().as_secs_f64(),
        caught_up.as_secs_f64()
    );
    Ok(())
}

/// When so many more descriptors are open than a connector without users has: sockets, and little else.
async fn attached(world: &mut World, users: u32, began: Instant) -> Result<Duration, Failure> {
    while world.process().descriptors() < users as usize + OTHERS {
        world.wait_a_little(began).await?;
    }
    Ok(began.elapsed())
}

/// Prints what sessions cost on the trusted link and on client streams, everybody with 100 contacts. With `BENCH_LINK`
/// it is that link alone, and with `BENCH_USERS` so many users at most.
///
/// # Errors
/// They do not come up.
pub(crate) async fn sessions(size: Size) -> Result<(), Failure> {
    build_connector()?;
    let only = std::env::var("BENCH_LINK").ok();
    let most = std::env::var("BENCH_USERS").ok().map_or(Ok(u32::MAX), |most| most.parse())?;
    for (link, users, rate) in [(Link::A, size.of(15_000, 20), 250), (Link::B, size.of(5_000, 10), 100)] {
        if only.as_ref().is_some_and(|only| !only.eq_ignore_ascii_case(&format!("{link:?}"))) {
            continue;
        }
        let users = users.min(most);
        let settings = format!(
            "[limits]\nsessions_per_second = {rate}\nmessages_per_minute = 100000\nhandshakes = {HANDSHAKES}\n"
        );
        let options = Options { contacts: 100, link, ..size.lab(users) };
        // Without sessions first: nobody has ever used Webex. Whoever has no session has no client stream either.
        let asleep = |people: &People| {
            for user in 1..=users {
                let _ = people.update(&name(user), |person| person.last_active = None);
            }
        };
        let without = {
            let mut world = World::start_with(options.clone(), &settings, asleep).await?;
            world.ready(u64::from(users), 0).await?;
            settled(&mut world, size).await?
        };
        let mut world = World::start(options, &settings).await?;
        let took = world.ready(u64::from(users), u64::from(users)).await?;
        let (cpu, peak) = (world.process().cpu(), world.process().peak());
        let with = settled(&mut world, size).await?;
        println!(
            "sessions on link {link:?}: {users} with their sockets up in {:.0} s (the limit of {rate} a second implies {:.0} s), \
             {:.1} s of the connector's time; {:.1} KiB more for each with its session, resident {without} KiB without and \
             {with} KiB with, peak {peak} KiB",
            took.as_secs_f64(),
            f64::from(users) / f64::from(rate),
            cpu.as_secs_f64(),
            (with - without) as f64 / f64::from(users),
        );
        let pairs = pairs(size.of(20, 2));
        world.sign_in(1..=pairs.len() as u32 * 2).await?;
        for way in [Way::ToWebex, Way::ToJabber] {
            world.carry(way, &pairs, 2).await?;
            let (cpu, began, each) = (world.process().cpu(), Instant::now(), size.of(100, 2));
            world.carry(way, &pairs, each).await?;
            let count = (pairs.len() * each) as f64;
            println!(
                "sessions on link {link:?}, {way:?}: {:.0} messages a second, {:.1} CPU-ms per 1,000; calibration {:.1} ms",
                count / began.elapsed().as_secs_f64(),
                (world.process().cpu() - cpu).as_secs_f64() * 1e6 / count,
                calibrate()?
            );
        }
    }
    Ok(())
}
