//! Class access: tickets, a relic of AMQP 0-8 that old clients still ask for.

use crate::string::ShortString;

method! {
    /// Asks for an access ticket (AMQP 0-8).
    Request(30, 10, "access.request")[] {
        /// What the ticket is for.
        realm: ShortString,
        /// Whether nobody else shall have access.
        exclusive: bool,
        /// Whether to ask only for the existing right.
        passive: bool,
        /// Whether to create and delete.
        active: bool,
        /// Whether to publish.
        write: bool,
        /// Whether to consume.
        read: bool,
    }
}

method! {
    /// Grants a ticket (AMQP 0-8).
    RequestOk(30, 11, "access.request-ok")[server] {
        /// The ticket, which nobody looks at.
        ticket: u16,
    }
}
