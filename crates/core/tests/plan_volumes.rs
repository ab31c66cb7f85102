//! Volumes that are full, or will be soon.

mod support;

use kagami_core::observed::Claim;
use support::{assert_plan, draw, short};

const PAIR: &str = "1x2 plain volumes formed\n lease 0001 holder 0001-001 served\n 0001-001 primary 100";

#[test]
fn a_volume_is_told_of_before_it_is_full_and_one_that_cannot_be_written_to_at_once() {
    for (words, told) in [
        ("left 50", false),
        ("left 5", false),
        ("left 4", true),
        ("left 0 write-failed", true),
        // An append-only file or a snapshot that failed for another reason, with room enough.
        ("left 50 write-failed", false),
        ("write-failed", false),
    ] {
        let expected = if told { "wait VolumeFull 0001-001" } else { "" };
        let scene = draw(&format!("{PAIR} {words} data 1 100\n 0001-002 replica 100 of 0001-001 data 1 100"));
        println!("{words}");
        assert_plan(&scene, expected);
    }
}

#[test]
fn a_snapshot_that_found_no_room_is_told_of_while_some_is_left() {
    let mut scene = draw(&format!(
        "{PAIR} left 30 write-failed data 1 100\n 0001-002 replica 100 of 0001-001 data 1 100"
    ));
    assert_plan(&scene, "");
    scene.report("0001-001").engine.as_mut().unwrap().used_memory_bytes = 40 << 20;
    assert_plan(&scene, "wait VolumeFull 0001-001");
}

#[test]
fn what_is_told_says_how_much_is_left_and_what_to_do() {
    let mut scene =
        draw(&format!("{PAIR} data 1 100\n 0001-002 replica 100 of 0001-001 left 0 write-failed data 1 100"));
    let claim = Claim { name: "data-g-0001-002-0".into(), ..Claim::default() };
    scene.observed.claims.insert("g-0001-002".into(), claim);
    scene.report("0001-002").kept = Some(kagami_protocol::Record::default());
    let told = short(&scene.plan().1);
    assert_eq!(
        told.trim(),
        "wait VolumeFull 0001-002: 0 bytes of 100 MiB are left on its volume, and the engine could not write to it; the engine may refuse \
         its clients' writes (MISCONF); enlarge its claim data-g-0001-002-0, or delete keys, or what is put aside under .kagami/previous"
            .replace("g-0", "0")
    );
}

#[test]
fn of_equal_copies_the_one_with_room_is_promoted_and_a_further_one_whatever_its_room() {
    let dead = "1x3 plain volumes formed\n lease 0001 holder 0001-001 served\n 0001-001 parked boot 2";
    for (first, second, promoted) in [
        ("100", "100", "0001-002"),
        ("100 left 0", "100", "0001-003"),
        ("100 left 0", "100 left 1", "0001-002"),
        ("101 left 0", "100", "0001-002"),
    ] {
        let scene = draw(&format!(
            "{dead}\n 0001-002 replica {first} of 0001-001 down 10 data 1 100\n 0001-003 replica {second} of 0001-001 down 10 data 1 100"
        ));
        let planned = short(&scene.plan().1);
        assert!(planned.contains(&format!("holder {promoted} (death)")), "{first}, {second}: {planned}");
    }
}
