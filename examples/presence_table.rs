//! What a Jabber user sees of a Webex status: prints the table, then asks it questions.
//!
//!     cargo run -p examples --example presence_table
//!     cargo run -p examples --example presence_table -- 95     (minutes since the last use of Webex)

use std::process::ExitCode;
use std::time::Duration;

use presence_map::{Status, translate};

const MINUTE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let idles = match std::env::args().nth(1).map(|arg| arg.parse::<u32>()) {
        None => vec![Duration::ZERO, 10 * MINUTE, 11 * MINUTE, 72 * 60 * MINUTE, 73 * 60 * MINUTE],
        Some(Ok(minutes)) => vec![minutes * MINUTE],
        Some(Err(_)) => {
            eprintln!("expected a whole number of minutes, such as 95");
            return ExitCode::from(2);
        }
    };
    println!(
        "{:<14} {:>9}  {:<14} {:<8} {:<8} changes by itself in",
        "Webex status", "idle", "Jabber shows", "text", "session"
    );
    for status in [Status::ByActivity, Status::Hidden, Status::OutOfOffice, Status::DoNotDisturb] {
        for idle in &idles {
            let seen = translate(status, Some(*idle));
            let until =
                seen.valid_for.map_or("never".into(), |d| format!("{} min", d.as_secs().div_ceil(60)));
            println!(
                "{:<14} {:>5} min  {:<14} {:<8} {:<8} {until}",
                format!("{status:?}"),
                idle.as_secs() / 60,
                format!("{:?}", seen.show),
                seen.text,
                format!("{:?}", seen.session),
            );
        }
    }
    ExitCode::SUCCESS
}
