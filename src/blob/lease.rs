//! Leases: shared and exclusive locks made of objects, for stores that many machines write to.
//!
//! A lease is an object that its holder writes anew every [`REFRESH`]; one that was not for
//! [`LEASE`] is nobody's. Writers of blobs put `pins/<uuid>` and then look for `pins/gc`; clean-up puts
//! `pins/gc`, if it is absent, and then lists the pins. Stores show a listing what was put before it
//! began, so at least one of the two sees the other: the writer then takes its pin back and waits,
//! clean-up waits for the pin to go.
//!
//! All ages are differences of times that the store gave; the clock of this machine only measures how
//! long ago a lease was renewed. A holder that could not renew it for most of its time must not rely on
//! it any more ([`Lease::check`]): it may have been taken for dead. Renewing, and taking over a dead
//! lease, replace exactly the object that was seen, by its entity tag: so of two who try one does, and
//! a holder that was taken for dead does not come back to life.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutResult, UpdateVersion};
use tokio::task::AbortHandle;
use uuid::Uuid;

use crate::error::{Error, ErrorKind, Result};

/// How long a lease is somebody's after it was written last.
const LEASE: Duration = Duration::from_secs(600);
/// How long its holder relies on it without having written it anew.
const RELIED_ON: Duration = Duration::from_secs(420);
/// How often it is written anew.
const REFRESH: Duration = Duration::from_secs(60);
/// How long to wait between two looks at a lease of others.
const POLL: Duration = Duration::from_millis(500);

/// A lease that is held; dropped without [`Lease::release`] it is given back in the background or, if
/// the process ends first, by its age.
#[derive(Debug)]
pub(super) struct Lease {
    store: Arc<dyn ObjectStore>,
    path: Path,
    written: Arc<Mutex<Written>>,
    renewing: AbortHandle,
    is_held: bool,
}

/// A lease as it was written last.
#[derive(Debug, Clone)]
struct Written {
    at: Instant,
    version: UpdateVersion,
}

impl Lease {
    /// Keeps clean-up away; waits at most for `wait` for one that is under way.
    ///
    /// # Errors
    /// `Conflict` if clean-up takes longer; `Io`.
    pub(super) async fn shared(
        store: &Arc<dyn ObjectStore>,
        dir: &Path,
        wait: Duration,
    ) -> Result<Self> {
        let until = Instant::now() + wait;
        loop {
            let path = dir.clone().join(Uuid::now_v7().to_string());
            let pin = Self::put(store, path, PutMode::Overwrite).await?;
            let gc = match store.head(&dir.clone().join("gc")).await {
                Err(object_store::Error::NotFound { .. }) => return Ok(pin),
                gc => gc.map_err(failed)?,
            };
            let now = store.head(&pin.path).await.map_err(failed)?;
            if is_dead(&gc, &now) {
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
    ) -> Result<Self> {
        let until = Instant::now() + wait;
        let busy = |what: &str| {
            Error::new(ErrorKind::Conflict, format!("'{dir}' {what}")).with_hint(
                "try again when that has ended; who was killed counts for ten minutes more",
            )
        };
        let path = dir.clone().join("gc");
        let mut mode = PutMode::Create;
        let gc = loop {
            match Self::put(store, path.clone(), mode).await {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => mode = PutMode::Create,
                gc => break gc?,
            }
            // A lease of our own tells what time it is there.
            let clock = dir.clone().join(Uuid::now_v7().to_string());
            let clock = Self::put(store, clock, PutMode::Overwrite).await?;
            let now = store.head(&clock.path).await.map_err(failed)?;
            clock.release().await;
            match store.head(&path).await {
                Ok(gc) if is_dead(&gc, &now) => mode = PutMode::Update(version_of(gc)),
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
            let (dead, alive): (Vec<_>, Vec<_>) = pins
                .into_iter()
                .filter(|pin| pin.location != path)
                .partition(|pin| is_dead(pin, &now));
            for pin in dead {
                remove(store, &pin.location).await?;
            }
            if alive.is_empty() {
                return Ok(gc);
            }
            if Instant::now() >= until {
                gc.release().await;
                return Err(busy("is being written to"));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn put(store: &Arc<dyn ObjectStore>, path: Path, mode: PutMode) -> Result<Self> {
        let written = Arc::new(Mutex::new(write(store, &path, mode).await.map_err(failed)?));
        let renewing = {
            let (store, path, written) = (store.clone(), path.clone(), written.clone());
            tokio::spawn(async move {
                loop {
                    tokio::time::sleep(REFRESH).await;
                    // Who relies on it finds out by its age.
                    let _ = renew(&store, &path, &written).await;
                }
            })
        };
        let renewing = renewing.abort_handle();
        Ok(Self { store: store.clone(), path, written, renewing, is_held: true })
    }

    async fn renew(&self) -> Result<()> {
        renew(&self.store, &self.path, &self.written).await
    }

    /// Tells whether it can be relied on.
    ///
    /// # Errors
    /// `Io` if it could not be renewed for so long that others may have taken it for dead.
    pub(super) fn check(&self) -> Result<()> {
        if self.written.lock().expect("never panics").at.elapsed() < RELIED_ON {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Io, format!("'{}' could not be renewed for long", self.path))
            .with_hint("the object store did not answer; try again"))
    }

    /// Gives it back. One that cannot be removed ends by its age.
    pub(super) async fn release(mut self) {
        self.is_held = false;
        self.renewing.abort();
        let _ = remove(&self.store, &self.path).await;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.renewing.abort();
        if self.is_held
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let (store, path) = (self.store.clone(), self.path.clone());
            runtime.spawn(async move { store.delete(&path).await });
        }
    }
}

async fn renew(store: &Arc<dyn ObjectStore>, path: &Path, last: &Mutex<Written>) -> Result<()> {
    let version = last.lock().expect("never panics").version.clone();
    let written = write(store, path, PutMode::Update(version)).await.map_err(failed)?;
    *last.lock().expect("never panics") = written;
    Ok(())
}

/// Writes a lease with contents of its own, so that its entity tag is one, too.
async fn write(
    store: &Arc<dyn ObjectStore>,
    path: &Path,
    mode: PutMode,
) -> object_store::Result<Written> {
    let at = Instant::now();
    let contents = Uuid::now_v7().to_string();
    let PutResult { e_tag, version } = store.put_opts(path, contents.into(), mode.into()).await?;
    Ok(Written { at, version: UpdateVersion { e_tag, version } })
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
fn is_dead(lease: &ObjectMeta, now: &ObjectMeta) -> bool {
    let age = now.last_modified - lease.last_modified;
    age.to_std().is_ok_and(|age| age > LEASE)
}

fn failed(error: object_store::Error) -> Error {
    let kind = match &error {
        // Another one was quicker.
        object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. } => {
            ErrorKind::AlreadyExists
        }
        _ => ErrorKind::Io,
    };
    Error::new(kind, "locking the blobs").with_source(error)
}
