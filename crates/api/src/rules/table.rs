//! The rules of ElastiCache by their numbers, what each becomes here, and the page that says so.

use super::{AdmissionRule, parameter_group, replication_group, security_group, subnet_group};
use crate::reason::Reason;

/// A rule of ElastiCache, as the facts that this project gathered number them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbered {
    /// The number, such as `V08`.
    pub number: &'static str,
    /// What ElastiCache asks for.
    pub asks: &'static str,
    /// What the schema itself refuses, without a sentence of ours; empty where nothing.
    pub schema: &'static str,
    /// What there is to say besides; empty where nothing.
    pub remark: &'static str,
}

/// What the operator alone can see, told by a condition and an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    /// The rule.
    pub number: &'static str,
    /// The reason of the condition.
    pub reason: Reason,
    /// The property that it is told of.
    pub property: &'static str,
    /// What the sentence always holds; the rest names what was found.
    pub words: &'static str,
}

const fn numbered(
    number: &'static str,
    asks: &'static str,
    schema: &'static str,
    remark: &'static str,
) -> Numbered {
    Numbered { number, asks, schema, remark }
}

const fn condition(
    number: &'static str,
    reason: Reason,
    property: &'static str,
    words: &'static str,
) -> Condition {
    Condition { number, reason, property, words }
}

const NOT_YET: &str =
    "Refused as a whole until this version can do it; ElastiCache's finer rules come with it.";

/// All rules, in their order. The letters other than V are of what ElastiCache's own list leaves out.
pub const NUMBERED: &[Numbered] = &[
    numbered(
        "V01",
        "ReplicationGroupDescription is required and has at most 255 characters.",
        "required, 1 to 255 characters",
        "",
    ),
    numbered(
        "V02",
        "The id has 1 to 40 letters, digits and single hyphens, begins with a letter and does not end with a hyphen; it is stored in lower case.",
        "",
        "metadata.name is the id.",
    ),
    numbered(
        "V03",
        "Engine is redis or valkey, the version is one of the engine's, and the parameter group is of its family.",
        "engine: redis or valkey",
        "Which versions there are is the operator's table, so a version that is none is told by a condition.",
    ),
    numbered(
        "V04",
        "An engine is never downgraded, valkey never becomes redis, and from 6.0 on a version has no patch level.",
        "",
        "Compared with what runs, so a mistake can be taken back.",
    ),
    numbered(
        "V05",
        "1 to 6 cache clusters, 0 to 5 replicas, 1 to 500 node groups, at most 500 nodes.",
        "numCacheClusters 1 to 6, replicasPerNodeGroup and replicaCount 0 to 5, numNodeGroups 1 to 500, port 1150 to 65535",
        "ElastiCache's quotas (90 nodes, 90 node groups) can be raised to 500, and are not asked for here. The bounds of port are ours, as its console has them: the schema of CloudFormation has none.",
    ),
    numbered(
        "V06",
        "The number of nodes is given in one way or another.",
        "",
        "Nothing is refused: as in the API, a group that gives none has one node.",
    ),
    numbered(
        "V07",
        "NumCacheClusters is for one node group, and agrees with the number of replicas.",
        "",
        "",
    ),
    numbered(
        "V08",
        "With cluster mode disabled, automatic failover needs two nodes.",
        "",
        "The defaults are ElastiCache's: off for redis, and on for valkey, also for a group of one node, which must say false.",
    ),
    numbered("V09", "With cluster mode enabled, automatic failover is on.", "", "Without replicas, too."),
    numbered(
        "V10",
        "Multi-AZ needs automatic failover, a replica in every node group, and two zones.",
        "",
        "Redis with cluster mode disabled must say automaticFailoverEnabled: true, since its default is off.",
    ),
    numbered(
        "V11",
        "PreferredCacheClusterAZs is for cluster mode disabled, as many as there are nodes, and of the subnet group.",
        "",
        "",
    ),
    numbered(
        "V12",
        "The entries of NodeGroupConfiguration agree with the counts; ids are there once; slots are given to all or none and are all slots, each once.",
        "nodeGroupConfiguration: at most 90 entries; nodeGroupId: one to four digits, not all 0; slots: at most 256 characters",
        "A node group can begin with as many ranges as 256 characters hold, some twenty, and 90 node groups can be described: the API server's budget for rules allows no more, so that a group of more has numNodeGroups alone. Slots that are given twice are told by a condition; together they cannot be 16384 then unless others are missing.",
    ),
    numbered(
        "V13",
        "With cluster mode disabled there is one node group, and ClusterMode agrees with the parameter group.",
        "",
        "A parameter group of one's own is seen by the operator.",
    ),
    numbered(
        "V14",
        "The cluster mode changes from disabled to compatible to enabled, or from compatible to disabled.",
        "clusterMode: enabled, compatible or disabled",
        "This version has no compatible mode, so the mode of a running group stays.",
    ),
    numbered(
        "V15",
        "Without UseOnlineResharding a change of the node groups replaces the group; with NodeGroupConfiguration every entry has its id.",
        "",
        "A group is never replaced here. This version does not reshard either, and says so by a condition.",
    ),
    numbered(
        "V16",
        "Windows have their forms, 60 minutes at least, a day at most, and do not overlap.",
        "",
        "They are half open: one may begin when the other ends.",
    ),
    numbered(
        "V17",
        "Retention is 0 to 35 days; snapshots are taken from a member, and restored when the group is created.",
        "snapshotRetentionLimit 0 to 35",
        NOT_YET,
    ),
    numbered(
        "V18",
        "AuthToken needs encryption in transit, has 16 to 128 characters, and excludes UserGroupIds.",
        "",
        "A password never stands in a spec: authTokenSecretRef names the Secret that has it.",
    ),
    numbered(
        "V19",
        "TransitEncryptionMode needs encryption in transit; a running group goes through preferred.",
        "transitEncryptionMode: preferred or required",
        NOT_YET,
    ),
    numbered(
        "V20",
        "One user group, with a user named default, and encryption in transit.",
        "userGroupIds: at most one",
        NOT_YET,
    ),
    numbered(
        "V21",
        "One log delivery for each type of log, and details of the kind of its destination.",
        "all four properties required, each of its words",
        NOT_YET,
    ),
    numbered(
        "V22",
        "IpDiscovery is one of the families of NetworkType.",
        "networkType: ipv4, ipv6 or dual_stack; ipDiscovery: ipv4 or ipv6",
        "Both are IPv4 only in this version.",
    ),
    numbered(
        "V23",
        "What asks for tiering, durability, global datastores, EC2-Classic or a key of KMS.",
        "durability: default, async, sync or disabled",
        "Refused wherever it asks for something.",
    ),
    numbered(
        "V24",
        "Some properties cannot be changed without replacing the group.",
        "",
        "A group is never replaced, because its data would be lost. The others of ElastiCache's list have one value only that is accepted, or are metadata.name. Zones at the end of preferredCacheClusterAZs may come and go with their nodes.",
    ),
    numbered(
        "V25",
        "A group is modified only while it is available.",
        "",
        "Nothing is refused: a change waits, and pendingModifiedValues shows it.",
    ),
    numbered(
        "V26",
        "A modification that changes nothing is an error.",
        "",
        "Nothing is refused: here it is a success, as it is for every Kubernetes object.",
    ),
    numbered(
        "D01",
        "DeletionPolicy is Delete, Retain or Snapshot.",
        "deletionPolicy: Delete, Retain or Snapshot",
        "",
    ),
    numbered(
        "T01",
        "At most 50 tags, keys once, none that begins with aws:.",
        "at most 50, keys of 1 to 128 characters and once each, values up to 256",
        "",
    ),
    numbered(
        "P01",
        "The name of a parameter group.",
        "",
        "The default groups are built in and cannot be changed.",
    ),
    numbered("P02", "The family of a parameter group is one of ElastiCache's and stays.", "", ""),
    numbered(
        "P03",
        "A parameter is one of the family's, can be modified, and has an allowed value.",
        "",
        "The condition Valid of the ParameterGroup tells the same; docs/parameters.md has the values.",
    ),
    numbered("S01", "The name of a subnet group.", "", ""),
    numbered("G01", "Who may connect.", "", ""),
    numbered("G02", "On which ports.", "ports 0 to 65535", ""),
    numbered("G03", "From which addresses.", "cidr and except: a range such as 10.0.0.0/8 or fd00::/8", ""),
    numbered("R01", "What is referred to is there.", "", "The group goes on by itself as soon as it is."),
    numbered(
        "R02",
        "What decides the memory of a node is given.",
        "",
        "The schema of CloudFormation does not ask for CacheNodeType, and a new group needs one all the same.",
    ),
];

/// What the operator alone can see of a group.
pub const CONDITIONS: &[Condition] = &[
    condition("V03", Reason::InvalidParameterValue, "engineVersion", "Cannot find version"),
    condition(
        "V03",
        Reason::InvalidParameterCombination,
        "cacheParameterGroupName",
        "Expected a parameter group of family",
    ),
    condition(
        "V10",
        Reason::InvalidParameterCombination,
        "multiAZEnabled",
        "multiAZEnabled needs at least two zones, and the subnet group has only",
    ),
    condition(
        "V11",
        Reason::InvalidParameterCombination,
        "cacheSubnetGroupName",
        "is not one of the subnet group's",
    ),
    condition("V12", Reason::InvalidParameterCombination, "nodeGroupConfiguration", "overlap"),
    condition(
        "V13",
        Reason::InvalidParameterCombination,
        "clusterMode",
        "Cluster mode should be disabled in parameter group, but found it is enabled.",
    ),
    condition(
        "V13",
        Reason::InvalidParameterCombination,
        "clusterMode",
        "Cluster mode should be enabled in parameter group, but found it is disabled.",
    ),
    condition(
        "V13",
        Reason::InvalidParameterCombination,
        "numNodeGroups",
        "A group with cluster mode disabled has exactly one node group",
    ),
    condition(
        "V08",
        Reason::InvalidParameterCombination,
        "automaticFailoverEnabled",
        "When using automatic failover, there must be at least 2 cache clusters in the replication group.",
    ),
    condition(
        "V09",
        Reason::InvalidParameterCombination,
        "automaticFailoverEnabled",
        "Redis with cluster mode enabled cannot be created with auto failover turned off.",
    ),
    condition(
        "P03",
        Reason::InvalidParameterValue,
        "cacheParameterGroupName",
        "Could not find parameter with name",
    ),
    condition("P03", Reason::InvalidParameterValue, "cacheParameterGroupName", "cannot be modified"),
    condition(
        "P03",
        Reason::InvalidParameterValue,
        "cacheParameterGroupName",
        "is not allowed for parameter",
    ),
    condition("G03", Reason::InvalidParameterValue, "securityGroupIds", "which is no range of addresses"),
    condition("G03", Reason::InvalidParameterValue, "securityGroupIds", "which is not a part of"),
    condition(
        "R01",
        Reason::CacheParameterGroupNotFound,
        "cacheParameterGroupName",
        "CacheParameterGroup not found",
    ),
    condition("R01", Reason::CacheSubnetGroupNotFound, "cacheSubnetGroupName", "CacheSubnetGroup not found"),
    condition("R01", Reason::SecurityGroupNotFound, "securityGroupIds", "does not exist"),
    condition("R01", Reason::InvalidParameterValue, "cacheNodeType", "Invalid Cache Node Type"),
];

/// The rules of all kinds, each with its kind.
fn admission() -> Vec<(&'static str, AdmissionRule)> {
    let of = |kind: &'static str, rules: Vec<AdmissionRule>| rules.into_iter().map(move |rule| (kind, rule));
    of("ReplicationGroup", replication_group())
        .chain(of("ParameterGroup", parameter_group()))
        .chain(of("SubnetGroup", subnet_group()))
        .chain(of("SecurityGroup", security_group()))
        .collect()
}

/// The page `docs/rules.md`.
pub fn markdown() -> String {
    let mut page = String::from(
        "# Rules\n\n\
         What ElastiCache refuses is refused here. **CEL**: the API server refuses the object, for the sentence alone. **CEL, update**: it\n\
         refuses the change. **schema**: it refuses the value, in Kubernetes' own words. **condition**: what one object does not tell; the\n\
         operator says it in the group's conditions and events, with the reason in brackets, and the group runs on as it was.\n\
         This page is made from `crates/api/src/rules`; `UPDATE=1 cargo test -p kagami-api` writes it anew.\n",
    );
    let admission = admission();
    for rule in NUMBERED {
        page.push_str(&format!("\n## {}\n\n{}", rule.number, rule.asks));
        if !rule.remark.is_empty() {
            page.push_str(&format!(" *{}*", rule.remark));
        }
        page.push_str("\n\n| told by | field | sentence |\n|---|---|---|\n");
        if !rule.schema.is_empty() {
            page.push_str(&format!("| schema | | {} |\n", rule.schema));
        }
        let mut said = Vec::new();
        for (kind, found) in admission.iter().filter(|(_, found)| found.number == rule.number) {
            let by = if found.expression.contains("oldSelf") { "CEL, update" } else { "CEL" };
            let field = found.field.trim_start_matches("spec.");
            let field = if field.is_empty() { "metadata.name".to_owned() } else { field.to_owned() };
            let of = if *kind == "ReplicationGroup" { String::new() } else { format!(" of a {kind}") };
            said.push(format!("| {by} | `{field}`{of} | {} |\n", found.message));
        }
        for found in CONDITIONS.iter().filter(|found| found.number == rule.number) {
            said.push(format!(
                "| condition ({}) | `{}` | … {} … |\n",
                found.reason, found.property, found.words
            ));
        }
        if said.is_empty() && rule.schema.is_empty() {
            said.push("| nobody | | – |\n".to_owned());
        }
        page.extend(said);
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_that_is_told_has_its_number_in_the_table() {
        let known = |number: &str| NUMBERED.iter().filter(|rule| rule.number == number).count() == 1;
        for (kind, rule) in admission() {
            assert!(known(rule.number), "{kind} {}", rule.number);
        }
        for condition in CONDITIONS {
            assert!(known(condition.number), "{condition:?}");
        }
        for number in 1..=26 {
            assert!(known(&format!("V{number:02}")), "V{number:02}");
        }
    }

    #[test]
    fn every_message_names_its_field() {
        for (kind, rule) in admission() {
            let field = rule.field.trim_start_matches("spec.");
            let named = rule.message.to_lowercase().contains(&field.to_lowercase());
            assert!(named, "{kind} {}: {} does not name {field}", rule.number, rule.message);
            assert!(rule.message.ends_with(['.', ')']), "{}", rule.message);
            assert!(!rule.message.contains('|') && !rule.message.contains('\n'), "{}", rule.message);
        }
    }
}
