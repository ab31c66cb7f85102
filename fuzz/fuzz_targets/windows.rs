//! The windows for snapshots and maintenance, as the mind reads them from a spec.
#![no_main]

use kagami_api::v1alpha1::ReplicationGroup;
use kagami_core::desired::{References, Tables, resolve};

libfuzzer_sys::fuzz_target!(|texts: (&str, &str)| {
    let group = serde_json::json!({
        "apiVersion": "elasticache.kagami.dev/v1alpha1",
        "kind": "ReplicationGroup",
        "metadata": { "name": "cache", "namespace": "default" },
        "spec": {
            "replicationGroupDescription": "windows",
            "cacheNodeType": "cache.t4g.micro",
            "numNodeGroups": 1,
            "replicasPerNodeGroup": 1,
            "snapshotWindow": texts.0,
            "preferredMaintenanceWindow": texts.1,
        },
    });
    let group: ReplicationGroup = serde_json::from_value(group).unwrap();
    let resolved = resolve(&group, &References::default(), &Tables::default());
    // What is taken is a window to a person, too.
    if resolved.is_ok() {
        assert!(texts.0.len() == 11 && texts.0.contains('-'), "{texts:?}");
        assert!(texts.1.len() == 19 && texts.1.contains('-'), "{texts:?}");
    }
});
