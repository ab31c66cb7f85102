//! The page `docs/parameters.md`.

use super::table::ALL;
use super::{Allowed, Effect, Family, Parameter};

const HEAD: &str = "# Parameters\n\n\
    The parameters of the families that a `ParameterGroup` may be of, with ElastiCache's defaults and allowed values, and what each\n\
    becomes here. Every family has two built-in groups, `default.FAMILY` and `default.FAMILY.cluster.on`, which differ in\n\
    `cluster-enabled` alone; no object stands for them. The families before redis6.x belong to engines that ElastiCache no longer\n\
    offers. A change holds at once, for a few parameters (they are told as pending) from the next start of an engine. `kubectl get parametergroup NAME -o yaml` shows the values that engines\n\
    run with in `status.parameters`, save those that depend on the node type or on a volume.\n\
    This page is made from `crates/api/src/parameters`; `UPDATE=1 cargo test -p kagami-api` writes it anew.\n\n\
    | parameter | families | type | default | allowed | ElastiCache lets it be modified | here |\n|---|---|---|---|---|---|---|\n";

/// The page `docs/parameters.md`.
pub fn markdown() -> String {
    ALL.iter().fold(HEAD.to_owned(), |page, parameter| page + &row(parameter))
}

fn row(parameter: &Parameter) -> String {
    let families: Vec<&str> =
        Family::ALL.iter().filter(|family| parameter.is_in(**family)).map(|family| family.as_str()).collect();
    let families = if families.len() == Family::ALL.len() { "all".to_owned() } else { families.join(", ") };
    let default = match parameter.default {
        "" if parameter.depends_on_the_group() => "by node type".to_owned(),
        "" => "empty".to_owned(),
        value => format!("`{value}`"),
    };
    let kind = match parameter.allowed {
        Allowed::Range(..) | Allowed::ZeroOrRange(..) => "integer",
        _ if parameter.default.parse::<i64>().is_ok() => "integer",
        _ => "string",
    };
    let (allowed, modified) = match (parameter.modifiable, parameter.needs_restart) {
        (false, _) => ("–".to_owned(), "no"),
        (true, false) => (format!("`{}`", parameter.allowed), "yes, at once"),
        (true, true) => (format!("`{}`", parameter.allowed), "yes, by a restart"),
    };
    format!(
        "| `{}` | {families} | {kind} | {default} | {allowed} | {modified} | {} |\n",
        parameter.name,
        here(parameter)
    )
}

fn here(parameter: &Parameter) -> String {
    match parameter.effect {
        Effect::Directive => "in effect".to_owned(),
        Effect::DirectiveIfGiven if parameter.name == "repl-backlog-size" => {
            "in effect; where it is not given, 64 MiB, so that a replica that was away resumes".to_owned()
        }
        Effect::DirectiveIfGiven => "in effect where it is given".to_owned(),
        Effect::DirectiveUnclustered => {
            "in effect with cluster mode disabled; a cluster has one database".to_owned()
        }
        Effect::OutputBuffer => "in effect, as a part of client-output-buffer-limit".to_owned(),
        Effect::ReservedMemory => "in effect: maxmemory is what it leaves of the node's memory".to_owned(),
        Effect::ClusterMode => {
            "in effect: decides the cluster mode where clusterMode is not given".to_owned()
        }
        Effect::MetByItself(reason) => format!("met by itself: {reason}"),
        Effect::Only(_, sentence) => format!("refused otherwise: {sentence}"),
        Effect::Fixed if parameter.name == "appendonly" => {
            "no, and yes for a group with kubernetes.storage".to_owned()
        }
        Effect::Fixed if parameter.name == "maxclients" => {
            "of the node type: 65000, and 20000 of the smallest; without a node type the engine's own, 10000. An engine whose \
             container may open fewer files takes as many as it can, and its log says so"
                .to_owned()
        },
        Effect::Fixed if parameter.name == "maxmemory" => {
            "of the node type, less reserved-memory-percent".to_owned()
        }
        Effect::Fixed if parameter.name.starts_with("client-output-buffer-limit-replica") => {
            "a tenth of maxmemory for 60 seconds, as ElastiCache has it".to_owned()
        }
        Effect::Fixed => "as ElastiCache has it; another value is refused".to_owned(),
    }
}
