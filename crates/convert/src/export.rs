//! The other way round: a group as it runs becomes a CloudFormation template, from which `convert` makes the same group again.

use std::collections::BTreeMap;

use kagami_api::names::{GROUP, security_group_member_label};
use kagami_api::v1alpha1::{ParameterGroup, ReplicationGroup, SecurityGroup, SubnetGroup};
use kagami_core::desired::{ClusterMode, References, Tables, resolve};
use serde::Serialize;
use serde_json::{Map, Value as Json, json};

use crate::properties::{Kind, Property, field_name, property_name};
use crate::{Options, convert, groups, names, render, replication_group, security_group};

/// How a template is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TemplateFormat {
    /// YAML.
    Yaml,
    /// JSON.
    Json,
}

/// A template, and what it cannot say.
#[derive(Clone, Debug)]
pub struct Exported {
    /// The template.
    pub template: Json,
    /// What `convert` would not make again, and what AWS would not see, each in a sentence.
    pub warnings: Vec<String>,
}

/// Writes a template: the same template gives the same text, byte for byte.
pub fn template(exported: &Exported, format: TemplateFormat) -> String {
    match format {
        TemplateFormat::Yaml => render::yaml(&exported.template),
        TemplateFormat::Json => {
            let mut text =
                serde_json::to_string_pretty(&render::Sorted(&exported.template)).unwrap_or_default();
            text.push('\n');
            text
        }
    }
}

/// The template of a group and of what it refers to, as far as that was found.
///
/// What CloudFormation has no word for (`spec.kubernetes`, the zones of a subnet group, some rules of security groups) stands in
/// `Metadata`, which AWS keeps and `convert` reads.
pub fn export(group: &ReplicationGroup, references: &References) -> Exported {
    let mut book = Book::new(references);
    let mut resources = Map::new();
    if let Some(group) = &references.parameter_group {
        resources.insert(PARAMETER_GROUP.to_owned(), book.parameter_group(group));
    }
    if let Some(group) = &references.subnet_group {
        resources.insert(SUBNET_GROUP.to_owned(), book.subnet_group(group));
    }
    for (name, group) in &references.security_groups {
        let id = book.security_groups[name].clone();
        resources.insert(id, book.security_group(group));
    }
    resources.insert(REPLICATION_GROUP.to_owned(), book.replication_group(group));
    let mut template = json!({
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": format!("The replication group {}, exported by Kagami", name_of(&group.metadata)),
        "Resources": resources,
    });
    if book.asks_for_subnets {
        template["Parameters"] = json!({ SUBNET_IDS: {
            "Type": "List<AWS::EC2::Subnet::Id>", "Default": "",
            "Description": "The subnets on AWS. Kagami knows zones and needs none.",
        }});
    }
    if let Some(outputs) = outputs(group, references) {
        template["Outputs"] = outputs;
    }
    let mut exported = Exported { template, warnings: book.warnings };
    let lost = differences(&exported, group, references);
    exported.warnings.extend(lost);
    exported
}

const REPLICATION_GROUP: &str = "ReplicationGroup";
const PARAMETER_GROUP: &str = "ParameterGroup";
const SUBNET_GROUP: &str = "SubnetGroup";
const SECURITY_GROUP: &str = "SecurityGroup";
const SUBNET_IDS: &str = "SubnetIds";

/// What is known while the template is written.
struct Book<'a> {
    references: &'a References,
    /// The logical ids of the security groups, by name.
    security_groups: BTreeMap<String, String>,
    asks_for_subnets: bool,
    warnings: Vec<String>,
}

impl<'a> Book<'a> {
    fn new(references: &'a References) -> Self {
        let several = references.security_groups.len() > 1;
        let id = |(index, name): (usize, &String)| {
            let number = if several { (index + 1).to_string() } else { String::new() };
            (name.clone(), format!("{SECURITY_GROUP}{number}"))
        };
        Self {
            references,
            security_groups: references.security_groups.keys().enumerate().map(id).collect(),
            asks_for_subnets: false,
            warnings: Vec::new(),
        }
    }

    fn replication_group(&self, group: &ReplicationGroup) -> Json {
        let name = name_of(&group.metadata);
        let spec = fields(&group.spec);
        let mut sheet = Sheet::of(&spec, replication_group::TABLE);
        sheet.named("ReplicationGroupId", name, spec.contains_key("replicationGroupId"));
        if let Some(found) = &self.references.parameter_group
            && sheet.is("CacheParameterGroupName", name_of(&found.metadata))
        {
            sheet.set("CacheParameterGroupName", json!({ "Ref": PARAMETER_GROUP }));
        }
        if let Some(found) = &self.references.subnet_group
            && sheet.is("CacheSubnetGroupName", name_of(&found.metadata))
        {
            sheet.set("CacheSubnetGroupName", json!({ "Ref": SUBNET_GROUP }));
        }
        if let Some(Json::Array(ids)) = sheet.properties.get_mut("SecurityGroupIds") {
            for id in ids {
                if let Some(ours) = id.as_str().and_then(|name| self.security_groups.get(name)) {
                    *id = json!({ "Fn::GetAtt": [ours, "GroupId"] });
                }
            }
        }
        let mut resource = sheet.resource(names::REPLICATION_GROUP);
        for (field, attribute) in [("deletionPolicy", "DeletionPolicy"), ("updatePolicy", "UpdatePolicy")] {
            if let Some(value) = spec.get(field) {
                resource[attribute] = named(value);
            }
        }
        resource
    }

    fn parameter_group(&self, group: &ParameterGroup) -> Json {
        let mut sheet = Sheet::of(&fields(&group.spec), groups::PARAMETER_GROUP);
        sheet.extra("name", json!(name_of(&group.metadata)));
        sheet.resource(names::PARAMETER_GROUP)
    }

    fn subnet_group(&mut self, group: &SubnetGroup) -> Json {
        let spec = fields(&group.spec);
        let mut sheet = Sheet::of(&spec, groups::SUBNET_GROUP);
        let name = name_of(&group.metadata);
        sheet.named("CacheSubnetGroupName", name, spec.contains_key("cacheSubnetGroupName"));
        // Said even where it is empty: then every zone is meant, and not those that other resources name.
        sheet.extra("zones", json!(group.spec.zones));
        match &group.spec.subnet_ids {
            Some(ids) if !ids.is_empty() => {}
            _ => {
                sheet.set("SubnetIds", json!({ "Ref": SUBNET_IDS }));
                self.asks_for_subnets = true;
                self.warnings.push(format!(
                    "the SubnetGroup {name} knows zones and no subnets: AWS will ask for the parameter {SUBNET_IDS}"
                ));
            }
        }
        sheet.resource(names::SUBNET_GROUP)
    }

    fn security_group(&mut self, group: &SecurityGroup) -> Json {
        let name = name_of(&group.metadata);
        let mut spec = fields(&group.spec);
        let rules = match spec.remove("ingress") {
            Some(Json::Array(rules)) => rules,
            _ => Vec::new(),
        };
        let mut sheet = Sheet::of(&spec, security_group::SECURITY_GROUP);
        // AWS gives no group a name that looks like an id.
        if names::legal(name, 63) == name && !name.starts_with("sg-") {
            sheet.set("GroupName", json!(name));
        } else {
            sheet.extra("name", json!(name));
        }
        let mut said = Vec::new();
        let mut unsaid = Vec::new();
        for (place, rule) in rules.into_iter().enumerate() {
            match self.rule(&rule) {
                Some(rule) => said.push(rule),
                None => {
                    self.warnings.push(format!(
                        "CloudFormation has no words for the rule {} of the SecurityGroup {name}: it stands in Metadata, where AWS does not look",
                        place + 1
                    ));
                    let mut rule = rule;
                    rule["place"] = json!(place);
                    unsaid.push(rule);
                }
            }
        }
        if !said.is_empty() {
            sheet.set("SecurityGroupIngress", Json::Array(said));
        }
        if !unsaid.is_empty() {
            sheet.extra("ingress", Json::Array(unsaid));
        }
        sheet.resource(names::SECURITY_GROUP)
    }

    /// A rule in the words of CloudFormation, if it has them.
    fn rule(&self, rule: &Json) -> Option<Json> {
        let fields = rule.as_object()?;
        if fields.keys().any(|key| !matches!(key.as_str(), "description" | "from" | "fromPort" | "toPort")) {
            return None;
        }
        let mut said = Map::new();
        if let Some(text) = rule.get("description").and_then(Json::as_str) {
            if text.is_empty() {
                return None;
            }
            said.insert("Description".to_owned(), json!(text));
        }
        match (rule.get("fromPort"), rule.get("toPort")) {
            (None, None) => {
                said.insert("IpProtocol".to_owned(), json!("-1"));
            }
            (Some(first), Some(last)) => {
                said.insert("IpProtocol".to_owned(), json!("tcp"));
                said.insert("FromPort".to_owned(), first.clone());
                said.insert("ToPort".to_owned(), last.clone());
            }
            _ => return None,
        }
        let (key, source) = self.source(rule.get("from")?)?;
        said.insert(key.to_owned(), source);
        Some(Json::Object(said))
    }

    fn source(&self, from: &Json) -> Option<(&'static str, Json)> {
        if let Some(cidr) = from.pointer("/ipBlock/cidr").and_then(Json::as_str) {
            let v6 = cidr.contains(':');
            let plain = *from == json!({ "ipBlock": { "cidr": cidr } });
            let same = security_group::block(cidr, v6).as_deref() == Some(cidr);
            return (plain && same).then(|| (if v6 { "CidrIpv6" } else { "CidrIp" }, json!(cidr)));
        }
        let key = from.pointer("/podSelector/matchExpressions/0/key")?.as_str()?;
        let name = key.strip_prefix(&security_group_member_label(""))?;
        let plain = json!({ "podSelector": { "matchExpressions": [{ "key": key, "operator": "Exists" }] } });
        if *from != plain {
            return None;
        }
        let source = match self.security_groups.get(name) {
            Some(id) => json!({ "Fn::GetAtt": [id, "GroupId"] }),
            None if names::legal(name, 63) == name => json!(name),
            None => return None,
        };
        Some(("SourceSecurityGroupId", source))
    }
}

/// A resource in the making.
#[derive(Default)]
struct Sheet {
    properties: Map<String, Json>,
    extras: Map<String, Json>,
}

impl Sheet {
    /// What properties can say, and the rest.
    fn of(spec: &Map<String, Json>, table: &[Property]) -> Self {
        let mut sheet = Self::default();
        for (field, value) in spec {
            let property = table.iter().find(|property| field_name(property.name) == *field);
            match property {
                Some(property) if !matches!(property.kind, Kind::ReadOnly) => {
                    // The names of parameters are the user's words.
                    let verbatim = matches!(property.kind, Kind::Parameters);
                    sheet.set(property.name, if verbatim { value.clone() } else { named(value) });
                }
                _ if matches!(field.as_str(), "deletionPolicy" | "updatePolicy") => {}
                _ => sheet.extra(field, value.clone()),
            }
        }
        sheet
    }

    fn set(&mut self, name: &str, value: Json) {
        self.properties.insert(name.to_owned(), value);
    }

    fn extra(&mut self, field: &str, value: Json) {
        self.extras.insert(field.to_owned(), value);
    }

    fn is(&self, name: &str, value: &str) -> bool {
        self.properties.get(name).and_then(Json::as_str).is_some_and(|text| text.eq_ignore_ascii_case(value))
    }

    /// The property that is the name; where the spec does not repeat it, the name stands beside it as well.
    fn named(&mut self, property: &str, name: &str, repeated: bool) {
        if !repeated {
            self.extra("name", json!(name));
        }
        self.set(property, json!(name));
    }

    fn resource(self, kind: &str) -> Json {
        let mut resource = json!({ "Type": kind, "Properties": self.properties });
        if !self.extras.is_empty() {
            resource["Metadata"] = json!({ GROUP: self.extras });
        }
        resource
    }
}

/// A structure with the names that CloudFormation has for its fields.
fn named(value: &Json) -> Json {
    match value {
        Json::Object(map) => map
            .iter()
            .map(|(field, value)| (property_name(field), named(value)))
            .collect::<Map<_, _>>()
            .into(),
        Json::Array(items) => items.iter().map(named).collect(),
        other => other.clone(),
    }
}

fn fields(spec: &impl Serialize) -> Map<String, Json> {
    match serde_json::to_value(spec) {
        Ok(Json::Object(fields)) => fields,
        _ => Map::new(),
    }
}

fn name_of(metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> &str {
    metadata.name.as_deref().unwrap_or_default()
}

/// The endpoints, as a stack would put them out.
fn outputs(group: &ReplicationGroup, references: &References) -> Option<Json> {
    // What was not found says nothing about the endpoints.
    let mut known = references.clone();
    for id in group.spec.security_group_ids.iter().flatten() {
        known.security_groups.entry(id.clone()).or_insert_with(|| SecurityGroup::new(id, Default::default()));
    }
    if let (Some(name), None) = (&group.spec.cache_subnet_group_name, &known.subnet_group) {
        known.subnet_group = Some(SubnetGroup::new(name, Default::default()));
    }
    let desired = resolve(group, &known, &Tables::default()).ok()?;
    let endpoints: &[&str] = match desired.cluster_mode {
        ClusterMode::Enabled => &["ConfigurationEndPoint"],
        ClusterMode::Disabled => &["PrimaryEndPoint", "ReaderEndPoint"],
    };
    let output = |endpoint: &&str, part: &str| {
        let value = json!({ "Value": { "Fn::GetAtt": [REPLICATION_GROUP, format!("{endpoint}.{part}")] } });
        (format!("{endpoint}{part}"), value)
    };
    let all = endpoints.iter().flat_map(|endpoint| [output(endpoint, "Address"), output(endpoint, "Port")]);
    Some(Json::Object(all.collect()))
}

/// What `convert` makes otherwise of the template than it was.
fn differences(exported: &Exported, group: &ReplicationGroup, references: &References) -> Vec<String> {
    let text = template(exported, TemplateFormat::Json);
    let converted = match convert(&text, &Options { file: "the template".to_owned(), ..Options::default() }) {
        Ok(converted) => converted,
        Err(failure) => {
            return failure.problems.iter().map(|problem| format!("convert says: {problem}")).collect();
        }
    };
    let mut wanted: Vec<(&str, &str, Json)> =
        vec![("ReplicationGroup", name_of(&group.metadata), Json::Object(fields(&group.spec)))];
    if let Some(group) = &references.parameter_group {
        wanted.push(("ParameterGroup", name_of(&group.metadata), Json::Object(fields(&group.spec))));
    }
    if let Some(group) = &references.subnet_group {
        wanted.push(("SubnetGroup", name_of(&group.metadata), Json::Object(fields(&group.spec))));
    }
    for (name, group) in &references.security_groups {
        wanted.push(("SecurityGroup", name, Json::Object(fields(&group.spec))));
    }
    let mut lost = Vec::new();
    for (kind, name, spec) in wanted {
        let made = converted
            .manifests
            .iter()
            .find(|made| made["kind"] == kind && made["metadata"]["name"] == name)
            .and_then(|made| made.get("spec"));
        let Some(made) = made else {
            lost.push(format!("the {kind} {name} cannot be told in CloudFormation"));
            continue;
        };
        let names = spec.as_object().into_iter().chain(made.as_object()).flat_map(Map::keys);
        let other: std::collections::BTreeSet<&String> =
            names.filter(|field| spec.get(field.as_str()) != made.get(field.as_str())).collect();
        for field in other {
            let made = made.get(field.as_str()).map_or_else(|| "nothing".to_owned(), Json::to_string);
            lost.push(format!(
                "{field} of the {kind} {name} cannot be told as it is; convert makes {made} of it"
            ));
        }
    }
    lost
}
