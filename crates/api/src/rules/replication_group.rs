//! The rules of a replication group that look at the object as it is to be.

use super::{AdmissionRule, object, referred, refused, spec, updates};
use crate::properties;

const DAILY: &str = "^([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9]$";
const WEEKLY: &str = "^(sun|mon|tue|wed|thu|fri|sat):([01][0-9]|2[0-3]):[0-5][0-9]-(sun|mon|tue|wed|thu|fri|sat):([01][0-9]|2[0-3]):[0-5][0-9]$";
const SLOTS: &str = "^[0-9]{1,5}(-[0-9]{1,5})?(,[0-9]{1,5}(-[0-9]{1,5})?)*$";

/// The rules of a replication group.
pub fn replication_group() -> Vec<AdmissionRule> {
    let mut rules = identity();
    rules.extend(engine());
    rules.extend(counts());
    rules.extend(failover_and_zones());
    rules.extend(node_groups());
    rules.extend(cluster_mode());
    rules.extend(windows());
    rules.extend(not_built());
    rules.extend(updates::rules());
    rules
}

fn identity() -> Vec<AdmissionRule> {
    vec![
        object(
            "V02",
            "",
            // A long pattern on a name, which has no bound of ours, would be the dearest of all rules; Kubernetes itself asks for
            // lower case, digits, hyphens and dots.
            "self.metadata.name.size() <= 40 && self.metadata.name.matches('^[a-z]') && !self.metadata.name.endsWith('-') && !self.metadata.name.contains('--') && !self.metadata.name.contains('.')",
            "metadata.name is the replication group id: 1 to 40 letters, digits and hyphens; it must begin with a letter, must not end with a hyphen and must not contain two consecutive hyphens.",
        ),
        object(
            "V02",
            "spec.replicationGroupId",
            "!has(@.replicationGroupId) || @.replicationGroupId.lowerAscii() == self.metadata.name",
            "replicationGroupId must be metadata.name when lower-cased, because the name of the object is the id of the group.",
        ),
        referred::no_tags_of_aws(),
    ]
}

fn engine() -> Vec<AdmissionRule> {
    let default_group = "!has(@.cacheParameterGroupName) || !GROUP.startsWith('default.')";
    vec![
        spec(
            "V03",
            "engineVersion",
            "!has(@.engineVersion) || @.engineVersion.matches('^[0-9]+[.]([0-9]+([.][0-9]+)?|x)$')",
            "engineVersion must be a version such as 6.2, 7.1 or 8.0, or 6.x.",
        ),
        spec(
            "V03",
            "cacheParameterGroupName",
            &format!(
                "{default_group} || GROUP.matches('^default[.](redis6[.]x|redis7|valkey7|valkey8|valkey9)([.]cluster[.]on)?$')"
            ),
            "CacheParameterGroup not found. The cacheParameterGroupName of a built-in group is default.redis6.x, default.redis7, default.valkey7, default.valkey8 or default.valkey9, or one of these with .cluster.on.",
        ),
        spec(
            "V03",
            "cacheParameterGroupName",
            &format!("{default_group} || !has(@.engine) || GROUP.startsWith('default.' + @.engine)"),
            "cacheParameterGroupName: Expected a parameter group of a family of the engine: the groups default.redis* are for redis, the groups default.valkey* for valkey.",
        ),
        // Families are counted by the major version; beyond those that ElastiCache has, the operator's table decides.
        spec(
            "V03",
            "cacheParameterGroupName",
            &format!(
                "{default_group} || !has(@.engineVersion) || !@.engineVersion.matches('^[6-9][.]') \
                 || ['redis', 'valkey'].exists(e, GROUP.startsWith('default.' + e + @.engineVersion.substring(0, 1))) \
                 || (GROUP.startsWith('default.redis7') && @.engineVersion.matches('^[89][.]'))"
            ),
            "cacheParameterGroupName: Expected a parameter group of the family of engineVersion: default.redis6.x for redis 6, default.redis7 for redis 7, default.valkey7, default.valkey8 and default.valkey9 for valkey of that version.",
        ),
        spec(
            "V04",
            "engineVersion",
            "!has(@.engineVersion) || !@.engineVersion.matches('^([6-9]|[1-9][0-9]+)[.][0-9]+[.][0-9]+$')",
            "engineVersion must not have a patch level from version 6 on: write 6.2, not 6.2.6.",
        ),
        spec(
            "V05",
            "port",
            "!has(@.port) || (@.port != 8379 && @.port != 8380)",
            "port must not be 8379 or 8380: the agent of every node listens there.",
        ),
        spec(
            "V05",
            "port",
            "!has(@.port) || @.port <= 55535 || !CLUSTERED || !has(@.engineVersion) || !@.engineVersion.startsWith('6.')",
            "port must be at most 55535 with cluster mode enabled before version 7.0: the nodes talk to each other on the port 10000 above it.",
        ),
    ]
}

fn counts() -> Vec<AdmissionRule> {
    vec![
        spec(
            "R02",
            "cacheNodeType",
            "has(@.cacheNodeType) || (has(@.kubernetes) && has(@.kubernetes.resources) \
             && ((has(@.kubernetes.resources.limits) && has(@.kubernetes.resources.limits.memory)) \
             || (has(@.kubernetes.resources.requests) && has(@.kubernetes.resources.requests.memory))))",
            properties::NODE_TYPE_NEEDED,
        ),
        spec(
            "V05",
            "numNodeGroups",
            "ALL_NODES <= 500",
            "numNodeGroups: the request cannot be processed because it would exceed the allowed number of cache nodes in a single cluster: a group has at most 500 nodes, replicas counted.",
        ),
        spec(
            "V07",
            "numCacheClusters",
            "!has(@.numCacheClusters) || SHARDS <= 1",
            "numCacheClusters is not used if there is more than one node group: use replicasPerNodeGroup.",
        ),
        spec(
            "V07",
            "numCacheClusters",
            "!has(@.numCacheClusters) || !has(@.replicasPerNodeGroup) || @.numCacheClusters == 1 + @.replicasPerNodeGroup",
            "numCacheClusters and replicasPerNodeGroup say different numbers of nodes: leave one out.",
        ),
        spec(
            "V07",
            "numCacheClusters",
            "!has(@.numCacheClusters) || !CONFIGURED || SHARDS > 1 || !has(@.nodeGroupConfiguration[0].replicaCount) || @.numCacheClusters == 1 + @.nodeGroupConfiguration[0].replicaCount",
            "numCacheClusters and the replicaCount of nodeGroupConfiguration say different numbers of nodes: leave one out.",
        ),
    ]
}

fn failover_and_zones() -> Vec<AdmissionRule> {
    vec![
        spec(
            "V08",
            "automaticFailoverEnabled",
            "!FAILOVER || !UNCLUSTERED || SHARDS > 1 || NODES >= 2",
            "When using automatic failover, there must be at least 2 cache clusters in the replication group. Set automaticFailoverEnabled to false, or numCacheClusters to 2 or more.",
        ),
        spec(
            "V08",
            "primaryClusterId",
            "!has(@.primaryClusterId) || !CLUSTERED",
            "primaryClusterId is not used with cluster mode enabled. Leave it out.",
        ),
        spec(
            "V08",
            "primaryClusterId",
            "!has(@.primaryClusterId) || !UNCLUSTERED || NODES < 2 || !FAILOVER",
            "primaryClusterId needs automaticFailoverEnabled: false, because automatic failover moves the role. Set that, or leave this out.",
        ),
        spec(
            "V09",
            "automaticFailoverEnabled",
            "!has(@.automaticFailoverEnabled) || @.automaticFailoverEnabled || !CLUSTERED",
            "Redis with cluster mode enabled cannot be created with auto failover turned off. Set automaticFailoverEnabled to true or leave it out.",
        ),
        spec(
            "V10",
            "multiAZEnabled",
            "!MULTI_AZ || (UNCLUSTERED ? FAILOVER : !has(@.automaticFailoverEnabled) || @.automaticFailoverEnabled)",
            "multiAZEnabled needs automatic failover: set automaticFailoverEnabled to true.",
        ),
        spec(
            "V10",
            "multiAZEnabled",
            "!MULTI_AZ || (CONFIGURED ? @.nodeGroupConfiguration.all(g, REPLICAS_OF_G >= 1) : REPLICAS >= 1)",
            "multiAZEnabled needs at least one replica in every node group: set numCacheClusters to 2 or more, or replicasPerNodeGroup to 1 or more.",
        ),
        spec(
            "V10",
            "multiAZEnabled",
            "!MULTI_AZ || ((!PREFERRED || size(@.preferredCacheClusterAZs) < 2 || @.preferredCacheClusterAZs.exists(z, z != @.preferredCacheClusterAZs[0])) \
             && (!CONFIGURED || @.nodeGroupConfiguration.all(g, !has(g.primaryAvailabilityZone) || !has(g.replicaAvailabilityZones) || size(g.replicaAvailabilityZones) == 0 \
             || g.replicaAvailabilityZones.exists(z, z != g.primaryAvailabilityZone))))",
            "multiAZEnabled needs the nodes of every node group in at least two zones, and those of one are all to be in the same.",
        ),
        spec(
            "V11",
            "preferredCacheClusterAZs",
            "!PREFERRED || (SHARDS <= 1 && !CLUSTERED)",
            "PreferredCacheClusterAZs can only be specified for one node group. With cluster mode enabled give the zones in nodeGroupConfiguration instead of preferredCacheClusterAZs.",
        ),
        spec(
            "V11",
            "preferredCacheClusterAZs",
            "!PREFERRED || SHARDS > 1 || size(@.preferredCacheClusterAZs) == NODES",
            "When specifying preferred availability zones, the number of cache clusters must be specified and must match the number of preferred availability zones. Give preferredCacheClusterAZs as many zones as there are nodes.",
        ),
        spec(
            "V11",
            "preferredCacheClusterAZs",
            "!PREFERRED || !CONFIGURED || @.nodeGroupConfiguration.all(g, !has(g.primaryAvailabilityZone) && !has(g.replicaAvailabilityZones))",
            "preferredCacheClusterAZs and the zones of nodeGroupConfiguration exclude each other: leave one out.",
        ),
    ]
}

fn node_groups() -> Vec<AdmissionRule> {
    // Lists are dear to make in CEL, so a range is split anew for each of its ends.
    let bound = |which: &str| format!("int(r.split('-')[{which}])");
    let (first, last) = (bound("0"), bound("size(r.split('-')) - 1"));
    // The whole list is judged only where every entry can be read, so that one mistake has one message.
    let unread = format!(
        "!CONFIGURED || !@.nodeGroupConfiguration.all(g, has(g.slots) && g.slots.matches('{SLOTS}'))"
    );
    vec![
        spec(
            "V12",
            "nodeGroupConfiguration",
            "!CONFIGURED || !has(@.numNodeGroups) || size(@.nodeGroupConfiguration) == @.numNodeGroups",
            "nodeGroupConfiguration must have as many entries as numNodeGroups says.",
        ),
        spec(
            "V12",
            "nodeGroupConfiguration",
            "!CONFIGURED || @.nodeGroupConfiguration.all(g, !has(g.nodeGroupId) || @.nodeGroupConfiguration.exists_one(h, has(h.nodeGroupId) && int(h.nodeGroupId) == int(g.nodeGroupId)))",
            "nodeGroupConfiguration has two entries with the same nodeGroupId.",
        ),
        spec(
            "V12",
            "nodeGroupConfiguration",
            "!CONFIGURED || @.nodeGroupConfiguration.all(g, !has(g.replicaAvailabilityZones) || size(g.replicaAvailabilityZones) == 0 || size(g.replicaAvailabilityZones) == REPLICAS_OF_G)",
            "The number of replicaAvailabilityZones in nodeGroupConfiguration must match replicaCount, or replicasPerNodeGroup where replicaCount is not given.",
        ),
        spec(
            "V12",
            "nodeGroupConfiguration",
            "!CONFIGURED || @.nodeGroupConfiguration.all(g, has(g.slots)) || !@.nodeGroupConfiguration.exists(g, has(g.slots))",
            "nodeGroupConfiguration must give slots to every node group or to none.",
        ),
        spec(
            "V12",
            "nodeGroupConfiguration",
            &format!(
                "!CONFIGURED || @.nodeGroupConfiguration.all(g, !has(g.slots) || g.slots.matches('{SLOTS}'))"
            ),
            "slots in nodeGroupConfiguration must be ranges such as 0-3999 or 0-99,200-299.",
        ),
        spec(
            "V12",
            "nodeGroupConfiguration",
            &format!(
                "{unread} || @.nodeGroupConfiguration.all(g, g.slots.split(',').all(r, {first} <= {last} && {last} <= 16383))"
            ),
            "slots in nodeGroupConfiguration must be ranges within 0-16383 whose first slot is not above the last.",
        ),
        // Together with the condition that tells of slots that are given twice, this is the exact cover.
        spec(
            "V12",
            "nodeGroupConfiguration",
            &format!(
                "{unread} || @.nodeGroupConfiguration.map(g, g.slots.split(',').map(r, {last} - {first} + 1).sum()).sum() == 16384"
            ),
            "slots in nodeGroupConfiguration must be all of 0-16383, each once: together the node groups have more or fewer than 16384.",
        ),
    ]
}

fn cluster_mode() -> Vec<AdmissionRule> {
    vec![
        spec(
            "V13",
            "numNodeGroups",
            "!UNCLUSTERED || SHARDS <= 1",
            "A group with cluster mode disabled has exactly one node group: set numNodeGroups to 1, or choose a parameter group with cluster-enabled, such as default.redis7.cluster.on.",
        ),
        spec(
            "V13",
            "clusterMode",
            "!has(@.clusterMode) || !has(@.cacheParameterGroupName) || @.clusterMode != 'disabled' || !GROUP_ON",
            "Cluster mode should be disabled in parameter group, but found it is enabled. clusterMode and cacheParameterGroupName contradict each other.",
        ),
        spec(
            "V13",
            "clusterMode",
            "!has(@.clusterMode) || !has(@.cacheParameterGroupName) || @.clusterMode != 'enabled' || !GROUP_OFF",
            "Cluster mode should be enabled in parameter group, but found it is disabled. clusterMode and cacheParameterGroupName contradict each other.",
        ),
        spec(
            "V14",
            "clusterMode",
            "!has(@.clusterMode) || @.clusterMode != 'compatible'",
            properties::COMPATIBLE_REFUSED,
        ),
    ]
}

fn windows() -> Vec<AdmissionRule> {
    let number = |window: &str, from: usize| format!("int({window}.substring({from}, {}))", from + 2);
    let time =
        |window: &str, from: usize| format!("({} * 60 + {})", number(window, from), number(window, from + 3));
    let daily = "@.snapshotWindow";
    let daily_minutes = format!("(({} - {} + 1440) % 1440)", time(daily, 6), time(daily, 0));
    let weekly = "@.preferredMaintenanceWindow";
    // The place of the day in the week times three is where its name stands in this text.
    let week = |from: usize| {
        let day =
            format!("'sunmontuewedthufrisat'.indexOf({weekly}.lowerAscii().substring({from}, {}))", from + 3);
        format!("({day} * 480 + {})", time(weekly, from + 4))
    };
    let weekly_minutes = format!("(({} - {} + 10080) % 10080)", week(10), week(0));
    let is_daily = format!("{daily}.matches('{DAILY}')");
    let is_weekly = format!("{weekly}.lowerAscii().matches('{WEEKLY}')");
    vec![
        spec(
            "V16",
            "snapshotWindow",
            &format!("!has({daily}) || {is_daily}"),
            "snapshotWindow must be a daily window in UTC such as 05:00-06:00.",
        ),
        spec(
            "V16",
            "snapshotWindow",
            &format!("!has({daily}) || !{is_daily} || {daily_minutes} >= 60"),
            "Snapshot window must be at least 60 minutes. (snapshotWindow)",
        ),
        spec(
            "V16",
            "preferredMaintenanceWindow",
            &format!("!has({weekly}) || {is_weekly}"),
            "preferredMaintenanceWindow must be a weekly window in UTC such as sun:05:00-sun:06:00.",
        ),
        spec(
            "V16",
            "preferredMaintenanceWindow",
            &format!(
                "!has({weekly}) || !{is_weekly} || ({weekly_minutes} >= 60 && {weekly_minutes} <= 1440)"
            ),
            "preferredMaintenanceWindow must be at least 60 minutes and at most 24 hours.",
        ),
        // A maintenance window is no longer than a day and the snapshots' comes every day, so the day does not matter: they meet
        // where one begins while the other lasts.
        spec(
            "V16",
            "snapshotWindow",
            &format!(
                "!has({daily}) || !has({weekly}) || !{is_daily} || !{is_weekly} || {weekly_minutes} > 1440 \
                 || (({start} - {other} + 1440) % 1440 >= {weekly_minutes} && ({other} - {start} + 1440) % 1440 >= {daily_minutes})",
                start = time(daily, 0),
                other = time(weekly, 4),
            ),
            "The snapshot window and maintenance window must not overlap. (snapshotWindow, preferredMaintenanceWindow)",
        ),
    ]
}

fn not_built() -> Vec<AdmissionRule> {
    vec![
        spec(
            "D01",
            "deletionPolicy",
            "!has(@.deletionPolicy) || @.deletionPolicy != 'Snapshot'",
            properties::DELETION_SNAPSHOT_REFUSED,
        ),
        refused("V17", "snapshotArns", "size(@.snapshotArns) == 0"),
        refused("V17", "snapshotName", ""),
        refused("V17", "snapshotRetentionLimit", "@.snapshotRetentionLimit == 0"),
        refused("V17", "snapshottingClusterId", ""),
        spec("V18", "authToken", "!has(@.authToken)", properties::AUTH_TOKEN_REFUSED),
        refused("V18", "authTokenSecretRef", ""),
        refused("V19", "transitEncryptionEnabled", "!@.transitEncryptionEnabled"),
        refused("V19", "transitEncryptionMode", ""),
        refused("V20", "userGroupIds", "size(@.userGroupIds) == 0"),
        refused("V21", "logDeliveryConfigurations", "size(@.logDeliveryConfigurations) == 0"),
        refused("V22", "networkType", "@.networkType == 'ipv4'"),
        refused("V22", "ipDiscovery", "@.ipDiscovery == 'ipv4'"),
        refused("V23", "atRestEncryptionEnabled", "!@.atRestEncryptionEnabled"),
        refused("V23", "kmsKeyId", ""),
        refused("V23", "dataTieringEnabled", "!@.dataTieringEnabled"),
        refused("V23", "durability", "@.durability in ['default', 'disabled']"),
        refused("V23", "globalReplicationGroupId", ""),
        refused("V23", "cacheSecurityGroupNames", "size(@.cacheSecurityGroupNames) == 0"),
    ]
}
