//! The rules of a replication group that look at what was before.
//!
//! What a change is compared with is what runs, as the status tells it, wherever that can be told: a mistake that nobody has
//! carried out yet can always be taken back. A rule about the whole object bites only where this very update brings the mistake
//! in, because the removal of a finalizer is an update too.

use super::{AdmissionRule, object, spec};

/// What is said of a property that CloudFormation changes by replacing the group.
fn replacement(field: &str) -> String {
    format!(
        "{field}: update requires replacement, which would lose the data. Take the change back, or make a new group."
    )
}

pub(super) fn rules() -> Vec<AdmissionRule> {
    let runs = |field: &str| format!("has(oldSelf.status) && has(oldSelf.status.{field})");
    let major = |version: &str| format!("int({version}.split('.')[0])");
    let minor = |version: &str| format!("int({version}.split('.')[1])");
    let (asked, running) = ("@.engineVersion", "oldSelf.status.resolved.engineVersion");
    vec![
        object(
            "V04",
            "spec.engine",
            &format!(
                "ENGINE != 'redis' || OLD_ENGINE != 'valkey' || !({} && oldSelf.status.engine.startsWith('valkey'))",
                runs("engine")
            ),
            "engine cannot be changed from valkey to redis.",
        ),
        object(
            "V04",
            "spec.engineVersion",
            &format!(
                "!has({asked}) || (has(@OLD.engineVersion) && {asked} == @OLD.engineVersion) \
                 || !(has(oldSelf.status) && has(oldSelf.status.resolved) && has({running}) && has(oldSelf.status.engine)) \
                 || !oldSelf.status.engine.startsWith(ENGINE) \
                 || !{asked}.matches('^[0-9]{{1,3}}[.]([0-9]{{1,3}}|x)$') || !{running}.matches('^[0-9]{{1,3}}[.][0-9]{{1,3}}$') \
                 || {asked_major} > {running_major} \
                 || ({asked_major} == {running_major} && ({asked}.endsWith('.x') || {} >= {}))",
                minor(asked),
                minor(running),
                asked_major = major(asked),
                running_major = major(running),
            ),
            "engineVersion cannot be decreased: an engine is upgraded, never downgraded.",
        ),
        spec(
            "V08",
            "automaticFailoverEnabled",
            "!(has(@.automaticFailoverEnabled) && @.automaticFailoverEnabled) || (has(@OLD.automaticFailoverEnabled) && @OLD.automaticFailoverEnabled) \
             || !UNCLUSTERED || SHARDS > 1 || NODES >= 2",
            "Replication group must have at least one read replica to enable autofailover. (automaticFailoverEnabled)",
        ),
        spec(
            "V09",
            "automaticFailoverEnabled",
            "!has(@.automaticFailoverEnabled) || @.automaticFailoverEnabled || (has(@OLD.automaticFailoverEnabled) && !@OLD.automaticFailoverEnabled) || !CLUSTERED",
            "Turning off automatic failover for replication group with cluster mode enabled is not supported. (automaticFailoverEnabled)",
        ),
        object(
            "V13",
            "spec.numNodeGroups",
            &format!(
                "SHARDS <= 1 || OLD_SHARDS > 1 || !({} && oldSelf.status.clusterMode == 'disabled')",
                runs("clusterMode")
            ),
            "numNodeGroups: Operation is only applicable for cluster mode enabled replication groups.",
        ),
        object(
            "V14",
            "spec.clusterMode",
            &format!(
                "!CLUSTERED || OLD_CLUSTERED || SHARDS > 1 || !({} && oldSelf.status.clusterMode == 'disabled')",
                runs("clusterMode")
            ),
            "To modify cluster mode from Disabled to Enabled, you must first set the cluster mode to Compatible, and this version of Kagami cannot. Take the change of clusterMode or cacheParameterGroupName back, or make a new group.",
        ),
        object(
            "V14",
            "spec.clusterMode",
            &format!(
                "!UNCLUSTERED || OLD_UNCLUSTERED || !({} && oldSelf.status.clusterMode == 'enabled')",
                runs("clusterMode")
            ),
            "Cluster mode cannot be changed from Enabled to Disabled. Take the change of clusterMode, cacheParameterGroupName or numNodeGroups back, or make a new group.",
        ),
        object(
            "V15",
            "spec.numNodeGroups",
            &format!(
                "ONLINE || (SHARDS == OLD_SHARDS && !OLD_ONLINE) || !({}) || SHARDS == oldSelf.status.shards",
                runs("shards")
            ),
            "numNodeGroups: without updatePolicy.useOnlineResharding, update requires replacement, which would lose the data. Take the change back, or set useOnlineResharding to true or leave it out.",
        ),
        object(
            "V15",
            "spec.nodeGroupConfiguration",
            &format!(
                "!CONFIGURED || !({}) || size(@.nodeGroupConfiguration) == oldSelf.status.shards || @.nodeGroupConfiguration.all(g, has(g.nodeGroupId)) \
                 || (OLD_CONFIGURED && size(@OLD.nodeGroupConfiguration) == size(@.nodeGroupConfiguration) && !@OLD.nodeGroupConfiguration.all(g, has(g.nodeGroupId)))",
                runs("shards")
            ),
            "nodeGroupConfiguration must give the nodeGroupId of every node group where the number of node groups changes.",
        ),
        spec(
            "V24",
            "port",
            "(has(@.port) ? @.port : 6379) == (has(@OLD.port) ? @OLD.port : 6379)",
            &replacement("port"),
        ),
        spec(
            "V24",
            "cacheSubnetGroupName",
            "has(@.cacheSubnetGroupName) == has(@OLD.cacheSubnetGroupName) && (!has(@.cacheSubnetGroupName) || @.cacheSubnetGroupName.lowerAscii() == @OLD.cacheSubnetGroupName.lowerAscii())",
            &replacement("cacheSubnetGroupName"),
        ),
        // The zones of nodes that stay are kept; those of nodes that come or go may come or go with them.
        spec(
            "V24",
            "preferredCacheClusterAZs",
            "PREFERRED == OLD_PREFERRED && (!PREFERRED || [0, 1, 2, 3, 4, 5].all(i, i >= size(@.preferredCacheClusterAZs) || i >= size(@OLD.preferredCacheClusterAZs) \
             || @.preferredCacheClusterAZs[i] == @OLD.preferredCacheClusterAZs[i]))",
            &replacement("preferredCacheClusterAZs"),
        ),
    ]
}
