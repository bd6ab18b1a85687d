//! What a person drops on the window: a folder becomes a project, a file goes to
//! the terminal in sight. The page learns names, never a path of the computer's,
//! and can only ask for what was dropped.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use rcc_sandbox::{Code, Error, Project, display};
use tauri::DragDropEvent;

use crate::app::{App, locked};
use crate::projects;
use crate::wire::{DroppedFile, Event};

/// Where the project is inside.
const WORKSPACE: &str = "/workspace";

/// The largest file that is copied, in bytes.
const LARGEST: u64 = 2 << 30;

/// Names that are tried for a copy: `plan.pdf`, `plan (2).pdf` and so on.
const NAMES: u32 = 100;

/// Something is held over the window, or dropped on it.
pub fn event(app: &App, event: &DragDropEvent) {
    match event {
        DragDropEvent::Enter { paths, .. } => {
            let files = paths.iter().any(|path| !path.is_dir());
            app.tell(Event::Dragging { over: true, files });
        }
        DragDropEvent::Leave => app.tell(Event::Dragging { over: false, files: false }),
        DragDropEvent::Drop { paths, .. } => {
            app.tell(Event::Dragging { over: false, files: false });
            take(app, paths);
        }
        _ => {}
    }
}

fn take(app: &App, paths: &[PathBuf]) {
    let seen = app.project_in_sight().and_then(|id| app.project(&id).ok());
    let (mut files, mut shown) = (Vec::new(), Vec::new());
    for path in paths {
        let inside = seen.as_ref().and_then(|project| inside(project, path));
        if path.is_dir() && inside.is_none() {
            app.tell(match projects::add(app, path) {
                Ok(project) => Event::Dropped { project },
                Err(error) => Event::Refused(error.into()),
            });
            continue;
        }
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
        shown.push(DroppedFile { name: display::line(&name, 80), inside });
        files.push(path.clone());
    }
    *locked(&app.dropped) = files;
    if !shown.is_empty() {
        app.tell(Event::Files { files: shown });
    }
}

/// Where a file of the project's is in its sandbox; none for one that is not in
/// the project, or has a name that cannot be typed.
fn inside(project: &Project, path: &Path) -> Option<String> {
    // What a link leads out of the project is not there inside.
    let real = path.canonicalize().ok()?;
    let below = real.strip_prefix(project.path()).ok()?;
    let path = Path::new(WORKSPACE).join(below);
    let text = path.to_str()?;
    (!text.chars().any(char::is_control)).then(|| text.trim_end_matches('/').to_string())
}

/// Copies what was dropped last and is not in the project into its folder;
/// answers where the copies are in the sandbox.
///
/// # Errors
/// The first file that could not be copied; those before it are there.
pub fn copy(app: &App, id: &str) -> Result<Vec<String>, Error> {
    let project = app.project(id)?;
    let files = std::mem::take(&mut *locked(&app.dropped));
    files
        .iter()
        .filter(|file| inside(&project, file).is_none())
        .map(|file| {
            let name = copy_into(project.path(), file).map_err(|e| {
                let shown = display::line(&file.to_string_lossy(), 200);
                Error::new(Code::Io, format!("{shown}: {e}."))
                    .title_is("The file could not be copied into the project.")
            })?;
            Ok(format!("{WORKSPACE}/{name}"))
        })
        .collect()
}

/// Copies one file under a name that is free; answers the name.
fn copy_into(folder: &Path, file: &Path) -> io::Result<String> {
    let meta = fs::metadata(file)?;
    if !meta.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    if meta.len() > LARGEST {
        return Err(io::Error::other("it is larger than 2 GB"));
    }
    let name = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy();
    let name: String = name.chars().map(|c| if c.is_control() { '_' } else { c }).collect();
    let (stem, ending) = match name.rsplit_once('.') {
        Some((stem, ending)) if !stem.is_empty() => (stem, format!(".{ending}")),
        _ => (name.as_str(), String::new()),
    };
    for number in 1..=NAMES {
        let name = if number == 1 { name.clone() } else { format!("{stem} ({number}){ending}") };
        let to = folder.join(&name);
        // The agent writes this folder: only a new file is written, never through a link.
        let mut new = match OpenOptions::new().write(true).create_new(true).open(&to) {
            Ok(new) => new,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
            Err(e) => return Err(e),
        };
        let copied = File::open(file).and_then(|mut from| io::copy(&mut from, &mut new));
        return match copied {
            Ok(_) => Ok(name),
            Err(e) => {
                // Half a file is worse than none.
                let _ = fs::remove_file(&to);
                Err(e)
            }
        };
    }
    Err(io::Error::other(format!("{NAMES} files of that name are there already")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_takes_a_free_name_and_writes_through_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, elsewhere) = (dir.path().join("project"), dir.path().join("elsewhere"));
        fs::create_dir(&folder).unwrap();
        fs::create_dir(&elsewhere).unwrap();
        let file = elsewhere.join("plan.v2.pdf");
        fs::write(&file, "new").unwrap();
        // The agent waits for it with a link to something of the person's.
        let victim = elsewhere.join("victim");
        fs::write(&victim, "old").unwrap();
        std::os::unix::fs::symlink(&victim, folder.join("plan.v2.pdf")).unwrap();
        std::os::unix::fs::symlink(elsewhere.join("none"), folder.join("plan.v2 (2).pdf")).unwrap();
        assert_eq!(copy_into(&folder, &file).unwrap(), "plan.v2 (3).pdf");
        assert_eq!(fs::read_to_string(folder.join("plan.v2 (3).pdf")).unwrap(), "new");
        assert_eq!(fs::read_to_string(&victim).unwrap(), "old");
        assert!(!elsewhere.join("none").exists());
        assert!(copy_into(&folder, &elsewhere).is_err());
        let dots = elsewhere.join(".env");
        fs::write(&dots, "").unwrap();
        assert_eq!(copy_into(&folder, &dots).unwrap(), ".env");
        assert_eq!(copy_into(&folder, &dots).unwrap(), ".env (2)");
    }
}
