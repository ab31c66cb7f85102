//! What the operator itself will say to the groups: its rules are asked here, so that a template hears them all at once.

use std::collections::{BTreeMap, HashMap};

use kagami_api::v1alpha1::{ParameterGroup, ReplicationGroup, SecurityGroup, SubnetGroup};
use kagami_core::desired::{References, Refusal, Tables, resolve};
use serde::de::DeserializeOwned;
use serde_json::{Value as Json, json};

use crate::manifest::Manifest;
use crate::problem::Findings;
use crate::properties::property_name;
use crate::template::Template;

type ByName<'a> = HashMap<(&'a str, &'a str), &'a Manifest>;

/// Asks the operator's rules about every group, with what the template has of what they refer to.
pub(crate) fn judge(template: &Template, manifests: &[Manifest], findings: &Findings) {
    let tables = Tables::default();
    let by_name: ByName<'_> =
        manifests.iter().map(|manifest| ((manifest.kind, manifest.name.as_str()), manifest)).collect();
    for manifest in manifests.iter().filter(|manifest| manifest.kind == "ReplicationGroup") {
        let Some(group) = object::<ReplicationGroup>(manifest) else { continue };
        for refusal in refusals(&group, &by_name, &tables) {
            let property = property_name(refusal.property.split('.').next().unwrap_or_default());
            let resource = manifest.place.resource.as_deref().and_then(|id| template.resource(id));
            let at = resource.and_then(|resource| resource.property(&property));
            let at = at.map_or(manifest.at, |entry| entry.value.at);
            let place = manifest.place.child("Properties").child(&property);
            // Where the value was converted it has been said already, and nearer to it.
            if findings.has_warned(&manifest.place, &refusal.message) {
                continue;
            }
            match refusal.property.as_str() {
                // What this version refuses, the API server will refuse with this sentence.
                _ if is_not_built(&refusal) => {
                    findings.warn(at, &place, format!("Kagami will not take this yet: {}", refusal.message));
                }
                // The parameter group has been told so itself.
                "cacheParameterGroupName" if refusal.message.starts_with("In the parameter group") => {}
                // The operator's own tables may have what the built-in ones do not.
                "cacheNodeType" | "engineVersion" => findings.warn(at, &place, refusal.message),
                _ => findings.error(at, &place, refusal.message),
            }
        }
    }
}

/// What is refused whatever the objects outside of the template are.
fn refusals(group: &ReplicationGroup, by_name: &ByName<'_>, tables: &Tables) -> Vec<Refusal> {
    let mut known = References::default();
    let named = |kind: &'static str, name: &str| by_name.get(&(kind, name)).copied();
    if let Some(name) = &group.spec.cache_subnet_group_name {
        let found = named("SubnetGroup", name).and_then(object::<SubnetGroup>);
        known.subnet_group = Some(found.unwrap_or_else(|| SubnetGroup::new(name, Default::default())));
    }
    let ids = group.spec.security_group_ids.iter().flatten();
    known.security_groups = ids
        .map(|id| {
            let found = named("SecurityGroup", id).and_then(object::<SecurityGroup>);
            (id.clone(), found.unwrap_or_else(|| SecurityGroup::new(id, Default::default())))
        })
        .collect::<BTreeMap<_, _>>();
    let name = group.spec.cache_parameter_group_name.as_deref().unwrap_or_default();
    known.parameter_group = named("ParameterGroup", name).and_then(object::<ParameterGroup>);
    let judged = |references: &References| resolve(group, references, tables).err().unwrap_or_default();
    if name.is_empty() || name.starts_with("default.") || known.parameter_group.is_some() {
        return judged(&known);
    }
    // A parameter group that nobody here knows decides the cluster mode: only what both modes refuse is refused.
    let mut both = kagami_api::parameters::Family::ALL.iter().flat_map(|family| {
        ["yes", "no"].map(|enabled| {
            let mut other = known.clone();
            let spec = json!({"cacheParameterGroupFamily": family.as_str(), "description": "unknown",
                "properties": {"cluster-enabled": enabled}});
            other.parameter_group =
                serde_json::from_value(spec).ok().map(|spec| ParameterGroup::new(name, spec));
            judged(&other)
        })
    });
    let first = both.next().unwrap_or_default();
    both.fold(first, |all, some| all.into_iter().filter(|refusal| some.contains(refusal)).collect())
}

fn is_not_built(refusal: &Refusal) -> bool {
    use kagami_api::properties::{COMPATIBLE_REFUSED, DELETION_SNAPSHOT_REFUSED, sentence};
    let message = refusal.message.as_str();
    message == sentence(&refusal.property)
        || [COMPATIBLE_REFUSED, DELETION_SNAPSHOT_REFUSED].contains(&message)
}

fn object<K: DeserializeOwned>(manifest: &Manifest) -> Option<K> {
    let object: Json = json!({"metadata": {"name": manifest.name}, "spec": manifest.spec});
    serde_json::from_value(object).ok()
}
