//! The small fsynced note beside the data: written whole, or not at all.

use kagami_protocol::Record;
use std::fs::{self, File};
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

/// Writes a note so that after a power cut there is either the old one or the new one.
pub(crate) fn save(path: &Path, record: &Record) -> Result<(), RecordError> {
    let io = |source| RecordError::Io { path: path.into(), source };
    let text =
        serde_json::to_vec(record).map_err(|source| RecordError::Json { path: path.into(), source })?;
    let dir = path.parent().unwrap_or_else(|| Path::new("."));
    fs::create_dir_all(dir).map_err(io)?;
    let draft = path.with_extension("json.new");
    let mut file = File::create(&draft).map_err(io)?;
    file.write_all(&text).map_err(io)?;
    file.sync_all().map_err(io)?;
    fs::rename(&draft, path).map_err(io)?;
    sync_dir(dir).map_err(io)
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
    fn a_half_written_note_is_an_error_and_not_an_empty_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = path(dir.path());
        fs::create_dir_all(own_dir(dir.path())).unwrap();
        fs::write(&path, b"{\"group\":").unwrap();
        assert!(matches!(load(&path), Err(RecordError::Json { .. })));
    }
}
