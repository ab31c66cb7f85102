//! A volume that is full, with a real engine on a small file system of its own. Mounting it needs root.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod support;

use kagami_protocol::*;
use std::path::PathBuf;
use std::process::Command as Program;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use support::*;

/// A small file system over a directory, for as long as this lives.
struct Small(PathBuf);

impl Small {
    fn over(dir: &Dir, mib: u32) -> Self {
        let size = format!("size={mib}m");
        let mounted =
            Program::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(dir.path()).output();
        let mounted = mounted.expect("the program `mount` is needed for a volume that can be full");
        assert!(
            mounted.status.success(),
            "a small tmpfs could not be mounted, which needs root (CAP_SYS_ADMIN): {}",
            String::from_utf8_lossy(&mounted.stderr)
        );
        Self(dir.path().to_owned())
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Program::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn left(report: &Report) -> u64 {
    report.volume.unwrap().free_percent()
}

#[tokio::test]
async fn a_full_volume_is_told_of_and_loses_nothing_that_was_confirmed() {
    let data = Arc::new(dir());
    let small = Small::over(&data, 32);
    let ballast = data.path().join("ballast");
    std::fs::write(&ballast, vec![1; 8 << 20]).unwrap();
    let setup = Setup { data: data.clone(), persistent: true, ..Setup::default() };
    let node = Node::run("dva-0001-001", setup);
    let operator = Operator::of(&node).await;
    let report = operator.until("how full the volume is", |report| report.volume.is_some()).await;
    assert_eq!((report.volume.unwrap().bytes, report.is_short()), (32 << 20, false));
    operator.start(append_only(node.start(primary(), false))).await;
    operator.until("a primary", running(Role::Primary)).await;

    // Until the engine refuses writes: what it says yes to is confirmed.
    let mut client = node.client().await.unwrap();
    let value = "x".repeat(64 * 1024);
    let mut confirmed = 0;
    let refused = loop {
        match set(&mut client, &format!("key:{confirmed}"), &value).await {
            Ok(()) => confirmed += 1,
            Err(error) => break error,
        }
        assert!(confirmed < 1_000, "the volume does not fill");
        if confirmed % 50 == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    assert!(refused.to_string().contains("MISCONF"), "{refused}");
    let told = operator
        .until("the failed write and how little is left", |report| {
            left(report) < 5 && report.engine.as_ref().is_some_and(|engine| engine.write_failed)
        })
        .await;
    assert!(told.is_short(), "{:?}", told.volume);
    let metrics = node.http("/metrics").await.1;
    assert!(metrics.contains("kagami_agent_engine_write_failed 1\n"), "{metrics}");

    // Orders are obeyed, and their term is on the volume before that: the note has its room already.
    operator.term.store(5, Ordering::Relaxed);
    operator.order(None, Command::KeepTerm).await.unwrap();
    let record = std::fs::read_to_string(data.path().join(".kagami/record.json")).unwrap();
    let record: Record = serde_json::from_str(&record).unwrap();
    assert_eq!((record.term, record.complete), (5, true));
    let get = redis::cmd("GET").arg("key:0").query_async::<String>(&mut client).await.unwrap();
    assert_eq!(get.len(), value.len(), "reads go on");

    // Room again, and all is well by itself.
    std::fs::remove_file(&ballast).unwrap();
    operator
        .until("well again", |report| {
            !report.is_short()
                && report.trouble.is_empty()
                && report.engine.as_ref().is_some_and(|engine| !engine.write_failed)
        })
        .await;
    set(&mut client, "after", "1").await.unwrap();
    assert_eq!(count(&mut client).await, confirmed + 1);

    // And on the volume, too.
    tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
    node.kill_engine();
    operator.until("parked", parked).await;
    operator.start(Start { data: StartData::Keep, ..append_only(node.start(primary(), false)) }).await;
    operator.until("loaded", |report| report.engine.as_ref().is_some_and(|engine| engine.complete)).await;
    assert_eq!(count(&mut node.client().await.unwrap()).await, confirmed + 1);
    drop(node);
    drop(small);
}

#[tokio::test]
async fn a_node_without_a_volume_tells_of_none() {
    let node = Node::run("dva-0001-001", Setup::default());
    let operator = Operator::of(&node).await;
    operator.start(node.start(primary(), false)).await;
    operator.until("a primary", running(Role::Primary)).await;
    tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
    assert_eq!(operator.report().await.volume, None);
}
