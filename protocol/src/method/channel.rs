//! Class channel: opening, flow, close (spec §1.5).

use crate::ids::{ClassId, MethodId, ReplyCode};
use crate::string::{LongString, ShortString};

method! {
    /// Opens a channel (spec §1.5.2.1).
    Open(20, 10, "channel.open")[] {
        /// Reserved.
        out_of_band: ShortString,
    }
}

method! {
    /// The channel is open (spec §1.5.2.2).
    OpenOk(20, 11, "channel.open-ok")[server] {
        /// Reserved.
        channel_id: LongString,
    }
}

method! {
    /// Asks the peer to stop or to go on sending contents (spec §1.5.2.3).
    Flow(20, 20, "channel.flow")[] {
        /// Whether contents may be sent.
        active: bool,
    }
}

method! {
    /// Confirms a flow (spec §1.5.2.4).
    FlowOk(20, 21, "channel.flow-ok")[] {
        /// Whether contents will be sent.
        active: bool,
    }
}

method! {
    /// Asks to close the channel (spec §1.5.2.5).
    Close(20, 40, "channel.close")[] {
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
    /// Confirms a close (spec §1.5.2.6).
    CloseOk(20, 41, "channel.close-ok")[]
}
