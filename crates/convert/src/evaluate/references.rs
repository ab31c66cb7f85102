//! What a template refers to: parameters, pseudo parameters, resources and their attributes.

use super::{Evaluator, PSEUDO_PARAMETERS, article};
use crate::names;
use crate::parameters::Parameter;
use crate::problem::{At, Place};
use crate::template::Resource;
use crate::tree::{Body, Entry};
use crate::value::{Found, Reference, Text, Value, short};

impl Evaluator<'_> {
    pub(super) fn reference(&self, name: &str, at: At, place: &Place) -> Option<Value> {
        if let Some(parameter) = self.parameters.get(name) {
            // A parameter that was wrong has been reported.
            return Some(match parameter.as_ref()? {
                Parameter::One(text) => {
                    self.spend(text.text.len());
                    Value::Text(text.clone())
                }
                Parameter::Many(texts) => {
                    self.spend(texts.iter().map(|text| text.text.len()).sum());
                    self.steps.set(self.steps.get() + texts.len());
                    let found = |text: &Text| Found { at, value: Value::Text(text.clone()) };
                    Value::List(texts.iter().map(found).collect())
                }
            });
        }
        if name.starts_with("AWS::") {
            return self.pseudo_parameter(name, at, place);
        }
        if let Some(resource) = self.template.resource(name) {
            return self.resource(resource, at, place).map(Value::Text);
        }
        let known = self.parameters.keys().map(String::as_str);
        let known = known.chain(self.template.resources.iter().map(|resource| resource.id.as_str()));
        let name = short(name);
        let hint = match self.template.fragment {
            true => format!("; in a fragment, give it with --parameter {name}=VALUE"),
            false => self.findings.hint(&name, known.chain(PSEUDO_PARAMETERS)),
        };
        self.findings.error(
            at,
            place,
            format!("{name} is neither a parameter nor a resource of the template{hint}"),
        );
        None
    }

    pub(super) fn pseudo_parameter(&self, name: &str, at: At, place: &Place) -> Option<Value> {
        let given = |value: &Option<String>, option: &str| match value {
            Some(value) => Text::plain(value),
            None => Text::unknown(format!("${{{name}}}"), format!("{name} is not known here: give {option}")),
        };
        let by_region = |china: &str, government: &str, world: &str| match &self.options.region {
            Some(region) if region.starts_with("cn-") => Text::plain(china),
            Some(region) if region.starts_with("us-gov-") => Text::plain(government),
            _ => Text { text: world.to_owned(), ..given(&self.options.region, "--region REGION") },
        };
        Some(Value::Text(match name {
            "AWS::NoValue" => return Some(Value::Absent),
            "AWS::Region" => given(&self.options.region, "--region REGION"),
            "AWS::AccountId" => given(&self.options.account, "--account ID"),
            "AWS::StackName" => given(&self.options.stack_name, "--stack-name NAME"),
            "AWS::Partition" => by_region("aws-cn", "aws-us-gov", "aws"),
            "AWS::URLSuffix" => by_region("amazonaws.com.cn", "amazonaws.com", "amazonaws.com"),
            "AWS::StackId" | "AWS::NotificationARNs" => {
                Text::unknown(format!("${{{name}}}"), format!("{name} is known only on AWS; write a value"))
            }
            unknown => {
                let hint = self.findings.hint(unknown, PSEUDO_PARAMETERS);
                let message = format!("{} is not a pseudo parameter{hint}", short(unknown));
                self.findings.error(at, place, message);
                return None;
            }
        }))
    }

    /// What `Ref` gives for a resource: the name of what is mirrored; of anything else only AWS knows it.
    pub(super) fn resource(&self, resource: &Resource, at: At, place: &Place) -> Option<Text> {
        let own = resource.place();
        if !self.is_made(&resource.body, &own)? {
            let message =
                format!("{} is left out by its condition, so nothing can refer to it", short(&resource.id));
            self.findings.error(at, place, message);
            return None;
        }
        let reference = Some(Reference { id: resource.id.clone(), attribute: None });
        if names::is_mirrored(&resource.kind) {
            let name = self.name(resource, at, place)?;
            return Some(Text { reference, mirrored: true, ..Text::plain(name) });
        }
        let why = format!(
            "{} is {}, whose id is known only on AWS; write a value, or make it a parameter",
            short(&resource.id),
            article(&resource.kind)
        );
        Some(Text { reference, ..Text::unknown(format!("${{{}}}", resource.id), why) })
    }

    pub(super) fn get_att(&self, call: &Entry, place: &Place) -> Option<Value> {
        let argument = &*call.value;
        let (id, attribute) = match &argument.body {
            Body::Scalar { text, .. } => match text.split_once('.') {
                Some((id, attribute)) => (id.to_owned(), attribute.to_owned()),
                None => return self.wants(call, place, "Resource.Attribute"),
            },
            Body::List(items) if items.len() >= 2 => {
                let texts: Option<Vec<String>> =
                    items.iter().map(|item| Some(self.text(item, place)?.text)).collect();
                let texts = texts?;
                (texts[0].clone(), texts[1..].join("."))
            }
            _ => return self.wants(call, place, "Resource.Attribute"),
        };
        self.attribute(&id, &attribute, argument.at, place)
    }

    pub(super) fn attribute(&self, id: &str, attribute: &str, at: At, place: &Place) -> Option<Value> {
        let Some(resource) = self.template.resource(id) else {
            let hint =
                self.findings.hint(id, self.template.resources.iter().map(|resource| resource.id.as_str()));
            self.findings.error(at, place, format!("the template has no resource {}{hint}", short(id)));
            return None;
        };
        let text = self.resource(resource, at, place)?;
        let reference = Some(Reference { id: id.to_owned(), attribute: Some(attribute.to_owned()) });
        match resource.kind.as_str() {
            names::REPLICATION_GROUP => {
                let found = crate::endpoints::attribute(self, resource, &text.text, attribute, at, place)?;
                return Some(match found {
                    Value::Text(text) => Value::Text(Text { reference, ..text }),
                    other => other,
                });
            }
            names::SECURITY_GROUP if matches!(attribute, "GroupId" | "Id") => {
                return Some(Value::Text(Text { reference, ..text }));
            }
            names::PARAMETER_GROUP if attribute == "CacheParameterGroupName" => {
                return Some(Value::Text(Text { reference, ..text }));
            }
            names::SUBNET_GROUP if attribute == "CacheSubnetGroupName" => {
                return Some(Value::Text(Text { reference, ..text }));
            }
            names::SUBNET if attribute == "AvailabilityZone" => {
                if let Some(zone) = resource.property("AvailabilityZone") {
                    return Some(self.evaluate(&zone.value, &resource.place_of("AvailabilityZone"))?.value);
                }
            }
            // The outputs of a nested stack are like imports.
            "AWS::CloudFormation::Stack" if attribute.starts_with("Outputs.") => {
                let name = format!("{id}.{attribute}");
                return Some(Value::Text(match self.options.imports.get(&name) {
                    Some(value) => Text::plain(value),
                    None => {
                        let name = short(&name);
                        let why = format!(
                            "the output of the nested stack is not known here: give it with --import {name}=VALUE"
                        );
                        Text::unknown(format!("${{{name}}}"), why)
                    }
                }));
            }
            _ => {}
        }
        let why = format!(
            "{} of {} ({}) is known only on AWS; write a value, or make it a parameter",
            short(attribute),
            short(id),
            short(&resource.kind)
        );
        Some(Value::Text(Text { reference, ..Text::unknown(format!("${{{id}.{attribute}}}"), why) }))
    }
}
