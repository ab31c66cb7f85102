//! Copying this program to where an engine's image can run it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

/// Copies the running program to a path, whole or not at all.
pub(crate) fn install(dest: &Path) -> io::Result<()> {
    let mut from = File::open("/proc/self/exe")?;
    let mut draft = dest.as_os_str().to_owned();
    draft.push(".new");
    let draft = Path::new(&draft);
    let _ = fs::remove_file(draft);
    let mut to = OpenOptions::new().write(true).create_new(true).mode(0o755).open(draft)?;
    io::copy(&mut from, &mut to)?;
    // Whatever the umask.
    to.set_permissions(fs::Permissions::from_mode(0o755))?;
    to.sync_all()?;
    drop(to);
    fs::rename(draft, dest)
}
