//! A shard's term as a `Lease`: written by compare-and-set, read back as what it means.

use super::metadata;
use crate::desired::Desired;
use crate::observed::{Cause, Rebirth, ShardLease};
use crate::plan::RaiseTerm;
use crate::slots::SlotSet;
use kagami_api::names;
use kagami_protocol::Boot;
use serde_json::{Value, json};

const BOOT: &str = "elasticache.kagami.dev/boot";
const PREVIOUS: &str = "elasticache.kagami.dev/previous-holder";
const PREVIOUS_BOOT: &str = "elasticache.kagami.dev/previous-boot";
const CAUSE: &str = "elasticache.kagami.dev/cause";
const SLOTS: &str = "elasticache.kagami.dev/slots";
const REBIRTHS: &str = "elasticache.kagami.dev/rebirths";
const HOME: &str = "elasticache.kagami.dev/home";
/// Set once the shard has served; from then on an empty start is a loss.
pub const SERVED: &str = "elasticache.kagami.dev/served";

/// The lease that a raised term becomes. `now` is RFC 3339 with microseconds.
pub fn lease(desired: &Desired, raise: &RaiseTerm, now: &str) -> Value {
    let mut metadata = metadata(
        desired,
        &names::shard_name(&desired.name, &raise.shard),
        &[(names::LABEL_NODE_GROUP, &raise.shard)],
    );
    let mut annotations = json!({
        BOOT: raise.boot.to_string(), CAUSE: raise.cause.as_str(), SLOTS: raise.slots.to_string(),
        SERVED: raise.served.to_string(),
    });
    if let Some((node, boot)) = &raise.previous {
        annotations[PREVIOUS] = json!(node);
        annotations[PREVIOUS_BOOT] = json!(boot.to_string());
    }
    if !raise.rebirths.is_empty() {
        annotations[REBIRTHS] = json!(serde_json::to_string(&raise.rebirths).unwrap_or_default());
    }
    if let Some(home) = &raise.home {
        annotations[HOME] = json!(home);
    }
    metadata["annotations"] = annotations;
    if let Some(version) = &raise.resource_version {
        metadata["resourceVersion"] = json!(version);
    }
    json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata,
        "spec": { "holderIdentity": raise.holder, "leaseTransitions": raise.term, "acquireTime": now, "renewTime": now } })
}

/// Reads a lease back; `None` if it is no shard's lease.
pub fn read_lease(object: &Value) -> Option<(String, ShardLease)> {
    let metadata = object.get("metadata")?;
    let annotation = |name: &str| metadata.get("annotations")?.get(name)?.as_str();
    let shard = metadata.get("labels")?.get(names::LABEL_NODE_GROUP)?.as_str()?.to_owned();
    let spec = object.get("spec")?;
    let since =
        spec.get("acquireTime").and_then(Value::as_str).and_then(|text| text.parse::<jiff::Timestamp>().ok());
    let boot = |name: &str| annotation(name).and_then(|text| text.parse::<Boot>().ok());
    let previous = annotation(PREVIOUS).map(str::to_owned).zip(boot(PREVIOUS_BOOT));
    Some((
        shard,
        ShardLease {
            resource_version: metadata.get("resourceVersion")?.as_str()?.to_owned(),
            term: spec.get("leaseTransitions")?.as_u64()?,
            holder: spec.get("holderIdentity")?.as_str()?.to_owned(),
            boot: boot(BOOT).unwrap_or_default(),
            since_ms: since.map_or(0, jiff::Timestamp::as_millisecond),
            known_ms: 0,
            previous,
            home: annotation(HOME).map(str::to_owned),
            cause: annotation(CAUSE).map(Cause::parse).unwrap_or_default(),
            slots: annotation(SLOTS)
                .and_then(|text| text.parse::<SlotSet>().ok())
                .unwrap_or_else(SlotSet::empty),
            served: annotation(SERVED) == Some("true"),
            owned: Some(crate::plan::children::owned(object)),
            rebirths: annotation(REBIRTHS).map_or_else(Vec::new, |text| {
                // What cannot be read (any more) may have said anything: every older copy is held.
                let term = spec.get("leaseTransitions").and_then(Value::as_u64).unwrap_or(u64::MAX);
                serde_json::from_str(text)
                    .unwrap_or_else(|_| vec![Rebirth { term, base: None, returned: None }])
            }),
        },
    ))
}
