//! The pond for clients of Postgres: psql, drivers, tools that know no pond.
//!
//! [`postgres`] listens, and runs a task for each connection. A connection has a [`PondContext`] of its
//! own, so its transaction, directory and settings are its own, and each of its statements sees one
//! snapshot as everywhere. What the pond may be used for is the policy of the handle that the contexts
//! are over; the limits here are of the server.
//!
//! | module | what it knows |
//! |---|---|
//! | `wire` | messages |
//! | `scram` | users and passwords |
//! | `connection` | bytes of one client, and what interrupts a statement |
//! | `session` | statements: simple ones, prepared ones, portals, cursors, transactions |
//! | `commands` | statements about the connection: settings, BEGIN |
//! | `complexity` | what is too much to be planned |
//! | `parameters`, `values`, `arrays`, `type_names` | values from and to the client |
//! | `copy` | rows as lines: COPY |
//! | `pg_catalog` | what tools ask of Postgres itself |
//! | `rewrite` | how they ask it |
//!
//! # Invariants
//! - An address that others reach is listened at with TLS and users, or not at all.
//! - Whatever a client sends, it ends its own connection at most.
//! - Rows are sent as they are made, and made as they are taken: what is held of a result is
//!   one batch and `values::SEND_BYTES`.
//! - A statement that is cancelled, takes too long or has lost its client is dropped where it is, unless
//!   it publishes its changes already: then it is done, and told as done.
//!
//! The protocol is spoken here rather than through `datafusion-postgres`, whose handlers collect the rows
//! of a portal and whose messages are read unchecked; its catalogs and rewriting of queries are used.
//!
//! Notifications are left out.

mod arrays;
mod commands;
mod complexity;
mod connection;
mod copy;
mod errors;
mod parameters;
mod pg_catalog;
mod rewrite;
mod scram;
mod session;
mod type_names;
mod values;
mod wire;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use self::connection::Accepted;
use self::pg_catalog::SharedCatalog;
use self::scram::Users;
use crate::context::PondContext;
use crate::error::{Error, ErrorKind, Result};

/// How many connections there may be that have not said who they are, beside the others.
const STRANGERS_MAX: usize = 32;

/// How long the end waits for connections to end.
const LEAVE: Duration = Duration::from_secs(5);

/// How long accepting waits after the system refused a connection.
const REFUSED: Duration = Duration::from_millis(50);

/// How a server listens, and to whom.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to listen: `host:port`. The port 0 takes one that is free.
    pub address: String,
    /// The files of a certificate chain and of its key, both PEM. Others must not be able to read the
    /// key.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// The file of users, which others must not be able to read.
    pub password_file: Option<PathBuf>,
    /// Most clients at once.
    pub connections_max: usize,
    /// How long a client may take until it is let in.
    pub handshake_timeout: Duration,
    /// How long a client may do nothing within a transaction.
    pub idle_in_transaction_timeout: Duration,
    /// How long a client may do nothing.
    pub idle_timeout: Duration,
    /// How long a client may take to read some of what it is sent.
    pub send_timeout: Duration,
}

impl Options {
    /// Returns the options of a server at `address`, with the usual limits.
    pub fn new(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            tls: None,
            password_file: None,
            connections_max: 100,
            handshake_timeout: Duration::from_secs(15),
            idle_in_transaction_timeout: Duration::from_secs(10 * 60),
            idle_timeout: Duration::from_secs(24 * 3600),
            send_timeout: Duration::from_secs(60),
        }
    }
}

/// Makes the context of a connection.
type MakeContext = Box<dyn Fn() -> PondContext + Send + Sync>;

/// What the connections of a server share.
struct Shared {
    options: Options,
    make_context: MakeContext,
    tls: Option<TlsAcceptor>,
    /// Whether nobody comes in without TLS.
    needs_tls: bool,
    users: Option<Users>,
    /// One for each client that is let in.
    places: Arc<Semaphore>,
    /// One for each client that is not yet.
    strangers: Arc<Semaphore>,
    running: Running,
    /// Made when it is first asked for.
    catalog: OnceLock<Arc<SharedCatalog>>,
    /// Becomes true when the server ends.
    ends: watch::Receiver<bool>,
}

impl Shared {
    fn catalog(&self) -> Result<Arc<SharedCatalog>> {
        if let Some(catalog) = self.catalog.get() {
            return Ok(catalog.clone());
        }
        let catalog = Arc::new(SharedCatalog::new()?);
        Ok(self.catalog.get_or_init(|| catalog).clone())
    }
}

/// The connections that can be told to cancel what they run.
#[derive(Default)]
struct Running {
    next: AtomicI32,
    by_process: Mutex<HashMap<i32, Arc<Cancelling>>>,
}

/// How a connection is told to cancel its statement.
#[derive(Default)]
struct Cancelling {
    secret: i32,
    /// Of the statement that runs; a cancellation between two statements is for neither.
    statement: Mutex<Option<Arc<Notify>>>,
}

impl Cancelling {
    /// Returns what tells the statement that begins now.
    fn begin(&self) -> Arc<Notify> {
        let notify = Arc::new(Notify::new());
        *self.statement.lock().expect("never poisoned") = Some(notify.clone());
        notify
    }

    fn end(&self) {
        *self.statement.lock().expect("never poisoned") = None;
    }
}

impl Running {
    /// Adds a connection; it is removed when what is returned is dropped.
    fn add(self: &Running, shared: &Arc<Shared>) -> Result<Registered> {
        let secret = i32::from_ne_bytes(scram::random()?);
        let cancelling = Arc::new(Cancelling { secret, statement: Mutex::default() });
        let mut all = self.by_process.lock().expect("never poisoned");
        let process = loop {
            let process = self.next.fetch_add(1, Ordering::Relaxed) & i32::MAX;
            if process != 0 && !all.contains_key(&process) {
                break process;
            }
        };
        all.insert(process, cancelling.clone());
        Ok(Registered { shared: shared.clone(), process, cancelling })
    }

    /// Cancels what a connection runs, if the secret is its own.
    fn cancel(&self, process: i32, secret: i32) {
        let found = self.by_process.lock().expect("never poisoned").get(&process).cloned();
        if let Some(cancelling) = found.filter(|cancelling| cancelling.secret == secret)
            && let Some(notify) = cancelling.statement.lock().expect("never poisoned").as_ref()
        {
            notify.notify_one();
        }
    }
}

/// A connection among those that can be told to cancel.
struct Registered {
    shared: Arc<Shared>,
    process: i32,
    cancelling: Arc<Cancelling>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut all = self.shared.running.by_process.lock().expect("never poisoned");
        all.remove(&self.process);
    }
}

/// A server that listens.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    shared: Arc<Shared>,
    end: watch::Sender<bool>,
}

/// Listens for clients of Postgres. Each connection gets a context that `make_context` makes.
///
/// # Errors
/// `Refused` for an address that others reach, without TLS and users; `Invalid` for one that makes no
/// sense; what is wrong with the files of certificate, key and users; `Io` if the address is taken.
pub async fn postgres(
    options: Options,
    make_context: impl Fn() -> PondContext + Send + Sync + 'static,
) -> Result<Server> {
    let named = options.address.clone();
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host(&named)
        .await
        .map_err(|error| {
            Error::invalid(format!("'{named}' is no address to listen at"))
                .with_source(error)
                .with_hint("as in 127.0.0.1:5433, [::1]:5433 or localhost:5433")
        })?
        .collect();
    let address = *addresses
        .first()
        .ok_or_else(|| Error::invalid(format!("'{named}' is no address to listen at")))?;
    let is_near = address.ip().is_loopback();
    if !is_near && (options.tls.is_none() || options.password_file.is_none()) {
        return Err(Error::new(
            ErrorKind::Refused,
            format!("'{named}' can be reached by others: it needs TLS and users"),
        )
        .with_hint("give --tls-cert, --tls-key and --password-file, or listen at 127.0.0.1"));
    }
    let tls = match &options.tls {
        Some((certificate, key)) => Some(acceptor(certificate, key)?),
        None => None,
    };
    let users = options.password_file.as_deref().map(Users::read).transpose()?;
    let listener = TcpListener::bind(address)
        .await
        .map_err(|error| Error::io(format!("listening at '{named}'"), error))?;
    let address = listener
        .local_addr()
        .map_err(|error| Error::io(format!("listening at '{named}'"), error))?;
    let (end, ends) = watch::channel(false);
    let shared = Arc::new(Shared {
        places: Arc::new(Semaphore::new(options.connections_max)),
        strangers: Arc::new(Semaphore::new(options.connections_max + STRANGERS_MAX)),
        options,
        make_context: Box::new(make_context),
        tls,
        needs_tls: !is_near,
        users,
        running: Running { next: AtomicI32::new(1), ..Running::default() },
        catalog: OnceLock::new(),
        ends,
    });
    Ok(Server { listener, address, shared, end })
}

impl Server {
    /// Returns where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` is done; then statements are cancelled, transactions rolled back, and
    /// clients told.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let Self { listener, shared, end, .. } = self;
        let mut stop = std::pin::pin!(stop);
        loop {
            let accepted = tokio::select! {
                () = &mut stop => break,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else {
                // Mostly too many open files: others close some.
                tokio::time::sleep(REFUSED).await;
                continue;
            };
            // More strangers than this are nobody's clients.
            let Ok(stranger) = shared.strangers.clone().try_acquire_owned() else { continue };
            // A panic ends this task alone.
            tokio::spawn(Accepted::new(shared.clone(), stranger).run(stream));
        }
        drop(listener);
        // Nobody is there to be told if it fails.
        let _ = end.send(true);
        drop(shared);
        let _ = tokio::time::timeout(LEAVE, end.closed()).await;
    }
}

fn acceptor(certificate: &Path, key: &Path) -> Result<TlsAcceptor> {
    let wrong =
        |path: &Path, error: String| Error::invalid(format!("'{}': {error}", path.display()));
    let read = |path: &Path| {
        std::fs::read(path).map_err(|error| Error::io(format!("'{}'", path.display()), error))
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&read(certificate)?)
        .collect::<std::result::Result<_, _>>()
        .map_err(|error| wrong(certificate, error.to_string()))?;
    if chain.is_empty() {
        return Err(wrong(certificate, "there is no certificate in it".to_owned()));
    }
    scram::check_secret(key)?;
    let private = PrivateKeyDer::from_pem_slice(&read(key)?)
        .map_err(|error| wrong(key, error.to_string()))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(certificate, error.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|error| wrong(key, error.to_string()))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
