//! What is offered no more, in a replication group.

use serde_json::json;

use crate::engines::{self, Lift};
use crate::evaluate::Evaluator;
use crate::properties::Sheet;
use crate::template::Resource;
use crate::value::short;

/// Versions and families that are offered no more give way to the nearest that are.
pub(crate) fn lift(evaluator: &Evaluator<'_>, resource: &Resource, sheet: &mut Sheet) {
    let engine = sheet.text("Engine").unwrap_or("redis").to_owned();
    let mut asked = None;
    if let Some(written) = sheet.text("EngineVersion").map(str::to_owned)
        && !sheet.is_wrong("Engine")
    {
        let at = sheet.at("EngineVersion", resource);
        let place = resource.place_of("EngineVersion");
        match engines::version(&engine, &written) {
            Lift::Offered => {}
            Lift::Nearest(nearest) => {
                let message =
                    format!("{engine} {} is not offered; the nearest is {nearest}", short(&written));
                evaluator.findings.warn(at, &place, message);
                sheet.set("EngineVersion", json!(nearest));
            }
            Lift::Unknown(offered) => {
                let message = format!("{engine} has no version {:?}; there are {offered}", short(&written));
                evaluator.findings.error(at, &place, message);
                sheet.mark_wrong("EngineVersion");
            }
        }
    }
    if let Some(group) = sheet.text("CacheParameterGroupName").map(str::to_owned)
        && let Some(family) = group.strip_prefix("default.")
    {
        let (family, suffix) = match family.strip_suffix(".cluster.on") {
            Some(family) => (family, ".cluster.on"),
            None => (family, ""),
        };
        let at = sheet.at("CacheParameterGroupName", resource);
        let place = resource.place_of("CacheParameterGroupName");
        asked = engines::nearest_family(family);
        match engines::family(family) {
            Lift::Offered => {}
            Lift::Nearest(nearest) => {
                let nearest_group = format!("default.{nearest}{suffix}");
                let message = format!("{} is not offered; the nearest is {nearest_group}", short(&group));
                evaluator.findings.warn(at, &place, message);
                sheet.set("CacheParameterGroupName", json!(nearest_group));
            }
            Lift::Unknown(offered) => {
                let message =
                    format!("there is no parameter group {}; families are {offered}", short(&group));
                evaluator.findings.error(at, &place, message);
                sheet.mark_wrong("CacheParameterGroupName");
            }
        }
    } else if let Some(family) = own_family(evaluator, resource) {
        asked = engines::nearest_family(&family);
    }
    // A group of an older family without a version would meet the newest version, which its family does not fit.
    if sheet.get("EngineVersion").is_none()
        && !sheet.is_wrong("EngineVersion")
        && !sheet.is_wrong("Engine")
        && let Some(family) =
            asked.filter(|family| family.starts_with(&engine) && !engines::is_newest(family))
        && let Some(version) = engines::newest(family)
    {
        let message =
            format!("no EngineVersion is given; {version} is the one that fits the family {family}");
        evaluator.findings.warn(resource.at, &resource.place_of("EngineVersion"), message);
        sheet.set("EngineVersion", json!(version));
    }
}

/// The family of the parameter group, if that is in the template.
fn own_family(evaluator: &Evaluator<'_>, resource: &Resource) -> Option<String> {
    evaluator.findings.quietly(|| {
        let entry = resource.property("CacheParameterGroupName")?;
        let group = evaluator.text(&entry.value, &resource.place())?;
        let group = evaluator.referent(&group)?;
        let family = group.property("CacheParameterGroupFamily")?;
        Some(evaluator.text(&family.value, &group.place())?.text)
    })
}
