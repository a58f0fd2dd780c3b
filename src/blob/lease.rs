//! Leases: shared and exclusive locks made of objects, for stores that many machines write to.
//!
//! A lease is an object that its holder writes anew every [`REFRESH`]; one that was not for
//! [`LEASE`] is nobody's. Writers of blobs put `pins/<uuid>` and then look for `pins/gc`; clean-up puts
//! `pins/gc`, if it is absent, and then lists the pins. Stores show a listing what was put before it
//! began, so at least one of the two sees the other: the writer then takes its pin back and waits,
//! clean-up waits for the pin to go.
//!
//! All ages are differences of times that the store gave. Renewing a lease, and taking over a dead one,
//! replace exactly the object that was seen, by its entity tag: so of two who try one does, and a holder
//! that was taken for dead does not come back to life. Before it does what it holds the lease for, a
//! holder renews it once more ([`Lease::check`]): this machine may have slept.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutResult, UpdateVersion};
use tokio::task::AbortHandle;
use uuid::Uuid;

use crate::error::{Error, ErrorKind, Result};

/// How long a lease is somebody's after it was written last.
const LEASE: Duration = Duration::from_secs(600);
/// How often it is written anew.
const REFRESH: Duration = Duration::from_secs(60);
/// A lease that was written so short a time ago is relied on without another look.
const FRESH: Duration = Duration::from_secs(5);
/// How long to wait between two looks at a lease of others.
const POLL: Duration = Duration::from_millis(500);
/// The name of the lease of clean-up.
const GC: &str = "gc";

/// A lease that is held; dropped without [`Lease::release`] it is given back in the background or, if
/// the process ends first, by its age.
#[derive(Debug)]
pub(super) struct Lease {
    store: Arc<dyn ObjectStore>,
    path: Path,
    written: Arc<tokio::sync::Mutex<Written>>,
    renewing: AbortHandle,
    terms: Terms,
    /// Whether nobody else ever has this name: then it is this holder's to remove.
    is_own: bool,
    is_held: bool,
}

/// A lease as it was written last.
#[derive(Debug, Clone)]
struct Written {
    at: Instant,
    /// The same by the clock that goes on while the machine sleeps.
    wall: SystemTime,
    version: UpdateVersion,
}

/// How old leases get.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    /// How long one is somebody's after it was written last.
    lease: Duration,
    /// One that was written so short a time ago is relied on.
    fresh: Duration,
}

/// What holds for all but tests.
pub(super) const TERMS: Terms = Terms { lease: LEASE, fresh: FRESH };

impl Lease {
    /// Keeps clean-up away; waits at most for `wait` for one that is under way.
    ///
    /// # Errors
    /// `Conflict` if clean-up takes longer; `Io`.
    pub(super) async fn shared(
        store: &Arc<dyn ObjectStore>,
        dir: &Path,
        wait: Duration,
        terms: Terms,
    ) -> Result<Self> {
        let until = Instant::now() + wait;
        loop {
            let path = dir.clone().join(Uuid::now_v7().to_string());
            let pin = Self::put(store, path, PutMode::Overwrite, terms, true).await?;
            let gc = match store.head(&dir.clone().join(GC)).await {
                Err(object_store::Error::NotFound { .. }) => return Ok(pin),
                gc => gc.map_err(failed)?,
            };
            let now = store.head(&pin.path).await.map_err(failed)?;
            if is_dead(&gc, &now, terms) {
                return Ok(pin);
            }
            pin.release().await;
            if Instant::now() >= until {
                return Err(Error::new(
                    ErrorKind::Conflict,
                    format!("'{dir}' is being cleaned up"),
                )
                .with_hint("garbage is being removed; try again when that has ended"));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until no writer is there, at most for `wait`, and keeps them away.
    ///
    /// # Errors
    /// `Conflict` if one still is, or another clean-up; `Io`.
    pub(super) async fn exclusive(
        store: &Arc<dyn ObjectStore>,
        dir: &Path,
        wait: Duration,
        terms: Terms,
    ) -> Result<Self> {
        let until = Instant::now() + wait;
        let busy = |what: &str| {
            Error::new(ErrorKind::Conflict, format!("'{dir}' {what}")).with_hint(
                "try again when that has ended; who was killed counts for ten minutes more",
            )
        };
        let path = dir.clone().join(GC);
        let mut mode = PutMode::Create;
        let gc = loop {
            match Self::put(store, path.clone(), mode, terms, false).await {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => mode = PutMode::Create,
                gc => break gc?,
            }
            // A lease of our own tells what time it is there.
            let clock = dir.clone().join(Uuid::now_v7().to_string());
            let clock = Self::put(store, clock, PutMode::Overwrite, terms, true).await?;
            let now = store.head(&clock.path).await.map_err(failed)?;
            clock.release().await;
            match store.head(&path).await {
                Ok(gc) if is_dead(&gc, &now, terms) => mode = PutMode::Update(version_of(gc)),
                Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(failed(error)),
                Ok(_) if Instant::now() >= until => return Err(busy("is being cleaned up")),
                Ok(_) => tokio::time::sleep(POLL).await,
            }
        };
        loop {
            gc.renew().await?;
            let pins: Vec<ObjectMeta> =
                store.list(Some(dir)).try_collect().await.map_err(failed)?;
            let now = pins.iter().find(|pin| pin.location == path).cloned();
            let now = now.ok_or_else(|| busy("is being cleaned up"))?;
            let mut is_alone = true;
            for pin in pins.into_iter().filter(|pin| pin.location != path) {
                is_alone &= is_dead(&pin, &now, terms) && bury(store, pin).await?;
            }
            if is_alone {
                return Ok(gc);
            }
            if Instant::now() >= until {
                gc.release().await;
                return Err(busy("is being written to"));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn put(
        store: &Arc<dyn ObjectStore>,
        path: Path,
        mode: PutMode,
        terms: Terms,
        is_own: bool,
    ) -> Result<Self> {
        let contents = Uuid::now_v7().to_string();
        let written = match write(store, &path, mode, &contents).await {
            // An answer that was lost is asked for again by the store's client: it may be our own.
            Err(error) => adopted(store, &path, &contents).await.ok_or_else(|| failed(error))?,
            Ok(written) => written,
        };
        let written = Arc::new(tokio::sync::Mutex::new(written));
        let renewing = {
            let (store, path, written) = (store.clone(), path.clone(), written.clone());
            tokio::spawn(async move {
                loop {
                    tokio::time::sleep(REFRESH).await;
                    // Who relies on it looks for himself.
                    let _ = renew(&store, &path, &written).await;
                }
            })
        };
        let renewing = renewing.abort_handle();
        Ok(Self { store: store.clone(), path, written, renewing, terms, is_own, is_held: true })
    }

    async fn renew(&self) -> Result<()> {
        renew(&self.store, &self.path, &self.written).await
    }

    /// Makes sure that it is still held, and will be for minutes.
    ///
    /// # Errors
    /// `Conflict` if others have taken its holder for dead; `Io`.
    pub(super) async fn check(&self) -> Result<()> {
        let age = {
            let written = self.written.lock().await;
            // Who sets the clock back is renewed, too.
            let wall = written.wall.elapsed().unwrap_or(Duration::MAX);
            wall.max(written.at.elapsed())
        };
        if age < self.terms.fresh {
            return Ok(());
        }
        self.renew().await.map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => {
                let lost =
                    format!("'{}' was given up: nothing was heard of it for long", self.path);
                Error::new(ErrorKind::Conflict, lost).with_hint("nothing was changed; try again")
            }
            _ => error,
        })
    }

    /// Gives it back. One that cannot be removed ends by its age.
    pub(super) async fn release(mut self) {
        self.is_held = false;
        self.renewing.abort();
        // A name that others may have taken over is removed only while it is ours.
        if self.is_own || self.renew().await.is_ok() {
            let _ = remove(&self.store, &self.path).await;
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.renewing.abort();
        if self.is_held
            && self.is_own
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let (store, path) = (self.store.clone(), self.path.clone());
            runtime.spawn(async move { store.delete(&path).await });
        }
    }
}

async fn renew(
    store: &Arc<dyn ObjectStore>,
    path: &Path,
    last: &tokio::sync::Mutex<Written>,
) -> Result<()> {
    let mut last = last.lock().await;
    let contents = Uuid::now_v7().to_string();
    let mode = PutMode::Update(last.version.clone());
    *last = match write(store, path, mode, &contents).await {
        Err(error) => adopted(store, path, &contents).await.ok_or_else(|| failed(error))?,
        Ok(written) => written,
    };
    Ok(())
}

/// Writes a lease with contents of its own, so that its entity tag is one, too.
async fn write(
    store: &Arc<dyn ObjectStore>,
    path: &Path,
    mode: PutMode,
    contents: &str,
) -> object_store::Result<Written> {
    let (at, wall) = (Instant::now(), SystemTime::now());
    let written = store.put_opts(path, contents.to_owned().into(), mode.into()).await?;
    let PutResult { e_tag, version } = written;
    Ok(Written { at, wall, version: UpdateVersion { e_tag, version } })
}

/// Returns the lease at `path` if it is what was to be written, though that was said to have failed.
async fn adopted(store: &Arc<dyn ObjectStore>, path: &Path, contents: &str) -> Option<Written> {
    let (at, wall) = (Instant::now(), SystemTime::now());
    let found = store.get(path).await.ok()?;
    let version = version_of(found.meta.clone());
    let is_ours = found.bytes().await.ok()? == contents.as_bytes();
    is_ours.then_some(Written { at, wall, version })
}

/// Removes the pin of a holder who is dead; `false` if it was alive after all.
async fn bury(store: &Arc<dyn ObjectStore>, pin: ObjectMeta) -> Result<bool> {
    let location = pin.location.clone();
    let contents = Uuid::now_v7().to_string();
    match write(store, &location, PutMode::Update(version_of(pin)), &contents).await {
        Ok(_) => remove(store, &location).await.map(|()| true),
        // Given back meanwhile.
        Err(object_store::Error::NotFound { .. }) => Ok(true),
        Err(object_store::Error::Precondition { .. }) => Ok(false),
        Err(error) => Err(failed(error)),
    }
}

fn version_of(lease: ObjectMeta) -> UpdateVersion {
    UpdateVersion { e_tag: lease.e_tag, version: lease.version }
}

async fn remove(store: &Arc<dyn ObjectStore>, path: &Path) -> Result<()> {
    match store.delete(path).await {
        Err(object_store::Error::NotFound { .. }) => Ok(()),
        removed => removed.map_err(failed),
    }
}

/// Whether a lease was not renewed for too long, at the time when `now` was written.
fn is_dead(lease: &ObjectMeta, now: &ObjectMeta, terms: Terms) -> bool {
    let age = now.last_modified - lease.last_modified;
    age.to_std().is_ok_and(|age| age > terms.lease)
}

fn failed(error: object_store::Error) -> Error {
    let kind = match &error {
        // Another one was quicker.
        object_store::Error::AlreadyExists { .. }
        | object_store::Error::Precondition { .. }
        | object_store::Error::NotFound { .. } => ErrorKind::AlreadyExists,
        _ => ErrorKind::Io,
    };
    Error::new(kind, "locking the blobs").with_source(error)
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    const SHORT: Terms = Terms { lease: Duration::from_millis(300), fresh: Duration::ZERO };
    const NO_TIME: Duration = Duration::ZERO;

    fn place() -> (Arc<dyn ObjectStore>, Path) {
        (Arc::new(InMemory::new()), Path::from("pins"))
    }

    async fn die() {
        tokio::time::sleep(SHORT.lease * 2).await;
    }

    #[tokio::test]
    async fn clean_up_that_was_taken_for_dead_does_nothing_more() {
        let (store, dir) = place();
        let dead = Lease::exclusive(&store, &dir, NO_TIME, SHORT).await.unwrap();
        dead.check().await.unwrap();
        die().await;
        let alive = Lease::exclusive(&store, &dir, NO_TIME, SHORT).await.unwrap();
        assert_eq!(dead.check().await.unwrap_err().kind(), ErrorKind::Conflict);
        // It takes nothing from its successor.
        dead.release().await;
        alive.check().await.unwrap();
        let writer = Lease::shared(&store, &dir, NO_TIME, SHORT).await;
        assert_eq!(writer.unwrap_err().kind(), ErrorKind::Conflict);
        alive.release().await;
        Lease::shared(&store, &dir, NO_TIME, SHORT).await.unwrap().release().await;
    }

    #[tokio::test]
    async fn a_writer_that_was_taken_for_dead_does_not_commit() {
        let (store, dir) = place();
        let dead = Lease::shared(&store, &dir, NO_TIME, SHORT).await.unwrap();
        die().await;
        // One that renews is not dead, however old it is.
        dead.check().await.unwrap();
        let refused = Lease::exclusive(&store, &dir, NO_TIME, SHORT).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Conflict);
        die().await;
        let gc = Lease::exclusive(&store, &dir, NO_TIME, SHORT).await.unwrap();
        assert_eq!(dead.check().await.unwrap_err().kind(), ErrorKind::Conflict);
        gc.check().await.unwrap();
        gc.release().await;
    }
}
