//! Templates of the shapes that real ones have, and of those that only few have: each becomes what is written beside it, or
//! fails with the sentences that are.
//!
//! `UPDATE_GOLDEN=1 cargo test -p kagami-convert` writes the files anew; read the difference before it is committed.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::collections::BTreeSet;

use common::{admitted, fixture, golden, options, read, whole};
use kagami_convert::{Options, TemplateFormat, convert, decode, export, template};
use kagami_core::desired::References;

/// A fixture, whether it converts, and the parameters and imports that it needs.
type Case =
    (&'static str, bool, &'static [(&'static str, &'static str)], &'static [(&'static str, &'static str)]);

const VPC: &[(&str, &str)] = &[
    ("vpc-SubnetsPrivate", "subnet-1,subnet-2"),
    ("vpc-VPC", "vpc-1"),
    ("vpc-Clients", "sg-1"),
    ("vpc-Bastion", "sg-2"),
];

const CASES: &[Case] = &[
    ("shapes/conditional-mode.yaml", false, &[("Parent", "vpc")], VPC),
    ("shapes/conditional-mode-fixed.yaml", true, &[("Parent", "vpc"), ("Shards", "3")], VPC),
    ("shapes/failover-matrix.yaml", false, &[], &[]),
    ("shapes/logs-and-tls.yaml", true, &[("Vpc", "vpc-1"), ("Subnets", "subnet-1,subnet-2")], &[]),
    ("shapes/one-plus-two.yaml", true, &[], &[]),
    ("shapes/one-shard-of-two.yaml", true, &[], &[]),
    ("shapes/own-slots.yaml", true, &[], &[]),
    (
        "shapes/quickstart.template",
        true,
        &[("Guard", "sg-1"), ("Subnet1ID", "subnet-1"), ("Subnet2ID", "subnet-2")],
        &[],
    ),
    ("shapes/single.yaml", true, &[], &[]),
    ("shapes/token.yaml", true, &[], &[]),
    ("shapes/two-shards-of-four.yaml", true, &[], &[]),
    ("shapes/valkey.yaml", true, &[], &[]),
    ("wild/anchors.yaml", true, &[], &[]),
    ("wild/cdk.json", true, &[], &[("Fn::GetAZs", "us-west-2a,us-west-2b")]),
    ("wild/nested.yaml", true, &[], &[]),
    ("wild/sam.yaml", true, &[], &[]),
    ("wild/ssm.yaml", false, &[], &[]),
    ("wild/users.yaml", false, &[], &[]),
];

fn given((file, _, parameters, imports): &Case) -> Options {
    let map = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    Options {
        region: Some("us-west-2".into()),
        account: Some("012345678901".into()),
        stack_name: Some("shop".into()),
        parameters: map(parameters),
        imports: map(imports),
        ..options(file)
    }
}

#[test]
fn each_shape_becomes_what_is_written_beside_it() {
    for case in CASES {
        let (file, converts, ..) = case;
        let text = match convert(&read(file), &given(case)) {
            Ok(converted) => {
                assert!(*converts, "{file} converts");
                admitted(&converted);
                whole(&converted)
            }
            Err(failure) => {
                let text = format!("{failure}\n");
                assert!(!converts, "{file}:\n{text}");
                text
            }
        };
        golden(&format!("{file}.golden"), &text);
    }
}

#[test]
fn every_fixture_of_a_shape_is_tried() {
    let known: BTreeSet<String> = CASES.iter().map(|(file, ..)| (*file).to_owned()).collect();
    let mut there = BTreeSet::new();
    for folder in ["shapes", "wild"] {
        for entry in std::fs::read_dir(fixture(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if !name.ends_with(".golden") {
                there.insert(format!("{folder}/{name}"));
            }
        }
    }
    assert_eq!(known, there);
}

#[test]
fn how_a_file_is_stored_changes_nothing() {
    for case in CASES.iter().filter(|(_, converts, ..)| *converts) {
        let text = read(case.0);
        let expected = whole(&convert(&text, &given(case)).unwrap());
        let utf_16 = |unit: fn(u16) -> [u8; 2], mark: [u8; 2]| -> Vec<u8> {
            mark.into_iter().chain(text.encode_utf16().flat_map(unit)).collect()
        };
        for bytes in [
            format!("\u{feff}{text}").into_bytes(),
            text.replace('\n', "\r\n").into_bytes(),
            utf_16(u16::to_le_bytes, [0xff, 0xfe]),
            utf_16(u16::to_be_bytes, [0xfe, 0xff]),
        ] {
            let converted = convert(&decode(&bytes).unwrap(), &given(case)).unwrap();
            assert_eq!(expected, whole(&converted), "{}", case.0);
        }
    }
}

#[test]
fn what_is_no_text_is_told_so() {
    for (bytes, sentence) in [
        (&b"Resources:\n  A: \xff"[..], "line 2 is not UTF-8"),
        (&[0xff, 0xfe, 0x00, 0xd8, 0x00, 0x00], "begins as UTF-16 and is none"),
        (&vec![b'a'; 3 << 20], "the template has more than 1048576 bytes"),
    ] {
        assert!(decode(bytes).unwrap_err().contains(sentence), "{sentence}");
    }
}

/// What a manifest is, as its type.
fn typed<K: serde::de::DeserializeOwned>(manifest: &serde_json::Value) -> K {
    serde_json::from_value(manifest.clone()).unwrap()
}

#[test]
fn what_every_shape_became_is_exported_and_becomes_the_same_again() {
    for case in CASES.iter().filter(|(_, converts, ..)| *converts) {
        let converted = convert(&read(case.0), &given(case)).unwrap();
        let of =
            |kind: &'static str| converted.manifests.iter().filter(move |manifest| manifest["kind"] == kind);
        for group in of("ReplicationGroup") {
            let referred = |kind: &'static str, field: &str| {
                of(kind).find(|manifest| manifest["metadata"]["name"] == group["spec"][field])
            };
            let references = References {
                parameter_group: referred("ParameterGroup", "cacheParameterGroupName").map(typed),
                subnet_group: referred("SubnetGroup", "cacheSubnetGroupName").map(typed),
                security_groups: of("SecurityGroup")
                    .map(|guard| (guard["metadata"]["name"].as_str().unwrap().to_owned(), typed(guard)))
                    .collect(),
            };
            let exported = export(&typed(group), &references);
            let again = convert(&template(&exported, TemplateFormat::Yaml), &options("exported")).unwrap();
            let kept: Vec<_> =
                converted.manifests.iter().filter(|manifest| again.manifests.contains(manifest)).collect();
            let wanted = of("ReplicationGroup").count();
            assert_eq!(
                kept.len(),
                converted.manifests.len() + 1 - wanted,
                "{}: {:#?}",
                case.0,
                exported.warnings
            );
        }
    }
}
