//! Programs of this computer and of rcc itself.

use std::env;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::error::{Code, Error, Result};

/// The program `name` in the absolute folders of `PATH`.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(name))
        .find(|candidate| is_program(candidate))
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// The static program that runs inside: `RCC_INSIDE`, beside this executable,
/// or where a package puts it.
///
/// # Errors
/// [`Code::InsideMissing`] names where it was looked for.
pub(crate) fn inside() -> Result<PathBuf> {
    let beside = env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_path_buf));
    let candidates: Vec<PathBuf> = env::var_os("RCC_INSIDE")
        .map(PathBuf::from)
        .into_iter()
        .chain(beside.iter().flat_map(|dir| [dir.join("inside"), dir.join("rcc-inside")]))
        .chain([PathBuf::from("/usr/lib/rcc/inside")])
        .collect();
    for candidate in &candidates {
        if is_program(candidate)
            && let Ok(path) = candidate.canonicalize()
        {
            return Ok(path);
        }
    }
    let looked: Vec<String> = candidates.iter().map(|path| path.display().to_string()).collect();
    Err(Error::new(Code::InsideMissing, "The program that runs inside each sandbox was not found.")
        .with_detail(format!("Looked for it at: {}", looked.join(", "))))
}
