//! Class confirm: publisher confirms (RabbitMQ).

method! {
    /// Puts the channel into confirm mode (RabbitMQ).
    Select(85, 10, "confirm.select")[] {
        /// Whether the client wants no reply.
        no_wait: bool,
    }
}

method! {
    /// The channel is in confirm mode (RabbitMQ).
    SelectOk(85, 11, "confirm.select-ok")[server]
}
