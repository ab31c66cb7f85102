//! What matters of `INFO persistence`.

use kagami_protocol::engine_text::Fields;

/// What an engine says of its volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Persistence {
    /// `aof_enabled`.
    pub append_only: bool,
    /// The append-only file is being written anew, or will be.
    pub rewriting: bool,
    /// Bytes that wait for the append-only file (`aof_buffer_length`): while an fsync is slow, writes are put off.
    pub buffered: i64,
    /// A snapshot is being written.
    pub saving: bool,
    /// When the last snapshot was written (`rdb_last_save_time`), in seconds since the Unix epoch.
    pub last_save_s: Option<i64>,
    /// `rdb_changes_since_last_save`.
    pub changes: Option<i64>,
}

impl Persistence {
    /// Reads it.
    #[must_use]
    pub fn read(info: &Fields) -> Self {
        Self {
            append_only: info.flag("aof_enabled"),
            rewriting: info.flag("aof_rewrite_in_progress") || info.flag("aof_rewrite_scheduled"),
            buffered: info.number("aof_buffer_length").unwrap_or(0),
            saving: info.flag("rdb_bgsave_in_progress"),
            last_save_s: info.number("rdb_last_save_time"),
            changes: info.number("rdb_changes_since_last_save"),
        }
    }
}
