//! Ways to hide a change from the review.

use super::*;

#[tokio::test]
async fn f2_a_thousand_samples_hide_no_hook() {
    let place = Place::new();
    for number in 0..12 {
        place.write(&format!(".git/hooks/{number}.sample"), "");
    }
    place.begin().await;
    place.write(".git/hooks/pre-commit", "evil\n");
    assert_eq!(place.paths().await, paths(&[(".git/hooks/pre-commit", What::New)]));
    for number in 0..1_001 {
        place.write(&format!(".git/hooks/{number}.sample"), "");
    }
    // In which order a folder lists its names is the file system's to say.
    let review = place.look().await;
    assert!(review.changes.iter().any(|one| one.path == ".git/hooks" && one.what == What::New));
    assert!(review.notes.iter().any(|note| note.starts_with(".git/hooks ")), "{:?}", review.notes);
}

#[tokio::test]
async fn f2_what_an_open_rebase_would_run_is_told_and_gone_with_it() {
    let place = Place::new();
    place.write(".git/modules/lib/HEAD", "ref: refs/heads/main\n");
    place.write(".git/worktrees/tree/HEAD", "ref: refs/heads/main\n");
    place.begin().await;
    let repositories =
        [".git/modules/lib", ".git", ".git/worktrees/tree", "bare", "sub/.git"].map(PathBuf::from);
    for part in ["HEAD", "objects/x", "refs/x"] {
        place.write(&format!("bare/{part}"), "");
    }
    let todo = repositories.map(|git| git.join("rebase-merge/git-rebase-todo"));
    let todo = todo.each_ref().map(|path| path.to_str().unwrap());
    for path in todo {
        place.write(path, "pick 1234567 mine\nexec evil\n");
    }
    let review = place.look().await;
    let seen: Vec<_> = review.changes.iter().map(|one| &*one.path).collect();
    assert_eq!(seen, todo);
    let why = "Git would run its `exec` lines at `git rebase --continue`.";
    assert!(review.changes.iter().all(|one| one.why == why && one.runs_by_itself));
    place.put_back(todo[1]).await.unwrap();
    assert!(place.at(".git/rebase-merge").is_dir(), "a folder of Git's went");
    for path in todo {
        let _ = fs::remove_dir_all(place.at(path).parent().unwrap());
    }
    assert_eq!(place.paths().await, []);
}

#[tokio::test]
async fn f3_a_link_out_of_the_project_by_way_of_another_is_told() {
    let place = Place::new();
    fs::create_dir_all(place.at("a/b/c/d")).unwrap();
    symlink("../../../..", place.at("a/b/c/d/up")).unwrap();
    place.begin().await;
    symlink("a/b/c/d/up/../../.ssh/authorized_keys", place.at("out")).unwrap();
    symlink("a/b/c/d/up/a", place.at("in")).unwrap();
    assert_eq!(place.paths().await, paths(&[("out", What::New)]));
}

#[tokio::test]
async fn f2_what_a_repository_further_down_names_is_told() {
    let mut place = Place::new();
    place.host.home = place.project.path().parent().unwrap().into();
    place.write("sub/.git/config", "[core]\n\tfsmonitor = tools/watch\n");
    place.write("sub/tools/watch", "#!/bin/sh\n");
    place.write(".git/config", "[core]\n\tsshCommand = ~/project/ci/ssh -4\n");
    place.write("ci/ssh", "#!/bin/sh\n");
    place.begin().await;
    place.write("sub/tools/watch", "evil\n");
    place.write("ci/ssh", "evil\n");
    let review = place.look().await;
    let seen: Vec<_> = review.changes.iter().map(|one| (one.path.clone(), one.what)).collect();
    assert_eq!(seen, paths(&[("ci/ssh", What::Changed), ("sub/tools/watch", What::Changed)]));
    assert!(review.changes.iter().all(|one| one.why.contains("settings of Git name it")));
    fs::remove_file(place.at("ci/ssh")).unwrap();
    assert!(place.paths().await.contains(&("ci/ssh".into(), What::Removed)));
}

#[tokio::test]
async fn f2_a_link_that_git_would_run_is_no_link_of_the_build() {
    let place = Place::new();
    place.write(".git/config", "[core]\n\thooksPath = ci\n\tfsmonitor = ./gradlew\n");
    place.write("gradlew", "#!/bin/sh\n");
    place.write("package.json", "{}\n");
    symlink("/tmp/mine", place.at("old")).unwrap();
    place.begin().await;
    symlink("/tmp/evil", place.at("ci")).unwrap();
    place.write("gradlew", "evil\n");
    place.write("package.json", "{\"scripts\": {}}\n");
    fs::create_dir(place.at("sub")).unwrap();
    symlink("/tmp/mine", place.at("sub/config")).unwrap();
    fs::remove_file(place.at("old")).unwrap();
    let review = place.look().await;
    let role = |one: &Change| (one.path.clone(), one.runs_by_itself, one.leads_out);
    let seen: Vec<_> = review.changes.iter().map(role).collect();
    let expected = [
        ("ci", true, false),
        ("gradlew", true, false),
        ("old", false, true),
        ("package.json", false, false),
        ("sub/config", false, true),
    ];
    assert_eq!(seen, expected.map(|(path, runs, link)| (path.to_string(), runs, link)));
    assert!(review.changes[0].why.contains("settings of Git name it"));
    assert_eq!(review.changes[2].why, "It led out of the project.");
    assert!(review.changes[4].why.starts_with("It leads out of the project"));
    assert_eq!(
        review.line().unwrap(),
        "2 files that this computer would run changed, and 1 file of the build changed, and \
         2 links out of the project changed: `rcc review` shows them."
    );
}

#[tokio::test]
async fn f2_working_trees_of_a_bare_repository_are_looked_at() {
    let place = Place::new();
    for part in ["HEAD", "objects/x", "refs/x", "worktrees/main/HEAD"] {
        place.write(&format!(".bare/{part}"), "");
    }
    let tree = place.at("main/.git");
    place.write(".bare/worktrees/main/gitdir", &format!("{}\n", tree.display()));
    place.write(".bare/config", "[core]\n\thooksPath = ci\n");
    place.write("main/.git", "gitdir: ../.bare/worktrees/main\n");
    place.begin().await;
    let todo = ".bare/worktrees/main/rebase-merge/git-rebase-todo";
    place.write(todo, "exec evil\n");
    place.write(".bare/worktrees/main/config.worktree", "[core]\n\tfsmonitor = evil\n");
    place.write("main/ci/pre-push", "evil\n");
    let config = ".bare/worktrees/main/config.worktree";
    let expected = [(config, What::New), (todo, What::New), ("main/ci/pre-push", What::New)];
    assert_eq!(place.paths().await, paths(&expected));
}

#[tokio::test]
async fn f2_a_repository_in_two_halves_is_looked_at() {
    let place = Place::new();
    for part in ["sub/HEAD", "data/x/objects/x", "data/x/refs/x", "sub/watch"] {
        place.write(part, "");
    }
    place.write("sub/commondir", "../data/x\n");
    place.begin().await;
    place.write("data/x/config", "[core]\n\tpager = evil\n\tfsmonitor = ./watch\n");
    place.write("data/x/hooks/pre-push", "evil\n");
    place.write("sub/commondir", "../data/x\n\n");
    place.write("sub/config", "evil\n");
    place.write("other/HEAD", "");
    place.write("other/commondir", "../data/x\n");
    let expected = [
        ("data/x/config", What::New),
        ("data/x/hooks/pre-push", What::New),
        ("other/commondir", What::New),
        ("sub/commondir", What::Changed),
        ("sub/config", What::New),
        ("sub/watch", What::New),
    ];
    assert_eq!(place.paths().await, paths(&expected));
}
