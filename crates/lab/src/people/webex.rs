//! A person's Webex App: a device, a Mercury socket and a key exchange of its own.
