//! The change feed: notifications where PostgreSQL delivers them, polling always.

use std::sync::Arc;
use std::time::Duration;

use sqlx::pool::PoolOptions;
use sqlx::postgres::PgListener;
use tokio_util::sync::CancellationToken;

use crate::shared::Shared;
use crate::sql::Sql;
use crate::{Error, query};

/// Longest time between two looks while notifications do not arrive, or the database is away.
const UNASSISTED_INTERVAL: Duration = Duration::from_secs(1);

/// Pause between attempts while the database is away.
const RETRY_INTERVAL: Duration = Duration::from_millis(250);

/// Limit for a notification of our own to come back. It does not through a pooler in transaction mode.
const ECHO_TIMEOUT: Duration = Duration::from_secs(2);

/// Pause after a write until SQLite's log is moved into the database.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);

/// Payload of the notification that tries whether notifications arrive.
const ECHO: &str = "echo";

/// Follows the database until `stop`.
pub(crate) async fn run(shared: Arc<Shared>, poll_interval: Duration, stop: CancellationToken) {
    let following = Box::pin(follow(&shared, poll_interval));
    // Nothing here is left half done when dropped.
    let _stopped = stop.run_until_cancelled(following).await;
}

async fn follow(shared: &Shared, poll_interval: Duration) {
    loop {
        let listener = listen_and_look(shared, poll_interval).await;
        // Whatever was announced while nobody listened is found by looking.
        let looked = look(shared).await;
        match listener {
            Ok(Some(listener)) => listened(shared, listener, poll_interval).await,
            // Without notifications, look often, and try to listen again now and then.
            Ok(None) => {
                for _ in 0..60 {
                    wait(shared, poll_interval.min(UNASSISTED_INTERVAL)).await;
                    if look(shared).await.is_err() {
                        break;
                    }
                }
            }
            Err(_) => tokio::time::sleep(RETRY_INTERVAL).await,
        }
        if looked.is_err() {
            tokio::time::sleep(RETRY_INTERVAL).await;
        }
    }
}

/// Starts to listen, which may take a while, and goes on looking meanwhile.
async fn listen_and_look(
    shared: &Shared,
    poll_interval: Duration,
) -> Result<Option<PgListener>, Error> {
    let mut listening = std::pin::pin!(listen(shared));
    loop {
        tokio::select! {
            listener = &mut listening => return listener,
            () = tokio::time::sleep(poll_interval.min(UNASSISTED_INTERVAL)) => {
                // What is wrong is found out, and reported, by who tries to listen.
                drop(look(shared).await);
            }
        }
    }
}

/// Moves what was committed from SQLite's write-ahead log into the database after a while, beside the
/// writers: otherwise one of them would, every thousand pages, while its client waits.
pub(crate) async fn keep_checkpointed(shared: Arc<Shared>, stop: CancellationToken) {
    let mut announced = shared.announced.subscribe();
    let checkpointing = async {
        while announced.changed().await.is_ok() {
            tokio::time::sleep(CHECKPOINT_INTERVAL).await;
            announced.mark_unchanged();
            if let Err(error) = shared.database.checkpoint().await {
                tracing::warn!(%error, "write-ahead log cannot be moved into the database");
            }
        }
    };
    let _stopped = stop.run_until_cancelled(checkpointing).await;
}

/// Announces what the listener hears until its connection breaks, or until it turns out to hear
/// nothing: a connection can be dead without saying so.
async fn listened(shared: &Shared, mut listener: PgListener, poll_interval: Duration) {
    // What a look found that had not been heard: by the next look it must have been.
    let mut unheard = None;
    loop {
        let heard = tokio::select! {
            heard = listener.try_recv() => heard,
            () = wait(shared, if unheard.is_some() { ECHO_TIMEOUT } else { poll_interval }) => {
                let known_before = *shared.announced.borrow();
                if look(shared).await.is_err() {
                    return;
                }
                let known = *shared.announced.borrow();
                if unheard.is_some() {
                    tracing::warn!("database stopped delivering notifications; connecting anew");
                    return;
                }
                unheard = (known > known_before).then_some(known);
                continue;
            }
        };
        match heard {
            Ok(Some(notification)) => {
                if let Ok(version) = notification.payload().parse::<i64>() {
                    unheard = unheard.filter(|unheard| version < *unheard);
                    shared.announce(version);
                }
            }
            Ok(None) | Err(_) => return,
        }
    }
}

/// Waits for the time of the next look, or until somebody doubts that the database is there.
async fn wait(shared: &Shared, interval: Duration) {
    let doubted = tokio::time::timeout(interval, shared.doubt.notified());
    // Both outcomes mean: look now.
    drop(doubted.await);
}

/// Reads and announces the newest version. Tables that do not exist yet are no reason to worry.
async fn look(shared: &Shared) -> Result<(), Error> {
    let known_before = *shared.announced.borrow();
    let version = async {
        let mut connection = shared.reader().await?;
        query::version(&mut connection).await
    };
    match shared.observe(version.await) {
        Ok(version) => {
            shared.announce_read(version, known_before);
            Ok(())
        }
        Err(Error::Schema { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Starts to listen; `None` where notifications do not exist or do not arrive.
async fn listen(shared: &Shared) -> Result<Option<PgListener>, Error> {
    let Some(options) = shared.database.postgres() else {
        return Ok(None);
    };
    shared.observe(shared.database.probe().await)?;
    let pool = PoolOptions::new()
        .max_connections(1)
        .acquire_timeout(shared.database.connect_timeout)
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_lazy_with(options.clone());
    let channel = &shared.database.channel;
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.eager_reconnect(false);
    listener.listen(channel).await?;
    let echo = Sql::new("SELECT pg_notify(")
        .text(channel)
        .raw(", ")
        .text(ECHO)
        .raw(")");
    shared.reader().await?.execute(echo).await?;
    let heard = tokio::time::timeout(ECHO_TIMEOUT, listener.try_recv()).await;
    match heard {
        Ok(Ok(Some(_))) => Ok(Some(listener)),
        Ok(Ok(None)) => Err(Error::timed_out()),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => {
            tracing::warn!("database delivers no notifications; looking for changes every second");
            Ok(None)
        }
    }
}
