#![doc = include_str!("../README.md")]

pub mod clock;
pub mod cloud;
pub mod control;
pub mod ctx;
pub mod endpoints;
pub mod fault;
pub mod generator;
mod http;
pub mod idle;
pub mod imp;
pub mod kms;
pub mod launch;
pub mod mails;
pub mod net;
pub mod options;
pub mod people;
pub mod seen;
mod settings;
pub mod tls;
pub mod tour;

pub use crate::launch::{Lab, LabError};
