//! Who may reach the port: the ingress of the security groups, as peers of a NetworkPolicy.

use std::net::IpAddr;

use k8s_openapi::api::networking::v1::{IPBlock, NetworkPolicyPeer};
use kagami_api::reason::Reason;
use kagami_api::v1alpha1::ReplicationGroupSpec;

use super::{References, Refusals};

/// The peers of all security groups that open the port.
pub(super) fn resolve(
    spec: &ReplicationGroupSpec,
    refs: &References,
    port: u16,
    refusals: &mut Refusals,
) -> Option<Vec<NetworkPolicyPeer>> {
    let ids = spec.security_group_ids.as_ref().filter(|ids| !ids.is_empty())?;
    let mut peers: Vec<NetworkPolicyPeer> = Vec::new();
    for id in ids {
        let Some(group) = refs.security_groups.get(id) else {
            refusals.add(
                Reason::SecurityGroupNotFound,
                "securityGroupIds",
                format!("The security group '{id}' does not exist"),
            );
            continue;
        };
        for rule in &group.spec.ingress {
            if let Some(block) = &rule.from.ip_block {
                check_addresses(id, block, refusals);
            }
            let from = rule.from_port.unwrap_or(0);
            let to = rule.to_port.unwrap_or(rule.from_port.unwrap_or(i32::from(u16::MAX)));
            if (from..=to).contains(&i32::from(port)) && !peers.contains(&rule.from) {
                peers.push(rule.from.clone());
            }
        }
    }
    Some(peers)
}

/// Ranges of addresses that Kubernetes takes, so that the policy is never refused when it is needed.
fn check_addresses(id: &str, block: &IPBlock, refusals: &mut Refusals) {
    const PROPERTY: &str = "securityGroupIds";
    let Some((network, length)) = range(&block.cidr) else {
        let text = format!(
            "The security group '{id}' has the cidr {:?}, which is no range of addresses such as 10.0.0.0/8.",
            block.cidr
        );
        return refusals.value(PROPERTY, text);
    };
    for except in block.except.iter().flatten() {
        match range(except) {
            None => refusals.value(
                PROPERTY,
                format!("The security group '{id}' excepts {except:?}, which is no range of addresses such as 10.0.0.0/8."),
            ),
            Some((inner, longer)) if longer <= length || masked(inner, length) != masked(network, length) => refusals.value(
                PROPERTY,
                format!("The security group '{id}' excepts {except}, which is not a part of {}.", block.cidr),
            ),
            Some(_) => {}
        }
    }
}

/// The first address and the length of the prefix.
fn range(text: &str) -> Option<(IpAddr, u32)> {
    let (address, length) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let plain =
        length.bytes().all(|byte| byte.is_ascii_digit()) && (length == "0" || !length.starts_with('0'));
    let length: u32 = length.parse().ok()?;
    (plain && length <= bits).then_some((address, length))
}

/// The prefix of an address, with its family: prefixes of different families are never equal.
fn masked(address: IpAddr, length: u32) -> (bool, u128) {
    match address {
        IpAddr::V4(address) => (true, u128::from(u32::from(address)) >> 32_u32.saturating_sub(length)),
        IpAddr::V6(address) => {
            let bits = u128::from(address);
            (false, bits.checked_shr(128_u32.saturating_sub(length)).unwrap_or(0))
        }
    }
}
