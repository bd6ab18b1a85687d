//! The review attacked: what an agent can do to the files while nobody looks.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use proptest::prelude::*;

use super::*;

mod answers;
mod further;
mod hidden;
mod moved;

struct Place {
    dir: tempfile::TempDir,
    host: Host,
    project: Project,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let host = crate::testing::host(dir.path());
        fs::create_dir_all(&host.runtime).unwrap();
        let folder = dir.path().join("project");
        fs::create_dir_all(folder.join(".git/hooks")).unwrap();
        fs::write(folder.join(".git/HEAD"), "ref: refs/heads/main\n").unwrap();
        fs::write(folder.join(".git/config"), "[core]\n\tbare = false\n").unwrap();
        fs::write(folder.join(".envrc"), "use nix\n").unwrap();
        fs::write(folder.join("package.json"), "{}\n").unwrap();
        let project = Project::open(&folder, &host).unwrap();
        Self { dir, host, project }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.project.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        fs::write(self.at(path), text).unwrap();
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap()
    }

    async fn begin(&self) {
        begin(&self.project, &self.host, "one").await.unwrap();
    }

    async fn end(&self) {
        end(&self.project, &self.host, "one").await.unwrap();
    }

    async fn look(&self) -> Review {
        look(&self.project, &self.host).await.unwrap()
    }

    async fn paths(&self) -> Vec<(String, What)> {
        self.look().await.changes.into_iter().map(|one| (one.path, one.what)).collect()
    }

    async fn id(&self, path: &str) -> String {
        let review = self.look().await;
        review.changes.into_iter().find(|one| one.path == path).unwrap().id
    }

    async fn keep(&self, path: &str) -> Result<()> {
        keep(&self.project, &self.host, &[self.id(path).await], false).await
    }

    async fn put_back(&self, path: &str) -> Result<()> {
        put_back(&self.project, &self.host, &[self.id(path).await]).await
    }
}

fn paths(expected: &[(&str, What)]) -> Vec<(String, What)> {
    expected.iter().map(|(path, what)| ((*path).to_string(), *what)).collect()
}

#[tokio::test]
async fn f2_what_is_new_changed_or_gone_is_listed_and_can_be_put_back() {
    let place = Place::new();
    place.begin().await;
    assert_eq!(place.look().await, Review::default());
    place.write(".git/hooks/pre-commit", "#!/bin/sh\nevil\n");
    place.write(".git/config", "[core]\n\tbare = false\n\tfsmonitor = evil\n");
    place.write("package.json", "{\"scripts\": {}}\n");
    fs::remove_file(place.at(".envrc")).unwrap();
    let review = place.look().await;
    let seen: Vec<_> = review.changes.iter().map(|one| (one.path.clone(), one.what)).collect();
    let expected = [
        (".envrc", What::Removed),
        (".git/config", What::Changed),
        (".git/hooks/pre-commit", What::New),
        ("package.json", What::Changed),
    ];
    assert_eq!(seen, paths(&expected));
    assert_eq!(review.changes[2].why, "Git would run this at the next commit.");
    assert_eq!((review.alarming(), review.changes[3].runs_by_itself), (3, false));
    assert_eq!(
        review.line().unwrap(),
        "3 files that this computer would run changed, and 1 file of the build changed: `rcc review` shows them."
    );
    let lines = diff(&place.project, &place.host, &review.changes[1].id).await.unwrap().unwrap();
    assert!(lines.contains(&DiffLine::New(" fsmonitor = evil".into())), "{lines:?}");

    let all: Vec<String> = review.changes.into_iter().map(|one| one.id).collect();
    put_back(&place.project, &place.host, &all).await.unwrap();
    assert_eq!(place.read(".git/config"), "[core]\n\tbare = false\n");
    assert_eq!(place.read(".envrc"), "use nix\n");
    assert!(!place.at(".git/hooks/pre-commit").exists());
    let review = place.look().await;
    assert!(review.changes.is_empty() && review.can_undo);
    undo(&place.project, &place.host).await.unwrap();
    assert_eq!(place.paths().await, paths(&expected));
    assert_eq!(place.read(".git/hooks/pre-commit"), "#!/bin/sh\nevil\n");
    assert!(undo(&place.project, &place.host).await.is_err());
}

/// Each of the calls that one put-back makes fails once, as on a disk that breaks.
#[tokio::test]
async fn h6_a_disk_that_fails_leaves_what_can_be_undone() {
    let hook = ".git/hooks/pre-commit";
    let files = [
        (".envrc", Some("use nix\n"), Some("evil\n")),
        (hook, None, Some("#!/bin/sh\nevil\n")),
        (".git/config", Some("[core]\n\tbare = false\n"), None),
    ];
    for calls in ["fsync", "/^rename", "unlinkat"] {
        let mut stopped = 0;
        for number in 1..=9 {
            let place = Place::new();
            place.begin().await;
            place.write(".envrc", "evil\n");
            place.write(hook, "#!/bin/sh\nevil\n");
            fs::remove_file(place.at(".git/config")).unwrap();
            let failing = format!("{calls}:when={number}");
            let test = "review::tests::all_is_put_back";
            if !rcc_test_aids::while_calls_fail_in(place.dir.path(), &failing, test) {
                return;
            }
            let now = |path: &str| fs::read_to_string(place.at(path)).ok();
            let mut back = 0;
            for (path, before, after) in files {
                let now = now(path);
                let is = |text: Option<&str>| now.as_deref() == text;
                assert!(is(before) || is(after), "{failing}: {path} is half written: {now:?}");
                back += usize::from(is(before));
            }
            for folder in ["", ".git", ".git/hooks"] {
                for entry in fs::read_dir(place.at(folder)).into_iter().flatten().flatten() {
                    let name = entry.file_name();
                    assert!(!name.to_string_lossy().starts_with(".rcc-"), "{failing}: {name:?}");
                }
            }
            stopped += usize::from(back < files.len());
            if back > 0 {
                let undone = undo(&place.project, &place.host).await;
                undone.unwrap_or_else(|error| panic!("{failing}: {error:?}"));
            }
            for (path, _, after) in files {
                assert_eq!(now(path).as_deref(), after, "{failing}: {path}");
            }
            let review = place.look().await;
            let all: Vec<_> = review.changes.into_iter().map(|one| one.id).collect();
            put_back(&place.project, &place.host, &all).await.unwrap();
            for (path, before, _) in files {
                assert_eq!(now(path).as_deref(), before, "{failing}: {path}");
            }
        }
        assert!((1..9).contains(&stopped), "{calls}: {stopped} of 9 stopped it");
    }
}

#[tokio::test]
#[ignore = "the one above starts it with a disk that fails"]
async fn all_is_put_back() {
    let dir = rcc_test_aids::folder();
    let host = crate::testing::host(&dir);
    let project = Project::open(&dir.join("project"), &host).unwrap();
    let review = look(&project, &host).await.unwrap();
    let all: Vec<_> = review.changes.into_iter().map(|one| one.id).collect();
    // What it left is looked at afterwards.
    let _ = put_back(&project, &host, &all).await;
}

#[tokio::test]
async fn what_a_person_keeps_is_the_new_record() {
    let place = Place::new();
    place.begin().await;
    place.write(".git/config", "[user]\n");
    place.keep(".git/config").await.unwrap();
    assert!(place.look().await.changes.is_empty());
    place.write(".git/config", "[evil]\n");
    place.put_back(".git/config").await.unwrap();
    assert_eq!(place.read(".git/config"), "[user]\n");
    fs::remove_file(place.at(".envrc")).unwrap();
    place.keep(".envrc").await.unwrap();
    assert!(place.look().await.changes.is_empty());
}

#[tokio::test]
async fn what_changed_again_since_it_was_seen_is_not_kept() {
    let place = Place::new();
    place.begin().await;
    place.write(".envrc", "harmless\n");
    let seen = place.id(".envrc").await;
    place.write(".envrc", "evil\n");
    let ids = [seen];
    for error in [
        keep(&place.project, &place.host, &ids, true).await.unwrap_err(),
        diff(&place.project, &place.host, &ids[0]).await.unwrap_err(),
    ] {
        assert_eq!(error.code(), Code::Review);
    }
    assert_eq!(place.paths().await, paths(&[(".envrc", What::Changed)]));
}

#[tokio::test]
async fn what_changes_while_the_differences_are_read_hides_no_other() {
    let place = Place::new();
    place.begin().await;
    place.write(".envrc", "harmless\n");
    place.write(".exrc", "evil\n");
    let looked = look_with_differences(&place.project, &place.host).await.unwrap();
    // The record is not locked by whoever reads.
    place.end().await;
    place.write(".envrc", "another\n");
    let diffs = looked.review.changes.iter().map(|one| looked.diff(&one.id));
    let diffs: Vec<_> = diffs.map(|diff| diff.map_err(|error| error.code())).collect();
    assert_eq!(diffs, [Err(Code::Review), Ok(Some(vec![DiffLine::New("evil".into())]))]);
}

#[tokio::test]
async fn what_was_not_compared_is_not_kept_while_a_sandbox_may_write_it() {
    let place = Place::new();
    place.begin().await;
    place.write(".envrc", "seen\n");
    for number in 0..1_001 {
        place.write(&format!(".vscode/{number}"), "");
    }
    let all = place.look().await.changes;
    // One id for one content, as long as nobody can make two of.
    assert!(all.iter().all(|one| one.id.len() == 64), "{all:?}");
    let crowd = all.iter().find(|one| one.path == ".vscode").unwrap().id.clone();
    let keep = |runs| keep(&place.project, &place.host, std::slice::from_ref(&crowd), runs);
    assert_eq!(keep(true).await.unwrap_err().code(), Code::Review);
    assert!(place.paths().await.contains(&(".vscode".into(), What::New)));
    keep(false).await.unwrap();
    assert!(!place.paths().await.contains(&(".vscode".into(), What::New)));
}

#[tokio::test]
async fn another_session_does_not_make_a_change_the_record() {
    let place = Place::new();
    place.begin().await;
    place.write(".git/hooks/pre-push", "evil\n");
    place.end().await;
    // What a person does between sessions is no change of the agent's.
    place.write(".envrc", "use flake\n");
    place.begin().await;
    assert_eq!(place.paths().await, paths(&[(".git/hooks/pre-push", What::New)]));
    place.write(".envrc", "evil\n");
    place.put_back(".envrc").await.unwrap();
    assert_eq!(place.read(".envrc"), "use flake\n");
    // One that nobody saw the end of: everything stays to be looked at.
    place.write(".envrc", "evil again\n");
    place.begin().await;
    let expected = [(".envrc", What::Changed), (".git/hooks/pre-push", What::New)];
    assert_eq!(place.paths().await, paths(&expected));
}

#[tokio::test]
async fn the_late_end_of_one_session_does_not_end_the_next() {
    let place = Place::new();
    place.begin().await;
    begin(&place.project, &place.host, "two").await.unwrap();
    place.end().await;
    place.write(".envrc", "evil\n");
    begin(&place.project, &place.host, "three").await.unwrap();
    assert_eq!(place.paths().await, paths(&[(".envrc", What::Changed)]));
}

#[tokio::test]
async fn a_file_replaced_by_rename_and_one_made_executable_are_seen() {
    let place = Place::new();
    place.write(".git/hooks/pre-commit", "#!/bin/sh\n");
    fs::set_permissions(place.at(".git/hooks/pre-commit"), fs::Permissions::from_mode(0o644))
        .unwrap();
    place.begin().await;
    place.write("new", "[core]\n\tsshCommand = evil\n");
    fs::rename(place.at("new"), place.at(".git/config")).unwrap();
    fs::set_permissions(place.at(".git/hooks/pre-commit"), fs::Permissions::from_mode(0o755))
        .unwrap();
    let expected = [(".git/config", What::Changed), (".git/hooks/pre-commit", What::Changed)];
    assert_eq!(place.paths().await, paths(&expected));
    let id = place.id(".git/hooks/pre-commit").await;
    let lines = diff(&place.project, &place.host, &id).await.unwrap();
    assert_eq!(lines, Some(vec![DiffLine::Executable(true)]));
    place.put_back(".git/hooks/pre-commit").await.unwrap();
    let mode = fs::metadata(place.at(".git/hooks/pre-commit")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644);
}

#[tokio::test]
async fn f4_a_link_in_the_place_of_a_folder_is_seen_and_nothing_is_written_through_it() {
    let place = Place::new();
    place.begin().await;
    let outside = place.dir.path().join("outside");
    fs::create_dir_all(outside.join("hooks")).unwrap();
    fs::write(outside.join("config"), "[mine]\n").unwrap();
    fs::rename(place.at(".git"), place.at("moved")).unwrap();
    symlink(&outside, place.at(".git")).unwrap();
    let expected = [(".git", What::New), (".git/config", What::Removed)];
    assert_eq!(place.paths().await, paths(&expected));
    let error = place.put_back(".git/config").await.unwrap_err();
    assert!(error.body().contains(".git/config could not be put back"), "{error}");
    assert_eq!(fs::read_to_string(outside.join("config")).unwrap(), "[mine]\n");
    let ids = [place.id(".git/config").await, place.id(".git").await];
    put_back(&place.project, &place.host, &ids).await.unwrap();
    assert!(fs::symlink_metadata(place.at(".git")).unwrap().is_dir());
    assert_eq!(place.read(".git/config"), "[core]\n\tbare = false\n");
    assert_eq!(fs::read_to_string(outside.join("config")).unwrap(), "[mine]\n");
}

#[tokio::test]
async fn a_link_to_a_file_of_the_persons_is_neither_read_nor_followed() {
    let place = Place::new();
    place.begin().await;
    let secret = place.dir.path().join("secret");
    fs::write(&secret, "very secret").unwrap();
    symlink(&secret, place.at(".git/hooks/pre-commit")).unwrap();
    fs::remove_file(place.at(".envrc")).unwrap();
    symlink(&secret, place.at(".envrc")).unwrap();
    let review = place.look().await;
    for change in &review.changes {
        assert!(change.why.starts_with("It is a link now"), "{change:?}");
        let lines = diff(&place.project, &place.host, &change.id).await.unwrap();
        assert!(!format!("{lines:?}").contains("very secret"));
    }
    let all: Vec<String> = review.changes.into_iter().map(|one| one.id).collect();
    put_back(&place.project, &place.host, &all).await.unwrap();
    assert_eq!(place.read(".envrc"), "use nix\n");
    assert_eq!(fs::read_to_string(&secret).unwrap(), "very secret");
}

#[tokio::test]
async fn pipes_floods_and_large_files_neither_block_nor_hide_anything() {
    let place = Place::new();
    place.begin().await;
    let made = std::process::Command::new("mkfifo").arg(place.at(".mcp.json")).status().unwrap();
    assert!(made.success());
    for number in 0..1_500 {
        place.write(&format!(".vscode/{number}.json"), "{}");
    }
    fs::File::create(place.at(".exrc")).unwrap().set_len(17 << 20).unwrap();
    let seen = place.paths().await;
    for path in [".mcp.json", ".exrc", ".vscode"] {
        assert!(seen.contains(&(path.into(), What::New)), "{path}");
    }
    assert!(seen.len() <= MAX_CHANGES);
    // The flood is told in a sentence, and what else is there is still listed.
    assert!(place.look().await.notes.iter().any(|note| note.contains("more changed")));
    place.put_back(".mcp.json").await.unwrap();
    assert!(!place.at(".mcp.json").exists());
}

#[tokio::test]
async fn what_git_would_take_for_its_settings_is_looked_at_too() {
    let place = Place::new();
    place.begin().await;
    place.write(".git/commondir", "../evil\n");
    place.write(".git/modules/lib/HEAD", "ref: x\n");
    place.write(".git/modules/lib/config", "[core]\n");
    let expected = [(".git/commondir", What::New), (".git/modules/lib/config", What::New)];
    assert_eq!(place.paths().await, paths(&expected));
}

/// The agent goes on writing between the look and the person's answer being done.
#[tokio::test]
async fn what_changes_while_an_answer_is_carried_out_is_not_kept() {
    let place = Place::new();
    place.begin().await;
    place.write(".envrc", "harmless\n");
    let (state, _lock) = State::read(&place.project, &place.host).await.unwrap();
    let seen = state.all_found().into_iter().find(|one| one.path == Path::new(".envrc")).unwrap();
    state.kept(&seen).expect("as it was seen");
    place.write(".envrc", "another\n");
    assert_eq!(state.kept(&seen).unwrap_err().code(), Code::Review);
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_an_error_and_nothing_is_written() {
    let place = Place::new();
    place.begin().await;
    let file = place.host.state.join("review").join(place.project.id()).join("record.json");
    fs::write(&file, "{").unwrap();
    assert_eq!(look(&place.project, &place.host).await.unwrap_err().code(), Code::Review);
    assert!(begin(&place.project, &place.host, "one").await.is_err());
    assert_eq!(fs::read_to_string(&file).unwrap(), "{");
}

const PATHS: [&str; 5] =
    [".envrc", ".git/config", ".git/hooks/pre-commit", ".vscode/tasks.json", "Makefile"];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn whatever_was_done_is_listed_and_undone(doings in prop::collection::vec((0..PATHS.len(), 0..4), 1..6)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let place = Place::new();
            let outside = place.dir.path().join("outside");
            fs::write(&outside, "not the project's").unwrap();
            let content = || PATHS.map(|path| fs::read_to_string(place.at(path)).ok());
            place.begin().await;
            let before = content();
            for (path, doing) in doings {
                let at = place.at(PATHS[path]);
                let _ = fs::create_dir_all(at.parent().unwrap());
                // First, so that nothing here is written through a link.
                let _ = fs::remove_file(&at);
                let _ = match doing {
                    0 => fs::write(&at, "evil"),
                    1 => Ok(()),
                    2 => symlink(&outside, &at),
                    _ => fs::create_dir(&at),
                };
            }
            let changed = before != content();
            let review = place.look().await;
            assert!(!changed || !review.changes.is_empty());
            let all: Vec<String> = review.changes.into_iter().map(|one| one.id).collect();
            put_back(&place.project, &place.host, &all).await.unwrap();
            assert_eq!(content(), before);
            assert_eq!(fs::read_to_string(&outside).unwrap(), "not the project's");
            assert!(place.look().await.changes.is_empty());
        });
    }
}
