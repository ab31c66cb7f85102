//! Scripts as data: one step a line, run in any world.
//!
//! ```text
//! form a,b c,d               a cluster: shards with their primary first (slots in equal parts), met and in sync
//! pair a,b                   cluster mode disabled: a primary with its replicas
//! start a [option=value …]   a process (cluster=no, replicaof=b, closed, at=b, any directive); `keep` keeps its nodes.conf
//! kill a   freeze a   thaw a   wipe a   wait 500
//! fill a 100 {bar}           writes keys {bar}0 … to it
//! a: CLUSTER FORGET $b => ERR unknown     a command; what it says must begin so (several: OK|ERR; `~` contains)
//! begin w a {bar}x           a client's SET, which may have to wait;  `ended w => OK`, `waits w`
//! get a {bar}1 => found      a client's read, READONLY before it
//! await 3000 a role=primary link=up …     within that time
//! hold 1000 a keys=100       during all of that time
//! show                       everything that is seen of every process: the same in both worlds
//! ```
//! A line that begins with `[redis<7.2]` or `[valkey>=9.1]` and the like is for those versions only.

use super::observation::{Observed, show, value};
use kagami_simulator::engine::Kind;
use std::path::Path;

pub(crate) struct Script {
    pub(crate) name: String,
    lines: Vec<String>,
}

/// What happens to a client's request that may have to wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Waits,
    Said(String),
}

pub(crate) trait World {
    fn version(&self) -> (Kind, (u8, u8, u8));
    fn start(&mut self, name: &str, options: &[&str]);
    fn kill(&mut self, name: &str);
    fn freeze(&mut self, name: &str, frozen: bool);
    fn wipe(&mut self, name: &str);
    fn pass(&mut self, ms: u64);
    fn now_ms(&self) -> u64;
    /// A command and what it is answered, in one line; errors with their code first, `-` if nobody answers.
    fn command(&mut self, name: &str, words: &[String]) -> String;
    fn begin(&mut self, client: &str, name: &str, key: &str);
    fn request(&mut self, client: &str) -> Request;
    fn get(&mut self, name: &str, key: &str) -> String;
    fn observe(&mut self) -> Vec<Observed>;
    /// Host, port and bus port of a place.
    fn address(&self, name: &str) -> (String, u16, u16);
    fn fill(&mut self, name: &str, keys: &[String]);
}

const STEP_MS: u64 = 20;
/// How long a model is left alone before it is shown.
const SETTLED_MS: u64 = 3_000;
/// How long a real world is given until it looks like the model, after whatever the script waited for itself.
const SAME_WITHIN_MS: u64 = 8_000;

impl Script {
    pub(crate) fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap();
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self {
            name: path.file_stem().unwrap().to_string_lossy().into_owned(),
            lines: lines.map(str::to_owned).collect(),
        }
    }

    /// Runs all lines. Answers what was said and shown; with `like`, that must be the same.
    pub(crate) fn run(&self, world: &mut dyn World, like: Option<&[String]>) -> Result<Vec<String>, String> {
        let mut said = Vec::new();
        for (number, line) in self.lines.iter().enumerate() {
            let Some(line) = for_version(line, world.version()) else { continue };
            let expected = like.map(|like| like.get(said.len()).cloned().unwrap_or_default());
            if let Err(failure) = step(world, line, &mut said, expected) {
                return Err(format!("{line:?} (step {}): {failure}\n{}", number + 1, show(&world.observe())));
            }
        }
        Ok(said)
    }
}

/// The rest of a line, if it is for this version.
fn for_version(line: &str, (kind, version): (Kind, (u8, u8, u8))) -> Option<&str> {
    let Some((condition, rest)) = line.strip_prefix('[').and_then(|line| line.split_once(']')) else {
        return Some(line);
    };
    let holds = condition.split('|').any(|condition| {
        let of_kind = if condition.starts_with("redis") {
            kind == Kind::Redis
        } else if condition.starts_with("valkey") {
            kind == Kind::Valkey
        } else {
            true
        };
        let tail = condition.trim_start_matches(|c: char| c.is_alphabetic());
        let number = |text: &str| {
            let (major, minor) = text.split_once('.').unwrap();
            (major.parse::<u8>().unwrap(), minor.parse::<u8>().unwrap())
        };
        let is = (version.0, version.1);
        let in_range = match tail {
            "" => true,
            _ if tail.starts_with(">=") => is >= number(&tail[2..]),
            _ => is < number(&tail[1..]),
        };
        of_kind && in_range
    });
    holds.then_some(rest.trim())
}

fn step(
    world: &mut dyn World,
    line: &str,
    said: &mut Vec<String>,
    like: Option<String>,
) -> Result<(), String> {
    let (line, expected) = match line.split_once("=>") {
        Some((line, expected)) => (line.trim(), Some(expected.trim())),
        None => (line, None),
    };
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    match words.as_slice() {
        ["form", shards @ ..] => form(world, shards)?,
        ["pair", nodes] => pair(world, nodes)?,
        ["start", name, options @ ..] => world.start(name, options),
        ["kill", names @ ..] => names.iter().for_each(|name| world.kill(name)),
        ["freeze", name] => world.freeze(name, true),
        ["thaw", name] => world.freeze(name, false),
        ["wipe", name] => world.wipe(name),
        ["wait", ms] => world.pass(ms.parse().unwrap()),
        ["fill", name, count, tag] => {
            let keys: Vec<String> = (0..count.parse::<u32>().unwrap()).map(|n| format!("{tag}{n}")).collect();
            world.fill(name, &keys);
        }
        ["begin", client, name, key] => world.begin(client, name, key),
        ["ended", client] => {
            let mut outcome = world.request(client);
            let until = world.now_ms() + 2_000;
            while outcome == Request::Waits && world.now_ms() < until {
                world.pass(STEP_MS);
                outcome = world.request(client);
            }
            let Request::Said(answer) = outcome else { return Err("it still waits".into()) };
            answered(&answer, expected, said, like)?;
        }
        ["waits", client] => {
            let outcome = world.request(client);
            if outcome != Request::Waits {
                return Err(format!("it does not wait: {outcome:?}"));
            }
        }
        ["get", name, key] => {
            let answer = world.get(name, key);
            answered(&answer, expected, said, like)?;
        }
        ["await", ms, name, conditions @ ..] => {
            let until = world.now_ms() + ms.parse::<u64>().unwrap();
            while let Err(failure) = holds(world, name, conditions) {
                if world.now_ms() >= until {
                    return Err(failure);
                }
                world.pass(STEP_MS);
            }
        }
        ["hold", ms, name, conditions @ ..] => {
            let until = world.now_ms() + ms.parse::<u64>().unwrap();
            while world.now_ms() < until {
                holds(world, name, conditions)?;
                world.pass(STEP_MS);
            }
        }
        ["show"] => {
            world.pass(if like.is_none() { SETTLED_MS } else { STEP_MS });
            let until = world.now_ms() + SAME_WITHIN_MS;
            let text = loop {
                let text = show(&world.observe());
                match &like {
                    Some(like) if *like != text && world.now_ms() < until => world.pass(STEP_MS * 5),
                    _ => break text,
                }
            };
            if let Some(like) = like.filter(|like| *like != text) {
                return Err(format!("the model shows\n{like}but it is\n{text}"));
            }
            said.push(text);
        }
        [name, rest @ ..] if name.ends_with(':') => {
            let words: Vec<String> = rest.iter().map(|word| substitute(world, word)).collect();
            let answer = world.command(name.trim_end_matches(':'), &words);
            answered(&answer, expected.or(Some("OK")), said, like)?;
        }
        _ => return Err("not a step".into()),
    }
    Ok(())
}

fn answered(
    answer: &str,
    expected: Option<&str>,
    said: &mut Vec<String>,
    like: Option<String>,
) -> Result<(), String> {
    let first = answer.split_ascii_whitespace().next().unwrap_or_default().to_owned();
    let fits = |expected: &str| match expected.trim().strip_prefix('~') {
        Some(part) => answer.to_ascii_lowercase().contains(&part.trim().to_ascii_lowercase()),
        None => answer.starts_with(expected.trim()),
    };
    if let Some(expected) = expected.filter(|expected| *expected != "*" && !expected.split('|').any(fits)) {
        return Err(format!("answered {answer:?}, not {expected:?}"));
    }
    // The fakes' own words are nobody's business: the first word alone is compared.
    let may_differ = expected.is_some_and(|expected| expected == "*" || expected.contains('|'));
    if let Some(like) = like.filter(|like| *like != first && !may_differ) {
        return Err(format!("answered {answer:?}, the model {like:?}"));
    }
    said.push(first);
    Ok(())
}

/// `$b` is the node id of b, `@b` its host, port and bus port as three words.
fn substitute(world: &mut dyn World, word: &str) -> String {
    match word.strip_prefix('$') {
        Some(name) => id(world, name),
        None => word.to_owned(),
    }
}

fn id(world: &mut dyn World, name: &str) -> String {
    // `b` is the life that is the latest, also one that has ended; `b'` the one before it.
    let all = world.observe();
    let known = all.first().and_then(|seen| seen.names.iter().find(|(_, known)| known == name));
    known.map_or_else(String::new, |(id, _)| id.clone())
}

fn holds(world: &mut dyn World, name: &str, conditions: &[&str]) -> Result<(), String> {
    let all = world.observe();
    let names: Vec<&str> = name.split(',').collect();
    for name in names {
        let Some(seen) = all.iter().find(|seen| seen.name == name) else {
            return Err(format!("{name} is not there"));
        };
        for condition in conditions {
            let (field, wanted) = condition.split_once('=').unwrap();
            let is = value(seen, &all, field);
            if !wanted.split('|').any(|wanted| wanted == is) {
                return Err(format!("{name}: {field} is {is}, not {wanted}"));
            }
        }
    }
    Ok(())
}

fn command(world: &mut dyn World, name: &str, words: &[&str]) -> Result<(), String> {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let answer = world.command(name, &words);
    if answer.starts_with("OK") { Ok(()) } else { Err(format!("{name}: {words:?}: {answer}")) }
}

/// As the agents do it: epochs and slots at once, a mesh of meetings, replicas as soon as the primary is known.
fn form(world: &mut dyn World, shards: &[&str]) -> Result<(), String> {
    let (shards, options): (Vec<&str>, Vec<&str>) = shards.iter().partition(|word| !word.contains('='));
    let shards: Vec<Vec<&str>> = shards.iter().map(|shard| shard.split(',').collect()).collect();
    let all: Vec<&str> = shards.iter().flatten().copied().collect();
    for name in &all {
        world.start(name, &options);
    }
    let width = 16_384 / shards.len();
    // An epoch for each, though only primaries need one: otherwise chance decides how many collisions are resolved.
    for (number, name) in shards
        .iter()
        .map(|shard| shard[0])
        .chain(shards.iter().flat_map(|s| s[1..].iter().copied()))
        .enumerate()
    {
        command(world, name, &["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()])?;
    }
    for (number, shard) in shards.iter().enumerate() {
        let first = number * width;
        let last = if number + 1 == shards.len() { 16_383 } else { first + width - 1 };
        let slots: Vec<String> = (first..=last).map(|slot| slot.to_string()).collect();
        for chunk in slots.chunks(2_048) {
            let mut words = vec!["CLUSTER", "ADDSLOTS"];
            words.extend(chunk.iter().map(String::as_str));
            command(world, shard[0], &words)?;
        }
    }
    for a in &all {
        for b in all.iter().filter(|b| *b != a) {
            let (host, port, bus) = world.address(b);
            command(world, a, &["CLUSTER", "MEET", &host, &port.to_string(), &bus.to_string()])?;
        }
    }
    for shard in &shards {
        let primary = id(world, shard[0]);
        for replica in &shard[1..] {
            let until = world.now_ms() + 5_000;
            while let Err(failure) = command(world, replica, &["CLUSTER", "REPLICATE", &primary]) {
                if world.now_ms() > until {
                    return Err(failure);
                }
                world.pass(STEP_MS);
            }
        }
    }
    let until = world.now_ms() + 15_000;
    let count = all.len().to_string();
    let replicas: Vec<&str> = shards.iter().flat_map(|shard| shard[1..].iter().copied()).collect();
    loop {
        let formed = holds(world, &all.join(","), &["state=ok", &format!("known={count}"), "met=yes"])
            .and_then(|()| {
                if replicas.is_empty() { Ok(()) } else { holds(world, &replicas.join(","), &["link=up"]) }
            })
            .and_then(|()| holds(world, &all.join(","), &[&format!("replicas-known={}", replicas.len())]));
        match formed {
            Ok(()) => return Ok(()),
            Err(failure) if world.now_ms() > until => return Err(failure),
            Err(_) => world.pass(STEP_MS),
        }
    }
}

fn pair(world: &mut dyn World, nodes: &str) -> Result<(), String> {
    let nodes: Vec<&str> = nodes.split(',').collect();
    world.start(nodes[0], &["cluster=no"]);
    for replica in &nodes[1..] {
        world.start(replica, &["cluster=no", &format!("replicaof={}", nodes[0])]);
    }
    let until = world.now_ms() + 10_000;
    while nodes.len() > 1 {
        match holds(world, &nodes[1..].join(","), &["link=up"]) {
            Ok(()) => break,
            Err(failure) if world.now_ms() > until => return Err(failure),
            Err(_) => world.pass(STEP_MS),
        }
    }
    Ok(())
}
