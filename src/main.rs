//! The `pond` shell: sets the allocator, runs the command line, passes its exit code on.
#![deny(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used, clippy::dbg_macro)]

mod cli;
mod repl;

/// The library leaves the allocator to the application; this one is the shell's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ! {
    // Leaves without tearing down what the system takes back faster.
    std::process::exit(cli::run())
}
