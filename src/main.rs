//! The `pond` shell: sets the allocator, runs the command line, passes its exit code on.
#![deny(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used, clippy::dbg_macro)]

mod cli;
mod repl;

/// The library leaves the allocator to the application; this one is the shell's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ! {
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

/// Lets this process open as many files as it may: a glob over a few thousand files opens them all.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    // What is not granted is told when a file is not opened.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}
