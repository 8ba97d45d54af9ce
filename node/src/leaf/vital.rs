//! Tasks that a leaf cannot live without.
//!
//! An invariant that does not hold ends its task. A leaf that went on without it would look well from outside, count as
//! in sync, and do nothing: it ends as a whole, others take over, and what is on its disk is read again when it starts.

use std::future::Future;

use tokio::sync::mpsc::UnboundedSender;

/// Runs a task; should it break down, `fatal` is told which one it was.
pub fn spawn(fatal: &UnboundedSender<String>, what: String, task: impl Future<Output = ()> + Send + 'static) {
    let fatal = fatal.clone();
    tokio::spawn(async move {
        if tokio::spawn(task).await.is_err_and(|error| error.is_panic()) {
            // An error: the process ends already.
            let _ = fatal.send(format!("{what} has broken down, the lines above say where: please report them"));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_breaks_down_ends_the_leaf() {
        let (fatal, mut told) = tokio::sync::mpsc::unbounded_channel();
        spawn(&fatal, "the one that goes on to its end".into(), async {});
        spawn(&fatal, "partition 1.2".into(), async { panic!("an invariant") });
        drop(fatal);
        let reason = told.recv().await.expect("a reason");
        assert!(reason.starts_with("partition 1.2 has broken down"), "{reason}");
        assert_eq!(told.recv().await, None);
    }
}
