//! The gateway's signing keys: loaded at start, read again when they may have changed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use arc_swap::ArcSwap;
use o28m_core::Ambient;
use o28m_jose::slots::{KeyRing, SharedKeys, Slots};
use o28m_store::Store;
use tokio_util::sync::CancellationToken;

use crate::config::Config;

/// Common name of certificates made for the key set in the database.
const COMMON_NAME: &str = "o28m-gateway";

/// How often in an interval the age of the keys is looked at: they are at most a twentieth late.
const ROTATION_LOOKS: u32 = 20;
const ROTATION_PAUSE_MIN: Duration = Duration::from_millis(200);
const ROTATION_PAUSE_MAX: Duration = Duration::from_secs(3600);

/// The current keys and where they come from.
#[derive(Clone)]
pub(super) struct Keys {
    current: SharedKeys,
    origin: Origin,
    interval: Duration,
    /// Age at which keys in the database are rotated; zero is never.
    rotation_interval: Duration,
}

#[derive(Clone)]
enum Origin {
    Directory(PathBuf),
    Database(Store, Ambient),
}

impl Keys {
    /// Loads the keys when this process has a role that needs them.
    pub(super) async fn load(
        config: &Config,
        store: &Store,
        ambient: &Ambient,
    ) -> Result<Option<Self>> {
        if !config.has_role("jumper") && !config.has_role("issuer") {
            return Ok(None);
        }
        let origin = match config.text("keys.provider") {
            "directory" => Origin::Directory(
                config
                    .path("keys.dir")
                    .context("keys.provider is directory but keys.dir is unset")?,
            ),
            _ => Origin::Database(store.clone(), ambient.clone()),
        };
        let slots = origin
            .slots()
            .await
            .context("cannot load the signing keys")?;
        let current = Arc::new(ArcSwap::from_pointee(KeyRing::new(slots, None)));
        let interval = config
            .duration("keys.reload_interval")
            .max(Duration::from_secs(1));
        Ok(Some(Self {
            current,
            origin,
            interval,
            rotation_interval: config.duration("keys.rotation_interval"),
        }))
    }

    /// The handle that components read.
    pub(super) fn shared(&self) -> SharedKeys {
        self.current.clone()
    }

    /// Keeps the keys current until `stop`: by the change feed, or by reading the directory again every
    /// interval. A failure keeps the previous ones.
    pub(super) async fn follow(self, stop: CancellationToken) {
        let follow = async {
            match &self.origin {
                Origin::Database(store, ambient) => {
                    let follow = o28m_rotator::follow_database(store, &self.current);
                    tokio::join!(follow, self.rotate(store, ambient));
                }
                Origin::Directory(dir) => self.follow_directory(dir).await,
            }
        };
        let _ended = stop.run_until_cancelled(follow).await;
    }

    /// Rotates the keys in the database whenever they are old enough: one of all replicas does it, and
    /// once, however long nobody ran (spec rotator 5.2).
    async fn rotate(&self, store: &Store, ambient: &Ambient) {
        if self.rotation_interval.is_zero() {
            return;
        }
        let pause = self.rotation_interval / ROTATION_LOOKS;
        let mut ticks = tokio::time::interval(pause.clamp(ROTATION_PAUSE_MIN, ROTATION_PAUSE_MAX));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let _now = ticks.tick().await;
            let age = self.rotation_interval;
            let rotated = o28m_rotator::rotate_database(store, ambient, COMMON_NAME, age).await;
            if let Err(error) = rotated {
                let error = anyhow::Error::new(error);
                tracing::warn!(error = %format!("{error:#}"), "signing keys not rotated, tried again later");
            }
        }
    }

    async fn follow_directory(&self, dir: &Path) {
        let mut ticks = tokio::time::interval(self.interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let _now = ticks.tick().await;
            match read(dir).await {
                Ok(slots) => self.replace(slots),
                Err(error) => {
                    tracing::error!(error = %format!("{error:#}"), "signing keys not reloaded");
                }
            }
        }
    }

    fn replace(&self, slots: Slots) {
        let previous = self.current.load();
        if previous.slots == slots {
            return;
        }
        let ring = KeyRing::new(slots, Some(&previous));
        let kid = ring
            .signing
            .as_ref()
            .map_or("none", |key| key.kid())
            .to_owned();
        self.current.store(Arc::new(ring));
        tracing::info!(key.id = %kid, "signing keys changed");
    }
}

impl Origin {
    async fn slots(&self) -> Result<Slots> {
        match self {
            Self::Directory(dir) => read(dir).await,
            Self::Database(store, ambient) => {
                Ok(o28m_rotator::database_slots(store, ambient, COMMON_NAME).await?)
            }
        }
    }
}

async fn read(dir: &Path) -> Result<Slots> {
    let dir = dir.to_owned();
    let read = tokio::task::spawn_blocking(move || o28m_rotator::load_directory(&dir));
    Ok(read.await.map_err(|error| anyhow!(error))??)
}
