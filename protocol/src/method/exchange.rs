//! Class exchange: declaring, deleting, and RabbitMQ's bindings between exchanges (spec §1.6).

use crate::string::ShortString;
use crate::value::FieldTable;

method! {
    /// Creates an exchange, or checks that it exists (spec §1.6.2.1).
    Declare(40, 10, "exchange.declare")[ticket] {
        /// Its name.
        exchange: ShortString,
        /// The argument `type`, which is no name in Rust: `direct`, `fanout`, …
        kind: ShortString,
        /// Whether only to check.
        passive: bool,
        /// Whether it survives a restart.
        durable: bool,
        /// Whether it goes with its last binding (RabbitMQ; reserved in the spec).
        auto_delete: bool,
        /// Whether only exchanges publish to it (RabbitMQ; reserved in the spec).
        internal: bool,
        /// Whether the client wants no reply.
        no_wait: bool,
        /// Arguments of the exchange.
        arguments: FieldTable,
    }
}

method! {
    /// The exchange exists (spec §1.6.2.2).
    DeclareOk(40, 11, "exchange.declare-ok")[server]
}

method! {
    /// Deletes an exchange (spec §1.6.2.3).
    Delete(40, 20, "exchange.delete")[ticket] {
        /// Its name.
        exchange: ShortString,
        /// Whether to refuse if it has bindings.
        if_unused: bool,
        /// Whether the client wants no reply.
        no_wait: bool,
    }
}

method! {
    /// The exchange is gone (spec §1.6.2.4).
    DeleteOk(40, 21, "exchange.delete-ok")[server]
}

method! {
    /// Binds an exchange to an exchange (RabbitMQ).
    Bind(40, 30, "exchange.bind")[ticket] {
        /// The exchange that messages go to.
        destination: ShortString,
        /// The exchange that messages come from.
        source: ShortString,
        /// The binding key.
        routing_key: ShortString,
        /// Whether the client wants no reply.
        no_wait: bool,
        /// Arguments of the binding; a headers exchange matches by them.
        arguments: FieldTable,
    }
}

method! {
    /// The binding exists (RabbitMQ).
    BindOk(40, 31, "exchange.bind-ok")[server]
}

method! {
    /// Removes a binding between exchanges (RabbitMQ).
    Unbind(40, 40, "exchange.unbind")[ticket] {
        /// The exchange that messages go to.
        destination: ShortString,
        /// The exchange that messages come from.
        source: ShortString,
        /// The binding key.
        routing_key: ShortString,
        /// Whether the client wants no reply.
        no_wait: bool,
        /// Arguments of the binding; a headers exchange matches by them.
        arguments: FieldTable,
    }
}

method! {
    /// The binding is gone (RabbitMQ). Its method id is 51, not 41.
    UnbindOk(40, 51, "exchange.unbind-ok")[server]
}
