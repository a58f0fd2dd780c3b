//! Ctrl-C.
//!
//! It ends a one-shot at once, with 130: a commit is atomic whenever that happens. Where something
//! is to be tidied up first (a half-written file, a pager, a terminal session), [`hold`] leaves it to
//! the work to give up; a second one ends the process all the same.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::SIGINT;

/// The exit code of what was interrupted.
pub const CODE: i32 = 130;

/// Whether the next Ctrl-C ends the process at once.
static AT_ONCE: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Whether it came, once every one is left to the work.
static PRESSED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Makes Ctrl-C end this process with [`CODE`].
pub fn watch() {
    let at_once = AT_ONCE.get_or_init(|| Arc::new(AtomicBool::new(true)));
    // What the system refuses leaves its own way: the process ends by the signal.
    let _ = signal_hook::flag::register_conditional_shutdown(SIGINT, CODE, at_once.clone());
}

/// From now on the first Ctrl-C is left to the work, and the second ends the process.
pub fn hold() {
    let Some(at_once) = AT_ONCE.get() else { return };
    if at_once.swap(false, Ordering::SeqCst) {
        // After the one of `watch`, so that it counts for the next signal.
        let _ = signal_hook::flag::register(SIGINT, at_once.clone());
    }
}

/// From now on every Ctrl-C is left to the work, which asks for it by [`take`].
pub fn hold_for_good() {
    if let Some(at_once) = AT_ONCE.get() {
        at_once.store(false, Ordering::SeqCst);
    }
    let pressed = PRESSED.get_or_init(Arc::default);
    // What the system refuses leaves a session that is ended from elsewhere.
    let _ = signal_hook::flag::register(SIGINT, pressed.clone());
}

/// Whether Ctrl-C is asked for by [`take`].
pub fn is_held_for_good() -> bool {
    PRESSED.get().is_some()
}

/// Whether Ctrl-C came since this was last asked.
pub fn take() -> bool {
    PRESSED.get().is_some_and(|pressed| pressed.swap(false, Ordering::SeqCst))
}

/// Whether the first Ctrl-C is left to the work.
pub fn is_held() -> bool {
    AT_ONCE.get().is_some_and(|at_once| !at_once.load(Ordering::SeqCst))
}
