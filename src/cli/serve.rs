//! `pond serve`: the pond for clients of Postgres.

use std::path::PathBuf;

use clap::Args;

use super::{Outcome, Shell};

/// Serve the pond to clients of Postgres: psql, drivers, database tools
///
/// Clients only read, unless --write lets them change the pond, and name no files of this machine,
/// unless --allow-host DIR opens a directory to them; what is mounted is readable. Directories are schemas and files
/// tables: SELECT * FROM '/sensors/a.series' and SELECT * FROM "/sensors"."a.series" are the same.
///
/// Only this machine is listened to, unless --tls-cert, --tls-key and --password-file are given. A
/// statement may take 5 minutes (--timeout) and all statements together half of the memory
/// (--memory-limit). Ctrl-C ends the server.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pond serve --postgres
  pond serve --postgres 127.0.0.1:5433 --write
  pond serve --postgres --write --allow-host /srv/data
  pond serve --postgres 0.0.0.0:5433 --tls-cert cert.pem --tls-key key.pem --password-file users")]
pub struct Serve {
    /// Where to listen; the port 0 takes one that is free
    #[arg(long, value_name = "ADDRESS", required = true, num_args = 0..=1,
          default_missing_value = "127.0.0.1:5433")]
    postgres: String,

    /// Let clients change the pond
    #[arg(long)]
    write: bool,

    /// The certificate chain to prove with who this is, as PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// The private key of the certificate, as PEM; others must not be able to read it
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// Who may come in: a line for each, user:password or user:SCRAM-SHA-256$…; others must not be able
    /// to read it
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,

    /// Most clients at once
    #[arg(long, value_name = "N", default_value_t = 100)]
    max_connections: u16,
}

#[cfg(not(feature = "serve"))]
impl Serve {
    pub fn run(self, _: &Shell) -> Outcome {
        Err(pond::Error::unsupported("this pond was built without the feature 'serve'")
            .with_hint("build it with: cargo build --release --features serve"))
    }
}

#[cfg(feature = "serve")]
mod running {
    //! What is there with the feature.

    use std::net::SocketAddr;
    use std::time::Duration;

    use pond::context::PondContext;
    use pond::policy::{Host, Policy};
    use pond::serve::{Options, postgres};
    use pond::tree::Tree;
    use pond::{Error, Result};
    use tokio::signal::unix::{SignalKind, signal};

    use super::super::report::note;
    use super::super::{engine_of_tasks, interrupt};
    use super::{Outcome, Serve, Shell};

    /// How much memory statements may hold where the system does not say how much there is.
    const MEMORY_BYTES: u64 = 2 << 30;

    /// How long a statement may take, unless it is said.
    const TIMEOUT: Duration = Duration::from_secs(5 * 60);

    impl Serve {
        pub fn run(self, shell: &Shell) -> Outcome {
            let write = self.write;
            let options = Options {
                tls: self.tls_cert.zip(self.tls_key),
                password_file: self.password_file,
                connections_max: self.max_connections.into(),
                ..Options::new(self.postgres)
            };
            let runtime = engine_of_tasks()?;
            let code = runtime.block_on(async {
                let tree = shell.open().await?;
                let given = tree.policy();
                if write && given.read_only {
                    return Err(Error::invalid("--read-only and serve --write exclude each other")
                        .with_hint("without --write, clients only read"));
                }
                let policy = Policy {
                    read_only: !write,
                    host: match given.host {
                        // Whose files these are is not for clients to name.
                        Host::Any => Host::None,
                        _ => Host::Any,
                    },
                    timeout: given.timeout.is_none().then_some(TIMEOUT),
                    memory_limit: given.memory_limit.is_none().then(half_of_memory),
                };
                let tree = tree.restricted(policy);
                serve(options, tree).await
            });
            runtime.shutdown_background();
            code
        }
    }

    async fn serve(options: Options, tree: Tree) -> Result<i32> {
        let reads_only = tree.policy().read_only;
        // What one session may hold, all may together.
        let runtime = PondContext::new(tree.clone()).session().runtime_env();
        let context =
            move || PondContext::builder(tree.clone()).with_runtime_env(runtime.clone()).build();
        let server = postgres(options, context).await?;
        let address = server.address();
        let what = if reads_only {
            "clients only read: --write lets them change it"
        } else {
            "clients may change it"
        };
        note(&format!("the pond is served at {address}; {what}"));
        note(&format!("connect with: {}", psql(address)));
        let mut terminated =
            signal(SignalKind::terminate()).map_err(|error| Error::io("signals", error))?;
        let mut interrupted =
            signal(SignalKind::interrupt()).map_err(|error| Error::io("signals", error))?;
        // The first one is left to the server.
        interrupt::hold();
        let mut code = 0;
        let stop = async {
            tokio::select! {
                _ = terminated.recv() => {}
                _ = interrupted.recv() => code = interrupt::CODE,
            }
        };
        server.run(stop).await;
        Ok(code)
    }

    /// Half of the memory of this machine, in bytes.
    fn half_of_memory() -> u64 {
        let told = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let total = told.lines().find_map(|line| line.strip_prefix("MemTotal:"));
        let kib = total.and_then(|total| total.split_whitespace().next()?.parse::<u64>().ok());
        kib.map_or(MEMORY_BYTES, |kib| kib * 1024 / 2)
    }

    fn psql(address: SocketAddr) -> String {
        let host = match address.ip() {
            ip if ip.is_unspecified() => "HOST".to_owned(),
            ip => ip.to_string(),
        };
        format!("psql -h {host} -p {} pond", address.port())
    }
}
