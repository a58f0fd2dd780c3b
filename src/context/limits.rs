//! The limits of a policy on what the engine does: memory and time.
//!
//! Memory is a pool of the engine's, which operators ask before they hold rows: those that can, sorts,
//! aggregates and joins by sorting, then go on on disk; the others fail, with an error that names the
//! limit. The pool is smaller than the limit, because operators hold more than they ask for, those that go
//! on on disk most: they copy what they write. What is held for each batch is bounded by the settings that
//! a limit comes with, which SQL cannot raise ([`check_setting`]). A single value is held whole, however
//! long it is, and what `array_agg` and window functions gather is not all asked for.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::task::Poll;

use datafusion::config::ConfigOptions;
use datafusion::error::{DataFusionError, Result as EngineResult};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::{
    FairSpillPool, MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation,
};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::StreamExt;
use futures::stream;

use super::{Output, OutputKind};
use crate::error::{Error, ErrorKind, Result};
use crate::policy::{Deadline, Policy};

/// Least memory that a partition of a plan works with.
const PARTITION_BYTES: u64 = 64_000_000;

/// Memory for each row of a batch: merging holds a batch of all that was spilled.
const ROW_BYTES: u64 = 32_000;

/// Rows of a batch: no fewer are worth the while, and no more are the engine's own choice.
const BATCH_ROWS_MIN: usize = 2048;

/// Most spilled runs that are merged at once: each has a thread that reads ahead.
const MERGED_MAX: usize = 8;

/// The setting that makes a pool anew.
const MEMORY_LIMIT: &str = "datafusion.runtime.memory_limit";

/// A pool that fails with errors that name the limit.
#[derive(Debug)]
struct LimitedPool {
    /// What can go on on disk has equal shares of half the limit, less what the others have.
    shares: FairSpillPool,
    /// All together have three quarters, of which a part is so left to those that cannot.
    bytes: usize,
    /// Held by whoever looks whether there is room, until it is taken.
    taking: Mutex<()>,
    limit: u64,
}

impl LimitedPool {
    fn new(limit: u64) -> Self {
        let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let shares = FairSpillPool::new(bytes(limit / 2));
        Self { shares, bytes: bytes(limit / 4 * 3), taking: Mutex::default(), limit }
    }
}

impl fmt::Display for LimitedPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "limited to {}", size(self.limit))
    }
}

impl MemoryPool for LimitedPool {
    fn name(&self) -> &str {
        "limited"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.shares.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.shares.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.shares.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.shares.shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> EngineResult<()> {
        let taking = self.taking.lock().expect("never poisoned");
        let has_room = self.shares.reserved().saturating_add(additional) <= self.bytes;
        if reservation.consumer().can_spill() {
            if has_room && self.shares.try_grow(reservation, additional).is_ok() {
                return Ok(());
            }
        } else if has_room {
            self.shares.grow(reservation, additional);
            return Ok(());
        }
        drop(taking);
        // Operators that can go on on disk look for this variant.
        Err(DataFusionError::ResourcesExhausted(format!(
            "{}: resources for {} end at {}, and it needs {} more",
            reached(self.limit),
            reservation.consumer().name(),
            size(reservation.size() as u64),
            size(additional as u64),
        )))
    }

    fn reserved(&self) -> usize {
        self.shares.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.bytes)
    }
}

/// Returns what statements run in under a limit of `limit` bytes: `given`, unless that allows more.
pub(super) fn runtime(given: Option<Arc<RuntimeEnv>>, limit: u64) -> Arc<RuntimeEnv> {
    let bytes = usize::try_from(limit).unwrap_or(usize::MAX);
    let builder = match &given {
        None => RuntimeEnvBuilder::new()
            .with_metadata_cache_limit(bytes / 4)
            .with_max_spill_merge_fan_in(MERGED_MAX),
        Some(runtime) => match runtime.memory_pool.memory_limit() {
            MemoryLimit::Finite(least) if least <= bytes => return runtime.clone(),
            _ => RuntimeEnvBuilder::from_runtime_env(runtime),
        },
    };
    let runtime = builder.with_memory_pool(Arc::new(LimitedPool::new(limit))).build_arc();
    runtime.expect("nothing is opened before something is spilled")
}

/// Fits settings to a limit of `limit` bytes: the fewer partitions there are, the more each of them has.
pub(super) fn config(config: SessionConfig, limit: u64) -> SessionConfig {
    let rows = usize::try_from(limit / ROW_BYTES).unwrap_or(usize::MAX).max(BATCH_ROWS_MIN);
    let rows = rows.min(config.batch_size());
    let mut config = config.with_batch_size(rows);
    let execution = &mut config.options_mut().execution;
    let partitions = usize::try_from((limit / PARTITION_BYTES).max(1)).unwrap_or(usize::MAX);
    execution.target_partitions = execution.target_partitions.min(partitions);
    // Kept free for merging what was spilled, of each partition.
    let share = limit / 8 / execution.target_partitions.max(1) as u64;
    let share = usize::try_from(share).unwrap_or(usize::MAX);
    let reserved = &mut execution.sort_spill_reservation_bytes;
    *reserved = (*reserved).min(share);
    config
}

/// Refuses a `SET`, or without a value a `RESET`, that would allow a session more than its policy does,
/// or, where the application gave it a pool, take it out of that.
///
/// # Errors
/// `Refused`.
pub(super) fn check_setting(
    policy: &Policy,
    is_memory_shared: bool,
    options: &ConfigOptions,
    variable: &str,
    value: Option<&str>,
) -> Result<()> {
    if is_memory_shared && variable == MEMORY_LIMIT {
        // A session that sets it leaves the pool that it has with others, whatever the limit.
        let verb = if value.is_some() { "set" } else { "reset" };
        let message = format!("'{variable}' cannot be {verb}: the session shares its memory");
        return Err(Error::refused(message).with_hint(
            "the limit of all together is chosen where the pond is opened (--memory-limit)",
        ));
    }
    let Some(limit) = policy.memory_limit else { return Ok(()) };
    let refused = |why: &str| {
        let verb = if value.is_some() { "set" } else { "reset" };
        let message = format!("'{variable}' cannot be {verb} under {}{why}", named(limit));
        Err(Error::refused(message)
            .with_hint("the limit is chosen where the pond is opened (--memory-limit)"))
    };
    if variable == MEMORY_LIMIT {
        let wanted = value.map(|value| SessionContext::parse_capacity_limit(variable, value));
        return match wanted {
            Some(Ok(bytes)) if bytes as u64 <= limit => Ok(()),
            // The engine says what is wrong with it.
            Some(Err(_)) => Ok(()),
            _ => refused(": it may only become less"),
        };
    }
    if variable.starts_with("datafusion.runtime.") {
        return refused("");
    }
    if !variable.starts_with("datafusion.execution.") {
        return Ok(());
    }
    let entries = options.entries();
    let now = entries.into_iter().find(|entry| entry.key == variable);
    // Other settings hold no rows; zero often means that there is no bound.
    let Some(now) = now.and_then(|entry| entry.value?.parse::<u64>().ok()) else { return Ok(()) };
    match value.and_then(|value| value.trim().parse::<u64>().ok()) {
        Some(wanted) if wanted == now || (1..=now).contains(&wanted) => Ok(()),
        _ => refused(&format!(": it may only become less than {now}")),
    }
}

/// Does `work`, which makes the output of a statement, within the limits of `policy`, and holds its rows
/// to them.
///
/// # Errors
/// `Limit`; those of the work.
pub(super) async fn limited(
    policy: &Policy,
    work: impl Future<Output = Result<Output>>,
) -> Result<Output> {
    let Some(timeout) = policy.timeout else { return work.await.map_err(hinted) };
    let mut deadline = Deadline::set(timeout)?;
    let output = deadline.run(work).await.map_err(hinted)?;
    // What a change reports is there already, and so is the change.
    if output.kind == OutputKind::Change {
        return Ok(output);
    }
    let schema = output.schema();
    let rows = stream::unfold(Some((output.stream, deadline)), |state| async {
        let (mut rows, mut deadline) = state?;
        let next = std::future::poll_fn(|cx| {
            if let Poll::Ready(late) = deadline.poll_error(cx) {
                return Poll::Ready(Some(Err(late.into())));
            }
            rows.poll_next_unpin(cx)
        });
        let next = next.await?;
        // An error ends the rows, and what makes them.
        let rest = next.is_ok().then_some((rows, deadline));
        Some((next, rest))
    });
    let stream: SendableRecordBatchStream = Box::pin(RecordBatchStreamAdapter::new(schema, rows));
    Ok(Output { stream, ..output })
}

/// Adds what can be done about too little memory.
fn hinted(error: Error) -> Error {
    match (error.kind(), error.hint()) {
        (ErrorKind::Limit, None) if error.message().contains(LIMIT) => error.with_hint(
            "fewer columns, a filter or LIMIT need less; the limit is chosen where the pond is opened \
             (--memory-limit)",
        ),
        _ => error,
    }
}

const LIMIT: &str = "memory limit of ";

fn named(limit: u64) -> String {
    format!("a {LIMIT}{}", size(limit))
}

fn reached(limit: u64) -> String {
    format!("the {LIMIT}{} is reached", size(limit))
}

/// Returns a size as it is written on a command line, exactly where it is a round one.
fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 6] = [
        (1_000_000_000, "GB"),
        (1 << 30, "GiB"),
        (1_000_000, "MB"),
        (1 << 20, "MiB"),
        (1_000, "kB"),
        (1 << 10, "KiB"),
    ];
    let round = UNITS.iter().find(|(unit, _)| bytes > 0 && bytes.is_multiple_of(*unit));
    match round {
        Some((unit, name)) => format!("{} {name}", bytes / unit),
        None if bytes >= 1_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        None => format!("{bytes} bytes"),
    }
}
