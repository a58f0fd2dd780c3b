//! One client: its bytes, how it is let in, and what interrupts a statement of its.
//!
//! While a statement runs, what the client sends next is read up to [`READ_AHEAD`], so that a client
//! that is gone is noticed and its statement dropped; no more than that is taken until its turn.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Empty, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::{Notify, OwnedSemaphorePermit, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::errors::PgError;
use super::scram::METHOD;
use super::session::Session;
use super::wire::{Answers, FRAME_BYTES_MAX, Opening, STARTUP_BYTES_MAX, is_request, take_frame};
use super::{Options, Shared};
use crate::policy::Interruptible;

/// How much is read of what comes after a statement that runs.
const READ_AHEAD: usize = 64 << 10;

/// How long the last words to a client may take.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A day that does not come.
const NEVER: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// Why something did not come to its end.
#[derive(Debug)]
pub(super) enum Stop {
    /// The client is told.
    Failed(PgError),
    /// The client is gone.
    Gone,
}

impl<E: Into<PgError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

fn gone<E>(_: E) -> Stop {
    Stop::Gone
}

type Result<T> = std::result::Result<T, Stop>;

/// What comes from a client.
pub(super) struct Input<S> {
    half: ReadHalf<S>,
    buffer: BytesMut,
}

/// What goes to a client.
pub(super) struct Output<S> {
    half: WriteHalf<S>,
    /// How long the client may take to read some of it.
    timeout: Duration,
    /// What was not sent yet.
    pub out: BytesMut,
}

impl<S: AsyncRead> Input<S> {
    async fn read(&mut self) -> Result<()> {
        match self.half.read_buf(&mut self.buffer).await {
            Ok(0) | Err(_) => Err(Stop::Gone),
            Ok(_) => Ok(()),
        }
    }

    /// Waits for a frame of at most `bytes_max`. A frame that is waited for in vain is not lost.
    pub(super) async fn frame(&mut self, bytes_max: usize) -> Result<(u8, Bytes)> {
        loop {
            let taken = take_frame(&mut self.buffer, bytes_max);
            match taken.map_err(|wrong| PgError::fatal("08P01", wrong.0))? {
                Some(frame) => return Ok(frame),
                None => self.read().await?,
            }
            // Bytes that are of no message are not waited for.
            if let Some(kind) = self.buffer.first()
                && !is_request(*kind)
                && *kind != b'p'
            {
                return Err(
                    PgError::fatal("08P01", format!("a message of type {kind:#04x}")).into()
                );
            }
        }
    }
}

impl<S: AsyncWrite> Output<S> {
    /// Sends what there is. A client that reads nothing counts as gone.
    pub(super) async fn send(&mut self) -> Result<()> {
        while self.out.has_remaining() {
            let written = timeout(self.timeout, self.half.write_buf(&mut self.out)).await;
            if written.map_err(gone)?.map_err(gone)? == 0 {
                return Err(Stop::Gone);
            }
        }
        timeout(self.timeout, self.half.flush()).await.map_err(gone)?.map_err(gone)
    }
}

/// What may interrupt a statement.
pub(super) struct Watch {
    cancelled: Arc<Notify>,
    timeout: Option<Duration>,
    deadline: Instant,
    ends: watch::Receiver<bool>,
}

impl Watch {
    pub(super) fn new(
        cancelled: Arc<Notify>,
        timeout: Option<Duration>,
        ends: watch::Receiver<bool>,
    ) -> Self {
        let deadline = Instant::now() + timeout.unwrap_or(NEVER);
        Self { cancelled, timeout, deadline, ends }
    }

    /// Does `work`, unless something interrupts it; it is dropped then. What publishes its changes is
    /// done all the same, so that who is told of an interruption knows that there are none.
    pub(super) async fn guard<S: AsyncRead, T>(
        &mut self,
        input: &mut Input<S>,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        self.guard_with(Some(input), work).await
    }

    /// The same for what reads the client's input itself.
    pub(super) async fn guard_alone<T>(
        &mut self,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        self.guard_with(None::<&mut Input<Empty>>, work).await
    }

    async fn guard_with<S: AsyncRead, T>(
        &mut self,
        input: Option<&mut Input<S>>,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let interruptible = Interruptible::new();
        let mut work = std::pin::pin!(interruptible.run(work));
        let stop = tokio::select! {
            biased;
            done = &mut work => return done,
            // Work that never waits has used up what its task may do in a turn.
            stop = tokio::task::unconstrained(self.interruption(input)) => stop,
        };
        match interruptible.give_up() {
            true => Err(stop),
            false => work.await,
        }
    }

    /// Waits for what interrupts the statement.
    async fn interruption<S: AsyncRead>(&mut self, mut input: Option<&mut Input<S>>) -> Stop {
        loop {
            let reads = input.as_ref().is_some_and(|input| input.buffer.len() < READ_AHEAD);
            let read = async {
                match &mut input {
                    Some(input) => input.read().await,
                    None => Ok(()),
                }
            };
            tokio::select! {
                biased;
                () = self.cancelled.notified() => {
                    return PgError::new("57014", "the statement was cancelled").into();
                }
                () = sleep_until(self.deadline) => {
                    let limit = self.timeout.unwrap_or(NEVER);
                    let message = format!("the statement took longer than the time limit of {limit:?}");
                    return PgError::new("57014", message).into();
                }
                _ = self.ends.wait_for(|ends| *ends) => return server_ends(),
                read = read, if reads => if let Err(stop) = read {
                    return stop;
                },
            }
        }
    }
}

fn server_ends() -> Stop {
    PgError::fatal("57P01", "the server ends").into()
}

/// A connection that was accepted.
pub(super) struct Accepted {
    shared: Arc<Shared>,
    stranger: OwnedSemaphorePermit,
}

impl Accepted {
    pub(super) fn new(shared: Arc<Shared>, stranger: OwnedSemaphorePermit) -> Self {
        Self { shared, stranger }
    }

    /// Serves it until it ends.
    pub(super) async fn run(self, stream: TcpStream) {
        // Without it a small answer waits for the next one.
        let _ = stream.set_nodelay(true);
        let until = Instant::now() + self.shared.options.handshake_timeout;
        let mut stream = stream;
        let mut buffer = BytesMut::new();
        loop {
            let opening = tokio::time::timeout_at(until, opening(&mut stream, &mut buffer)).await;
            let Ok(opening) = opening else { return };
            let answer: &[u8] = match opening {
                // What comes in clear before TLS is nobody's.
                Ok(Opening::Tls) if buffer.is_empty() => match self.shared.tls.clone() {
                    Some(tls) => {
                        if stream.write_all(b"S").await.is_err() {
                            return;
                        }
                        let accepted = tokio::time::timeout_at(until, tls.accept(stream)).await;
                        let Ok(Ok(stream)) = accepted else { return };
                        return self.encrypted(stream, until).await;
                    }
                    None => b"N",
                },
                Ok(Opening::Tls) => return,
                Ok(Opening::Gss) => b"N",
                Ok(Opening::Cancel { process, secret }) => {
                    return self.shared.running.cancel(process, secret);
                }
                Ok(Opening::Session { minor, parameters }) => {
                    let client = Client::new(stream, buffer, &self.shared.options);
                    let is_refused = self.shared.needs_tls;
                    return self.session(client, minor, parameters, until, is_refused).await;
                }
                Err(stop) => {
                    return Client::new(stream, buffer, &self.shared.options).end(stop).await;
                }
            };
            if stream.write_all(answer).await.is_err() {
                return;
            }
        }
    }

    /// Goes on behind TLS.
    async fn encrypted(
        self,
        mut stream: tokio_rustls::server::TlsStream<TcpStream>,
        until: Instant,
    ) {
        let mut buffer = BytesMut::new();
        let opening = tokio::time::timeout_at(until, opening(&mut stream, &mut buffer)).await;
        match opening {
            Ok(Ok(Opening::Cancel { process, secret })) => {
                self.shared.running.cancel(process, secret);
            }
            Ok(Ok(Opening::Session { minor, parameters })) => {
                let client = Client::new(stream, buffer, &self.shared.options);
                self.session(client, minor, parameters, until, false).await;
            }
            Ok(Err(stop)) => Client::new(stream, buffer, &self.shared.options).end(stop).await,
            Ok(Ok(Opening::Tls | Opening::Gss)) | Err(_) => {}
        }
    }

    /// Lets a client in, and serves it.
    async fn session<S: AsyncRead + AsyncWrite>(
        self,
        mut client: Client<S>,
        minor: i32,
        parameters: Vec<(String, String)>,
        until: Instant,
        is_refused: bool,
    ) {
        let Self { shared, stranger } = self;
        let let_in = async {
            if is_refused {
                return Err(Stop::from(PgError::fatal(
                    "28000",
                    "this server takes connections with TLS only",
                )));
            }
            let user = client.authenticate(&shared, minor, &parameters).await?;
            // Only now: strangers take no places.
            let place = shared.places.clone().try_acquire_owned().map_err(|_| {
                PgError::fatal(
                    "53300",
                    format!("there are {} clients already", shared.options.connections_max),
                )
            })?;
            Ok((place, user))
        };
        let let_in = match tokio::time::timeout_at(until, let_in).await {
            Ok(let_in) => let_in,
            Err(_) => Err(PgError::fatal("08006", "it took too long to come in").into()),
        };
        drop(stranger);
        let (_place, user) = match let_in {
            Ok(let_in) => let_in,
            Err(stop) => return client.end(stop).await,
        };
        let stop = match client.serve(&shared, user, &parameters).await {
            Ok(()) => return,
            Err(stop) => stop,
        };
        client.end(stop).await;
    }
}

/// Waits for the first message of a client.
async fn opening<S: AsyncRead + Unpin>(stream: &mut S, buffer: &mut BytesMut) -> Result<Opening> {
    loop {
        let taken = Opening::take(buffer);
        if let Some(opening) = taken.map_err(|wrong| PgError::fatal("08P01", wrong.0))? {
            return Ok(opening);
        }
        if stream.read_buf(buffer).await.map_err(gone)? == 0 {
            return Err(Stop::Gone);
        }
    }
}

/// A client, once it has said that it wants a session.
struct Client<S> {
    input: Input<S>,
    output: Output<S>,
}

impl<S: AsyncRead + AsyncWrite> Client<S> {
    fn new(stream: S, buffer: BytesMut, options: &Options) -> Self {
        let (read, write) = tokio::io::split(stream);
        Self {
            input: Input { half: read, buffer },
            output: Output { half: write, timeout: options.send_timeout, out: BytesMut::new() },
        }
    }

    /// Tells the client why it ends.
    async fn end(mut self, stop: Stop) {
        let Stop::Failed(mut error) = stop else { return };
        error.is_fatal = true;
        // What was on its way may be cut within a message.
        error.put(&mut self.output.out);
        let last = async {
            if self.output.send().await.is_ok() {
                let _ = self.output.half.shutdown().await;
            }
        };
        let _ = timeout(LAST_WORDS, last).await;
    }

    /// Finds out who the client is, and returns the name.
    async fn authenticate(
        &mut self,
        shared: &Shared,
        minor: i32,
        parameters: &[(String, String)],
    ) -> Result<String> {
        let out = &mut self.output.out;
        let unknown: Vec<&str> = parameters
            .iter()
            .map(|(name, _)| name.as_str())
            .filter(|name| name.starts_with("_pq_."))
            .collect();
        if minor > 0 || !unknown.is_empty() {
            out.message(b'v', |out| {
                use bytes::BufMut;
                out.put_i32(0);
                out.put_i32(i32::try_from(unknown.len()).unwrap_or(i32::MAX));
                for name in unknown {
                    out.put_slice(name.as_bytes());
                    out.put_u8(0);
                }
            });
        }
        let of = |wanted: &str| {
            parameters.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
        };
        let user = of("user").filter(|user| !user.is_empty());
        let user = user.ok_or_else(|| PgError::fatal("28000", "a client says who it is"))?;
        if of("replication").is_some_and(|value| !matches!(value, "false" | "off" | "no" | "0")) {
            return Err(PgError::fatal("0A000", "there is no replication here").into());
        }
        let Some(users) = &shared.users else {
            out.authentication(0, &[]);
            return Ok(user.to_owned());
        };
        let mut methods = METHOD.as_bytes().to_vec();
        methods.extend_from_slice(&[0, 0]);
        out.authentication(10, &methods);
        self.output.send().await?;
        let mut first = self.password().await?;
        let malformed = || PgError::fatal("08P01", "a message of authentication makes no sense");
        let end = first.iter().position(|byte| *byte == 0).ok_or_else(malformed)?;
        let method = first.split_to(end);
        if method != METHOD.as_bytes() || first.len() < 5 {
            return Err(malformed().into());
        }
        // The zero byte, and the length of what follows.
        first.advance(5);
        let exchange = users.begin(user, &first)?;
        self.output.out.authentication(11, exchange.challenge());
        self.output.send().await?;
        let last = self.password().await?;
        let Some(answer) = exchange.finish(&last)? else {
            let message = format!("authentication of '{user}' failed");
            return Err(PgError::fatal("28P01", message).into());
        };
        self.output.out.authentication(12, answer.as_bytes());
        self.output.out.authentication(0, &[]);
        Ok(user.to_owned())
    }

    async fn password(&mut self) -> Result<Bytes> {
        match self.input.frame(STARTUP_BYTES_MAX).await? {
            (b'p', body) => Ok(body),
            _ => Err(PgError::fatal("08P01", "a password was expected").into()),
        }
    }

    /// Serves the client until it leaves.
    async fn serve(
        &mut self,
        shared: &Arc<Shared>,
        user: String,
        parameters: &[(String, String)],
    ) -> Result<()> {
        let registered = shared.running.add(shared)?;
        let mut session = Session::begin(shared.clone(), registered, user, parameters);
        session.greet(&mut self.output.out);
        self.output.send().await?;
        let mut ends = shared.ends.clone();
        loop {
            let idle = match session.in_transaction() {
                true => shared.options.idle_in_transaction_timeout,
                false => shared.options.idle_timeout,
            };
            let (kind, body) = tokio::select! {
                biased;
                frame = self.input.frame(FRAME_BYTES_MAX) => frame?,
                _ = ends.wait_for(|ends| *ends) => return Err(server_ends()),
                () = sleep(idle) => {
                    let code = if session.in_transaction() { "25P03" } else { "57P05" };
                    let message = format!("nothing was done for {idle:?}");
                    return Err(PgError::fatal(code, message).into());
                }
            };
            let goes_on = session.handle(kind, body, &mut self.input, &mut self.output).await?;
            if !goes_on {
                return Ok(());
            }
        }
    }
}
