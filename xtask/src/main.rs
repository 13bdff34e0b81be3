//! The project's own commands. `cargo xtask test` is the one that matters: it passes the tests, and
//! installs what they need or says precisely what is missing.

mod arrows;
mod overview;
mod parts;
mod tools;
mod watchdog;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  test      all tests: unit, simulation, kill test, examples, packages, foreign servers and clients
  checks    format, lints, documentation, dependency arrows, overview map, licences
  ci        checks, then test: what a push must pass
  nightly   what does not fit into ci
  arrows    compares the dependency graph with the table in ARCHITECTURE.md
  overview  is every paragraph of the overview built and tested, or listed with its reason?

`test` and `ci` take the names of single parts: cargo xtask test unit kill
";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let command = args.next().unwrap_or_default();
    let only: Vec<String> = args.collect();
    let done = match command.as_str() {
        "test" => parts::run(parts::TEST, &only),
        "checks" => parts::run(parts::CHECKS, &only),
        "ci" => parts::run(parts::CHECKS, &only).and_then(|()| parts::run(parts::TEST, &only)),
        "nightly" => parts::run(parts::NIGHTLY, &only),
        "arrows" => arrows::check(),
        "overview" => overview::check(),
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}
