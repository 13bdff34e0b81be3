#![doc = include_str!("../README.md")]

mod answer;
mod client;
mod error;
mod request;
mod session;

pub mod changes;
pub mod nodes;
pub mod redundancy;
pub mod users;

pub use answer::{Limits, Row};
pub use client::{Client, Version};
pub use error::{AxlError, BadRequest, Fate, XmlError};
pub use request::{Page, Request, Select};
pub use session::Session;
