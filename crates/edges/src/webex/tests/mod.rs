//! The Webex side against a scripted cloud over in-memory pipes, in paused time.

mod asking;
mod catching_up;
mod delivering;
mod enrolling;
mod reading_people;
mod relaying;
mod taking_over;
mod told;
mod watching;
mod world;
