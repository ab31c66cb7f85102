//! What is seen of a process, and how it is shown so that two worlds can be compared: ids and addresses by name, histories by
//! which are equal, offsets by their order.

use kagami_protocol::{ClusterNode, EngineView, Role};
use std::fmt::Write as _;

/// One living process that answers.
#[derive(Clone, Debug)]
pub(crate) struct Observed {
    pub(crate) name: String,
    pub(crate) view: EngineView,
    /// Names of every identity that ever was: `b`, and `b′` for its second life.
    pub(crate) names: Vec<(String, String)>,
    /// Names of addresses.
    pub(crate) places: Vec<((String, u16), String)>,
}

impl Observed {
    fn id_name(&self, id: &str) -> String {
        self.names.iter().find(|(known, _)| known == id).map_or_else(|| "?".into(), |(_, name)| name.clone())
    }

    fn place_name(&self, host: &str, port: u16) -> String {
        let found = self.places.iter().find(|((h, p), _)| h == host && *p == port);
        found.map_or_else(|| "?".into(), |(_, name)| name.clone())
    }

    fn nodes(&self) -> &[ClusterNode] {
        self.view.cluster.as_ref().map_or(&[], |cluster| &cluster.nodes)
    }
}

fn role(view: &EngineView) -> &'static str {
    match view.role {
        Some(Role::Primary) => "primary",
        Some(Role::Replica) => "replica",
        None => "-",
    }
}

fn link(view: &EngineView) -> &'static str {
    match &view.link {
        None => "-",
        Some(link) if link.up => "up",
        Some(_) => "down",
    }
}

/// One field of one process, for `await` and `hold`.
pub(crate) fn value(seen: &Observed, all: &[Observed], field: &str) -> String {
    let view = &seen.view;
    let cluster = view.cluster.as_ref();
    let yes = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
    match field {
        "role" => role(view).into(),
        "link" => link(view).into(),
        "follows" => view.link.as_ref().map_or("-".into(), |link| seen.place_name(&link.host, link.port)),
        "keys" => view.keys.to_string(),
        "loading" => yes(view.loading),
        "online" => view.replicas.iter().filter(|replica| replica.online).count().to_string(),
        "state" => cluster.map_or("-", |cluster| if cluster.ok { "ok" } else { "fail" }).into(),
        "epoch" => cluster.map_or(0, |cluster| cluster.my_epoch).to_string(),
        "current" => cluster.map_or(0, |cluster| cluster.current_epoch).to_string(),
        "known" => seen.nodes().len().to_string(),
        "met" => yes(seen.nodes().iter().all(|node| !node.handshake && (node.connected || node.fail))),
        "replicas-known" => {
            seen.nodes().iter().filter(|node| !node.primary && node.primary_id.is_some()).count().to_string()
        }
        "slots" => seen.nodes().iter().find(|node| node.myself).map(slots).unwrap_or_default(),
        "second" => yes(!view.replid2.is_empty()),
        _ => match field.split_once('.') {
            // `like.b`: the same history and offset as b; `sees.b`: the flags that it gives to b; `owns.b`: the slots.
            Some(("history", other)) => {
                yes(all.iter().any(|seen| seen.name == other && seen.view.replid == view.replid))
            }
            Some(("even", other)) => yes(all.iter().any(|seen| {
                seen.name == other && seen.view.replid == view.replid && seen.view.offset == view.offset
            })),
            Some(("after", other)) => {
                yes(all.iter().any(|seen| seen.name == other && seen.view.offset < view.offset))
            }
            Some(("was", other)) => {
                yes(all.iter().any(|seen| seen.name == other && seen.view.replid2 == view.replid))
            }
            Some(("sees", other)) => seen
                .nodes()
                .iter()
                .find(|node| seen.id_name(&node.id) == other)
                .map_or_else(|| "-".into(), flags),
            Some(("owns", other)) => seen
                .nodes()
                .iter()
                .find(|node| seen.id_name(&node.id) == other)
                .map_or_else(|| "-".into(), slots),
            _ => panic!("no field {field}"),
        },
    }
}

fn flags(node: &ClusterNode) -> String {
    let mut flags = String::from(if node.primary { "primary" } else { "replica" });
    for (has, word) in [(node.pfail, "+pfail"), (node.fail, "+fail"), (node.handshake, "+noaddr")] {
        if has {
            flags += word;
        }
    }
    flags
}

fn slots(node: &ClusterNode) -> String {
    if node.slots.is_empty() {
        return "none".into();
    }
    let ranges: Vec<String> = node.slots.iter().map(|(first, last)| format!("{first}-{last}")).collect();
    ranges.join(",")
}

/// Everything, in words that are the same in two worlds where the same is the case.
pub(crate) fn show(all: &[Observed]) -> String {
    let mut histories: Vec<&str> = Vec::new();
    for seen in all {
        for id in [&seen.view.replid, &seen.view.replid2] {
            if !id.is_empty() && !histories.contains(&id.as_str()) {
                histories.push(id);
            }
        }
    }
    let history = |id: &str| {
        histories.iter().position(|known| *known == id).map_or("-".into(), |n| format!("H{}", n + 1))
    };
    let mut text = String::new();
    for seen in all {
        let view = &seen.view;
        // How many processes of the same history are ahead of it.
        let ahead =
            all.iter().filter(|o| o.view.replid == view.replid && o.view.offset > view.offset).count();
        let _ = write!(
            text,
            "{}: {} {} second {} behind {ahead} keys {}",
            seen.name,
            role(view),
            history(&view.replid),
            history(&view.replid2),
            view.keys
        );
        if let Some(link) = &view.link {
            let _ = write!(
                text,
                " follows {} {}",
                seen.place_name(&link.host, link.port),
                if link.up { "up" } else { "down" }
            );
        }
        let mut replicas: Vec<String> = view
            .replicas
            .iter()
            .map(|replica| {
                let name = seen.place_name(&replica.host, replica.port);
                format!("{name}{}", if replica.online { "" } else { "(waits)" })
            })
            .collect();
        replicas.sort();
        let _ = writeln!(text, " replicas [{}]", replicas.join(" "));
        let Some(cluster) = &view.cluster else { continue };
        let state = if cluster.ok { "ok" } else { "fail" };
        let _ = writeln!(text, "   {state} epochs {}/{}", cluster.my_epoch, cluster.current_epoch);
        let mut lines: Vec<String> = cluster
            .nodes
            .iter()
            .map(|node| {
                let follows =
                    node.primary_id.as_ref().map_or(String::new(), |id| format!(" of {}", seen.id_name(id)));
                let open: Vec<String> = node
                    .open_slots
                    .iter()
                    .map(|open| open.chars().take_while(|c| *c != '-').collect())
                    .collect();
                format!(
                    "   {} {}{follows} {} epoch {} slots {}{}{}",
                    seen.id_name(&node.id),
                    flags(node),
                    if node.connected { "connected" } else { "apart" },
                    node.epoch,
                    slots(node),
                    if open.is_empty() { "" } else { " open " },
                    open.join(" "),
                )
            })
            .collect();
        lines.sort();
        for line in lines {
            let _ = writeln!(text, "{line}");
        }
    }
    text
}
