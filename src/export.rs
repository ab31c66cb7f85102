//! `kagami export`: a running group, with what it refers to, as a CloudFormation template.

use crate::args::{Export, ExportFormat};
use anyhow::{Context, Result};
use kagami_api::v1alpha1::{ParameterGroup, ReplicationGroup, SecurityGroup, SubnetGroup};
use kagami_convert::{TemplateFormat, export, template};
use kagami_core::desired::References;
use kube::{Api, Client};
use std::io::Write;

pub(crate) async fn command(arguments: Export) -> Result<()> {
    let client = Client::try_default().await.context("no cluster is configured (KUBECONFIG)")?;
    let namespace = arguments.namespace.unwrap_or_else(|| client.default_namespace().to_owned());
    let groups: Api<ReplicationGroup> = Api::namespaced(client.clone(), &namespace);
    let found = groups.get_opt(&arguments.name).await?;
    let group = found.with_context(|| {
        format!("there is no ReplicationGroup {} in the namespace {namespace}", arguments.name)
    })?;
    let references = references(&client, &namespace, &group).await?;
    let exported = export(&group, &references);
    let mut stderr = std::io::stderr();
    for warning in &exported.warnings {
        let _ = writeln!(stderr, "warning: {warning}");
    }
    let format = match arguments.format {
        ExportFormat::Yaml => TemplateFormat::Yaml,
        ExportFormat::Json => TemplateFormat::Json,
    };
    std::io::stdout().write_all(template(&exported, format).as_bytes()).context("standard output")
}

/// What the group refers to, as far as it is there; what is built in has no object.
async fn references(client: &Client, namespace: &str, group: &ReplicationGroup) -> Result<References> {
    let mut references = References::default();
    if let Some(name) = group.spec.cache_parameter_group_name.as_ref().map(|name| name.to_ascii_lowercase())
        && !name.starts_with("default.")
    {
        let groups: Api<ParameterGroup> = Api::namespaced(client.clone(), namespace);
        references.parameter_group = groups.get_opt(&name).await?;
    }
    if let Some(name) = group.spec.cache_subnet_group_name.as_ref().map(|name| name.to_ascii_lowercase()) {
        let groups: Api<SubnetGroup> = Api::namespaced(client.clone(), namespace);
        references.subnet_group = groups.get_opt(&name).await?;
    }
    let guards: Api<SecurityGroup> = Api::namespaced(client.clone(), namespace);
    for id in group.spec.security_group_ids.iter().flatten() {
        if let Some(guard) = guards.get_opt(id).await? {
            references.security_groups.insert(id.clone(), guard);
        }
    }
    Ok(references)
}
