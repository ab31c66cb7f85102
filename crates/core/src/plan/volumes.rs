//! Volumes that are full, or will be soon: told, because only a person can give room.

use super::Plan;
use crate::desired::Desired;
use crate::observed::Observed;
use kagami_api::reason::Reason;
use kagami_protocol::{Report, Volume};

pub(super) fn rule(group: &Desired, observed: &Observed, plan: &mut Plan) {
    for (_, node) in group.nodes() {
        let Some(report) = observed.report(&node.name).filter(|report| report.is_short()) else { continue };
        let Some(volume) = &report.volume else { continue };
        let claim = observed.claims.get(&node.name).map(|claim| claim.name.as_str());
        plan.wait(Reason::VolumeFull, &*node.name, words(report, volume, claim));
    }
}

fn words(report: &Report, volume: &Volume, claim: Option<&str>) -> String {
    let engine = report.engine.as_ref();
    let failed = if engine.is_some_and(|engine| engine.write_failed) {
        ", and the engine could not write to it; the engine may refuse its clients' writes (MISCONF)"
    } else {
        ""
    };
    let claim = claim.map(|claim| format!(" {claim}")).unwrap_or_default();
    let kept = if report.kept.is_some() { ", or what is put aside under .kagami/previous" } else { "" };
    format!(
        "{} of {} are left on its volume{failed}; enlarge its claim{claim}, or delete keys{kept}",
        size(volume.free_bytes),
        size(volume.bytes)
    )
}

/// In the largest unit of which there are ten at least.
fn size(bytes: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let unit = units.into_iter().find(|(shift, _)| bytes >> shift >= 10);
    unit.map_or_else(|| format!("{bytes} bytes"), |(shift, unit)| format!("{} {unit}", bytes >> shift))
}
