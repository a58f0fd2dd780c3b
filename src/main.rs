//! The `pond` shell: sets the allocator, runs the command line, passes its exit code on.
#![deny(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used, clippy::dbg_macro)]

mod cli;
mod repl;

/// The library leaves the allocator to the application; this one is the shell's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Statements nest, and the engine recurses into them. The stack takes memory only as it is used.
const STACK_BYTES: usize = 256 << 20;

fn main() -> ! {
    let shell = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(cli::run);
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
