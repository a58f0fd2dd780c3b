//! Work that must be done in time: a statement, with the rows it makes, or a verb.
//!
//! Work that is late is given up where it next waits for something, and leaves what dropping it leaves:
//! nothing in the pond. But what is being published is never given up: [`publish`] marks the point from which the
//! changes are made, which are then made and told whatever the time; work that is late before it
//! publishes nothing. So who is told that the time was over knows that the pond is as it was. What else
//! gives work up, [`Interruptible`], keeps to the same, around work with a deadline or without.
//!
//! The clock has a thread of its own: those of the work may all be busy.

use std::pin::pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::error::{Error, ErrorKind, Result};

tokio::task_local! {
    /// The deadline of the work that runs.
    static WORK: Arc<Work>;
}

/// It may still be given up.
const RUNNING: u8 = 0;
/// Its changes are being made, or were.
const PUBLISHING: u8 = 1;
/// It was given up.
const LATE: u8 = 2;

#[derive(Debug)]
struct Work {
    /// None for work that something else than time gives up.
    timeout: Option<Duration>,
    state: AtomicU8,
    /// The work that this is a part of.
    outer: Option<Arc<Work>>,
}

impl Work {
    fn new(timeout: Option<Duration>) -> Arc<Self> {
        let outer = WORK.try_with(Arc::clone).ok();
        Arc::new(Self { timeout, state: AtomicU8::new(RUNNING), outer })
    }

    /// Says that it publishes, and all that it is a part of.
    fn publish(&self) -> Result<()> {
        if let Some(outer) = &self.outer {
            outer.publish()?;
        }
        match self.go_on(PUBLISHING) {
            LATE => Err(self.error()),
            _ => Ok(()),
        }
    }

    /// Goes on from running to `state`, and returns what it is then.
    fn go_on(&self, state: u8) -> u8 {
        let was = self.state.compare_exchange(RUNNING, state, Ordering::SeqCst, Ordering::SeqCst);
        was.map_or_else(|was| was, |_| state)
    }

    fn error(&self) -> Error {
        let Some(timeout) = self.timeout else {
            return Error::new(ErrorKind::Cancelled, "the statement was given up")
                .with_hint("the pond is as it was");
        };
        Error::new(
            ErrorKind::Limit,
            format!("the statement took longer than the time limit of {timeout:?}"),
        )
        .with_hint("the pond is as it was; the limit is chosen where it is opened (--timeout)")
    }
}

/// Says that what follows publishes changes of the work, if it has a deadline.
///
/// # Errors
/// `Limit` if it is too late.
pub(crate) fn publish() -> Result<()> {
    WORK.try_with(|work| work.publish()).unwrap_or(Ok(()))
}

/// Does `work`, or gives it up after `timeout`.
///
/// # Errors
/// `Limit`; those of the work.
pub async fn within<T>(
    timeout: Option<Duration>,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    match timeout {
        Some(timeout) => Deadline::set(timeout)?.run(work).await,
        None => work.await,
    }
}

/// A time from which on work is late.
#[derive(Debug)]
pub(crate) struct Deadline {
    work: Arc<Work>,
    /// Rings once; `None` when it has.
    ring: Option<oneshot::Receiver<()>>,
    clock: AbortHandle,
}

impl Drop for Deadline {
    fn drop(&mut self) {
        self.clock.abort();
    }
}

impl Deadline {
    /// Begins to count.
    ///
    /// # Errors
    /// `Io` if there is no thread to be had for the clock.
    pub(crate) fn set(timeout: Duration) -> Result<Self> {
        let at = Instant::now() + timeout;
        let (rings, ring) = oneshot::channel();
        let clock = clock()?.spawn(async move {
            tokio::time::sleep_until(at).await;
            // Nobody may be waiting any more.
            let _ = rings.send(());
        });
        let work = Work::new(Some(timeout));
        Ok(Self { work, ring: Some(ring), clock: clock.abort_handle() })
    }

    /// Does `work`, or gives it up when it is late.
    ///
    /// # Errors
    /// `Limit`; those of the work.
    pub(crate) async fn run<T>(&mut self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let mut work = pin!(WORK.scope(self.work.clone(), work));
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = std::future::poll_fn(|cx| self.poll_late(cx)) => {}
        }
        match self.work.go_on(LATE) {
            LATE => Err(self.work.error()),
            _ => work.await,
        }
    }

    /// Waits until it is late.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(ring) = &mut self.ring else { return Poll::Ready(()) };
        // Work that never waits has used up what its task may do in a turn, of which a bell would take, too.
        let rung = pin!(tokio::task::unconstrained(ring)).poll(cx).map(drop);
        if rung.is_ready() {
            self.ring = None;
        }
        rung
    }

    /// Returns the error of being late, once it is.
    pub(crate) fn poll_error(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        self.poll_late(cx).map(|()| self.work.error())
    }
}

/// Work that may be given up until it publishes.
#[cfg(feature = "serve")]
#[derive(Debug)]
pub(crate) struct Interruptible(Arc<Work>);

#[cfg(feature = "serve")]
impl Interruptible {
    pub(crate) fn new() -> Self {
        Self(Work::new(None))
    }

    /// Does `work`, until it is dropped. Before that it is to be [`Interruptible::give_up`].
    pub(crate) fn run<F: Future>(&self, work: F) -> impl Future<Output = F::Output> {
        WORK.scope(self.0.clone(), work)
    }

    /// Gives the work up, unless it publishes: then it is to be done to its end. Returns whether it
    /// is given up.
    pub(crate) fn give_up(&self) -> bool {
        self.0.go_on(LATE) == LATE
    }
}

/// Returns what counts the time, on a thread that does nothing else.
fn clock() -> Result<Handle> {
    static CLOCK: Mutex<Option<Handle>> = Mutex::new(None);
    let mut clock = CLOCK.lock().expect("never poisoned");
    if let Some(clock) = &*clock {
        return Ok(clock.clone());
    }
    let failed = |error| Error::io("the clock for time limits", error);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(failed)?;
    let handle = runtime.handle().clone();
    std::thread::Builder::new()
        .name("pond-clock".to_owned())
        .spawn(move || runtime.block_on(std::future::pending::<()>()))
        .map_err(failed)?;
    *clock = Some(handle.clone());
    Ok(handle)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Option<Duration> = Some(Duration::from_millis(20));

    async fn later() {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }

    #[tokio::test]
    async fn what_is_late_publishes_nothing() {
        let late = within(SOON, async {
            later().await;
            publish()
        });
        assert_eq!(late.await.unwrap_err().kind(), ErrorKind::Limit);
        // A poll that does not end in time.
        let busy = within(SOON, async {
            std::thread::sleep(Duration::from_millis(100));
            tokio::task::yield_now().await;
            publish()
        });
        assert_eq!(busy.await.unwrap_err().kind(), ErrorKind::Limit);
        assert!(publish().is_ok());
        within(None, async { publish() }).await.unwrap();
    }

    /// As the engine does with one partition: rows are there whenever they are asked for.
    #[tokio::test]
    async fn what_never_waits_is_late_all_the_same() {
        let endless: Result<()> = within(SOON, async {
            loop {
                tokio::task::consume_budget().await;
            }
        })
        .await;
        assert_eq!(endless.unwrap_err().kind(), ErrorKind::Limit);
    }

    #[cfg(feature = "serve")]
    #[tokio::test]
    async fn work_is_given_up_before_it_publishes_or_not_at_all() {
        let publishes = || within(Some(Duration::from_secs(60)), async { publish() });
        let (given_up, done) = (Interruptible::new(), Interruptible::new());
        assert!(given_up.give_up());
        let error = given_up.run(publishes()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        done.run(publishes()).await.unwrap();
        assert!(!done.give_up());
    }

    #[tokio::test]
    async fn what_is_being_published_is_not_given_up() {
        let done = within(SOON, async {
            publish()?;
            later().await;
            publish()?;
            Ok(7)
        });
        assert_eq!(done.await.unwrap(), 7);
    }
}
