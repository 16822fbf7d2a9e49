//! Runtimes of our own, ended from anywhere.

use tokio::runtime::Runtime;
use tokio::sync::oneshot;

/// How long a runtime's threads may take to end; none of them blocks for long.
const STOP_WITHIN: std::time::Duration = std::time::Duration::from_secs(10);

/// Ends a runtime and waits for its threads. A runtime may not be ended by a task, so a thread
/// does it.
pub(crate) async fn stop(runtime: Runtime) {
    let (done, ended) = oneshot::channel();
    let spawned = std::thread::Builder::new()
        .name("eventbus-stop".to_owned())
        .spawn(move || {
            runtime.shutdown_timeout(STOP_WITHIN);
            let _ = done.send(());
        });
    if spawned.is_ok() {
        let _ = ended.await;
    }
}
