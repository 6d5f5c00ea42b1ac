//! What every handle of a store and its feed share: the pools, the newest version and the health.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Notify, Semaphore, watch};

use crate::connection::Connection;
use crate::database::Database;
use crate::write::{self, Retention};
use crate::{Error, Settings, Write};

/// How often a transaction that lost against another one is run in all.
const ATTEMPTS: usize = 3;

pub(crate) struct Shared {
    pub(crate) database: Database,
    /// Newest version known.
    pub(crate) announced: watch::Sender<i64>,
    /// Wakes the feed when the database seems to be away.
    pub(crate) doubt: Notify,
    reachable: AtomicBool,
    /// Writers of this process wait here rather than each with a connection of the pool.
    turn: Semaphore,
    retention: Retention,
}

impl Shared {
    pub(crate) async fn open(settings: &Settings, retention: Retention) -> Result<Self, Error> {
        Ok(Self {
            database: Database::open(settings).await?,
            announced: watch::Sender::new(0),
            doubt: Notify::new(),
            reachable: AtomicBool::new(true),
            turn: Semaphore::new(1),
            retention,
        })
    }

    pub(crate) fn is_reachable(&self) -> bool {
        self.reachable.load(Ordering::Relaxed)
    }

    pub(crate) async fn reader(&self) -> Result<Connection, Error> {
        self.database.reader(!self.is_reachable()).await
    }

    pub(crate) async fn unordered_writer(&self) -> Result<Connection, Error> {
        self.database.unordered_writer(!self.is_reachable()).await
    }

    /// Learns from the outcome of an exchange with the database whether it is there.
    pub(crate) fn observe<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        match &result {
            Err(Error::Unavailable(error)) => {
                if self.reachable.swap(false, Ordering::Relaxed) {
                    tracing::warn!(%error, "database is unavailable");
                }
                self.doubt.notify_one();
            }
            // Whatever else it answered, it answered.
            _ => {
                if !self.reachable.swap(true, Ordering::Relaxed) {
                    tracing::info!("database is available again");
                }
            }
        }
        result
    }

    /// Announces a version unless a newer one is known.
    pub(crate) fn announce(&self, version: i64) {
        self.announced.send_if_modified(|known| {
            let newer = version > *known;
            *known = version.max(*known);
            newer
        });
    }

    /// Announces the version that was read from the database while `known_before` was already known: a
    /// lower one means that the database was reset or restored.
    pub(crate) fn announce_read(&self, version: i64, known_before: i64) {
        self.announced.send_if_modified(|known| {
            let news = version > *known || version < known_before;
            if news {
                *known = version;
            }
            news
        });
    }

    /// Runs the steps in one transaction; gives the version after it.
    pub(crate) async fn write(&self, steps: &[Write]) -> Result<i64, Error> {
        let mut attempt = 1;
        loop {
            match self.try_write(steps).await {
                Err(error) if error.is_serialisation_failure() && attempt < ATTEMPTS => {
                    attempt += 1;
                }
                result => return result,
            }
        }
    }

    async fn try_write(&self, steps: &[Write]) -> Result<i64, Error> {
        let turn = tokio::time::timeout(self.database.connect_timeout, self.turn.acquire());
        // The semaphore is never closed, so the permit is there unless time ran out.
        let _turn = turn.await.map_err(|_| Error::timed_out())?;
        let (mut connection, position) = self.database.writer(!self.is_reachable()).await?;
        let channel = &self.database.channel;
        let written = write::run(&mut connection, steps, &position, self.retention, channel).await;
        match written {
            Ok(version) => {
                connection.commit().await?;
                if version > position.version {
                    self.announce(version);
                }
                Ok(version)
            }
            Err(error) => {
                connection.rollback().await;
                Err(error)
            }
        }
    }
}
