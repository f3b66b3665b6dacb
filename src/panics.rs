//! What a panic means where state is shared: the end of the broker, rather than service on broken state.

/// Stops the broker when a panic passes: what it leaves behind cannot be trusted.
pub(crate) struct StopOnPanic(pub(crate) &'static str);

impl Drop for StopOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(at_work_on = self.0, "the broker stops: its state can no longer be trusted after a panic");
            std::process::abort();
        }
    }
}
