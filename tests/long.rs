//! The stories that take longer than `make test` may: `make test-long`.

#[expect(dead_code, reason = "the harness serves both sets of stories, and these need less of it")]
mod support;

#[path = "families/ten_kills.rs"]
mod ten_kills;
// Sorted behind the others, so that these wait for nobody in the middle of a run.
#[path = "families/gone.rs"]
mod when_machines_are_gone;
#[path = "families/machines.rs"]
mod when_machines_fail;
#[path = "families/nemesis_long.rs"]
mod with_a_nemesis;
