//! What a template leaves out and AWS would fill in with something else than what is here: nobody should find out later.

use serde_json::Value as Json;

use crate::evaluate::Evaluator;
use crate::properties::Sheet;
use crate::template::Resource;
use crate::value::Value;

const OPEN: &str = "no security group is named, so that no NetworkPolicy is made and whoever reaches the pods may connect; AWS would take the VPC's default group, which lets in its own members only: name a SecurityGroup";
const EMPTY: &str = "every id is an empty text, which would leave the group open to whoever reaches the pods: give the ids, or leave the property out";
const VALKEY_TRANSIT: &str = "CloudFormation wants it said with valkey, true or false; here it is false";
const VALKEY_AT_REST: &str = "AWS encrypts valkey at rest where nothing is said, and this version of Kagami does not: set it to false to mean the same in both places, and name an encrypting class in kubernetes.storage.storageClassName where volumes are to be encrypted";

/// Tells what the absence of properties means here.
pub(crate) fn tell(evaluator: &Evaluator<'_>, resource: &Resource, sheet: &mut Sheet) {
    guards(evaluator, resource, sheet);
    if sheet.text("Engine") != Some("valkey") {
        return;
    }
    for (name, message) in
        [("TransitEncryptionEnabled", VALKEY_TRANSIT), ("AtRestEncryptionEnabled", VALKEY_AT_REST)]
    {
        if sheet.get(name).is_none() && !sheet.is_wrong(name) {
            evaluator.findings.warn(sheet.at(name, resource), &resource.place_of(name), message);
        }
    }
}

/// A group that nobody guards is told; one whose ids came out empty was meant to be guarded.
fn guards(evaluator: &Evaluator<'_>, resource: &Resource, sheet: &mut Sheet) {
    const PROPERTY: &str = "SecurityGroupIds";
    let named = sheet.get(PROPERTY).and_then(Json::as_array).is_some_and(|ids| !ids.is_empty());
    if named || sheet.is_wrong(PROPERTY) {
        return;
    }
    let place = resource.place_of(PROPERTY);
    let at = sheet.at(PROPERTY, resource);
    let written = resource.property(PROPERTY);
    let found =
        written.and_then(|entry| evaluator.findings.quietly(|| evaluator.evaluate(&entry.value, &place)));
    let empty = match found.map(|found| found.value) {
        Some(Value::List(items)) => !items.is_empty(),
        Some(Value::Text(_)) => true,
        _ => false,
    };
    if empty {
        evaluator.findings.error(at, &place, EMPTY);
        sheet.mark_wrong(PROPERTY);
    } else {
        evaluator.findings.warn(at, &place, OPEN);
    }
}
