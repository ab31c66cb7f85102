//! The rules of what a replication group refers to.

use super::{AdmissionRule, object, spec};

/// The rules of a parameter group.
pub fn parameter_group() -> Vec<AdmissionRule> {
    vec![
        object(
            "P01",
            "",
            "!self.metadata.name.startsWith('default.')",
            "metadata.name must not begin with default.: the default parameter groups are built in.",
        ),
        object(
            "P01",
            "spec.cacheParameterGroupName",
            "!has(@.cacheParameterGroupName) || @.cacheParameterGroupName.lowerAscii() == self.metadata.name",
            "cacheParameterGroupName must be metadata.name when lower-cased.",
        ),
        spec(
            "P02",
            "cacheParameterGroupFamily",
            "@.cacheParameterGroupFamily in ['redis6.x', 'redis7', 'valkey7', 'valkey8', 'valkey9']",
            "cacheParameterGroupFamily must be one of redis6.x, redis7, valkey7, valkey8 and valkey9. The families redis2.6 to redis5.0 belong to engines that ElastiCache no longer offers: use redis6.x.",
        ),
        spec(
            "P02",
            "cacheParameterGroupFamily",
            "@.cacheParameterGroupFamily == @OLD.cacheParameterGroupFamily",
            "cacheParameterGroupFamily cannot be changed: make a new parameter group.",
        ),
        no_tags_of_aws(),
    ]
}

/// The rules of a subnet group.
pub fn subnet_group() -> Vec<AdmissionRule> {
    vec![
        object(
            "S01",
            "spec.cacheSubnetGroupName",
            "!has(@.cacheSubnetGroupName) || @.cacheSubnetGroupName.lowerAscii() == self.metadata.name",
            "cacheSubnetGroupName must be metadata.name when lower-cased.",
        ),
        no_tags_of_aws(),
    ]
}

/// The rules of a security group.
pub fn security_group() -> Vec<AdmissionRule> {
    vec![
        spec(
            "G01",
            "ingress",
            "!has(@.ingress) || @.ingress.all(i, has(i.from.ipBlock) != (has(i.from.podSelector) || has(i.from.namespaceSelector)))",
            "from in ingress must be either an ipBlock or a podSelector and namespaceSelector.",
        ),
        spec(
            "G02",
            "ingress",
            "!has(@.ingress) || @.ingress.all(i, !has(i.toPort) || (has(i.fromPort) && i.fromPort <= i.toPort))",
            "toPort in ingress needs a fromPort that is not above it.",
        ),
        no_tags_of_aws(),
    ]
}

/// Keys that begin with aws: are the provider's own.
pub(super) fn no_tags_of_aws() -> AdmissionRule {
    spec(
        "T01",
        "tags",
        "!has(@.tags) || @.tags.all(t, !t.key.startsWith('aws:'))",
        "tags must not have keys that begin with aws:.",
    )
}
