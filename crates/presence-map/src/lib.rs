#![doc = include_str!("../README.md")]
#![no_std]

mod table;

pub use table::{AWAY_AFTER, ENDS_AFTER, Session, Show, Status, Translation, translate};
