//! Folders further down, crowds, and what no guard is mounted over.

use super::*;

#[tokio::test]
async fn f2_guarded_names_in_folders_further_down_are_seen_and_put_back() {
    let place = Place::new();
    place.write("libs/known/.git/HEAD", "ref: refs/heads/main\n");
    place.write("libs/known/.git/config", "[core]\n");
    place.begin().await;
    assert_eq!(place.look().await, Review::default());

    place.write("libs/known/.git/config", "[core]\n\tfsmonitor = evil\n");
    place.write("libs/known/.git/hooks/pre-commit", "evil\n");
    place.write("new/.git/HEAD", "ref: refs/heads/main\n");
    place.write("new/.git/config", "[core]\n");
    place.write("new/.git/hooks/pre-push.sample", "an example\n");
    place.write("new/.git/modules/inner/HEAD", "ref: refs/heads/main\n");
    place.write("new/.git/modules/inner/hooks/post-merge", "evil\n");
    place.write("a/b/c/.envrc", "evil\n");
    place.write("a/.vscode/tasks.json", "{}\n");
    place.write("pointer/.git", "gitdir: ../../elsewhere\n");
    fs::create_dir(place.at("linked")).unwrap();
    symlink("../new/.git", place.at("linked/.git")).unwrap();
    // Git takes such a folder for a repository, too.
    for part in ["objects/x", "refs/x", "HEAD", "config", "hooks/post-checkout"] {
        place.write(&format!("a/bare/{part}"), "evil\n");
    }
    // Other people's code, by the thousand.
    place.write("node_modules/x/.envrc", "theirs\n");

    let expected = [
        ("a/.vscode/tasks.json", What::New),
        ("a/b/c/.envrc", What::New),
        ("a/bare/config", What::New),
        ("a/bare/hooks/post-checkout", What::New),
        ("libs/known/.git/config", What::Changed),
        ("libs/known/.git/hooks/pre-commit", What::New),
        ("linked/.git", What::New),
        ("new/.git/config", What::New),
        ("new/.git/modules/inner/hooks/post-merge", What::New),
        ("pointer/.git", What::New),
    ];
    assert_eq!(place.paths().await, paths(&expected));
    let review = place.look().await;
    assert_eq!(review.alarming(), expected.len());
    assert_eq!(review.changes[5].why, "Git would run this at the next commit.");

    let all: Vec<String> = review.changes.into_iter().map(|one| one.id).collect();
    put_back(&place.project, &place.host, &all).await.unwrap();
    assert_eq!(place.paths().await, []);
    assert_eq!(place.read("libs/known/.git/config"), "[core]\n");
    assert!(!place.at("libs/known/.git/hooks").exists(), "an empty folder is left");
    assert!(place.at("a/b/c").exists(), "a folder of the project's went");
}

#[tokio::test]
async fn a_crowd_of_folders_is_told_and_hides_no_change_of_what_was_known() {
    let place = Place::new();
    place.write("a/b/.envrc", "use nix\n");
    place.write("a/b/same/.envrc", "use nix\n");
    place.begin().await;
    place.write("a/b/.envrc", "evil\n");
    for number in 0..20_000 {
        fs::create_dir(place.at(&format!("crowd-{number}"))).unwrap();
    }
    let review = place.look().await;
    assert_eq!(review.notes.len(), 1, "{:?}", review.notes);
    assert!(review.notes[0].contains("than are looked into"));
    let seen: Vec<_> = review.changes.iter().map(|one| (one.path.clone(), one.what)).collect();
    assert_eq!(seen, paths(&[(".", What::New), ("a/b/.envrc", What::Changed)]));
    // What nobody saw behind it when the session ended does not become the record.
    place.write("z/z/.envrc", "evil\n");
    place.end().await;
    for number in 0..20_000 {
        fs::remove_dir(place.at(&format!("crowd-{number}"))).unwrap();
    }
    place.begin().await;
    let expected = [("a/b/.envrc", What::Changed), ("z/z/.envrc", What::New)];
    assert_eq!(place.paths().await, paths(&expected));
}

#[test]
fn f2_a_folder_that_cannot_be_listed_hides_nothing() {
    rcc_test_aids::without_privileges("review::tests::further::what_cannot_be_listed_is_told");
}

#[tokio::test]
#[ignore = "the one above starts it without the right to read everything"]
async fn what_cannot_be_listed_is_told() {
    let place = Place::new();
    place.write(".git/modules/known/HEAD", "ref: refs/heads/main\n");
    place.write("theirs/file", "");
    let list = |path: &str, may: bool| {
        let mode = if may { 0o755 } else { 0o311 };
        fs::set_permissions(place.at(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    // What was so before is no change.
    list("theirs", false);
    place.begin().await;
    let review = place.look().await;
    assert_eq!(review.changes, []);
    assert!(review.line().unwrap().starts_with("not all of the folder could be compared"));
    place.write("sub/.git/config", "[core]\n\tfsmonitor = evil\n");
    place.write("sub/.envrc", "evil\n");
    place.write(".git/modules/new/HEAD", "ref: refs/heads/main\n");
    place.write(".git/modules/new/config", "evil\n");
    list("sub", false);
    list(".git/modules", false);
    let hidden = [(".git/modules", What::New), ("sub", What::New)];
    let review = place.look().await;
    assert_eq!(review.alarming(), 2);
    assert_eq!(place.paths().await, paths(&hidden));
    assert!(review.notes.iter().any(|note| note.starts_with("sub ")), "{:?}", review.notes);
    assert!(review.line().unwrap().contains("not all could be compared"));
    // Seen by nobody when the session ended, it stays to be looked at.
    place.end().await;
    list("sub", true);
    list(".git/modules", true);
    place.begin().await;
    let expected = [
        (".git/modules/new/config", What::New),
        ("sub/.envrc", What::New),
        ("sub/.git/config", What::New),
    ];
    assert_eq!(place.paths().await, paths(&expected));
    // A person who says that such a folder is fine is not asked again.
    list("sub", false);
    place.keep("sub").await.unwrap();
    assert!(place.paths().await.iter().all(|(path, _)| path != "sub"));
    list("sub", true);
    assert!(place.paths().await.contains(&("sub".into(), What::Removed)));
}

#[tokio::test]
async fn f2_repositories_behind_a_crowd_a_link_or_a_false_head_are_told() {
    let place = Place::new();
    place.write(".git/modules/zoo/HEAD", "ref: refs/heads/main\n");
    place.begin().await;
    for number in 0..1_100 {
        fs::create_dir(place.at(&format!(".git/modules/a-{number}"))).unwrap();
    }
    assert_eq!(place.paths().await, paths(&[(".git/modules", What::New)]));

    let place = Place::new();
    place.write(".git/modules/libs/zoo/HEAD", "ref: refs/heads/main\n");
    place.begin().await;
    place.write(".git/modules/libs/HEAD", "");
    place.write(".git/modules/libs/zoo/commondir", "/tmp\n");
    fs::create_dir_all(place.at("elsewhere")).unwrap();
    symlink("../../elsewhere", place.at(".git/modules/linked")).unwrap();
    fs::create_dir_all(place.at(".git/worktrees/tree")).unwrap();
    symlink("refs/heads/main", place.at(".git/worktrees/tree/HEAD")).unwrap();
    place.write(".git/worktrees/tree/config.worktree", "evil\n");
    let expected = [
        (".git/modules/libs/zoo/commondir", What::New),
        (".git/modules/linked", What::New),
        (".git/worktrees/tree/HEAD", What::New),
        (".git/worktrees/tree/config.worktree", What::New),
    ];
    assert_eq!(place.paths().await, paths(&expected));
}

#[tokio::test]
async fn f3_all_that_claude_code_would_follow_and_its_working_trees_are_looked_at() {
    let place = Place::new();
    place.write(".claude/worktrees/known/.envrc", "use nix\n");
    place.begin().await;
    place.write(".claude/hooks/stop.sh", "evil\n");
    place.write(".claude/skills/a/SKILL.md", "evil\n");
    place.write(".claude/worktrees/known/.envrc", "evil\n");
    place.write(".claude/worktrees/new/.git", "gitdir: /tmp\n");
    place.write(".claude/worktrees/new/src/file", "");
    place.write("sub/.claude/commands/x.md", "evil\n");
    let expected = [
        (".claude/hooks/stop.sh", What::New),
        (".claude/skills/a/SKILL.md", What::New),
        (".claude/worktrees/known/.envrc", What::Changed),
        (".claude/worktrees/new/.git", What::New),
        ("sub/.claude/commands/x.md", What::New),
    ];
    assert_eq!(place.paths().await, paths(&expected));
    let all: Vec<String> = place.look().await.changes.into_iter().map(|one| one.id).collect();
    put_back(&place.project, &place.host, &all).await.unwrap();
    assert_eq!(place.paths().await, []);
    assert!(!place.at(".claude/hooks").exists(), "an empty folder is left");
}

#[tokio::test]
async fn f2_f3_other_names_that_programs_look_for_and_links_out_of_the_project_are_told() {
    let place = Place::new();
    place.write(".git/config", "[include]\n\tpath = ../tools/git\n[core]\n\thooksPath = ci\n");
    place.write("tools/git", "[user]\n");
    place.begin().await;
    place.write("tools/git", "[core]\n\tfsmonitor = evil\n");
    place.write("ci/pre-push", "evil\n");
    place.write(".devcontainer.json", "{}\n");
    place.write(".hg/hgrc", "[hooks]\n");
    place.write("sub/mine.code-workspace", "{}\n");
    place.write(".cursor/mcp.json", "{}\n");
    symlink(place.dir.path().join("outside"), place.at("build")).unwrap();
    symlink("../../outside", place.at("sub/up")).unwrap();
    symlink("/usr/bin/python3", place.at("sub/python")).unwrap();
    symlink("../tools", place.at("sub/inside")).unwrap();
    let alarming = [
        (".cursor/mcp.json", What::New),
        (".devcontainer.json", What::New),
        (".hg/hgrc", What::New),
        ("ci/pre-push", What::New),
        ("sub/mine.code-workspace", What::New),
        ("tools/git", What::Changed),
    ];
    let links = [("build", What::New), ("sub/up", What::New)];
    assert_eq!(place.paths().await, [paths(&alarming), paths(&links)].concat());
    assert_eq!(place.look().await.alarming(), alarming.len());
}
