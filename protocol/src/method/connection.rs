//! Class connection: handshake, close, and RabbitMQ's blocked and update-secret (spec §1.4).

use crate::ids::{ClassId, MethodId, ReplyCode};
use crate::string::{LongString, ShortString};
use crate::value::FieldTable;

method! {
    /// Begins the handshake (spec §1.4.2.1).
    Start(10, 10, "connection.start")[server] {
        /// 0 in AMQP 0-9-1.
        version_major: u8,
        /// 9 in AMQP 0-9-1.
        version_minor: u8,
        /// What the server is and can do.
        server_properties: FieldTable,
        /// Names of SASL mechanisms, separated by spaces.
        mechanisms: LongString,
        /// Names of locales, separated by spaces.
        locales: LongString,
    }
}

method! {
    /// Chooses a SASL mechanism and begins with it (spec §1.4.2.2).
    StartOk(10, 11, "connection.start-ok")[] {
        /// What the client is and can do.
        client_properties: FieldTable,
        /// The SASL mechanism chosen.
        mechanism: ShortString,
        /// The initial SASL response.
        response: LongString,
        /// The locale chosen.
        locale: ShortString,
    }
}

method! {
    /// Goes on with the SASL exchange (spec §1.4.2.3).
    Secure(10, 20, "connection.secure")[server] {
        /// The SASL challenge.
        challenge: LongString,
    }
}

method! {
    /// Answers a challenge (spec §1.4.2.4).
    SecureOk(10, 21, "connection.secure-ok")[] {
        /// The SASL response.
        response: LongString,
    }
}

method! {
    /// Proposes limits (spec §1.4.2.5).
    Tune(10, 30, "connection.tune")[server] {
        /// The number of channels; 0 is no limit.
        channel_max: u16,
        /// The octets of a frame; 0 is no limit.
        frame_max: u32,
        /// The heartbeat interval in seconds; 0 is none.
        heartbeat: u16,
    }
}

method! {
    /// Settles the limits (spec §1.4.2.6).
    TuneOk(10, 31, "connection.tune-ok")[] {
        /// The number of channels; 0 is no limit.
        channel_max: u16,
        /// The octets of a frame; 0 is no limit.
        frame_max: u32,
        /// The heartbeat interval in seconds; 0 is none.
        heartbeat: u16,
    }
}

method! {
    /// Opens the connection to a vhost (spec §1.4.2.7).
    Open(10, 40, "connection.open")[] {
        /// The vhost.
        virtual_host: ShortString,
        /// Reserved.
        capabilities: ShortString,
        /// Reserved.
        insist: bool,
    }
}

method! {
    /// The connection is open (spec §1.4.2.8).
    OpenOk(10, 41, "connection.open-ok")[server] {
        /// Reserved.
        known_hosts: ShortString,
    }
}

method! {
    /// Asks to close the connection (spec §1.4.2.9).
    Close(10, 50, "connection.close")[] {
        /// Why.
        reply_code: ReplyCode,
        /// Why, in words.
        reply_text: ShortString,
        /// The class of the method to blame, or 0.
        class_id: ClassId,
        /// The method to blame, or 0.
        method_id: MethodId,
    }
}

method! {
    /// Confirms a close (spec §1.4.2.10).
    CloseOk(10, 51, "connection.close-ok")[]
}

method! {
    /// The broker takes no messages from this connection for now (RabbitMQ).
    Blocked(10, 60, "connection.blocked")[server] {
        /// Why.
        reason: ShortString,
    }
}

method! {
    /// The broker takes messages again (RabbitMQ).
    Unblocked(10, 61, "connection.unblocked")[server]
}

method! {
    /// Replaces the credentials of the open connection (RabbitMQ).
    UpdateSecret(10, 70, "connection.update-secret")[] {
        /// The new secret.
        new_secret: LongString,
        /// Why it is replaced.
        reason: ShortString,
    }
}

method! {
    /// The new secret is accepted (RabbitMQ).
    UpdateSecretOk(10, 71, "connection.update-secret-ok")[server]
}
