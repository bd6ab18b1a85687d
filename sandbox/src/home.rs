//! The agent's home: a volume per project, seeded so that Claude Code starts
//! without its first-run questions.
//!
//! Everything in the volume is the agent's to write, symlinks too. The host
//! therefore opens each path without following any, reads little of it, and
//! writes by rename within an opened folder.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, openat2, renameat, unlinkat,
};
use rustix::io::Errno;
use serde_json::{Map, Value, json};

use crate::engine::{Engine, WORKSPACE};
use crate::error::{Code, Error, Result};

/// Where Claude Code keeps the conversations that it had in [`WORKSPACE`].
const CONVERSATIONS: &str = ".claude/projects/-workspace";

/// Entries of that folder that are looked at.
const MAX_ENTRIES: usize = 1_000;

/// Largest file of the agent's that is read and written back, in bytes.
const MAX_FILE: u64 = 8 << 20;

/// The volume of a project's agent.
pub(crate) fn volume(project: &str) -> String {
    format!("rcc-home-{project}")
}

/// Whether the agent of a project keeps a conversation that could go on, whoever
/// started it. What an agent left in its own home decides nothing but an offer.
pub async fn keeps_conversation(engine: &Engine, project: &str) -> bool {
    match engine.find_volume(&volume(project)).await {
        Some(root) => has_conversation(&root),
        None => false,
    }
}

fn has_conversation(root: &Path) -> bool {
    let folder = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(home) = rustix::fs::open(root, folder, Mode::empty()) else { return false };
    let Ok(kept) = beneath(&home, CONVERSATIONS, OFlags::RDONLY | OFlags::DIRECTORY) else {
        return false;
    };
    let Ok(mut entries) = rustix::fs::Dir::read_from(&kept) else { return false };
    entries.by_ref().flatten().take(MAX_ENTRIES).any(|entry| {
        let name = entry.file_name();
        name.to_bytes().ends_with(b".jsonl")
            && rustix::fs::statat(&kept, name, AtFlags::SYMLINK_NOFOLLOW)
                .is_ok_and(|stat| stat.st_size > 0)
    })
}

/// Brings the settings into the home behind `root`, leaving everything else as
/// it is. A file that cannot be understood is left alone: Claude then asks.
///
/// # Errors
/// [`Code::SandboxStart`] when the volume itself cannot be opened.
pub(crate) fn seed(root: &Path, api_key: Option<&str>) -> Result<()> {
    let home =
        rustix::fs::open(root, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| {
                Error::new(
                    Code::SandboxStart,
                    format!("The agent's home {} cannot be opened: {e}.", root.display()),
                )
            })?;
    merge(&home, ".claude.json", |state| {
        state.insert("hasCompletedOnboarding".into(), true.into());
        // Light or dark as the terminal says; a choice by `/theme` stays.
        state.entry("theme").or_insert_with(|| "auto".into());
        within(state, "projects", |projects| {
            within(projects, WORKSPACE, |project| {
                project.insert("hasTrustDialogAccepted".into(), true.into());
            });
        });
        if let Some(key) = api_key {
            within(state, "customApiKeyResponses", |responses| approve(responses, key));
        }
    });
    match mkdirat(&home, ".claude", Mode::from_raw_mode(0o700)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(e) => {
            return Err(Error::new(
                Code::SandboxStart,
                format!("The agent's home cannot be written: {e}."),
            ));
        }
    }
    if let Ok(claude) = beneath(&home, ".claude", OFlags::RDONLY | OFlags::DIRECTORY) {
        merge(&claude, "settings.json", |settings| {
            settings.insert("skipDangerousModePermissionPrompt".into(), true.into());
        });
    }
    Ok(())
}

/// Claude Code shows a key's last 20 characters and asks once whether to use it.
fn approve(responses: &mut Map<String, Value>, key: &str) {
    let letters: Vec<char> = key.chars().collect();
    let tail: String = letters[letters.len().saturating_sub(20)..].iter().collect();
    let approved = responses.entry("approved").or_insert_with(|| json!([]));
    if !approved.is_array() {
        *approved = json!([]);
    }
    if let Some(list) = approved.as_array_mut()
        && !list.contains(&json!(tail))
    {
        list.push(json!(tail));
    }
}

/// Changes the object under `key`, which takes the place of anything else there.
fn within(
    parent: &mut Map<String, Value>,
    key: &str,
    change: impl FnOnce(&mut Map<String, Value>),
) {
    let mut object = match parent.remove(key) {
        Some(Value::Object(object)) => object,
        _ => Map::new(),
    };
    change(&mut object);
    parent.insert(key.to_string(), Value::Object(object));
}

/// Changes one JSON file in `folder`. What the agent put there decides nothing,
/// so every obstacle just leaves the file as it is.
fn merge(folder: &OwnedFd, name: &str, change: impl FnOnce(&mut Map<String, Value>)) {
    let before = match read(folder, name) {
        Ok(text) => text,
        Err(Errno::NOENT) => "{}".into(),
        Err(_) => return,
    };
    let Ok(Value::Object(mut map)) = serde_json::from_str::<Value>(&before) else {
        return;
    };
    let untouched = map.clone();
    change(&mut map);
    if map == untouched && before != "{}" {
        return;
    }
    let text = format!("{:#}\n", Value::Object(map));
    // The name is taken with O_EXCL: nothing of the agent's is written through.
    let temporary = format!(".rcc-{}-{name}", std::process::id());
    let written = openat2(
        folder,
        temporary.as_str(),
        OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC,
        Mode::from_raw_mode(0o600),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
    )
    .ok()
    .is_some_and(|fd| File::from(fd).write_all(text.as_bytes()).is_ok());
    if !written || renameat(folder, temporary.as_str(), folder, name).is_err() {
        let _ = unlinkat(folder, temporary.as_str(), AtFlags::empty());
    }
}

fn beneath(folder: &OwnedFd, name: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    openat2(
        folder,
        name,
        // NONBLOCK: a FIFO must not hold the host up.
        flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
    )
}

fn read(folder: &OwnedFd, name: &str) -> rustix::io::Result<String> {
    let fd = beneath(folder, name, OFlags::RDONLY)?;
    let stat = fstat(&fd)?;
    let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    if !regular || u64::try_from(stat.st_size).is_ok_and(|size| size > MAX_FILE) {
        return Err(Errno::INVAL);
    }
    let mut text = String::new();
    File::from(fd).take(MAX_FILE).read_to_string(&mut text).map_err(|_| Errno::INVAL)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_conversation_is_found_and_no_link_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (home, outside) = (dir.path().join("home"), dir.path().join("outside"));
        let kept = home.join(CONVERSATIONS);
        fs::create_dir_all(&kept).unwrap();
        fs::create_dir_all(&outside).unwrap();
        assert!(!has_conversation(&home));
        fs::write(kept.join("note.txt"), "no").unwrap();
        fs::write(kept.join("empty.jsonl"), "").unwrap();
        assert!(!has_conversation(&home));
        fs::write(kept.join("one.jsonl"), "{}\n").unwrap();
        assert!(has_conversation(&home));
        fs::rename(&kept, outside.join("kept")).unwrap();
        symlink(outside.join("kept"), &kept).unwrap();
        assert!(!has_conversation(&home) && !has_conversation(&outside));
    }

    fn json_of(path: &Path) -> Value {
        serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
    }

    #[test]
    fn a_fresh_home_has_no_dialogs() {
        let dir = tempfile::tempdir().unwrap();
        seed(dir.path(), Some("sk-0123456789-0123456789-end")).unwrap();
        let state = json_of(&dir.path().join(".claude.json"));
        assert_eq!(state["hasCompletedOnboarding"], true);
        assert_eq!(state["theme"], "auto");
        assert_eq!(state["projects"]["/workspace"]["hasTrustDialogAccepted"], true);
        assert_eq!(state["customApiKeyResponses"]["approved"], json!(["56789-0123456789-end"]));
        let settings = json_of(&dir.path().join(".claude/settings.json"));
        assert_eq!(settings["skipDangerousModePermissionPrompt"], true);
    }

    #[test]
    fn what_claude_wrote_stays() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(
            dir.path().join(".claude.json"),
            r#"{"theme":"dark","projects":{"/workspace":{"n":1}}}"#,
        )
        .unwrap();
        seed(dir.path(), None).unwrap();
        seed(dir.path(), None).unwrap();
        let state = json_of(&dir.path().join(".claude.json"));
        assert_eq!(state["theme"], "dark");
        assert_eq!(
            state["projects"]["/workspace"],
            json!({"n": 1, "hasTrustDialogAccepted": true})
        );
        fs::write(dir.path().join(".claude.json"), "not json").unwrap();
        seed(dir.path(), None).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join(".claude.json")).unwrap(), "not json");
    }

    #[test]
    fn nothing_is_written_through_a_symlink() {
        let outside = tempfile::tempdir().unwrap();
        let victim = outside.path().join("settings.json");
        fs::write(&victim, "{}").unwrap();
        let dir = tempfile::tempdir().unwrap();
        symlink(&victim, dir.path().join(".claude.json")).unwrap();
        symlink(outside.path(), dir.path().join(".claude")).unwrap();
        seed(dir.path(), Some("sk-key")).unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "{}");
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_fifo_does_not_hold_the_host_up() {
        let dir = tempfile::tempdir().unwrap();
        nix::unistd::mkfifo(&dir.path().join(".claude.json"), nix::sys::stat::Mode::S_IRWXU)
            .unwrap();
        seed(dir.path(), None).unwrap();
    }
}
