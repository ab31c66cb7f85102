//! What clients of a shard have written and read, and the judgement over it.

use super::faults::{Hit, excuse};
use crate::support::engine::Reply;
use crate::support::group::Group;
use crate::support::tools::{eventually, seconds};
use anyhow::{Result, bail, ensure};
use std::fmt;
use std::ops::AddAssign;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// How many keys are asked for at once.
const BATCH: usize = 500;

/// An acknowledged write.
#[derive(Clone, Debug)]
pub(super) struct Write {
    pub(super) key: String,
    pub(super) at: Instant,
    /// Acknowledged by a replica too.
    pub(super) confirmed: bool,
}

/// A confirmed key that a primary did not have when it was asked.
#[derive(Clone, Debug)]
struct Miss {
    key: String,
    at: Instant,
}

/// What the clients of one shard have seen.
pub(super) struct Ledger {
    /// The group's and the shard's.
    pub(super) name: String,
    pub(super) shard: String,
    /// Keys with this hash tag belong to the shard.
    pub(super) tag: String,
    writes: Mutex<Vec<Write>>,
    misses: Mutex<Vec<Miss>>,
    wrong: Mutex<Vec<String>>,
    reads: AtomicUsize,
    errors: AtomicUsize,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What belongs under a key; each key is written with one value only.
pub(super) fn value(key: &str) -> String {
    format!("of {key}")
}

impl Ledger {
    pub(super) fn new(group: &str, shard: &str, tag: String) -> Self {
        Self {
            name: format!("{group} {shard}"),
            shard: shard.to_owned(),
            tag,
            writes: Mutex::default(),
            misses: Mutex::default(),
            wrong: Mutex::default(),
            reads: AtomicUsize::default(),
            errors: AtomicUsize::default(),
        }
    }

    pub(super) fn wrote(&self, write: Write) {
        locked(&self.writes).push(write);
    }

    /// A write to read: in turn the last one, and any.
    pub(super) fn pick(&self, round: usize) -> Option<Write> {
        let writes = locked(&self.writes);
        let at =
            if round.is_multiple_of(2) { writes.len().checked_sub(1)? } else { round.wrapping_mul(7_919) };
        writes.get(at % writes.len().max(1)).cloned()
    }

    /// What a node answered for a key that was acknowledged before it was asked.
    pub(super) fn read(&self, write: &Write, found: Option<&str>, by_primary: bool) {
        self.reads.fetch_add(1, Ordering::Relaxed);
        match found {
            Some(found) if found == value(&write.key) => {}
            Some(found) => locked(&self.wrong).push(format!("{}: {found}", write.key)),
            None if by_primary && write.confirmed => {
                locked(&self.misses).push(Miss { key: write.key.clone(), at: Instant::now() });
            }
            // A replica may not have it yet.
            None => {}
        }
    }

    pub(super) fn failed(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }

    /// Confirmed writes are all there. Others may be lost only where docs/guarantees.md says so, and a primary may have
    /// answered without a confirmed key only in such a time: an old one that had not learnt yet that it is none any more.
    pub(super) async fn settle(&self, group: &Group<'_>, hits: &[Hit]) -> Result<Account> {
        let wrong = locked(&self.wrong).clone();
        ensure!(wrong.is_empty(), "{} reads gave what was never written, as {}", wrong.len(), wrong[0]);
        let writes = locked(&self.writes).clone();
        ensure!(writes.iter().any(|write| write.confirmed), "no write was confirmed");
        let lost = eventually("the history can be read", seconds(90), async || {
            let primary = group.primary_of(&self.shard).await?;
            let mut connection = group.connect(&primary).await?.patience(seconds(10));
            let mut lost = Vec::new();
            for batch in writes.chunks(BATCH) {
                let commands: Vec<Vec<String>> =
                    batch.iter().map(|write| vec!["GET".into(), write.key.clone()]).collect();
                for (write, reply) in batch.iter().zip(connection.pipeline(&commands).await?) {
                    match reply {
                        Reply::Text(found) if found == value(&write.key) => {}
                        Reply::Nothing => lost.push(write),
                        other => bail!("GET {}: {other:?}", write.key),
                    }
                }
            }
            Ok(lost)
        })
        .await?;
        let confirmed: Vec<_> = lost.iter().filter(|write| write.confirmed).collect();
        ensure!(
            confirmed.is_empty(),
            "P1: {} confirmed writes are lost, as {}",
            confirmed.len(),
            confirmed[0].key
        );
        for write in &lost {
            ensure!(
                excuse(hits, &self.name, write.at),
                "{} acknowledged writes are lost, and nothing happened at the time of {} that may cost any",
                lost.len(),
                write.key
            );
        }
        let misses = locked(&self.misses).clone();
        for miss in &misses {
            ensure!(
                excuse(hits, &self.name, miss.at),
                "P1: a primary served without the confirmed key {}, and nothing had happened",
                miss.key
            );
        }
        let confirmed = writes.iter().filter(|write| write.confirmed).count();
        Ok(Account {
            confirmed,
            others: writes.len() - confirmed,
            lost: lost.len(),
            reads: self.reads.load(Ordering::Relaxed),
            stale: misses.len(),
            errors: self.errors.load(Ordering::Relaxed),
        })
    }
}

/// A sum over shards.
#[derive(Debug, Default)]
pub(super) struct Account {
    confirmed: usize,
    others: usize,
    lost: usize,
    reads: usize,
    stale: usize,
    errors: usize,
}

impl AddAssign for Account {
    fn add_assign(&mut self, other: Self) {
        self.confirmed += other.confirmed;
        self.others += other.others;
        self.lost += other.lost;
        self.reads += other.reads;
        self.stale += other.stale;
        self.errors += other.errors;
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} confirmed writes are all there; of {} that no replica confirmed {} are lost, all around a death or a silence; \
             {} reads gave what was written ({} came from a primary that was being replaced); {} requests failed",
            self.confirmed, self.others, self.lost, self.reads, self.stale, self.errors
        )
    }
}
