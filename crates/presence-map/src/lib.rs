//! To be written.
#![no_std]

/// What Webex may say about a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Active or inactive: the time of last activity decides.
    ByActivity,
    /// The person hides the status.
    Hidden,
    /// Do not disturb.
    DoNotDisturb,
    /// Out of office, from the calendar.
    OutOfOffice,
}

/// What a Jabber user sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// Green.
    Available,
    /// Amber.
    Away,
    /// Red.
    DoNotDisturb,
    /// Grey.
    Offline,
}
