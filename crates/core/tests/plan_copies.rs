//! What becomes of copies that come back: drawings, and what is planned for them. Each test is a sentence of promise P1.

mod support;

use kagami_core::observed::Agent;

use kagami_core::plan::Act;
use kagami_protocol::Command;
use support::{assert_plan, draw, events, table};

/// A shard of three with volumes that was started again in term 5, on 0001-001.
fn reborn(how: &str, nodes: &str) -> String {
    format!("1x3 plain volumes formed\n lease 0001 term 5 holder 0001-001 served reborn 5 {how}\n {nodes}")
}

#[test]
fn a_better_volume_that_comes_back_has_an_empty_shard_again() {
    let scene = draw(&reborn(
        "",
        "0001-001 primary 0 data 5 0\n 0001-002 parked data 4 1000 was-primary\n 0001-003 parked",
    ));
    assert_plan(
        &scene,
        "raise 0001 to term 6 holder 0001-002 (restore)
         order 0001-001 term 6: park if unwritten",
    );
    assert_eq!(
        events(&scene.plan().1),
        "Warning RestoredFromVolume: 0001-002 came back with a copy of term 4, offset 1000; node group 0001 had gone on without it from \
         nothing. It serves again from 0001-002."
    );
    assert!(scene.plan().1.confirms.is_empty(), "the lesser primary is no longer confirmed");
}

#[test]
fn it_is_started_only_when_the_lesser_primary_has_made_way() {
    let returned = "1x3 plain volumes formed\n lease 0001 term 6 holder 0001-002 previous 0001-001 cause restore served reborn 5 returned 6 4 1000";
    let node = "0001-002 parked data 4 1000 was-primary";
    assert_plan(
        &draw(&format!(
            "{returned}\n 0001-001 primary 0 data 5 0\n {node}\n 0001-003 replica 0 of 0001-001 data 5 0"
        )),
        "order 0001-001 term 6: park if unwritten",
    );
    // Then its replicas, which hold the same nothing.
    assert_plan(
        &draw(&format!(
            "{returned}\n 0001-001 parked boot 2 data 5 0 unwritten\n {node}\n 0001-003 replica 0 of 0001-001 down 50 data 5 0"
        )),
        "order 0001-003 term 6: park",
    );
    assert_plan(
        &draw(&format!(
            "{returned}\n 0001-001 parked boot 2 data 5 0 unwritten\n {node}\n 0001-003 parked boot 2"
        )),
        "order 0001-002 term 6: start as primary, keep data
         wait RecoveringNode 0001-001
         wait RecoveringNode 0001-003",
    );
    // Nothing of the lesser copy is worth keeping.
    assert_plan(
        &draw(&format!(
            "{returned}\n 0001-001 parked boot 2 data 5 0 unwritten\n 0001-002 primary 9 data 6 9\n 0001-003 parked boot 2"
        )),
        "order 0001-001 term 6: start as replica of 10.0.1.2, put data aside
         order 0001-003 term 6: start as replica of 10.0.1.2, put data aside",
    );
}

#[test]
fn a_write_in_the_last_moment_keeps_the_lesser_primary_in_office() {
    let scene = draw(
        "1x2 plain volumes formed\n lease 0001 term 6 holder 0001-002 previous 0001-001 cause restore served reborn 5 returned 6 4 1000
         0001-001 primary 7 keys 1 data 5 0\n 0001-002 parked data 4 1000 was-primary",
    );
    assert_plan(&scene, "raise 0001 to term 7 holder 0001-001 (adopted)");
    let raised = scene.plan().1.steps.into_iter().find_map(|step| match step.act {
        Act::RaiseTerm(raise) => Some(raise),
        _ => None,
    });
    let rebirths = raised.unwrap().rebirths;
    assert!(rebirths.len() == 1 && rebirths[0].returned.is_none(), "{rebirths:?}");
}

#[test]
fn a_better_volume_is_held_once_clients_have_written_to_the_lesser_copy() {
    for how in ["", "from 4 90"] {
        let scene = draw(&reborn(
            how,
            "0001-001 primary 7 keys 3 data 5 0\n 0001-002 parked data 4 1000 was-primary\n 0001-003 replica 7 of 0001-001 data 5 0",
        ));
        assert_plan(&scene, "wait CopyHeld 0001-002");
        assert_eq!(scene.plan().1.confirms.len(), 1, "the shard goes on serving");
        let words = support::short(&scene.plan().1);
        assert!(words.contains("a copy of term 4, offset 1000") && words.contains("=use"), "{words}");
    }
}

#[test]
fn a_volume_that_is_not_ahead_joins_as_ever() {
    for (how, data) in
        [("from 4 1000", "data 4 1000 was-primary"), ("from 4 90", "data 4 80"), ("", "data 5 10")]
    {
        let scene = draw(&reborn(
            how,
            &format!(
                "0001-001 primary 7 keys 3 data 5 0\n 0001-002 parked {data}\n 0001-003 replica 7 of 0001-001 data 5 0"
            ),
        ));
        assert_plan(&scene, "order 0001-002 term 5: start as replica of 10.0.1.1, put data aside");
    }
}

#[test]
fn a_person_decides_which_of_two_copies_serves() {
    let with = |word: &str| {
        draw(&reborn(
            "from 4 90",
            &format!(
                "0001-001 primary 7 keys 3 data 5 0\n 0001-002 parked data 4 1000 was-primary {word}\n 0001-003 replica 7 of 0001-001 data 5 0"
            ),
        ))
    };
    let kept = with("put-aside");
    assert_plan(&kept, "order 0001-002 term 5: start as replica of 10.0.1.1, put data aside and keep it");
    assert!(events(&kept.plan().1).contains("until somebody deletes it"));
    assert_plan(
        &with("use"),
        "raise 0001 to term 6 holder 0001-002 (restore)
         order 0001-001 term 6: park",
    );
    // And what was written to the other one since is kept beside it.
    let scene = draw(
        "1x2 plain volumes formed\n lease 0001 term 6 holder 0001-002 cause restore served reborn 5 from 4 90 returned 6 4 1000
         0001-001 parked boot 2 data 5 7\n 0001-002 primary 1010 data 6 0",
    );
    assert_plan(&scene, "order 0001-001 term 6: start as replica of 10.0.1.2, put data aside and keep it");
}

#[test]
fn a_live_copy_that_comes_back_is_not_told_to_follow_a_lesser_one() {
    let with = |holder: &str| {
        draw(&format!(
            "1x2 plain formed\n lease 0001 term 5 holder 0001-001 served reborn 5\n 0001-001 primary 0 {holder}
             0001-002 replica 1000 of 0001-001 down 90000 keys 9 foreign data 4 1000"
        ))
    };
    assert_plan(
        &with("data 5 0"),
        "raise 0001 to term 6 holder 0001-002 (adopted)
         order 0001-001 term 6: park if unwritten",
    );
    let held = table(&with("keys 2 data 5 0").plan().1);
    assert!(held.contains("wait CopyHeld 0001-002") && !held.contains("replicate"), "{held}");
    // The lesser one is gone: the better one is promoted.
    assert_plan(
        &draw(
            "1x2 plain formed\n lease 0001 term 6 holder 0001-002 previous 0001-001 cause adopted served reborn 5 returned 6 4 1000
             0001-001 parked boot 2\n 0001-002 replica 1000 of 0001-001 down 90000 keys 9 foreign data 4 1000",
        ),
        "order 0001-002 term 6: promote, offset at least None",
    );
}

/// Simulator, seed 12418: its first replica gives a lone primary a new history, and the replica told of it first.
#[test]
fn a_replica_in_sync_is_no_better_copy_whatever_its_primary_told_last_of_its_history() {
    let shard = "1x2 plain formed\n lease 0001 term 5 holder 0001-001 served reborn 5\n 0001-001 primary 0 foreign data 5 0";
    let planned = table(&draw(&format!("{shard}\n 0001-002 replica 1 of 0001-001")).plan().1);
    assert!(!planned.contains("raise") && !planned.contains("park"), "{planned}");
    let planned = table(&draw(&format!("{shard}\n 0001-002 replica 1 of 0001-001 down 9")).plan().1);
    assert!(planned.contains("raise 0001 to term 6 holder 0001-002"), "{planned}");
}

/// The lease names an earlier life of the lesser primary as the one before: it makes way all the same, and only if nothing was written.
#[test]
fn a_lesser_primary_that_the_lease_does_not_name_makes_way_if_nothing_was_written() {
    let shard = "1x2 plain formed\n lease 0001 term 6 holder 0001-002 previous 0001-001/1 cause adopted served reborn 5 returned 6 4 1000
                 0001-002 replica 1000 of 0001-001 down 90000 keys 9 foreign data 4 1000";
    assert_plan(
        &draw(&format!("{shard}\n 0001-001 primary 0 boot 2 data 5 0")),
        "order 0001-001 term 6: park if unwritten",
    );
    let written = table(&draw(&format!("{shard}\n 0001-001 primary 7 keys 1 boot 2 data 5 0")).plan().1);
    assert!(!written.contains("park"), "{written}");
}

#[test]
fn an_old_primary_that_comes_back_does_not_serve_beside_the_lesser_one() {
    let scene = draw(
        "1x2 plain formed\n lease 0001 term 6 holder 0001-002 previous 0001-001 cause adopted served reborn 5 returned 6 4 1000
         0001-001 primary 0 data 5 0\n 0001-002 primary 1000 keys 9 foreign fenced data 4 1000",
    );
    assert_plan(&scene, "order 0001-001 term 6: park if unwritten");
    assert!(scene.plan().1.confirms.is_empty(), "neither is confirmed");
}

#[test]
fn what_a_person_has_not_decided_survives_further_failovers() {
    // The lesser copy has failed over since; the better one comes back only now.
    let scene = draw(
        "1x3 plain volumes formed\n lease 0001 term 8 holder 0001-003 served reborn 5 from 4 90
         0001-001 parked boot 2 data 7 20\n 0001-002 parked data 4 1000 was-primary\n 0001-003 primary 30 keys 3 data 8 30",
    );
    assert_plan(
        &scene,
        "order 0001-001 term 8: start as replica of 10.0.1.3, put data aside
         wait CopyHeld 0001-002",
    );
}

#[test]
fn a_total_outage_restores_the_better_volume_if_the_lesser_one_was_never_written() {
    let scene = draw(
        "1x2 plain volumes formed\n lease 0001 term 5 holder 0001-001 served reborn 5
         0001-001 parked boot 2 data 5 0 was-primary unwritten\n 0001-002 parked data 4 1000 was-primary",
    );
    let planned = table(&scene.plan().1);
    assert!(planned.contains("raise 0001 to term 6 holder 0001-002 (restore)"), "{planned}");
}

#[test]
fn an_old_agent_is_not_trusted_to_keep_what_is_put_aside() {
    let scene = draw(&reborn(
        "from 4 90",
        "0001-001 primary 7 keys 3 data 5 0\n 0001-002 parked data 4 1000 was-primary put-aside old-agent\n 0001-003 replica 7 of 0001-001 data 5 0",
    ));
    assert_plan(&scene, "wait AgentTooOld 0001-002");
    let scene = draw(&reborn(
        "",
        "0001-001 primary 0 data 5 0 old-agent\n 0001-002 parked data 4 1000 was-primary\n 0001-003 parked",
    ));
    let planned = table(&scene.plan().1);
    assert!(
        planned.contains("wait AgentTooOld 0001-001") && planned.contains("wait CopyHeld 0001-002"),
        "{planned}"
    );
    assert!(!planned.contains("raise"), "{planned}");
}

// A volume against a stale live copy.

#[test]
fn a_volume_of_a_later_term_is_not_passed_over_for_a_stale_live_copy() {
    let scene = |data: &str, more: &str| {
        draw(&format!(
            "1x2 plain volumes formed\n lease 0001 term 5 holder 0001-001 served\n 0001-001 parked boot 2 {data} was-primary {more}
             0001-002 replica 900 of 0001-001 down 600000 data 4 900"
        ))
    };
    let restored = scene("data 5 100", "");
    assert_plan(
        &restored,
        "raise 0001 to term 6 holder 0001-001 (restore)
         order 0001-001 term 6: start as primary, keep data
         wait AwaitingSync 0001-002",
    );
    assert!(events(&restored.plan().1).contains("Only a stale live copy of node group 0001 was left"));
    // A volume that cannot be loaded is no better copy.
    let planned = table(&scene("data 5 100", "unloadable").plan().1);
    assert!(planned.contains("order 0001-002 term 6: promote"), "{planned}");
    let planned = table(&scene("data 4 100", "").plan().1);
    assert!(planned.contains("order 0001-002 term 6: promote"), "{planned}");
}

#[test]
fn within_a_term_only_a_copy_that_had_lost_its_primary_long_before_is_stale() {
    let scene = |down: u64| {
        draw(&format!(
            "1x2 plain volumes formed\n lease 0001 term 5 holder 0001-001 served\n 0001-001 parked boot 2 data 5 1000 was-primary
             0001-002 replica 900 of 0001-001 down {down} data 5 900"
        ))
    };
    // An ordinary death: what the replica misses is the tail that nobody had confirmed.
    assert!(table(&scene(500).plan().1).contains("order 0001-002 term 6: promote"));
    assert!(table(&scene(600_000).plan().1).contains("(restore)"));
    // The primary died ten minutes ago, too; only its note was written again, for a new leader or term.
    let mut together = scene(600_000);
    if let Agent::Up(report) = &mut together.observed.nodes.get_mut("g-0001-001").unwrap().agent {
        report.record.as_mut().unwrap().data_at_ms = support::NOW_MS - 600_000;
    }
    assert!(table(&together.plan().1).contains("order 0001-002 term 6: promote"));
}

/// Found by the simulator (seed 12369): a replica that had been cut off for twenty seconds lived, and the other, which had every
/// confirmed write, had just been killed beside its volume: the live one was promoted.
#[test]
fn p1_a_replicas_volume_that_is_further_in_one_history_is_not_passed_over_for_a_live_copy() {
    let planned = |primary: &str, volume: &str, live: &str| {
        let (_, plan) = draw(&format!(
            "1x3 cluster volumes formed\n lease 0001 term 5 holder 0001-001 served\n 0001-001 {primary}
             0001-002 parked boot 2 {volume}\n 0001-003 replica 900 of 0001-001 {live} data 5 900"
        ))
        .plan();
        table(&plan)
    };
    let (gone, further) = ("parked boot 2", "data 5 1000 was-replica");
    for live in ["down 2000", "quiet"] {
        let restored = planned(gone, further, live);
        assert!(restored.starts_with("raise 0001 to term 6 holder 0001-002 (restore)"), "{restored}");
        assert!(restored.contains("start as primary of 0-16383 epoch 103, keep data"), "{restored}");
        // Its primary's own is no worse, and its note a little older.
        let restored = planned("parked boot 2 data 5 950 was-primary", further, live);
        assert!(restored.starts_with("raise 0001 to term 6 holder 0001-001 (restore)"), "{restored}");
    }
    for promoted in [
        planned(gone, "data 5 900 was-replica", "down 2000"),
        planned(gone, "data 4 1000 was-replica", "down 2000"),
        // It hears its primary still: what it told last is no longer all that it has.
        planned(gone, further, ""),
        planned(gone, further, "down 2000 foreign"),
        planned(gone, "data 5 1000 was-replica torn", "down 2000"),
        planned(gone, "data 5 1000 was-replica unloadable", "down 2000"),
        // What nobody had confirmed is no reason.
        planned("parked boot 2 data 5 1000 was-primary", "data 5 900 was-replica", "down 2000"),
    ] {
        assert!(promoted.contains("order 0001-003 term 6: promote"), "{promoted}");
    }
}

// A copy that cannot be asked.

/// Found by the simulator (seed 12101): the replica that had every confirmed write was cut off for seconds as the primary died, and the
/// one that lagged was promoted; as the first came back, it copied from it.
#[test]
fn p1_a_replica_out_of_reach_that_was_further_is_waited_for_a_minute() {
    let planned = |mode: &str, silent: u64, offset: i64| {
        table(
            &draw(&format!(
                "1x3 {mode} formed\n lease 0001 term 5 holder 0001-001 served\n 0001-001 parked boot 2
                 0001-002 replica 900 of 0001-001 down 30000 data 5 900
                 0001-003 silent {silent} replica {offset} of 0001-001 data 5 {offset}"
            ))
            .plan()
            .1,
        )
    };
    for mode in ["plain", "cluster"] {
        let waits = planned(mode, 20_000, 1000);
        assert!(waits.contains("wait PrimaryDown 0001-001") && !waits.contains("promote"), "{waits}");
        for goes_on in [planned(mode, 60_000, 1000), planned(mode, 20_000, 900), planned(mode, 20_000, 800)] {
            assert!(goes_on.contains("order 0001-002 term 6: promote"), "{goes_on}");
        }
    }
}

/// Found by the simulator (seed 20730): the only copy that had every confirmed write was a primary on a machine that stood still for
/// seconds, and a replica that had been cut off since before its term was promoted; as the first went on, it copied from that.
#[test]
fn p1_a_silent_primary_is_waited_for_a_minute_before_a_copy_that_has_nothing_of_its_term() {
    let planned = |mode: &str, silent: u64, live: &str| {
        let (_, plan) = draw(&format!(
            "1x3 {mode} formed\n lease 0001 term 5 holder 0001-001 served\n 0001-001 silent {silent} primary 1000 data 5 1000
             0001-002 parked boot 2\n 0001-003 replica 900 of 0001-001 down 30000 quiet {live}"
        ))
        .plan();
        table(&plan)
    };
    for mode in ["plain", "cluster"] {
        let waits = planned(mode, 20_000, "foreign data 4 900");
        assert!(waits.contains("wait PrimaryDown 0001-001") && !waits.contains("raise"), "{waits}");
        for goes_on in [
            planned(mode, 60_000, "foreign data 4 900"),
            planned(mode, 20_000, "foreign data 5 900"),
            // It followed by itself, and has merely not learnt the term.
            planned(mode, 20_000, "data 4 900"),
        ] {
            assert!(goes_on.starts_with("raise 0001 to term 6 holder 0001-003 (silence)"), "{goes_on}");
        }
    }
}

// Volumes that cannot be loaded.

#[test]
fn a_volume_that_could_not_be_loaded_comes_last_and_is_told_of() {
    let scene = draw(
        "1x2 plain volumes formed\n lease 0001 term 6 holder 0001-001 cause restore served
         0001-001 parked boot 2 data 5 1000 was-primary unloadable\n 0001-002 parked data 4 90",
    );
    assert_plan(
        &scene,
        "raise 0001 to term 7 holder 0001-002 (restore)
         order 0001-002 term 7: start as primary, keep data
         wait RecoveringNode 0001-001
         wait DataCannotBeLoaded 0001-001",
    );
    assert!(
        events(&scene.plan().1)
            .contains("The data of 0001-001 (term 5, offset 1000) could not be loaded and is kept as it is.")
    );
    // It is not deleted either when its node joins again.
    let scene = draw(
        "1x2 plain volumes formed\n lease 0001 term 7 holder 0001-002 cause restore served reborn 7 from 4 90
         0001-001 parked boot 2 data 5 1000 was-primary unloadable\n 0001-002 primary 90 data 7 90",
    );
    assert_plan(
        &scene,
        "order 0001-001 term 7: start as replica of 10.0.1.2, put data aside and keep it
         wait DataCannotBeLoaded 0001-001",
    );
}

#[test]
fn the_only_volume_is_tried_again_and_never_replaced_by_nothing() {
    let scene = draw(
        "1x1 plain volumes formed\n lease 0001 term 6 holder 0001-001 cause restore served\n 0001-001 parked boot 2 data 5 1000 unloadable",
    );
    assert!(table(&scene.plan().1).contains("start as primary, keep data"));
}

// Half copies.

#[test]
fn a_lone_half_synced_replica_is_parked_so_that_its_own_data_comes_back() {
    for half in ["0 of 0001-001 down 5000 incomplete", "0 of 0001-003 down 5000 incomplete"] {
        let scene = draw(&format!(
            "1x2 plain volumes formed\n lease 0001 term 5 holder 0001-001 served\n 0001-001 parked boot 2\n 0001-002 replica {half} data 5 0 torn"
        ));
        assert_plan(
            &scene,
            "order 0001-002 term 5: park
             wait NoLiveCopy 0001",
        );
    }
    // Without a volume it put nothing aside.
    let scene = draw(
        "1x2 plain formed\n lease 0001 term 5 holder 0001-001 served\n 0001-001 parked boot 2\n 0001-002 replica 0 of 0001-001 down 5000 incomplete",
    );
    assert!(table(&scene.plan().1).contains("(empty)"));
}

#[test]
fn an_old_agent_that_cannot_park_is_named_instead_of_asked_for_ever() {
    let scene = draw(
        "1x2 plain volumes formed\n lease 0001 term 5 holder 0001-001 served\n 0001-001 parked boot 2\n 0001-002 replica 0 of 0001-001 down 5000 incomplete data 5 0 torn old-agent",
    );
    let (_, plan) = scene.plan();
    let orders = plan.steps.iter().filter(
        |step| matches!(&step.act, Act::Order { command, .. } if matches!(**command, Command::Park { .. })),
    );
    assert_eq!(orders.count(), 0);
    assert!(table(&plan).contains("wait AgentTooOld 0001-002"));
}

/// The lease remembered that 0001-002 holds more than what the shard went on from, and somebody deleted it.
#[test]
fn p1_what_a_deleted_lease_had_held_is_put_aside_and_kept() {
    for others in ["0001-003 parked", "0001-003 replica 50 of 0001-001 data 5 50"] {
        let scene = draw(&format!(
            "1x3 plain volumes formed\n 0001-001 primary 50 data 5 50 term 5 keys 5\n 0001-002 parked data 4 1000 was-primary\n {others}"
        ));
        let planned = table(&scene.plan().1);
        assert!(planned.starts_with("raise 0001 to term 6 holder 0001-001 (adopted)"), "{planned}");
        assert!(
            planned
                .contains("order 0001-002 term 6: start as replica of 10.0.1.1, put data aside and keep it"),
            "{planned}"
        );
    }
    // It is remembered until everybody has caught up.
    let later = "1x3 plain volumes formed\n lease 0001 term 6 holder 0001-001 cause adopted served reborn 0 returned 5 0 0
        0001-001 primary 50 data 6 50 keys 5";
    let parked = format!("{later}\n 0001-002 parked data 4 1000\n 0001-003 replica 50 of 0001-001 data 6 50");
    assert_plan(
        &draw(&parked),
        "order 0001-002 term 6: start as replica of 10.0.1.1, put data aside and keep it",
    );
    // One that lives is parked for that; one of the same history has merely not learnt the term.
    let live = format!(
        "{later}\n 0001-002 replica 1000 of 0001-001 down 500 foreign data 4 1000 keys 9\n 0001-003 replica 50 of 0001-001 data 4 50 keys 5"
    );
    assert_plan(&draw(&live), "order 0001-002 term 6: park\n order 0001-003 term 6: keep term");
}

/// With its power a primary loses what it had not brought to the disk yet; a replica that ended in order has it.
#[test]
fn p1_a_primary_that_lost_its_power_is_not_preferred_to_a_replica_that_is_further() {
    let scene = |primary: &str| {
        draw(&format!(
            "1x2 plain volumes formed\n lease 0001 term 4 holder 0001-001 served\n 0001-001 parked boot 2 data 4 900 was-primary {primary}
             0001-002 parked boot 2 data 4 1000"
        ))
    };
    assert!(table(&scene("cut").plan().1).starts_with("raise 0001 to term 5 holder 0001-002 (restore)"));
    // One whose file is whole is ahead of its replicas, although its note is older than its last write.
    assert!(table(&scene("").plan().1).starts_with("raise 0001 to term 5 holder 0001-001 (restore)"));
}

#[test]
fn the_loss_is_told_also_when_somebody_had_deleted_the_lease() {
    let mut scene = draw("1x2 plain formed\n 0001-001 parked boot 2\n 0001-002 parked boot 2");
    scene.observed.last_offsets.insert("g-0001-001".into(), 4711);
    assert_plan(
        &scene,
        "raise 0001 to term 1 holder 0001-001 (empty)
         order 0001-001 term 1: start as primary, put data aside
         wait RecoveringNode 0001-002",
    );
    assert!(
        events(&scene.plan().1).starts_with("Warning DataLost: No live copy of node group 0001 was left")
    );
}

#[test]
fn a_holder_that_was_to_start_with_nothing_does_not_serve_beside_a_stale_live_copy() {
    let scene = draw(
        "1x2 plain volumes\n lease 0001 term 1 holder 0001-001 cause birth\n 0001-001 parked data 3 0
         0001-002 replica 0 of 0001-001 down 500 data 1 0",
    );
    let planned = table(&scene.plan().1);
    assert!(planned.starts_with("raise 0001 to term 2 holder 0001-001 (restore)"), "{planned}");
}
