//! Whole templates: what they become is written down beside them.
//!
//! `UPDATE_GOLDEN=1 cargo test -p kagami-convert` writes the files anew; read the difference before it is committed.

mod common;

use std::collections::BTreeMap;

use common::{admitted, golden, options, read, whole};
use kagami_convert::{Format, Options, convert, render};

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn in_region(file: &str, region: &str) -> Options {
    Options { region: Some(region.to_owned()), ..options(file) }
}

#[test]
fn each_fixture_becomes_what_is_written_beside_it() {
    let table = [
        in_region("seed.yaml", "ap-northeast-1"),
        Options { namespace: Some("shop".into()), ..options("plain.json") },
        options("slots.yaml"),
        Options {
            region: Some("eu-central-1".into()),
            account: Some("012345678901".into()),
            stack_name: Some("My-Stack".into()),
            imports: map(&[("vpc-PrivateSubnets", "subnet-1,subnet-2"), ("vpc-Bastion", "sg-0123")]),
            ..options("conditions.yaml")
        },
        Options { parameters: map(&[("Subnets", "default-subnets")]), ..options("fragment.yaml") },
    ];
    for options in table {
        let converted = convert(&read(&options.file), &options).unwrap_or_else(|failure| panic!("{failure}"));
        admitted(&converted);
        golden(&format!("{}.golden", options.file), &whole(&converted));
    }
}

#[test]
fn everything_that_is_wrong_is_told_at_once_and_where_it_stands() {
    let failure = convert(&read("bad.yaml"), &options("bad.yaml")).unwrap_err();
    golden("bad.yaml.golden", &format!("{failure}\n"));
}

#[test]
fn the_seed_becomes_the_group_of_the_article() {
    let converted = convert(&read("seed.yaml"), &in_region("seed.yaml", "ap-northeast-1")).unwrap();
    let group = converted.manifests.last().unwrap();
    assert_eq!(group["metadata"]["name"], "dva-03-004-replicationgroup");
    assert_eq!(group["spec"]["engineVersion"], "6.2");
    assert_eq!(group["spec"]["nodeGroupConfiguration"][0]["primaryAvailabilityZone"], "ap-northeast-1a");
    assert_eq!(
        converted.outputs["ConfigurationEndPointAddress"],
        "dva-03-004-replicationgroup.default.svc.cluster.local"
    );
    assert_eq!(converted.outputs["ConfigurationEndPointPort"], "6379");
}

#[test]
fn the_example_is_the_seed() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/seed.yaml");
    assert_eq!(std::fs::read_to_string(example).unwrap(), read("seed.yaml"));
}

#[test]
fn line_ends_and_a_byte_order_mark_change_nothing() {
    let text = format!("\u{feff}{}", read("seed.yaml").replace('\n', "\r\n"));
    let converted = convert(&text, &in_region("seed.yaml", "ap-northeast-1")).unwrap();
    assert_eq!(read("seed.yaml.golden"), whole(&converted));
}

#[test]
fn helm_values_have_the_specs_by_kind_and_name() {
    let converted = convert(&read("seed.yaml"), &in_region("seed.yaml", "ap-northeast-1")).unwrap();
    golden("seed.values.golden", &render(&converted, Format::HelmValues));
}

#[test]
fn yaml_in_braces_is_a_template_as_well() {
    let text = "{Resources: {G: {Type: AWS::ElastiCache::ReplicationGroup, Properties: {ReplicationGroupDescription: x, CacheNodeType: cache.t4g.micro}}}}";
    assert_eq!(convert(text, &options("t")).unwrap().manifests.len(), 1);
}

#[test]
fn what_is_written_can_be_read_again_and_is_the_same_each_time() {
    let text = r#"
Resources:
  G:
    Type: AWS::ElastiCache::ReplicationGroup
    Properties:
      ReplicationGroupDescription: "yes"
      CacheNodeType: cache.t4g.micro
      Tags:
        - {Key: "1e3", Value: "on"}
        - {Key: "colon: space", Value: "line\nbreak # no comment"}
        - {Key: "12:30:45", Value: "0x1F"}
        - {Key: "~", Value: "- item"}
        - {Key: "long", Value: "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"}
"#;
    let converted = convert(text, &options("t")).unwrap();
    let first = render(&converted, Format::Yaml);
    let back: serde_json::Value = serde_saphyr::from_str(&first).unwrap();
    assert_eq!(back, converted.manifests[0]);
    assert_eq!(first, render(&convert(text, &options("t")).unwrap(), Format::Yaml));
}
