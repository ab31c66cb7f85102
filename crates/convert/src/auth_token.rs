//! `AuthToken`: whatever a template says there, its text goes into no manifest. The spec names a key of a Secret, and a warning
//! says how that Secret is made.

use serde_json::{Value as Json, json};

use crate::evaluate::Evaluator;
use crate::properties::Sheet;
use crate::template::Resource;
use crate::value::{Secret, Text, Value};

const PROPERTY: &str = "AuthToken";
const FIELD: &str = "authTokenSecretRef";
const KEY: &str = "auth-token";

/// Reads the property. What `Metadata` says of the Secret stays.
pub(crate) fn read(evaluator: &Evaluator<'_>, resource: &Resource, sheet: &mut Sheet, group: &str) {
    let Some(entry) = resource.property(PROPERTY) else { return };
    let place = resource.place_of(PROPERTY);
    let Some(found) = evaluator.evaluate(&entry.value, &place) else {
        sheet.sound = false;
        return;
    };
    let text = match &found.value {
        Value::Absent => return,
        Value::Text(text) if text.text.is_empty() => return,
        Value::Text(text) => text,
        other => {
            let message = format!("expected a single value, found {}", other.kind());
            evaluator.findings.error(found.at, &place, message);
            sheet.sound = false;
            return;
        }
    };
    for message in wrong(text).into_iter().chain(conflicts(resource, sheet)) {
        evaluator.findings.error(found.at, &place, message);
        sheet.sound = false;
    }
    let reference = sheet
        .values
        .entry(FIELD)
        .or_insert_with(|| json!({"name": format!("{group}-auth-token"), "key": KEY}))
        .clone();
    if text.secret.is_none() && text.unknown.is_none() {
        let message = "whoever reads the template knows the token: make it a parameter with NoEcho, or a dynamic reference";
        evaluator.findings.warn(found.at, &place, message);
    }
    let how = how_to_make(text, &reference, evaluator.options.namespace.as_deref());
    evaluator.findings.warn(found.at, &place, how);
}

/// V18, as far as the token itself is known. It is not shown.
fn wrong(text: &Text) -> Option<String> {
    let known = text.unknown.is_none() && matches!(text.secret, None | Some(Secret::Parameter));
    let legal = |letter: char| letter.is_ascii_alphanumeric() || "!&#$^<>-".contains(letter);
    match text.text.chars().count() {
        _ if !known => None,
        16..=128 if text.text.chars().all(legal) => None,
        16..=128 => Some("a token has letters, digits and the characters !&#$^<>- and no others".to_owned()),
        _ => Some("Passwords length must be between 16-128 characters.".to_owned()),
    }
}

/// V18, as far as it is about other properties.
fn conflicts(resource: &Resource, sheet: &Sheet) -> Vec<String> {
    let mut found = Vec::new();
    let name = "TransitEncryptionEnabled";
    // Where it was written and could not be read, that has been told.
    if sheet.bool(name) != Some(true) && (sheet.get(name).is_some() || resource.property(name).is_none()) {
        found.push("it needs encryption in transit: set TransitEncryptionEnabled to true".to_owned());
    }
    if sheet.text("TransitEncryptionMode") == Some("preferred") {
        found.push("Transit encryption preferred is not supported with redis access control.".to_owned());
    }
    if sheet.get("UserGroupIds").and_then(Json::as_array).is_some_and(|groups| !groups.is_empty()) {
        found.push("AuthToken and UserGroupIds exclude each other: leave one out".to_owned());
    }
    found
}

/// What to type, so that the token goes from where it is into the Secret without being seen.
fn how_to_make(text: &Text, reference: &Json, namespace: Option<&str>) -> String {
    let [name, key] = ["name", "key"].map(|part| word(reference[part].as_str().unwrap_or_default(), part));
    let namespace = namespace.map(|namespace| format!(" --namespace {namespace}")).unwrap_or_default();
    let from = match &text.secret {
        Some(Secret::Manager { id, key }) => {
            let id = word(id, "SECRET-ID");
            let read = match key {
                Some(key) => format!("jq -j '.\"{}\"'", word(key, "JSON-KEY")),
                None => "tr -d '\\n'".to_owned(),
            };
            format!(
                "aws secretsmanager get-secret-value --secret-id {id} --query SecretString --output text | {read}"
            )
        }
        Some(Secret::SecureParameter { name }) => {
            let name = word(name, "PARAMETER-NAME");
            format!(
                "aws ssm get-parameter --with-decryption --name {name} --query Parameter.Value --output text | tr -d '\\n'"
            )
        }
        _ => "printf %s \"$TOKEN\"".to_owned(),
    };
    format!(
        "the token stays out of the manifest: the spec names the key {key} of the Secret {name}, which you make: \
         {from} | kubectl create secret generic {name}{namespace} --from-file={key}=/dev/stdin"
    )
}

/// A word that a shell takes as it stands; anything else is left to the reader.
fn word(text: &str, instead: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/_+=.@:-".contains(&byte);
    let safe = (1..=512).contains(&text.len()) && !text.starts_with('-') && text.bytes().all(plain);
    if safe { text.to_owned() } else { instead.to_owned() }
}
