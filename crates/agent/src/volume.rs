//! The data directory: what is a dataset, putting it aside, bringing it back.
//!
//! Data that is put aside keeps its own note. It is deleted only once this node is a replica in sync; should this
//! node be parked again before that, with nothing whole in its place, it comes back. A `moving` mark inside says that
//! the move itself was not finished, so that files on both sides belong together. A `keep` mark says that it was ahead of
//! what took its place: then only a person deletes it, and of several the furthest stays.

use crate::record::{self, RecordError, sync_dir};
use kagami_protocol::{Record, Volume};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What keeps the data from being moved.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VolumeError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Record(#[from] RecordError),
}

const MOVING: &str = "moving";
const KEEP: &str = "keep";
const NODES_CONF: &str = "nodes.conf";

/// Whether a name in the data directory belongs to the engine's dataset.
fn is_dataset(name: &str) -> bool {
    name == "dump.rdb" || name.starts_with("appendonly") || name.starts_with("temp-")
}

/// Whether there is a dataset that an engine would load.
pub(crate) fn has_data(data_dir: &Path) -> bool {
    let filled = |path: &Path| fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() > 0);
    if filled(&data_dir.join("dump.rdb")) || filled(&data_dir.join("appendonly.aof")) {
        return true;
    }
    // From 7.0 on: a directory with a manifest, a base and increments.
    fs::read_dir(data_dir.join("appendonlydir")).is_ok_and(|mut entries| {
        entries.any(|entry| {
            entry.is_ok_and(|entry| {
                let name = entry.file_name();
                !name.to_string_lossy().ends_with(".manifest") && filled(&entry.path())
            })
        })
    })
}

/// Brings the append-only file to the disk, with its directory. Says whether it is there.
pub(crate) fn sync_append_only(data_dir: &Path) -> bool {
    let sync = || -> io::Result<()> {
        let single = data_dir.join("appendonly.aof");
        if single.is_file() {
            fs::File::open(&single)?.sync_all()?;
        }
        let dir = data_dir.join("appendonlydir");
        if dir.is_dir() {
            for entry in fs::read_dir(&dir)? {
                fs::File::open(entry?.path())?.sync_all()?;
            }
            sync_dir(&dir)?;
        }
        sync_dir(data_dir)
    };
    match sync() {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(%error, "the append-only file could not be brought to the disk");
            false
        }
    }
}

/// How full the file system of the data is.
pub(crate) fn fullness(data_dir: &Path) -> io::Result<Volume> {
    let seen = rustix::fs::statvfs(data_dir)?;
    Ok(Volume {
        bytes: seen.f_blocks.saturating_mul(seen.f_frsize),
        free_bytes: seen.f_bavail.saturating_mul(seen.f_frsize),
    })
}

/// When the snapshot file was last written, if there is one.
pub(crate) fn snapshot_written_at(data_dir: &Path) -> Option<std::time::SystemTime> {
    fs::metadata(data_dir.join("dump.rdb")).and_then(|meta| meta.modified()).ok()
}

fn previous(data_dir: &Path) -> PathBuf {
    record::own_dir(data_dir).join("previous")
}

fn io_at(path: &Path) -> impl Fn(io::Error) -> VolumeError {
    move |source| VolumeError::Io { path: path.into(), source }
}

/// A started engine always gets a new cluster identity.
pub(crate) fn drop_identity(data_dir: &Path) -> Result<(), VolumeError> {
    let path = data_dir.join(NODES_CONF);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_at(&path)(error)),
        _ => Ok(()),
    }
}

/// The names in the data directory that are moved together.
fn dataset_names(data_dir: &Path) -> Result<Vec<String>, VolumeError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(data_dir).map_err(io_at(data_dir))? {
        let name = entry.map_err(io_at(data_dir))?.file_name().to_string_lossy().into_owned();
        if is_dataset(&name) || name.starts_with(NODES_CONF) {
            names.push(name);
        }
    }
    Ok(names)
}

/// Puts the dataset aside under a label. `old` is the note about it; `new` replaces that note before anything moves.
/// With `keep` it stays also once it is superseded. Returns whether there was anything.
pub(crate) fn put_aside(
    data_dir: &Path,
    label: &str,
    old: Option<&Record>,
    new: &Record,
    keep: bool,
) -> Result<bool, VolumeError> {
    let names = dataset_names(data_dir)?;
    if !names.iter().any(|name| is_dataset(name)) {
        drop_identity(data_dir)?;
        record::save(&record::path(data_dir), new)?;
        return Ok(false);
    }
    let dir = previous(data_dir).join(label);
    fs::create_dir_all(&dir).map_err(io_at(&dir))?;
    fs::write(dir.join(MOVING), b"").map_err(io_at(&dir))?;
    if let Some(old) = old {
        record::save(&dir.join("record.json"), old)?;
    }
    if keep {
        fs::write(dir.join(KEEP), b"").map_err(io_at(&dir))?;
    }
    sync_dir(&dir).map_err(io_at(&dir))?;
    sync_dir(&previous(data_dir)).map_err(io_at(&dir))?;
    sync_dir(&record::own_dir(data_dir)).map_err(io_at(&dir))?;
    record::save(&record::path(data_dir), new)?;
    for name in &names {
        fs::rename(data_dir.join(name), dir.join(name)).map_err(io_at(&dir))?;
    }
    settle_move(data_dir, &dir)?;
    Ok(true)
}

/// The move is finished: both directories are on disk, then the mark goes.
fn settle_move(data_dir: &Path, dir: &Path) -> Result<(), VolumeError> {
    sync_dir(dir).map_err(io_at(dir))?;
    sync_dir(data_dir).map_err(io_at(data_dir))?;
    let mark = dir.join(MOVING);
    fs::remove_file(&mark).map_err(io_at(&mark))?;
    sync_dir(dir).map_err(io_at(dir))
}

/// What was put aside: the directory and the note about it.
fn aside(data_dir: &Path) -> Vec<(PathBuf, Option<Record>)> {
    let Ok(entries) = fs::read_dir(previous(data_dir)) else { return Vec::new() };
    entries
        .flatten()
        .map(|entry| entry.path())
        .map(|path| {
            let record = record::load(&path.join("record.json")).ok().flatten();
            (path, record)
        })
        .collect()
}

/// Brings back the best data that was put aside, if what is in its place is not whole. Returns the note about it.
///
/// Called only while no engine runs.
pub(crate) fn restore(data_dir: &Path, current: Option<&Record>) -> Result<Option<Record>, VolumeError> {
    if current.is_none_or(|record| record.complete) {
        return Ok(None);
    }
    let best = aside(data_dir)
        .into_iter()
        .filter_map(|(path, record)| record.filter(|record| record.complete).map(|record| (path, record)))
        .max_by_key(|(_, record)| (record.data_term, record.offset, record.at_ms));
    let Some((dir, mut record)) = best else { return Ok(None) };
    if !dir.join(MOVING).exists() {
        // What lies in the way belongs to the copy that was never completed.
        for name in dataset_names(data_dir)? {
            let path = data_dir.join(&name);
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.map_err(io_at(&path))?;
        }
        fs::write(dir.join(MOVING), b"").map_err(io_at(&dir))?;
        sync_dir(&dir).map_err(io_at(&dir))?;
    }
    for name in dataset_names(&dir)? {
        fs::rename(dir.join(&name), data_dir.join(&name)).map_err(io_at(&dir))?;
    }
    drop_identity(data_dir)?;
    sync_dir(data_dir).map_err(io_at(data_dir))?;
    if let Some(current) = current {
        record.term = record.term.max(current.term);
        record.operator_generation = record.operator_generation.max(current.operator_generation);
    }
    record::save(&record::path(data_dir), &record)?;
    fs::remove_dir_all(&dir).map_err(io_at(&dir))?;
    Ok(Some(record))
}

/// How far a note says that its data is, to compare what was put aside.
fn rank(record: Option<&Record>) -> (bool, u64, i64, i64) {
    record.map_or((false, 0, 0, 0), |r| (r.complete, r.data_term, r.offset, r.at_ms))
}

/// The note about what is kept for good; an empty one where it had none.
pub(crate) fn kept(data_dir: &Path) -> Option<Record> {
    let marked = aside(data_dir).into_iter().filter(|(path, _)| path.join(KEEP).exists());
    marked.map(|(_, record)| record).max_by_key(|record| rank(record.as_ref())).map(Option::unwrap_or_default)
}

/// Deletes what was put aside: this node is a replica in sync. What is marked to be kept stays, the furthest of it.
/// Returns what was deleted.
pub(crate) fn forget_previous(data_dir: &Path) -> Result<Vec<PathBuf>, VolumeError> {
    let all = aside(data_dir);
    let kept = all
        .iter()
        .filter(|(path, _)| path.join(KEEP).exists())
        .max_by_key(|(_, record)| rank(record.as_ref()))
        .map(|(path, _)| path.clone());
    let mut deleted = Vec::new();
    for (path, _) in all.into_iter().filter(|(path, _)| Some(path) != kept.as_ref()) {
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(io_at(&path))?;
        deleted.push(path);
    }
    if kept.is_none() {
        let path = previous(data_dir);
        match fs::remove_dir(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_at(&path)(error)),
            _ => {}
        }
    }
    Ok(deleted)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Dir(tempfile::TempDir);

    impl Dir {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }
        fn path(&self) -> &Path {
            self.0.path()
        }
        fn write(&self, name: &str, text: &str) {
            let path = self.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        fn read(&self, name: &str) -> Option<String> {
            fs::read_to_string(self.path().join(name)).ok()
        }
    }

    fn note(offset: i64, complete: bool) -> Record {
        Record { offset, complete, data_term: 1, ..Record::default() }
    }

    #[test]
    fn only_filled_datasets_count() {
        let dir = Dir::new();
        assert!(!has_data(dir.path()));
        dir.write("nodes.conf", "x");
        dir.write("dump.rdb", "");
        dir.write("appendonlydir/appendonly.aof.manifest", "file …");
        assert!(!has_data(dir.path()));
        dir.write("appendonlydir/appendonly.aof.1.incr.aof", "*1");
        assert!(has_data(dir.path()));
    }

    #[test]
    fn what_is_put_aside_is_out_of_the_engines_sight_and_comes_back() {
        let dir = Dir::new();
        dir.write("dump.rdb", "old");
        dir.write("nodes.conf", "id");
        dir.write("appendonlydir/a.base.rdb", "base");
        dir.write("lost+found/x", "not ours");
        let moved = put_aside(dir.path(), "1", Some(&note(100, true)), &note(0, false), false).unwrap();
        assert!(moved && !has_data(dir.path()));
        assert_eq!(dir.read("nodes.conf"), None);
        assert_eq!(dir.read("lost+found/x").as_deref(), Some("not ours"));
        assert_eq!(record::load(&record::path(dir.path())).unwrap(), Some(note(0, false)));

        dir.write("temp-1.rdb", "half a sync");
        dir.write("dump.rdb", "half");
        let current = Record { term: 9, ..note(0, false) };
        let back = restore(dir.path(), Some(&current)).unwrap().unwrap();
        assert_eq!((back.offset, back.term, back.complete), (100, 9, true));
        assert_eq!(dir.read("dump.rdb").as_deref(), Some("old"));
        assert_eq!(dir.read("appendonlydir/a.base.rdb").as_deref(), Some("base"));
        assert_eq!((dir.read("temp-1.rdb"), dir.read("nodes.conf")), (None, None));
        assert_eq!(restore(dir.path(), Some(&back)).unwrap(), None);
    }

    #[test]
    fn a_whole_copy_is_never_replaced_by_what_was_put_aside() {
        let dir = Dir::new();
        dir.write("dump.rdb", "old");
        put_aside(dir.path(), "1", Some(&note(100, true)), &note(0, false), false).unwrap();
        dir.write("dump.rdb", "new");
        assert_eq!(restore(dir.path(), Some(&note(5, true))).unwrap(), None);
        assert_eq!(dir.read("dump.rdb").as_deref(), Some("new"));
        assert_eq!(forget_previous(dir.path()).unwrap().len(), 1);
        assert!(forget_previous(dir.path()).unwrap().is_empty() && !previous(dir.path()).exists());
    }

    #[test]
    fn a_copy_that_was_ahead_is_kept_and_of_several_the_furthest() {
        let dir = Dir::new();
        for (label, text, offset, keep) in
            [("1", "ahead", 100, true), ("2", "further", 200, true), ("3", "superseded", 300, false)]
        {
            dir.write("dump.rdb", text);
            put_aside(dir.path(), label, Some(&note(offset, true)), &note(0, false), keep).unwrap();
        }
        assert_eq!(kept(dir.path()).unwrap().offset, 200);
        assert_eq!(forget_previous(dir.path()).unwrap().len(), 2);
        assert!(forget_previous(dir.path()).unwrap().is_empty());
        assert_eq!(dir.read(".kagami/previous/2/dump.rdb").as_deref(), Some("further"));
        assert_eq!(kept(dir.path()).unwrap().offset, 200);
    }

    #[test]
    fn a_move_that_was_cut_short_is_undone_without_losing_a_file() {
        let dir = Dir::new();
        dir.write("dump.rdb", "old");
        dir.write("appendonlydir/a.base.rdb", "base");
        put_aside(dir.path(), "1", Some(&note(100, true)), &note(0, false), false).unwrap();
        // As if the power had gone between the two renames.
        let aside = previous(dir.path()).join("1");
        fs::write(aside.join(MOVING), b"").unwrap();
        fs::rename(aside.join("dump.rdb"), dir.path().join("dump.rdb")).unwrap();
        restore(dir.path(), Some(&note(0, false))).unwrap().unwrap();
        assert_eq!(dir.read("dump.rdb").as_deref(), Some("old"));
        assert_eq!(dir.read("appendonlydir/a.base.rdb").as_deref(), Some("base"));
    }

    #[test]
    fn the_best_of_what_was_put_aside_comes_back() {
        let dir = Dir::new();
        for (label, text, offset, complete) in
            [("1", "good", 100, true), ("2", "older", 50, true), ("3", "half", 200, false)]
        {
            dir.write("dump.rdb", text);
            put_aside(dir.path(), label, Some(&note(offset, complete)), &note(0, false), false).unwrap();
        }
        restore(dir.path(), Some(&note(0, false))).unwrap().unwrap();
        assert_eq!(dir.read("dump.rdb").as_deref(), Some("good"));
    }
}
