//! What a panic means where state is shared: the end of the broker, rather than service on broken state. And where it means
//! no more than an error.

use std::cell::Cell;
use std::panic::AssertUnwindSafe;
use std::sync::Once;

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

thread_local! {
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// Does something that panics where a file is damaged in ways that a library does not expect, and has not spread: what it
/// worked on is dropped. A panic becomes an error, of which nothing is printed.
pub(crate) fn contained<T>(body: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !CONTAINED.get() {
                print(panic);
            }
        }));
    });
    let before = CONTAINED.replace(true);
    let outcome = std::panic::catch_unwind(AssertUnwindSafe(body));
    CONTAINED.set(before);
    outcome.map_err(|payload| {
        let text = payload.downcast_ref::<String>().cloned();
        text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contained_panic_is_an_error_with_its_text() {
        assert_eq!(contained(|| 5), Ok(5));
        let number = 7;
        assert_eq!(contained(|| panic!("no {number}")), Err::<(), _>("no 7".to_owned()));
        assert_eq!(contained(|| panic!("never")), Err::<(), _>("never".to_owned()));
        assert!(!CONTAINED.get());
    }
}
