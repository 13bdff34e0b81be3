#![doc = include_str!("../README.md")]

mod commit;
mod error;
mod figures;
mod find;
pub mod letter;
mod look;
mod names;
mod rows;
mod schema;
mod seal;
mod sqlite;

pub use error::OpenError;
pub use figures::Figures;
pub use look::{Kept, Look};
pub use schema::FORMAT_VERSION;
pub use seal::{KEY_BYTES, KeyError, StoreKey};
#[cfg(feature = "testing")]
pub use sqlite::Broken;
pub use sqlite::{DEFAULT_FLOOR, Options, Store};
