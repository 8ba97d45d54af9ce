//! Ctrl-C, or SIGTERM: whatever is being done, its processes are ended first.

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};

/// As shells have it for a program that was interrupted.
const EXIT_CODE: i32 = 130;

/// From now on the first of these signals has `clean` called, and ends the program.
pub fn on_interrupt(clean: impl FnOnce() + Send + 'static) -> Result<()> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("a runtime for signals")?;
    let (mut interrupt, mut terminate) = {
        let _within = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        eprintln!("\nperennial-bench: interrupted, ending its processes");
        clean();
        std::process::exit(EXIT_CODE);
    });
    Ok(())
}
