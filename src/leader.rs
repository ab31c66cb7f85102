//! The operator's own lease: two processes run, one acts, and one that lost the lease ends at once.

use k8s_openapi::api::coordination::v1::Lease;
use kagami_core::leader::{Claim, LeaseView, evaluate};
use kube::Client;
use kube::api::{Api, PostParams};
use serde_json::json;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tracing::{info, warn};

/// The name of the lease.
const NAME: &str = "kagami-operator";
/// 2026-01-01T00:00:00Z; `leaseTransitions` is an int32, which seconds since then fit for sixty years.
const EPOCH: i64 = 1_767_225_600;
/// How long a renewal lasts. A standby leads about this long after the leader's death: a look or two and two requests later.
const DURATION: Duration = Duration::from_secs(6);
/// How often the leader renews.
const RENEW: Duration = Duration::from_secs(1);
/// How often a standby looks: what it adds to the time until it leads.
const LOOK: Duration = Duration::from_millis(250);
/// How long one renewal may take: an apiserver that is starved answers late, and late is not lost.
const RENEW_TIMEOUT: Duration = Duration::from_millis(2_500);
/// A leader that could not renew for this long ends itself, before anybody else may take over.
///
/// Four seconds were tried: a busy apiserver of a small cluster took the lease from a leader that was well.
const GIVE_UP: Duration = Duration::from_secs(5);

/// How soon a renewal that failed is tried again.
const AGAIN: Duration = Duration::from_millis(200);

/// This process may no longer act.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Lost(String);

/// A lease that is held.
pub(crate) struct Held {
    api: Api<Lease>,
    me: String,
    /// Counts the leaders there have been: agents refuse an older one.
    pub(crate) generation: u64,
    renewed: Instant,
    /// The lease as it was written or read last.
    lease: Lease,
    /// Until when this process may speak as the leader.
    pub(crate) fresh: Fresh,
}

/// Until when a process may speak as the leader: a former one that wakes must not confirm anybody.
#[derive(Clone)]
pub(crate) struct Fresh(Arc<Mutex<Instant>>);

impl Fresh {
    fn new(renewed: Instant) -> Self {
        Self(Arc::new(Mutex::new(renewed)))
    }
    fn renew(&self, at: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }
    /// Whether the last renewal is young enough.
    pub(crate) fn holds(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).elapsed() < GIVE_UP
    }
}

/// Waits until this process is the leader.
pub(crate) async fn acquire(client: Client, namespace: &str, me: &str) -> Held {
    let api: Api<Lease> = Api::namespaced(client, namespace);
    let mut seen: Option<(String, Instant)> = None;
    let mut told = String::new();
    loop {
        let asked = Instant::now();
        match api.get_opt(NAME).await {
            Ok(lease) => {
                let view = lease.as_ref().map(view);
                let version = view.as_ref().map(|view| view.version.clone()).unwrap_or_default();
                let since = match &seen {
                    Some((before, since)) if *before == version => *since,
                    _ => asked,
                };
                seen = Some((version, since));
                let unchanged = u64::try_from((asked - since).as_millis()).unwrap_or(u64::MAX);
                match evaluate(view.as_ref(), me, unchanged) {
                    Claim::Wait => {
                        let holder = view.map(|view| view.holder).unwrap_or_default();
                        if holder != told {
                            info!(holder, "another process leads; standing by");
                            told = holder;
                        }
                    }
                    claim => {
                        // A lease of this very name is from an earlier life of the container: that life is over.
                        let counted = match claim {
                            Claim::Take(generation) => generation,
                            _ => view.as_ref().map_or(0, |view| view.transitions) + 1,
                        };
                        // Never lower than the clock, so that agents also obey the first leader after the lease was deleted.
                        let generation = counted
                            .max(u64::try_from(jiff::Timestamp::now().as_second() - EPOCH).unwrap_or(0));
                        match write(&api, lease.as_ref(), me, generation).await {
                            Ok(lease) => {
                                info!(generation, "leading");
                                return Held {
                                    api,
                                    me: me.to_owned(),
                                    generation,
                                    renewed: asked,
                                    lease,
                                    fresh: Fresh::new(asked),
                                };
                            }
                            Err(error) => warn!(%error, "the leader lease could not be taken; trying again"),
                        }
                    }
                }
            }
            Err(error) => warn!(%error, "the leader lease could not be read; trying again"),
        }
        tokio::time::sleep(LOOK).await;
    }
}

impl Held {
    /// Renews until that fails for too long; returns only when this process may no longer act.
    pub(crate) async fn hold(mut self) -> Lost {
        loop {
            tokio::time::sleep(if self.renewed.elapsed() < RENEW { RENEW } else { AGAIN }).await;
            let asked = Instant::now();
            let until = (asked + RENEW_TIMEOUT).min(self.renewed + GIVE_UP);
            match tokio::time::timeout_at(until, self.renew()).await {
                Ok(Ok(true)) => {
                    self.renewed = asked;
                    self.fresh.renew(asked);
                }
                Ok(Ok(false)) => return Lost("the leader lease was lost to another process".into()),
                Ok(Err(error)) => warn!(%error, "the leader lease could not be renewed"),
                Err(_) => warn!("the leader lease could not be renewed in time"),
            }
            if self.renewed.elapsed() >= GIVE_UP {
                return Lost(format!("the leader lease could not be renewed for {GIVE_UP:?}"));
            }
        }
    }

    fn is_mine(&self) -> bool {
        let view = view(&self.lease);
        view.holder == self.me && view.transitions == self.generation
    }

    /// One request where nobody else wrote: each one more is one more that a starved apiserver answers late.
    async fn renew(&mut self) -> Result<bool, kube::Error> {
        loop {
            match write(&self.api, Some(&self.lease), &self.me, self.generation).await {
                Ok(lease) => {
                    self.lease = lease;
                    return Ok(true);
                }
                // Somebody wrote: also this very process, by a renewal that timed out and took effect all the same.
                Err(kube::Error::Api(status)) if status.code == 409 => {
                    self.lease = self.api.get(NAME).await?;
                    if !self.is_mine() {
                        return Ok(false);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Gives the lease back, so that the other process need not wait for its end.
    pub(crate) async fn release(client: Client, namespace: &str, me: &str) {
        let api: Api<Lease> = Api::namespaced(client, namespace);
        if let Ok(lease) = api.get(NAME).await
            && view(&lease).holder == me
        {
            let generation = view(&lease).transitions;
            if let Err(error) = write(&api, Some(&lease), "", generation).await {
                warn!(%error, "the leader lease could not be given back");
            }
        }
    }
}

fn view(lease: &Lease) -> LeaseView {
    let spec = lease.spec.clone().unwrap_or_default();
    LeaseView {
        holder: spec.holder_identity.unwrap_or_default(),
        transitions: spec.lease_transitions.and_then(|count| u64::try_from(count).ok()).unwrap_or(0),
        version: lease.metadata.resource_version.clone().unwrap_or_default(),
        duration_ms: spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(5)
            * 1000,
    }
}

/// Compare-and-set: the version that was read is sent along.
async fn write(
    api: &Api<Lease>,
    seen: Option<&Lease>,
    me: &str,
    generation: u64,
) -> Result<Lease, kube::Error> {
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
    let mut object = json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": NAME },
        "spec": { "holderIdentity": me, "leaseTransitions": generation, "leaseDurationSeconds": DURATION.as_secs(),
            "acquireTime": now, "renewTime": now } });
    if let Some(seen) = seen {
        object["metadata"]["resourceVersion"] = json!(seen.metadata.resource_version);
    }
    let lease: Lease = serde_json::from_value(object).map_err(kube::Error::SerdeError)?;
    if seen.is_some() {
        api.replace(NAME, &PostParams::default(), &lease).await
    } else {
        api.create(&PostParams::default(), &lease).await
    }
}
