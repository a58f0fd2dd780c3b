//! How far a long copy, or a conversion, has come, on a terminal.
//!
//! Drawn by a thread of its own, on stderr, only where a line may be drawn over ([`is_animated`]) and
//! only once the work has taken a while; taken away when it ends.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{
    HumanBytes, HumanCount, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle,
};
use pond::cache::{Observer, Told};
use pond::path::PondPath;
use pond::tree::Progress;

use super::note;
use super::report::{is_animated, say};

/// How long work takes before it is shown.
const QUIET: Duration = Duration::from_secs(1);
/// How often it is drawn.
const REDRAW: Duration = Duration::from_millis(100);

/// Shows progress until it is dropped.
pub struct Shown {
    end: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Begins to show how far work has come.
pub fn show(progress: &Arc<Progress>) -> Shown {
    if !is_animated() {
        return Shown { end: None, thread: None };
    }
    let progress = progress.clone();
    let (end, ended) = mpsc::channel();
    let thread = std::thread::spawn(move || draw(&progress, &ended));
    Shown { end: Some(end), thread: Some(thread) }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.end.take();
        if let Some(thread) = self.thread.take() {
            // What it drew is of no more use, whatever became of it.
            let _ = thread.join();
        }
    }
}

fn draw(progress: &Progress, ended: &mpsc::Receiver<()>) {
    let goes_on = |wait| matches!(ended.recv_timeout(wait), Err(RecvTimeoutError::Timeout));
    if !goes_on(QUIET) {
        return;
    }
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    bar.set_style(
        ProgressStyle::with_template("{bytes} {binary_bytes_per_sec} {msg}").expect("a constant"),
    );
    while goes_on(REDRAW) {
        let total = progress.bytes_total();
        if total > 0 && bar.length().is_none() {
            bar.set_style(
                ProgressStyle::with_template(
                    "{bar:30} {bytes} of {total_bytes}, {binary_bytes_per_sec}, {eta} {msg}",
                )
                .expect("a constant"),
            );
        }
        if total > 0 {
            bar.set_length(total);
        }
        if progress.rows() > 0 {
            bar.set_message(format!("{} rows", HumanCount(progress.rows())));
        }
        bar.set_position(progress.bytes());
        bar.tick();
    }
    bar.finish_and_clear();
}

/// How long a statement of a session runs before that is shown.
const QUIET_STATEMENT: Duration = Duration::from_secs(2);

/// Conversions that are shown.
static CONVERSIONS: AtomicUsize = AtomicUsize::new(0);

/// How long a statement has been running, and how much this process has read since: a line on stderr,
/// drawn by the thread that waits, and gone before the first row.
///
/// What a plan is going to read is known of some plans only, so there is no telling how long it takes
/// yet.
pub struct Running {
    begun: Instant,
    /// What this process had read by then, and what it read since to find out how much it reads;
    /// `None` if nothing is drawn.
    read_before: Option<u64>,
    drawn: Option<Instant>,
}

impl Running {
    /// Begins to count.
    pub fn begin() -> Self {
        let read_before = is_animated().then(bytes_read).flatten();
        let read_before = read_before.map(|(read, own)| read + own);
        Self { begun: Instant::now(), read_before, drawn: None }
    }

    /// Draws, if it is time to.
    pub fn tick(&mut self) {
        let Some(before) = &mut self.read_before else { return };
        let now = Instant::now();
        let elapsed = now - self.begun;
        if elapsed < QUIET_STATEMENT || self.drawn.is_some_and(|drawn| now - drawn < REDRAW) {
            return;
        }
        // They have lines of their own, and say more.
        if CONVERSIONS.load(Ordering::Relaxed) > 0 {
            self.erase();
            return;
        }
        let (read, own) = bytes_read().unwrap_or((*before, 0));
        let read = read.saturating_sub(*before);
        *before += own;
        let rate = read as f64 / elapsed.as_secs_f64();
        let (seconds, read, rate) = (elapsed.as_secs(), HumanBytes(read), HumanBytes(rate as u64));
        say(&format!("\r\u{1b}[K{seconds} s, {read} read, {rate}/s"));
        self.drawn = Some(now);
    }

    /// Takes it away for good.
    pub fn end(&mut self) {
        self.erase();
        self.read_before = None;
    }

    fn erase(&mut self) {
        if self.drawn.take().is_some() {
            say("\r\u{1b}[K");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// Returns how much this process has read, from wherever, and how much it then has read to know.
fn bytes_read() -> Option<(u64, u64)> {
    let counters = std::fs::read_to_string("/proc/self/io").ok()?;
    let read = counters.lines().find_map(|line| line.strip_prefix("rchar: "))?;
    Some((read.trim().parse().ok()?, counters.len() as u64))
}

/// Returns what shows how far conversions of texts are, each in a line of its own, and what could not
/// be kept.
pub fn conversions() -> Observer {
    let lines = is_animated().then(Lines::default).map(Mutex::new);
    Arc::new(move |told| match (told, &lines) {
        (Told::Notice(text), _) => note(text),
        (Told::Converting { path, read, size }, Some(lines)) => {
            lines.lock().expect("nothing panics under it").show(path, read, size);
        }
        (Told::Converting { .. }, None) => {}
    })
}

#[derive(Default)]
struct Lines {
    all: MultiProgress,
    begun: HashMap<PondPath, (Instant, Option<ProgressBar>)>,
}

impl Lines {
    fn show(&mut self, path: &PondPath, read: Option<u64>, size: u64) {
        let Some(read) = read else {
            if let Some((_, Some(bar))) = self.begun.remove(path) {
                CONVERSIONS.fetch_sub(1, Ordering::Relaxed);
                bar.finish_and_clear();
            }
            return;
        };
        let (begun, bar) = self.begun.entry(path.clone()).or_insert_with(|| (Instant::now(), None));
        if begun.elapsed() < QUIET {
            return;
        }
        let bar = bar.get_or_insert_with(|| {
            let style = ProgressStyle::with_template(
                "{bar:30} {bytes} of {total_bytes}, {binary_bytes_per_sec}, {eta} {msg}",
            );
            CONVERSIONS.fetch_add(1, Ordering::Relaxed);
            let bar = ProgressBar::new(size).with_message(format!("converting {path}"));
            self.all.add(bar.with_style(style.expect("a constant")))
        });
        bar.set_position(read);
    }
}
