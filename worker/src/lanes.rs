//! Which lanes a worker serves: every one that has chunks, as they come and go.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use outflow_model::id::Lane;
use outflow_model::text::with_causes;
use outflow_trace::{Seldom, watch_services};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::consume::{Worker, serve_until};
use crate::deliver::Tools;

/// New lanes are looked for this often.
const LOOK: Duration = Duration::from_millis(150);
/// A lane that nobody has opened for so long is left.
const IDLE: Duration = Duration::from_mins(10);

/// A lane under service.
struct Served {
    concurrency: u32,
    seen: Instant,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

/// Serves every lane until the worker is drained and each delivery has reported.
pub async fn serve_all(worker: Arc<Worker>) {
    let Tools { queue, limiter, .. } = &worker.tools;
    tokio::select! {
        () = serve_lanes(worker.clone()) => {}
        never = watch_services(queue.as_ref(), limiter.as_ref()) => match never {},
    }
}

async fn serve_lanes(worker: Arc<Worker>) {
    let seldom = Seldom::default();
    let mut lanes: BTreeMap<Lane, Served> = BTreeMap::new();
    let mut leaving = Vec::new();
    while !worker.tools.is_draining() {
        match worker.tools.limiter.lanes().await {
            Ok(known) => {
                seldom.is_over();
                for (lane, concurrency) in known {
                    match lanes.get_mut(&lane) {
                        Some(served) if served.concurrency == concurrency => served.seen = Instant::now(),
                        _ => {
                            info!(%lane, concurrency, "A lane is served");
                            let (stop, stopped) = watch::channel(false);
                            let task = tokio::spawn(serve_until(worker.clone(), lane.clone(), concurrency, stopped));
                            let served = Served { concurrency, seen: Instant::now(), stop, task };
                            leaving.extend(lanes.insert(lane, served));
                        }
                    }
                }
            }
            Err(error) => {
                if seldom.is_due() {
                    let error = with_causes(&error);
                    warn!(error, "New lanes cannot be looked for; those that are known are served");
                }
                // Whether anybody has opened them is not known.
                lanes.values_mut().for_each(|served| served.seen = Instant::now());
            }
        }
        leaving.extend(lanes.extract_if(.., |_, served| served.seen.elapsed() > IDLE).map(|(_, served)| served));
        for served in &leaving {
            served.stop.send_replace(true);
        }
        leaving.retain(|served| !served.task.is_finished());
        worker.tools.sleep(LOOK).await;
    }
    for served in lanes.into_values().chain(leaving) {
        if let Err(error) = served.task.await {
            warn!(%error, "A lane's service broke off");
        }
    }
}
