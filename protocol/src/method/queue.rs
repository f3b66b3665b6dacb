//! Class queue: declaring, binding, purging, deleting (spec §1.7).

use crate::string::ShortString;
use crate::value::FieldTable;

method! {
    /// Creates a queue, or checks that it exists (spec §1.7.2.1).
    Declare(50, 10, "queue.declare")[ticket] {
        /// Its name; empty to have the server choose one.
        queue: ShortString,
        /// Whether only to check.
        passive: bool,
        /// Whether it survives a restart.
        durable: bool,
        /// Whether it belongs to this connection alone.
        exclusive: bool,
        /// Whether it goes with its last consumer.
        auto_delete: bool,
        /// Whether the client wants no reply.
        no_wait: bool,
        /// Arguments of the queue.
        arguments: FieldTable,
    }
}

method! {
    /// The queue exists (spec §1.7.2.2).
    DeclareOk(50, 11, "queue.declare-ok")[server] {
        /// Its name.
        queue: ShortString,
        /// The number of ready messages.
        message_count: u32,
        /// The number of consumers.
        consumer_count: u32,
    }
}

method! {
    /// Binds a queue to an exchange (spec §1.7.2.3).
    Bind(50, 20, "queue.bind")[ticket] {
        /// The queue; empty for the one last declared.
        queue: ShortString,
        /// The exchange that messages come from.
        exchange: ShortString,
        /// The binding key.
        routing_key: ShortString,
        /// Whether the client wants no reply.
        no_wait: bool,
        /// Arguments of the binding; a headers exchange matches by them.
        arguments: FieldTable,
    }
}

method! {
    /// The binding exists (spec §1.7.2.4).
    BindOk(50, 21, "queue.bind-ok")[server]
}

method! {
    /// Drops the ready messages of a queue (spec §1.7.2.7).
    Purge(50, 30, "queue.purge")[ticket] {
        /// The queue; empty for the one last declared.
        queue: ShortString,
        /// Whether the client wants no reply.
        no_wait: bool,
    }
}

method! {
    /// The messages are gone (spec §1.7.2.8).
    PurgeOk(50, 31, "queue.purge-ok")[server] {
        /// How many there were.
        message_count: u32,
    }
}

method! {
    /// Deletes a queue (spec §1.7.2.9).
    Delete(50, 40, "queue.delete")[ticket] {
        /// The queue; empty for the one last declared.
        queue: ShortString,
        /// Whether to refuse if it has consumers.
        if_unused: bool,
        /// Whether to refuse if it has messages.
        if_empty: bool,
        /// Whether the client wants no reply.
        no_wait: bool,
    }
}

method! {
    /// The queue is gone (spec §1.7.2.10).
    DeleteOk(50, 41, "queue.delete-ok")[server] {
        /// How many ready messages it had.
        message_count: u32,
    }
}

method! {
    /// Removes a binding; there is no `no_wait` (spec §1.7.2.5).
    Unbind(50, 50, "queue.unbind")[ticket] {
        /// The queue; empty for the one last declared.
        queue: ShortString,
        /// The exchange that messages come from.
        exchange: ShortString,
        /// The binding key.
        routing_key: ShortString,
        /// Arguments of the binding.
        arguments: FieldTable,
    }
}

method! {
    /// The binding is gone (spec §1.7.2.6).
    UnbindOk(50, 51, "queue.unbind-ok")[server]
}
