//! One query on the cluster: it is handed in, watched over, and its rows are fetched from the executors
//! that have them.
//!
//! Ballista's own client tells nobody which job a query is, and leaves it running when its rows are no
//! longer wanted. So this speaks to the scheduler itself. A task of its own watches over the job, so
//! that one that is given up is cancelled at whatever moment that is.

use std::collections::HashMap;
use std::error::Error as _;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ballista_core::BALLISTA_VERSION;
use ballista_core::client::BallistaClient;
use ballista_core::config::BallistaConfig;
use ballista_core::error::BallistaError;
use ballista_core::extension::{BallistaGrpcMetadataInterceptor, SessionConfigExt};
use ballista_core::serde::protobuf::execute_query_params::Query as Plan;
use ballista_core::serde::protobuf::get_job_status_result::FlightProxy;
use ballista_core::serde::protobuf::job_status::Status;
use ballista_core::serde::protobuf::scheduler_grpc_client::SchedulerGrpcClient;
use ballista_core::serde::protobuf::{
    CancelJobParams, ExecuteQueryParams, KeyValuePair, PartitionLocation,
};
use ballista_core::utils::{GrpcClientConfig, create_grpc_client_endpoint};
use ballista_core::version::{self, BALLISTA_VERSION_HEADER};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::error::{DataFusionError, Result as EngineResult};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::LexOrdering;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use datafusion::prelude::SessionConfig;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use url::Url;
use uuid::Uuid;

use super::Cluster;
use super::send::Message;
use crate::error::{Error, ErrorKind, Result};

/// How long a scheduler may take to answer a connection.
const CONNECT: Duration = Duration::from_secs(10);

/// How long a scheduler may take to say which job was given up, and to cancel it.
const CANCEL: Duration = Duration::from_secs(2);

/// How often it is looked whether there is an executor at all, and how long a query waits for one.
const LOOK: Duration = Duration::from_secs(5);
const DESERTED: Duration = Duration::from_secs(20);

/// The settings that go along: those of the engine and of Ballista.
const SENT_SETTINGS: [&str; 2] = ["datafusion.", "ballista."];

/// A query that is ready to be handed in.
pub(super) struct Query {
    cluster: Cluster,
    message: Message,
    schema: SchemaRef,
    config: BallistaConfig,
    settings: Vec<KeyValuePair>,
}

impl Query {
    pub(super) fn new(cluster: Cluster, message: Message, config: &SessionConfig) -> Self {
        Self {
            cluster,
            schema: message.plan.schema(),
            message,
            config: config.ballista_config(),
            settings: settings(config),
        }
    }

    /// Returns the plan node that has the rows: one partition, in the order that the plan's has if that
    /// is one, too.
    pub(super) fn into_plan(self) -> EngineResult<Arc<dyn ExecutionPlan>> {
        let plan = &self.message.plan;
        let order: Option<LexOrdering> = match plan.output_partitioning().partition_count() {
            1 => plan.output_ordering().cloned(),
            _ => None,
        };
        let schema = self.schema.clone();
        let rows: Arc<dyn PartitionStream> = Arc::new(Rows(Arc::new(self)));
        Ok(Arc::new(StreamingTableExec::try_new(schema, vec![rows], None, order, false, None)?))
    }

    /// Hands the query in and waits for its end; dropped before, it is cancelled.
    async fn run(&self) -> Result<Done> {
        let (done, answer) = oneshot::channel();
        let (given_up, is_given_up) = oneshot::channel::<()>();
        let request = ExecuteQueryParams {
            session_id: self.cluster.session.to_string(),
            settings: self.settings.clone(),
            operation_id: Uuid::now_v7().to_string(),
            query: Some(Plan::PhysicalPlan(self.message.bytes.clone())),
        };
        let (cluster, grpc) = (self.cluster.clone(), GrpcClientConfig::from(&self.config));
        self.cluster.watch(tokio::spawn(async move {
            // Whoever gave it up reads nothing.
            let _ = done.send(watch(&cluster, request, &grpc, is_given_up).await);
        }));
        let outcome = answer.await;
        drop(given_up);
        outcome.unwrap_or_else(|_| Err(lost(&self.cluster, "nobody watches over the job any more")))
    }

    /// Fetches the rows of one partition of the answer.
    async fn fetch(
        &self,
        part: PartitionLocation,
        proxy: Proxy,
    ) -> Result<SendableRecordBatchStream> {
        let cluster = &self.cluster;
        let layout = part.layout();
        let (Some(executor), Some(id)) = (part.executor_meta, part.partition_id) else {
            return Err(lost(cluster, "a part of the answer is nowhere"));
        };
        let port = u16::try_from(executor.port)
            .map_err(|error| lost(cluster, "an executor's port").with_source(error))?;
        let (host, at) = proxy.address(cluster, &executor.host, port)?;
        let grpc = GrpcClientConfig::from(&self.config);
        let gone = |error: BallistaError| {
            let message = format!("executor {}:{port} does not give its rows", executor.host);
            lost(cluster, &message).with_source(error).with_hint(
                "an executor that ends takes its part of an answer along: run the statement again",
            )
        };
        let mut client = BallistaClient::try_new(
            &host,
            at,
            self.config.grpc_client_max_message_size(),
            grpc.use_tls,
            None,
            grpc.io_retries_times,
            grpc.io_retry_wait_time_ms,
            0,
            0,
        )
        .await
        .map_err(gone)?;
        client
            .fetch_partition_proxied(
                &executor.id,
                &id.into(),
                part.file_id,
                layout,
                &executor.host,
                port,
                true,
            )
            .await
            .map_err(gone)
    }
}

/// Returns the settings that go along.
fn settings(config: &SessionConfig) -> Vec<KeyValuePair> {
    let is_sent = |key: &str| SENT_SETTINGS.iter().any(|prefix| key.starts_with(prefix));
    let entries = config.options().entries().into_iter().filter(|entry| is_sent(&entry.key));
    entries.map(|entry| KeyValuePair { key: entry.key, value: entry.value }).collect()
}

/// Where the rows of a job are.
struct Done {
    parts: Vec<PartitionLocation>,
    proxy: Proxy,
}

/// Who hands out the rows.
#[derive(Clone)]
struct Proxy(Option<FlightProxy>);

impl Proxy {
    /// Returns where to ask for the rows that an executor has.
    fn address(&self, cluster: &Cluster, host: &str, port: u16) -> Result<(String, u16)> {
        match &self.0 {
            Some(FlightProxy::External(address)) => {
                let wrong = || lost(cluster, &format!("'{address}' is no address of a proxy"));
                let url = Url::parse(&format!("http://{address}")).map_err(|_| wrong())?;
                let host = url.host_str().ok_or_else(wrong)?.to_owned();
                Ok((host, url.port().ok_or_else(wrong)?))
            }
            Some(FlightProxy::Local(true)) => Ok((cluster.host.clone(), cluster.port)),
            _ => Ok((host.to_owned(), port)),
        }
    }
}

/// Hands `request` in and follows its job to its end; cancels it once `given_up` says so.
async fn watch(
    cluster: &Cluster,
    request: ExecuteQueryParams,
    grpc: &GrpcClientConfig,
    mut given_up: oneshot::Receiver<()>,
) -> Result<Done> {
    let cancelled = || Error::new(ErrorKind::Cancelled, format!("{cluster}: cancelled"));
    let url = format!("http://{}:{}", cluster.host, cluster.port);
    let endpoint = create_grpc_client_endpoint(url, Some(grpc))
        .map_err(|error| no_answer(cluster, error))?
        .connect_timeout(CONNECT);
    let channel = tokio::select! {
        _ = &mut given_up => return Err(cancelled()),
        channel = endpoint.connect() => channel.map_err(|error| no_answer(cluster, error))?,
    };
    let version = (BALLISTA_VERSION_HEADER.to_owned(), BALLISTA_VERSION.to_owned());
    let headers = BallistaGrpcMetadataInterceptor::new(HashMap::from([version]));
    let mut scheduler = SchedulerGrpcClient::with_interceptor(channel, headers)
        .max_encoding_message_size(grpc.max_message_size)
        .max_decoding_message_size(grpc.max_message_size);
    // Not given up in between: the job would be there, and nobody would know which it is.
    let response =
        scheduler.execute_query_push(request).await.map_err(|status| match status.source() {
            // It is not a scheduler that says so.
            Some(_) => no_answer(cluster, status),
            None => refused(cluster, status.message()),
        })?;
    let theirs = version::version_from_metadata(response.metadata());
    let is_compatible = version::check_compatibility(Some(BALLISTA_VERSION), theirs);
    let mut updates = response.into_inner();
    let mut id = None;
    let mut has_failed = false;
    let outcome = match is_compatible {
        Err(why) => Some(Err(refused(cluster, &why))),
        Ok(()) => {
            let follow = async {
                loop {
                    let update = updates.message().await.map_err(|status| {
                        lost(cluster, "the scheduler broke off").with_source(status)
                    })?;
                    let Some(update) = update else {
                        return Err(lost(cluster, "the scheduler said no more of the job"));
                    };
                    let Some(job) = update.status else { continue };
                    id.get_or_insert(job.job_id);
                    match job.status {
                        Some(Status::Failed(failed)) => {
                            has_failed = true;
                            return Err(failure(cluster, &failed.error));
                        }
                        Some(Status::Successful(done)) => {
                            let proxy = Proxy(update.flight_proxy);
                            return Ok(Done { parts: done.partition_location, proxy });
                        }
                        _ => {}
                    }
                }
            };
            tokio::select! {
                _ = &mut given_up => None,
                outcome = follow => Some(outcome),
                error = deserted(cluster) => Some(Err(error)),
            }
        }
    };
    let error = match outcome {
        Some(Ok(done)) => return Ok(done),
        Some(Err(error)) => error,
        None => cancelled(),
    };
    if !has_failed {
        // What cannot be told is not known to be wrong: the scheduler may be gone.
        let _ = tokio::time::timeout(CANCEL, async {
            if id.is_none() {
                let first = updates.message().await.ok().flatten();
                id = first.and_then(|update| update.status).map(|job| job.job_id);
            }
            if let Some(job_id) = id {
                let _ = scheduler.cancel_job(CancelJobParams { job_id }).await;
            }
        })
        .await;
    }
    Err(error)
}

/// Returns once there has been no executor for so long that there will be none: a job would wait for
/// ever.
async fn deserted(cluster: &Cluster) -> Error {
    let mut since = Instant::now();
    while since.elapsed() < DESERTED {
        tokio::time::sleep(LOOK).await;
        if !has_no_executor(cluster).await {
            since = Instant::now();
        }
    }
    let (host, port) = (&cluster.host, cluster.port);
    Error::new(ErrorKind::Io, format!("{cluster}: it has no executor")).with_hint(format!(
        "start some: ballista-executor --scheduler-host {host} --scheduler-port {port}"
    ))
}

/// Whether the scheduler says that it has no executor. It tells load balancers, over HTTP.
async fn has_no_executor(cluster: &Cluster) -> bool {
    let ask = async {
        let mut scheduler =
            TcpStream::connect((cluster.host.trim_matches(['[', ']']), cluster.port)).await?;
        let request =
            format!("GET /readyz HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", cluster.host);
        scheduler.write_all(request.as_bytes()).await?;
        let mut answer = [0; b"HTTP/1.1 503".len()];
        scheduler.read_exact(&mut answer).await?;
        Ok::<_, std::io::Error>(answer.ends_with(b" 503"))
    };
    matches!(tokio::time::timeout(LOOK, ask).await, Ok(Ok(true)))
}

fn no_answer(cluster: &Cluster, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Io, format!("{cluster}: no scheduler answers"))
        .with_source(error)
        .with_hint("start one there: ballista-scheduler --bind-host HOST --bind-port PORT")
}

/// Makes an error of a scheduler's no.
fn refused(cluster: &Cluster, why: &str) -> Error {
    let error = Error::new(ErrorKind::Engine, format!("{cluster}: {why}"));
    match why.contains("major version") {
        true => error.with_hint(format!(
            "cargo install ballista-scheduler ballista-executor --version {BALLISTA_VERSION} --locked"
        )),
        false => error,
    }
}

fn lost(cluster: &Cluster, why: &str) -> Error {
    Error::new(ErrorKind::Io, format!("{cluster}: {why}"))
        .with_hint("run the statement again; without --cluster it runs here")
}

/// Makes an error of how a job failed.
fn failure(cluster: &Cluster, why: &str) -> Error {
    let is = |words: &[&str]| words.iter().any(|word| why.contains(word));
    let error = Error::new(ErrorKind::Engine, format!("{cluster}: {why}"));
    if is(&["No such file", "not found: ", "NotFound"]) {
        return error.with_hint(
            "each executor must see the pond's files at the path that they have here, or on its object store",
        );
    }
    if is(&["ResourcesExhausted", "Resources exhausted"]) {
        return error.with_hint("give the executors more memory: --memory-pool-size");
    }
    if is(&["xecutor", "FetchFailed", "fetch"]) {
        return error.with_hint("an executor was lost: run the statement again");
    }
    // What breaks when an executor goes has as many names as there are connections to it.
    error.with_hint(
        "if an executor was lost, run the statement again; without --cluster it runs here",
    )
}

/// The rows of a query, as the source of a plan.
struct Rows(Arc<Query>);

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.cluster)
    }
}

impl PartitionStream for Rows {
    fn schema(&self) -> &SchemaRef {
        &self.0.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let query = self.0.clone();
        let schema = query.schema.clone();
        let parts = async move {
            let Done { parts, proxy } = query.run().await?;
            Ok::<_, DataFusionError>(stream::iter(parts).then(move |part| {
                let (query, proxy) = (query.clone(), proxy.clone());
                async move {
                    let rows = query.fetch(part, proxy).await?;
                    let cluster = query.clone();
                    Ok::<_, DataFusionError>(rows.map_err(move |error| {
                        lost(&cluster.cluster, "the rows broke off").with_source(error).into()
                    }))
                }
            }))
        };
        let rows = stream::once(parts).try_flatten().try_flatten();
        Box::pin(RecordBatchStreamAdapter::new(schema, rows))
    }
}

#[cfg(test)]
mod tests {
    use datafusion::common::extensions_options;
    use datafusion::config::ConfigExtension;

    use super::*;

    extensions_options! {
        struct Store {
            pub secret: String, default = "do not tell".to_owned()
        }
    }

    impl ConfigExtension for Store {
        const PREFIX: &'static str = "store";
    }

    #[test]
    fn settings_of_the_application_stay() {
        let config =
            SessionConfig::new().upgrade_for_ballista().with_option_extension(Store::default());
        let all = config.options().entries();
        assert!(all.iter().any(|entry| entry.key.ends_with("secret")));
        let sent = settings(&config);
        assert!(sent.iter().any(|entry| entry.key == "ballista.client.pull"));
        assert!(sent.iter().any(|entry| entry.key == "datafusion.execution.time_zone"));
        assert!(!format!("{sent:?}").contains("do not tell"));
    }

    #[test]
    fn another_version_is_told_with_what_to_install() {
        let cluster = Cluster::parse("df://host").unwrap();
        let why = version::check_compatibility(Some(BALLISTA_VERSION), Some("54.0.0")).unwrap_err();
        let error = refused(&cluster, &why);
        assert!(error.to_string().starts_with("df://host:50050: Ballista client 55"), "{error}");
        assert!(error.hint().unwrap().contains(BALLISTA_VERSION), "{error:?}");
        assert_eq!(refused(&cluster, "no").hint(), None);
    }
}
