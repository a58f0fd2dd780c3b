//! The `pond` shell: sets the allocator, runs the command line, passes its exit code on.
#![deny(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used, clippy::dbg_macro)]

mod cli;
mod repl;

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// The library leaves the allocator to the application; this one is the shell's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ! {
    give_back_what_is_freed();
    raise_open_files();
    let shell = std::thread::Builder::new().stack_size(cli::STACK_BYTES).spawn(cli::run);
    let code = match shell.map(std::thread::JoinHandle::join) {
        Ok(Ok(code)) => code,
        // The panic has said what it was.
        Ok(Err(_)) => 101,
        // No thread is to be had: the stack there is has to do.
        Err(_) => cli::run(),
    };
    // Leaves without tearing down what the system takes back faster.
    std::process::exit(code)
}

/// Has the allocator give back at once what is freed, where memory is limited: what it keeps otherwise
/// comes close to a small limit. It reads how from the environment, before the program begins; so the
/// program begins anew.
fn give_back_what_is_freed() {
    const DELAY: &str = "MIMALLOC_PURGE_DELAY";
    let is_limit = |argument: &OsString| {
        let text = argument.to_string_lossy();
        text == "--memory-limit" || text.starts_with("--memory-limit=")
    };
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_default();
    if std::env::var_os(DELAY).is_none()
        && std::env::args_os().any(|argument| is_limit(&argument))
        && let Ok(program) = std::env::current_exe()
    {
        // It returns where that cannot be done: memory is limited all the same, only less closely.
        let _ = Command::new(program).arg0(name).args(arguments).env(DELAY, "0").exec();
    }
}

/// Lets this process open as many files as it may: a glob over a few thousand files opens them all.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    // What is not granted is told when a file is not opened.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}
