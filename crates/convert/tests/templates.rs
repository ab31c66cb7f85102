//! The real templates that stand beside the repository, where they do: each converts, or fails with the right sentence.

mod common;

use common::{admitted, options};
use kagami_convert::{Failure, Format, Problem, convert, render};

/// What becomes of a template.
enum Fate {
    /// It converts to objects of these kinds and names.
    Converts(&'static [&'static str]),
    /// It fails, and every one of these is in a sentence of its own.
    Fails(&'static [&'static str]),
}

use Fate::{Converts, Fails};

/// A file, the parameters that it needs, and what becomes of it.
type Case = (&'static str, &'static [(&'static str, &'static str)], Fate);

const PARAMETERS: &[Case] = &[
    (
        "CDLUC3-cache.yaml",
        &[("VpcId", "vpc-1"), ("Subnets", "subnet-1,subnet-2")],
        Converts(&[
            "SubnetGroup/shop-subnetgrp",
            "SecurityGroup/shop-cache-sec",
            "ReplicationGroup/shop-cachereplicationgroup",
        ]),
    ),
    (
        "RoboFinSystems-valkey.yaml",
        &[
            ("VpcId", "vpc-1"),
            ("SubnetId1", "subnet-1"),
            ("SubnetId2", "subnet-2"),
            ("LambdaImageUri", "image"),
            ("SNSAlertEmail", "somebody@example.org"),
            ("EnableEncryption", "false"),
            ("EnableSecretRotation", "false"),
        ],
        Converts(&[
            "ParameterGroup/shop-valkeyparametergroup",
            "SubnetGroup/robosystems-valkey-subnet-group-prod",
            "SecurityGroup/robosystems-valkey-sg-prod",
            "ReplicationGroup/robosystems-prod-valkey",
        ]),
    ),
    (
        "aws-cloudformation-Elasticache-snapshot.yaml",
        &[],
        Converts(&[
            "ParameterGroup/shop-redisparametergroup",
            "SubnetGroup/shop-redissubnetgroup",
            "SecurityGroup/shop-redissecuritygroup",
            "ReplicationGroup/shop-redisreplicationgroup",
        ]),
    ),
    (
        "aws-quickstart-elasticache.template",
        &[("ElastiCacheSecurityGroup", "sg-1"), ("Subnet1ID", "subnet-1"), ("Subnet2ID", "subnet-2")],
        Converts(&["SubnetGroup/shop-elasticachesubnetgroup", "ReplicationGroup/shop-elasticachecluster"]),
    ),
    (
        "aws-samples-elasticache.template",
        &[("ElastiCacheSecurityGroup", "sg-1"), ("Subnet1ID", "subnet-1"), ("Subnet2ID", "subnet-2")],
        Converts(&["SubnetGroup/shop-elasticachesubnetgroup", "ReplicationGroup/shop-elasticachecluster"]),
    ),
    (
        "aws-samples-template.yml",
        &[("SubnetId", "subnet-1"), ("SecurityGroupId", "sg-1"), ("S3BucketArn", "arn"), ("VPCId", "vpc-1")],
        Converts(&[
            "SubnetGroup/shop-elasticachesubnetgroup",
            "ReplicationGroup/shop-elasticacherediscluster",
        ]),
    ),
    (
        "awsdocs-two-node-groups.yaml",
        &[("CacheSubnetGroup", "subnetgroup"), ("ReplicationGroupSG", "sg-1")],
        Converts(&["ReplicationGroup/shop-basicreplicationgroup"]),
    ),
    ("awsdocs-two-nodes.yaml", &[], Converts(&["ReplicationGroup/shop-myreplicationgroup"])),
    (
        "bridgecrewio-ElasticacheReplicationGroupEncryptionAtTransitAuthToken-PASSED.yaml",
        &[("VpcId", "vpc-1"), ("SubnetA", "subnet-1"), ("SubnetB", "subnet-2")],
        Converts(&[
            "SubnetGroup/shop-subnetgroup",
            "SecurityGroup/shop-securitygroup",
            "ReplicationGroup/shop-replicationgrouppass",
        ]),
    ),
    (
        "cfn-lint-bad-cache_cluster_failover.yaml",
        &[],
        Fails(&[
            "BasicReplicationGroup.Properties.AutomaticFailoverEnabled: Redis with cluster mode enabled cannot be created",
            "MyNonClusterParameterGroup.Properties.CacheParameterGroupFamily: memcached1.4 is a family of Memcached",
        ]),
    ),
    (
        "cfn-lint-good-cache_cluster_failover.yaml",
        &[],
        Fails(&["memcached1.4 is a family of Memcached", "Could not find parameter with name: cas_disabled"]),
    ),
    (
        "kurron-elasticache.yml",
        &[("VPC", "vpc-1"), ("Subnets", "subnet-1,subnet-2")],
        Converts(&[
            "SubnetGroup/shop-subnetgroup",
            "SecurityGroup/shop-wideopensecuritygroup",
            "ReplicationGroup/shop-elasticachecluster",
        ]),
    ),
    (
        "stelligent-elasticache_replicationgroup_auth_token_from_secrets_manager.yaml",
        &[],
        Converts(&["ReplicationGroup/shop-elasticachereplicationgroup"]),
    ),
    (
        "stelligent-replication_group_with_encryption_false_boolean.json",
        &[],
        Converts(&["ReplicationGroup/shop-basicreplicationgroup"]),
    ),
    (
        "truckpad-elasticache-redis.yaml",
        &[
            ("VpcId", "vpc-1"),
            ("IngressSecurityGroup", "sg-1"),
            ("SubnetA", "subnet-1"),
            ("SubnetB", "subnet-2"),
            ("RunService", "yes"),
        ],
        Converts(&[
            "SubnetGroup/shop-subnetgroup",
            "SecurityGroup/shop-cache-cluster",
            "ReplicationGroup/shop",
        ]),
    ),
    (
        "utiliware-elasticache-redis.yaml",
        &[("ParentVPCStack", "vpc"), ("ParentClientStack", "client"), ("TransitEncryption", "false")],
        Converts(&[
            "ParameterGroup/shop-cacheparametergroup",
            "SubnetGroup/shop-cachesubnetgroupname",
            "SecurityGroup/shop-securitygroup",
            "ReplicationGroup/shop-replicationgroup",
        ]),
    ),
];

#[test]
fn every_real_template_converts_or_fails_with_the_right_sentence() {
    let above = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().skip(3);
    let mut folders = above.map(|folder| folder.join("shared/templates"));
    let Some(files) = folders.find_map(|folder| std::fs::read_dir(folder).ok()) else { return };
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    let mut wrong = Vec::new();
    for path in files {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name == "README.md" {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let known = PARAMETERS.iter().find(|(file, ..)| *file == name);
        let mut options = options(&name);
        options.region = Some("us-east-1".to_owned());
        options.stack_name = Some("shop".to_owned());
        options.imports = [
            ("vpc-SubnetsPrivate", "subnet-1,subnet-2"),
            ("vpc-VPC", "vpc-1"),
            ("client-ClientSecurityGroup", "sg-1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        for (name, value) in known.map(|(_, parameters, _)| *parameters).unwrap_or_default() {
            options.parameters.insert((*name).to_owned(), (*value).to_owned());
        }
        println!("\n########## {name}");
        match (convert(&text, &options), known.map(|(.., fate)| fate)) {
            (Ok(converted), fate) => {
                println!("{}", render(&converted, Format::Yaml));
                converted.warnings.iter().for_each(|warning| println!("warning: {warning}"));
                converted
                    .skipped
                    .iter()
                    .for_each(|skipped| println!("skipped: {} {}", skipped.id, skipped.kind));
                converted.outputs.iter().for_each(|(name, value)| println!("output: {name} = {value}"));
                admitted(&converted);
                let made: Vec<String> = converted.manifests.iter().map(title).collect();
                match fate {
                    Some(Converts(expected)) if made != *expected => wrong.push(format!("{name}: {made:?}")),
                    Some(Fails(_)) => wrong.push(format!("{name} converts")),
                    _ => {}
                }
            }
            (Err(Failure { problems, .. }), fate) => {
                problems.iter().for_each(|problem| println!("error: {problem}"));
                problems.iter().for_each(sensible);
                let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
                match fate {
                    Some(Fails(expected)) => {
                        for part in *expected {
                            if !all.iter().any(|problem| problem.contains(part)) {
                                wrong.push(format!("{name} does not say: {part}"));
                            }
                        }
                    }
                    Some(Converts(_)) => wrong.push(format!("{name} fails: {all:#?}")),
                    None => {}
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// `Kind/name`.
fn title(manifest: &serde_json::Value) -> String {
    let text = |pointer: &str| manifest.pointer(pointer).and_then(|value| value.as_str()).unwrap_or_default();
    format!("{}/{}", text("/kind"), text("/metadata/name"))
}

fn sensible(problem: &Problem) {
    assert!(problem.line >= 1 && problem.column >= 1, "{problem}");
    assert!(problem.message.len() > 10, "{problem}");
}
