//! Manifests as text that can be committed and compared.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use crate::Converted;

/// How manifests are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Documents for `kubectl apply`.
    Yaml,
    /// One document of values for a chart: the specs by kind and name.
    HelmValues,
}

/// Writes the manifests: the same template gives the same text, byte for byte.
pub fn render(converted: &Converted, format: Format) -> String {
    match format {
        Format::Yaml => {
            let documents: Vec<String> = converted.manifests.iter().map(document).collect();
            documents.join("---\n")
        }
        Format::HelmValues => {
            let mut values: BTreeMap<String, BTreeMap<String, Json>> = BTreeMap::new();
            for manifest in &converted.manifests {
                let text =
                    |pointer: &str| manifest.pointer(pointer).and_then(Json::as_str).unwrap_or_default();
                let kind = format!("{}s", crate::properties::field_name(text("/kind")));
                let spec = manifest.get("spec").cloned().unwrap_or_default();
                values.entry(kind).or_default().insert(text("/metadata/name").to_owned(), spec);
            }
            yaml(&json!(values))
        }
    }
}

fn document(manifest: &Json) -> String {
    let mut text = String::new();
    for key in ["apiVersion", "kind", "metadata", "spec"] {
        if let Some(value) = manifest.get(key) {
            text.push_str(&yaml(&json!({ key: value })));
        }
    }
    text
}

pub(crate) fn yaml(value: &Json) -> String {
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
    let mut text = serde_saphyr::to_string_with_options(&Sorted(value), options).unwrap_or_default();
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// A value whose keys are in order, whatever map serde_json was built with.
pub(crate) struct Sorted<'a>(pub(crate) &'a Json);

impl serde::Serialize for Sorted<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Json::Object(map) => {
                let sorted: BTreeMap<&String, Sorted<'_>> =
                    map.iter().map(|(key, value)| (key, Sorted(value))).collect();
                serializer.collect_map(sorted)
            }
            Json::Array(items) => serializer.collect_seq(items.iter().map(Sorted)),
            other => other.serialize(serializer),
        }
    }
}
