//! CTL-003: configurations.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use control::client::{CollectorClient, OperationError};
use control::collector::wire::ConfigReply;
use control::collector::{Asked, Collector, Problem, Refusal};
use futures_util::future::join_all;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::scene::{RARELY, Scene};
use crate::stage::Context;
use crate::verdict::{Checked, Unmet, ensure, ensure_eq};

/// The most that a configuration may ask for.
const MOST: u64 = 100;
/// Versions that are offered at once.
const AT_ONCE: std::ops::Range<u64> = 10..20;

/// CTL-003: an update is applied whole or refused whole, what is only to be validated changes nothing, a
/// version that is not newer is refused, and one is carried out at a time.
pub(crate) async fn ctl_003_a_configuration_is_whole(context: Context) -> Checked {
    let scene = Scene::new(&context).await?;
    let careful = Arc::new(Careful::default());
    let identity = scene.identity("careful");
    let home = scene.handle().await?;
    let _host = scene
        .host(&home, &identity, careful.clone(), RARELY)
        .await?;
    let asks = CollectorClient::new(scene.stage.bus(), &identity.name);
    let member = At {
        looks: CollectorClient::new(scene.handle().await?, &identity.name),
        careful: Arc::clone(&careful),
    };
    let first = json!({ "a": 1, "b": 2 });
    let reply = asks.update_config(3, &first).await?;
    ensure_eq!(said(reply), (3, true), "the reply to the first");
    member.goes_by(3, &first).await?;
    let again = asks.update_config(3, &first).await?;
    ensure_eq!(said(again), (3, true), "the reply to the same again");

    let next = json!({ "a": 2, "b": 3 });
    let reply = asks.validate_config(4, &next).await?;
    ensure_eq!(said(reply), (4, false), "the reply to a trial");
    member.goes_by(3, &first).await?;
    let large = json!({ "a": 2, "b": MOST + 1 });
    refused(asks.validate_config(4, &large).await, Problem::Refused)?;
    refused(asks.update_config(4, &large).await, Problem::Refused)?;
    // What could be applied may turn out not to be as it is applied.
    let unlucky = json!({ "a": 2, "b": 3, "unlucky": true });
    refused(asks.update_config(4, &unlucky).await, Problem::Refused)?;
    member.goes_by(3, &first).await?;
    refused(asks.update_config(2, &next).await, Problem::Stale)?;
    refused(asks.update_config(3, &next).await, Problem::Stale)?;
    refused(asks.validate_config(3, &next).await, Problem::Stale)?;
    member.goes_by(3, &first).await?;

    let config = |version: u64| json!({ "a": version, "b": version });
    let offered = AT_ONCE.map(|version| {
        let asks = match version % 2 {
            0 => &asks,
            _ => &member.looks,
        };
        async move { (version, asks.update_config(version, &config(version)).await) }
    });
    let mut applied = vec![first];
    for (version, ended) in scene.stage.wait("updates", join_all(offered)).await? {
        match ended {
            Ok(reply) => {
                ensure_eq!(said(reply), (version, true), "the reply to an update");
                applied.push(config(version));
            }
            refusal => refused(refusal, Problem::Stale)?,
        }
    }
    ensure_eq!(*careful.applied.lock(), applied, "what was applied");
    member
        .goes_by(AT_ONCE.end - 1, &config(AT_ONCE.end - 1))
        .await?;
    let most = careful.most.load(Ordering::SeqCst);
    ensure_eq!(most, 1, "updates that were applied at once");
    Ok(())
}

fn said(reply: ConfigReply) -> (u64, bool) {
    (reply.version, reply.applied)
}

/// Whether an update was refused, for this reason.
fn refused(ended: Result<ConfigReply, OperationError>, problem: Problem) -> Checked {
    match ended {
        Ok(reply) => Err(Unmet::broken(format_args!(
            "it was to be refused: {reply:?}"
        ))),
        Err(error) => {
            let text = error.to_string();
            ensure_eq!(error.problem(), Some(problem), "the problem of `{text}`");
            ensure!(!error.may_have_run(), "`{text}` may have been applied");
            Ok(())
        }
    }
}

/// The member, as somebody else sees it.
struct At {
    looks: CollectorClient,
    careful: Arc<Careful>,
}

impl At {
    /// Whether this is the configuration that it goes by, as it says and as it is.
    async fn goes_by(&self, version: u64, config: &Value) -> Checked {
        let says = self.looks.health_check().await?.config_version;
        ensure_eq!(says, Some(version), "the version that it goes by");
        let last = self.careful.applied.lock().last().cloned();
        ensure_eq!(last.as_ref(), Some(config), "what it goes by");
        Ok(())
    }
}

/// Writes down what it goes by.
#[derive(Default)]
struct Careful {
    applied: Mutex<Vec<Value>>,
    now: AtomicUsize,
    most: AtomicUsize,
}

#[async_trait]
impl Collector for Careful {
    async fn start_collection(&self, _: &Asked, _: &Value) -> Result<(), Refusal> {
        Ok(())
    }

    async fn stop_collection(&self, _: &Asked) -> Result<(), Refusal> {
        Ok(())
    }

    async fn validate_config(&self, config: &Value) -> Result<(), Refusal> {
        match config["b"].as_u64() {
            Some(b) if b <= MOST => Ok(()),
            _ => Err(Refusal::new(format!("`b` is above {MOST}"))),
        }
    }

    async fn update_config(&self, _: &Asked, config: &Value) -> Result<(), Refusal> {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        // So that another one could come in between.
        tokio::task::yield_now().await;
        let unlucky = config["unlucky"] == true;
        if !unlucky {
            self.applied.lock().push(config.clone());
        }
        self.now.fetch_sub(1, Ordering::SeqCst);
        match unlucky {
            true => Err(Refusal::new("it did not turn out well")),
            false => Ok(()),
        }
    }
}
