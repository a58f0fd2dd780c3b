//! A Ballista cluster on loopback for tests and benchmarks: a scheduler and executors of the stock
//! crates, each a process of its own.
//!
//! They are the running binary again, which calls [`child`] when `POND_TEST_ROLE` says that it is one of them.
//! They end when their standard input does, so that none outlives its parent whatever becomes of that.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use ballista_executor::executor_process::{ExecutorProcessConfig, start_executor_process};
use ballista_scheduler::cluster::BallistaCluster;
use ballista_scheduler::config::SchedulerConfig;
use ballista_scheduler::scheduler_process::{create_scheduler, start_grpc_service_with_listener};
use datafusion_proto::protobuf::{LogicalPlanNode, PhysicalPlanNode};
use tempfile::TempDir;

/// After how many seconds of silence an executor counts as dead.
const SILENCE_SECS: u64 = 10;

/// How often an executor is started that ends before it begins.
const STARTS_MAX: usize = 5;

/// A cluster that runs.
pub struct Running {
    port: u16,
    arguments: &'static [&'static str],
    scheduler: Child,
    executors: Vec<Child>,
    dir: TempDir,
    started: usize,
}

impl Running {
    /// Starts a scheduler and executors; `arguments` have this binary call [`child`].
    pub fn start(executors: usize, arguments: &'static [&'static str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (scheduler, said) = process(arguments, "scheduler", 0, dir.path()).unwrap();
        let port = said.strip_prefix("port ").unwrap().parse().unwrap();
        let mut running =
            Self { port, arguments, scheduler, executors: Vec::new(), dir, started: 0 };
        for _ in 0..executors {
            running.add_executor();
        }
        running
    }

    /// Returns the address of the scheduler, without a scheme.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Starts one more executor. Its ports were free, and may be taken by the time that it listens.
    pub fn add_executor(&mut self) {
        let executor = (0..STARTS_MAX).find_map(|_| {
            let dir = self.dir.path().join(self.started.to_string());
            self.started += 1;
            std::fs::create_dir(&dir).unwrap();
            let (executor, said) = process(self.arguments, "executor", self.port, &dir).ok()?;
            assert_eq!(said, "ready");
            Some(executor)
        });
        self.executors.push(executor.expect("no executor begins"));
    }

    /// Takes the executor out that was started first.
    pub fn take_executor(&mut self) -> Child {
        self.executors.remove(0)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for process in self.executors.iter_mut().chain([&mut self.scheduler]) {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Starts a process and returns what it says first, or how it ended before.
fn process(
    arguments: &[&str],
    role: &str,
    scheduler: u16,
    dir: &Path,
) -> Result<(Child, String), ExitStatus> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(arguments)
        .env("POND_TEST_ROLE", role)
        .env("POND_TEST_SCHEDULER", scheduler.to_string())
        .env("POND_TEST_DIR", dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let said = lines.find_map(|line| line.strip_prefix("> ").map(str::to_owned));
    let Some(said) = said else { return Err(child.wait().unwrap()) };
    // What runs a test says more when that takes long, and would end if nobody heard it.
    std::thread::spawn(move || lines.for_each(drop));
    Ok((child, said))
}

fn say(text: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "\n> {text}").unwrap();
    out.flush().unwrap();
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

/// Runs a process of a cluster's, until its standard input ends.
pub fn child() {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(32 << 20)
        .build()
        .unwrap();
    match variable("POND_TEST_ROLE").as_str() {
        "scheduler" => runtime.block_on(scheduler()),
        "executor" => runtime.block_on(executor()),
        role => panic!("'{role}' is no role"),
    }
}

async fn scheduler() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    // A dead executor is noticed within seconds rather than minutes.
    let config = SchedulerConfig {
        external_host: "127.0.0.1".to_owned(),
        bind_port: port,
        executor_timeout_seconds: SILENCE_SECS,
        expire_dead_executor_interval_seconds: 1,
        no_executors_grace_period_seconds: SILENCE_SECS,
        ..SchedulerConfig::default()
    };
    let cluster = BallistaCluster::new_from_config(&config).await.unwrap();
    let scheduler =
        create_scheduler::<LogicalPlanNode, PhysicalPlanNode>(cluster, Arc::new(config));
    let scheduler = scheduler.await.unwrap();
    say(&format!("port {port}"));
    start_grpc_service_with_listener(listener, scheduler).await.unwrap();
}

async fn executor() {
    let free = || TcpListener::bind("127.0.0.1:0").unwrap();
    let ports = [free(), free()];
    let [port, grpc_port] = ports.map(|listener| listener.local_addr().unwrap().port());
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let config = ExecutorProcessConfig {
        port,
        grpc_port,
        scheduler_host: "127.0.0.1".to_owned(),
        scheduler_port: variable("POND_TEST_SCHEDULER").parse().unwrap(),
        scheduler_connect_timeout_seconds: 20,
        vcores: (cores / 2).max(1),
        work_dir: Some(variable("POND_TEST_DIR")),
        executor_heartbeat_interval_seconds: 1,
        ..ExecutorProcessConfig::default()
    };
    let health = config.health.clone();
    tokio::spawn(async move {
        while !health.is_ready() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        say("ready");
    });
    start_executor_process(Arc::new(config)).await.unwrap();
}
