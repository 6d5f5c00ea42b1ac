//! The nodes that share a database: what each has applied, for whoever waits for a change to be live
//! everywhere (`GET /config-version`), and orders for all of them.

use std::sync::Arc;
use std::time::Duration;

use o28m_store::{Error, Session};
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::api::Api;

/// How often a node looks for orders and tells what it has applied, when that changed.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How often it tells that it is there.
const TELL_INTERVAL: Duration = Duration::from_secs(20);
/// How often entities are removed whose life time is over.
const REMOVE_INTERVAL: Duration = Duration::from_secs(60);
/// Seconds after which a silent node is taken for gone.
const GONE_S: i64 = 60;
/// Where the database holds the nodes.
const OWNER: &str = "gateway-replica";

impl Api {
    /// Takes part in the cluster until `stop`.
    pub(crate) async fn follow(self: Arc<Self>, stop: CancellationToken) {
        let following = async {
            let mut ticks = tokio::time::interval(LOOK_INTERVAL);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut removed_at: Option<Instant> = None;
            let mut told: Option<(Option<i64>, Instant)> = None;
            loop {
                let _now = ticks.tick().await;
                // The store tells when the database goes away and comes back.
                let _followed = self.follow_log_level().await;
                if removed_at.is_none_or(|at| at.elapsed() >= REMOVE_INTERVAL) {
                    let _removed = self.remove_ended().await;
                    removed_at = Some(Instant::now());
                }
                let applied = self.applied_version();
                let is_old = |at: &Instant| at.elapsed() >= TELL_INTERVAL;
                let is_known = told
                    .as_ref()
                    .is_some_and(|(known, at)| *known == applied && !is_old(at));
                if !is_known && self.tell(applied).await.is_ok() {
                    told = Some((applied, Instant::now()));
                }
            }
        };
        let _stopped: Option<()> = stop.run_until_cancelled(following).await;
        // Whoever waits for all nodes must not wait for this one.
        let _gone = self.store().delete_session(OWNER, self.node_id()).await;
    }

    /// Tells the others what this node has applied.
    async fn tell(&self, applied: Option<i64>) -> Result<(), Error> {
        let now = self.ambient().now().seconds();
        let node = Session {
            id: self.node_id().to_owned(),
            owner: OWNER.to_owned(),
            expires_at_s: now + GONE_S,
            body: json!({"hostname": self.hostname(), "applied": applied, "seen_at": now}),
        };
        self.store().put_session(&node).await
    }

    /// The body of `GET /config-version`.
    pub(crate) async fn config_version(&self) -> Result<Value, Error> {
        let now = self.ambient().now().seconds();
        let nodes = self.store().owned_sessions(OWNER, now).await?;
        let nodes = nodes.into_iter().map(|node| {
            let member = |name: &str| node.body.get(name).cloned().unwrap_or_default();
            json!({
                "node_id": node.id, "hostname": member("hostname"), "applied": member("applied"),
                "seen_at": member("seen_at"),
            })
        });
        let nodes: Vec<Value> = nodes.collect();
        Ok(json!({
            "version": self.store().version().await?,
            "applied": self.applied_version(),
            "node_id": self.node_id(),
            "replicas": nodes,
        }))
    }
}
