//! What the operator counts, for Prometheus. Labels are from closed sets: a metric never grows with the number of groups.

use kagami_api::reason::Reason;
use kagami_core::timeline::{Failover, Phase};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use std::sync::{Mutex, PoisonError};

type Labels = [(&'static str, &'static str); 1];
type PhaseLabels = [(&'static str, &'static str); 2];

/// From 1 ms to a minute: a failover may take either.
fn phase_seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 17))
}
fn behind_bytes() -> Histogram {
    Histogram::new([0.0].into_iter().chain(exponential_buckets(64.0, 8.0, 8)))
}

fn seconds(ms: i64) -> f64 {
    ms as f64 / 1_000.0
}

/// What one process tells the one that it begins in its place: how often the lease was lost.
pub(crate) const LEADERSHIP_LOST: &str = "KAGAMI_LEADERSHIP_LOST";

/// How often processes of this container lost the leader lease.
pub(crate) fn leadership_lost() -> u64 {
    std::env::var(LEADERSHIP_LOST).ok().and_then(|count| count.parse().ok()).unwrap_or(0)
}

/// The counters.
pub(crate) struct Metrics {
    registry: Mutex<Registry>,
    steps: Family<Labels, Counter>,
    reasons: Family<Labels, Counter>,
    cycles: Counter,
    cycle_seconds: Histogram,
    leading: Gauge,
    groups: Gauge<i64>,
    refused_plans: Counter,
    failover_seconds: Family<PhaseLabels, Histogram, fn() -> Histogram>,
    failover_behind: Family<Labels, Histogram, fn() -> Histogram>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("kagami");
        let metrics = Self {
            steps: Family::default(),
            reasons: Family::default(),
            cycles: Counter::default(),
            cycle_seconds: Histogram::new(exponential_buckets(0.001, 4.0, 8)),
            leading: Gauge::default(),
            groups: Gauge::default(),
            refused_plans: Counter::default(),
            failover_seconds: Family::new_with_constructor(phase_seconds),
            failover_behind: Family::new_with_constructor(behind_bytes),
            registry: Mutex::default(),
        };
        registry.register("steps", "Steps that were carried out, by reason", metrics.steps.clone());
        registry.register(
            "reasons",
            "Times a reason became the one that a group shows",
            metrics.reasons.clone(),
        );
        registry.register("cycles", "Cycles of observe, plan, act, status", metrics.cycles.clone());
        registry.register_with_unit(
            "cycle",
            "How long a cycle takes",
            Unit::Seconds,
            metrics.cycle_seconds.clone(),
        );
        registry.register("leading", "1 while this process is the one that acts", metrics.leading.clone());
        let lost = Counter::<u64>::default();
        lost.inc_by(leadership_lost());
        registry.register("leadership_lost", "How often the leader lease was lost", lost);
        registry.register(
            "replication_groups",
            "Replication groups that are looked after",
            metrics.groups.clone(),
        );
        registry.register(
            "refused_plans",
            "Plans that the independent check refused: each is a bug",
            metrics.refused_plans.clone(),
        );
        registry.register_with_unit(
            "failover",
            "Where the time of failovers goes, by phase and cause",
            Unit::Seconds,
            metrics.failover_seconds.clone(),
        );
        registry.register_with_unit(
            "failover_behind",
            "How far promoted copies were behind the last that was known of their primaries, by cause",
            Unit::Bytes,
            metrics.failover_behind.clone(),
        );
        Self { registry: Mutex::new(registry), ..metrics }
    }

    pub(crate) fn step(&self, reason: Reason) {
        self.steps.get_or_create(&[("reason", reason.as_str())]).inc();
    }
    pub(crate) fn reason(&self, reason: Reason) {
        self.reasons.get_or_create(&[("reason", reason.as_str())]).inc();
    }
    pub(crate) fn cycle(&self, seconds: f64) {
        self.cycles.inc();
        self.cycle_seconds.observe(seconds);
    }
    pub(crate) fn lead(&self) {
        self.leading.set(1);
    }
    pub(crate) fn groups(&self, count: usize) {
        self.groups.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
    pub(crate) fn refused_plan(&self) {
        self.refused_plans.inc();
    }

    /// A failover is over.
    pub(crate) fn failover(&self, failover: &Failover) {
        let cause = failover.cause.as_str();
        for phase in Phase::ALL {
            if let Some(took_ms) = failover.took_ms(phase) {
                let labels = [("phase", phase.as_str()), ("cause", cause)];
                self.failover_seconds.get_or_create(&labels).observe(seconds(took_ms));
            }
        }
        if let Some(behind) = failover.behind_bytes() {
            self.failover_behind.get_or_create(&[("cause", cause)]).observe(behind as f64);
        }
    }

    /// In the text format.
    pub(crate) fn render(&self) -> String {
        let mut text = String::new();
        // Encoding into a String fails only if a metric does, and ours do not.
        let _ = encode(&mut text, &self.registry.lock().unwrap_or_else(PoisonError::into_inner));
        text
    }
}
