//! What can be made to go wrong in the IM and Presence stand-in.

use crate::fault::Kind;

/// The faults of one door, which are the same for both.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) cut: &'static str,
    pub(crate) cut_before_handling: &'static str,
    pub(crate) cut_after_handling: &'static str,
    pub(crate) cut_before_writing: &'static str,
    pub(crate) cut_after_writing: &'static str,
    pub(crate) silent: &'static str,
    pub(crate) no_resumption: &'static str,
    pub(crate) no_management: &'static str,
}

/// The door of client streams.
pub(crate) const CLIENT: Door = Door {
    cut: "imp-client-cut",
    cut_before_handling: "imp-client-cut-before-handling",
    cut_after_handling: "imp-client-cut-after-handling",
    cut_before_writing: "imp-client-cut-before-writing",
    cut_after_writing: "imp-client-cut-after-writing",
    silent: "imp-client-silent",
    no_resumption: "imp-client-no-resumption",
    no_management: "imp-client-no-management",
};

/// The door of the trusted link.
pub(crate) const LINK: Door = Door {
    cut: "imp-link-cut",
    cut_before_handling: "imp-link-cut-before-handling",
    cut_after_handling: "imp-link-cut-after-handling",
    cut_before_writing: "imp-link-cut-before-writing",
    cut_after_writing: "imp-link-cut-after-writing",
    silent: "imp-link-silent",
    no_resumption: "imp-link-no-resumption",
    no_management: "imp-link-no-management",
};

const fn kind(name: &'static str, explanation: &'static str) -> Kind {
    Kind { name, explanation, unkind: false }
}

const fn unkind(name: &'static str, explanation: &'static str) -> Kind {
    Kind { name, explanation, unkind: true }
}

/// All of them.
pub(crate) const KINDS: &[Kind] = &[
    kind(CLIENT.cut, "Drops the connection of a client stream, at once."),
    kind(
        CLIENT.cut_before_handling,
        "Drops a client's connection instead of handling the message that it brings.",
    ),
    kind(
        CLIENT.cut_after_handling,
        "Handles a client's message, then drops the connection without acknowledging it.",
    ),
    kind(CLIENT.cut_before_writing, "Drops a client's connection instead of writing a message to it."),
    kind(CLIENT.cut_after_writing, "Writes a message to a client, then drops the connection."),
    kind(
        CLIENT.silent,
        "While on, client streams stay open, and nothing is read from them or written to them.",
    ),
    kind(CLIENT.no_resumption, "Refuses to resume a client stream; its session is over."),
    kind(CLIENT.no_management, "While on, new client streams get no stream management."),
    kind(LINK.cut, "Drops the connection of the trusted link, at once."),
    kind(
        LINK.cut_before_handling,
        "Drops the link instead of handling the message that it brings; limited to its sender by person.",
    ),
    kind(
        LINK.cut_after_handling,
        "Handles a message from the link, then drops the link without acknowledging it.",
    ),
    kind(LINK.cut_before_writing, "Drops the link instead of writing a message for a session."),
    kind(LINK.cut_after_writing, "Writes a message for a session, then drops the link."),
    kind(LINK.silent, "While on, the trusted link stays open, and nothing is read from it or written to it."),
    kind(LINK.no_resumption, "Refuses to resume the trusted link; all its sessions are over."),
    kind(
        LINK.no_management,
        "While on, a new trusted link gets no stream management: pings are answered, nothing else.",
    ),
    kind("imp-refuses-sessions", "Refuses to start a session on the trusted link."),
    kind(
        "imp-binds-another",
        "Starts a session on the trusted link with another resource than was asked for.",
    ),
    kind("imp-replaces-sessions", "Before a session's next message is handled, another takes its resource."),
    kind("imp-bounces-routes", "Gives a message from the link back as one of an unknown session."),
    kind("imp-refuses-messages", "Refuses a message with an error to its sender, as a policy would."),
    kind(
        "imp-suppress-offline",
        "While on, nothing is stored for users who are not there; senders get an error.",
    ),
    kind("imp-no-carbons", "While on, no copies are made and enabling them is refused."),
    kind("imp-no-managed-files", "While on, there is no managed file transfer."),
    kind(
        "imp-clock-skew",
        "The server tells a time (XEP-0202) that is ahead of everybody's by `value` milliseconds; negative: behind.",
    ),
    unkind("imp-resent-stamped", "What is sent again after a resumption carries a stamp (XEP-0203)."),
    unkind("imp-stamps-whole-seconds", "Stamps have whole seconds."),
    unkind(
        "imp-replays-to-all",
        "Stored messages go to every resource that comes up, not to the first alone.",
    ),
    unkind("imp-stores-chat-states", "Lone chat states are stored and replayed like messages."),
    unkind(
        "imp-link-noise",
        "The server asks a question of its own on the trusted link before it starts the first session.",
    ),
    kind("epas-unavailable", "Answers a request to the login service with 503."),
    kind("epas-forgets", "All sessions of the login service are over."),
    kind("epas-refuses", "The login service does not log a user in for the application user."),
    kind("axl-unauthorized", "Answers a request to AXL with 401."),
    kind("axl-forbidden", "Answers a request to AXL with 403."),
    kind(
        "axl-unavailable",
        "Answers a request to AXL with 503; the value is sent as Retry-After (default 1).",
    ),
    kind(
        "axl-too-large",
        "While on, a query for more rows than the value (default 5) gets the fault `too large`.",
    ),
    kind("axl-fault", "Answers a request to AXL with a fault that has no code."),
    kind("axl-garbage", "Answers a request to AXL with half an answer."),
    kind("axl-queue-rebuilt", "The queue of changes is built anew: another id, and nothing in it."),
    kind("axl-no-changes", "While on, AXL does not know the question for changes."),
    kind("axl-intercluster", "While on, there is also a user who is homed in another cluster."),
];
