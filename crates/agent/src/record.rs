//! The small fsynced note beside the data: written whole, or not at all.

use kagami_protocol::Record;
use rustix::fs::{CWD, RenameFlags};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// What keeps the note from being read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path}: {source}")]
    Json { path: PathBuf, source: serde_json::Error },
}

/// The agent's own directory beside the data.
pub(crate) fn own_dir(data_dir: &Path) -> PathBuf {
    data_dir.join(".kagami")
}

/// The note of a data directory.
pub(crate) fn path(data_dir: &Path) -> PathBuf {
    own_dir(data_dir).join("record.json")
}

/// Reads a note; `None` if there is none.
pub(crate) fn load(path: &Path) -> Result<Option<Record>, RecordError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(RecordError::Io { path: path.into(), source }),
    };
    serde_json::from_slice(&text).map(Some).map_err(|source| RecordError::Json { path: path.into(), source })
}

/// Notes take whole blocks, so that one fits where another was.
const BLOCK: usize = 4096;

/// Writes a note so that after a power cut, or where a volume is full, there is either the old one or the new one.
///
/// The note and its draft change places, and the draft is written over where it is: so a full volume need give nothing.
pub(crate) fn save(path: &Path, record: &Record) -> Result<(), RecordError> {
    let io = |source| RecordError::Io { path: path.into(), source };
    let mut text =
        serde_json::to_vec(record).map_err(|source| RecordError::Json { path: path.into(), source })?;
    text.resize(text.len().next_multiple_of(BLOCK), b' ');
    let dir = path.parent().unwrap_or_else(|| Path::new("."));
    fs::create_dir_all(dir).map_err(io)?;
    let draft = path.with_extension("json.new");
    write_over(&draft, &text).map_err(io)?;
    let exchanged = rustix::fs::renameat_with(CWD, &draft, CWD, path, RenameFlags::EXCHANGE);
    if exchanged.is_err() {
        // There is no note yet, or the file system cannot exchange.
        fs::rename(&draft, path).map_err(io)?;
    }
    sync_dir(dir).map_err(io)?;
    if exchanged.is_err()
        && let Err(error) = write_over(&draft, &text)
    {
        tracing::warn!(%error, "no room is kept for the next note");
        // Half a draft would stand in the way of a whole one.
        fs::remove_file(&draft).map_err(io)?;
    }
    Ok(())
}

/// Without giving up the blocks that the file has.
fn write_over(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    file.write_all(text)?;
    file.set_len(text.len() as u64)?;
    file.sync_all()
}

/// Makes renames in a directory last.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let path = path(dir.path());
        assert_eq!(load(&path).unwrap(), None);
        let record = Record { term: 7, offset: 42, complete: true, ..Record::default() };
        save(&path, &record).unwrap();
        save(&path, &Record { offset: 43, ..record.clone() }).unwrap();
        assert_eq!(load(&path).unwrap(), Some(Record { offset: 43, ..record }));
    }

    #[test]
    fn a_note_that_could_not_be_written_leaves_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = path(dir.path());
        let record = Record { term: 7, ..Record::default() };
        save(&path, &record).unwrap();
        let draft = path.with_extension("json.new");
        fs::remove_file(&draft).unwrap();
        std::os::unix::fs::symlink("/dev/full", &draft).unwrap();
        assert!(matches!(save(&path, &Record { term: 8, ..record.clone() }), Err(RecordError::Io { .. })));
        assert_eq!(load(&path).unwrap(), Some(record));
    }

    #[test]
    fn the_next_note_has_its_room_already() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let path = path(dir.path());
        let inode = |path: &Path| fs::metadata(path).unwrap().ino();
        save(&path, &Record::default()).unwrap();
        let draft = path.with_extension("json.new");
        let (note, spare) = (inode(&path), inode(&draft));
        save(&path, &Record { term: 1, ..Record::default() }).unwrap();
        assert_eq!((inode(&path), inode(&draft)), (spare, note), "they change places");
        assert_eq!(fs::metadata(&path).unwrap().len(), BLOCK as u64);
    }

    #[test]
    fn a_half_written_note_is_an_error_and_not_an_empty_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = path(dir.path());
        fs::create_dir_all(own_dir(dir.path())).unwrap();
        fs::write(&path, b"{\"group\":").unwrap();
        assert!(matches!(load(&path), Err(RecordError::Json { .. })));
    }
}
