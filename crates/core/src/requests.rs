//! What a person asked for by an annotation of the group, and how far it is: TestFailover, and the reboot of a node.
//!
//! A request is one annotation. It is taken (or refused) by one write of the group, made with the version that was seen: the
//! request goes, and what is under way comes in its place, so that a crash in between loses neither.

use crate::plan::Act;
use kagami_protocol::Boot;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `kubectl annotate rg NAME elasticache.kagami.dev/test-failover=0001`
pub const TEST_FAILOVER: &str = "elasticache.kagami.dev/test-failover";
/// `kubectl annotate rg NAME elasticache.kagami.dev/reboot=NAME-0001-002`
pub const REBOOT: &str = "elasticache.kagami.dev/reboot";
/// What is under way; written by the operator alone.
pub const UNDER_WAY: &str = "elasticache.kagami.dev/restart-under-way";
/// When node groups were tested, for ElastiCache's limit; written by the operator alone.
pub const TESTED: &str = "elasticache.kagami.dev/test-failovers";

/// How many node groups may be tested within [`TESTED_WITHIN_MS`] (ElastiCache's limit).
pub const TESTS_MAX: usize = 15;
/// A rolling day, in milliseconds.
pub const TESTED_WITHIN_MS: i64 = 24 * 60 * 60 * 1000;

/// What a person asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Requests {
    /// The group's version, for the compare-and-set.
    pub resource_version: String,
    /// The node group whose failover is to be tested, as it was written.
    pub test_failover: Option<String>,
    /// The cache node that is to be rebooted, as it was written.
    pub reboot: Option<String>,
    /// What is under way.
    pub under_way: Option<Restart>,
    /// When node groups were tested, in milliseconds since the Unix epoch.
    pub tested_ms: Vec<i64>,
}

/// A node whose engine is to be started again, after its primary role was handed over if it has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Restart {
    /// The cache node.
    pub node: String,
    /// The life that is to end; another one is the goal.
    pub boot: Boot,
    /// Whether it is the test of a failover.
    #[serde(default)]
    pub test: bool,
}

impl Requests {
    /// Reads the annotations of a group.
    pub fn read(annotations: &BTreeMap<String, String>, resource_version: &str) -> Self {
        let text = |name: &str| annotations.get(name).map(|text| text.trim().to_owned());
        Self {
            resource_version: resource_version.to_owned(),
            test_failover: text(TEST_FAILOVER),
            reboot: text(REBOOT),
            under_way: text(UNDER_WAY).and_then(|text| serde_json::from_str(&text).ok()),
            tested_ms: text(TESTED)
                .into_iter()
                .flat_map(|text| {
                    text.split(',')
                        .filter_map(|each| each.parse::<jiff::Timestamp>().ok())
                        .map(jiff::Timestamp::as_millisecond)
                        .collect::<Vec<_>>()
                })
                .collect(),
        }
    }

    /// When node groups were tested within the last day.
    pub fn tested_lately(&self, now_ms: i64) -> impl Iterator<Item = i64> + '_ {
        self.tested_ms.iter().copied().filter(move |at| now_ms - at < TESTED_WITHIN_MS)
    }

    /// The write that takes a request away and leaves something else.
    pub(crate) fn annotate<'a>(&self, changes: impl IntoIterator<Item = (&'a str, Option<String>)>) -> Act {
        Act::Annotate {
            annotations: changes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            resource_version: self.resource_version.clone(),
        }
    }

    /// The times of tests as they are written, with one more.
    pub(crate) fn tested_with(&self, now_ms: i64) -> String {
        let times: Vec<String> = self
            .tested_lately(now_ms)
            .chain([now_ms])
            .filter_map(|at| jiff::Timestamp::from_millisecond(at).ok())
            .map(|at| at.to_string())
            .collect();
        times.join(",")
    }
}
