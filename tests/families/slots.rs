//! Slots that a person's interrupted migration left open.

use crate::support::engine::Connection;
use crate::support::group::{Node, clustered};
use crate::support::tools::throughout;
use crate::support::{Group, Keys, Sharing, eventually, seconds, tell};
use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Secret;
use kagami_api::names;

/// As who `redis-cli --cluster reshard` is run: clients may not set slots.
async fn administrator(group: &Group<'_>, node: &Node) -> Result<Connection> {
    let secret = group.story.api::<Secret>().get(&names::agent_secret(&group.name)).await?;
    let password = secret.data.and_then(|mut data| data.remove("agent-password")).context("no password")?;
    let password = String::from_utf8(password.0)?;
    let mut connection = group.connect(node).await?;
    connection.command(&["AUTH", "kagami-agent", password.trim()]).await?.text()?;
    Ok(connection)
}

/// The slots that an engine itself says are open.
async fn open(group: &Group<'_>, node: &Node) -> Result<Vec<String>> {
    let lines = group.ask(node, &["CLUSTER", "NODES"]).await?.text()?;
    let mine = lines.lines().find(|line| line.contains("myself")).unwrap_or_default();
    Ok(mine.split(' ').filter(|word| word.starts_with('[')).map(str::to_owned).collect())
}

#[tokio::test]
#[ignore = "needs a cluster with the operator"]
async fn an_interrupted_migration_is_ended_where_nothing_has_moved_and_told_where_something_has() -> Result<()>
{
    tell("open-slots", Sharing::SideBySide, seconds(420), async |story| {
        let group = Group::apply(story, "resharded", &clustered(2, 1)).await?;
        group.settled(seconds(120)).await?;
        let mut keys = Keys::of(&group, 1);
        keys.fill(600).await?;
        let (owner, other) = (group.primary_of("0001").await?, group.primary_of("0002").await?);
        let first = group.view(&owner).await?.slots.first().context("no slots")?.0;
        let (empty, moved) = (first.to_string(), (first + 1).to_string());
        let (mut at_owner, mut at_other) =
            (administrator(&group, &owner).await?, administrator(&group, &other).await?);
        let owner_id = at_owner.command(&["CLUSTER", "MYID"]).await?.text()?;
        let other_id = at_other.command(&["CLUSTER", "MYID"]).await?.text()?;
        for slot in [&empty, &moved] {
            at_other.command(&["CLUSTER", "SETSLOT", slot, "IMPORTING", &owner_id]).await?.text()?;
            at_owner.command(&["CLUSTER", "SETSLOT", slot, "MIGRATING", &other_id]).await?.text()?;
        }
        // A client of the second slot is sent to the other side, and writes there.
        let tag = crate::support::keys::tag(&[(first + 1, first + 1)])?;
        let late = format!("{{{tag}}}late");
        for words in [vec!["ASKING"], vec!["SET", &late, "1"]] {
            at_other.command(&words).await?.text()?;
        }
        // The first word of it may be from before the write.
        eventually("the slot of which a key moved is told of", seconds(20), async || {
            let told = group.degraded("SlotsOpen", seconds(20)).await?;
            ensure!(
                told.contains(&format!("slot {moved}")) && told.contains("redis-cli --cluster fix"),
                "{told}"
            );
            story.say(told);
            Ok(())
        })
        .await?;
        throughout("a migration that may be running is left alone", seconds(30), async || {
            ensure!(open(&group, &owner).await?.len() == 2, "closed before its time");
            Ok(())
        })
        .await?;
        eventually("the slot of which nothing moved is closed", seconds(60), async || {
            for node in [&owner, &other] {
                let open = open(&group, node).await?;
                ensure!(open.len() == 1 && open.iter().all(|mark| mark.contains(&moved)), "{open:?}");
            }
            Ok(())
        })
        .await?;
        story.say(group.event("SlotsOpen", seconds(20)).await?);
        group.degraded("SlotsOpen", seconds(20)).await?;
        // Nobody else has touched the key that moved.
        for words in [vec!["ASKING"], vec!["DEL", &late]] {
            let answer = at_other.command(&words).await?.text()?;
            ensure!(answer == "OK" || answer == "1", "{words:?}: {answer}");
        }
        group.settled(seconds(120)).await?;
        for node in [&owner, &other] {
            ensure!(open(&group, node).await?.is_empty(), "{} has open slots", node.name);
        }
        keys.all_there().await
    })
    .await
}
