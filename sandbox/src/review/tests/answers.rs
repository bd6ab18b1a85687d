//! Putting back and undoing lose nothing.

use super::*;

const HOOK: &str = ".git/hooks/pre-commit";

#[tokio::test]
async fn what_could_not_be_brought_back_is_not_taken_away() {
    let place = Place::new();
    place.begin().await;
    let large = "x".repeat((1 << 20) + 1);
    place.write(HOOK, &large);
    place.write(".envrc", &large);
    fs::File::create(place.at(".exrc")).unwrap().set_len(17 << 20).unwrap();
    for path in [".envrc", ".exrc", HOOK] {
        let review = place.look().await;
        let change = review.changes.into_iter().find(|one| one.path == path).unwrap();
        assert!(!change.can_put_back, "{path}");
        let error = place.put_back(path).await.unwrap_err();
        assert!(error.body().contains("delete it yourself"), "{error}");
    }
    assert_eq!((place.read(HOOK), place.read(".envrc")), (large.clone(), large));
    assert!(place.at(".exrc").exists());
}

async fn all_put_back(place: &Place) {
    let all: Vec<_> = place.look().await.changes.into_iter().map(|one| one.id).collect();
    put_back(&place.project, &place.host, &all).await.unwrap();
}

async fn undone(place: &Place) -> Result<()> {
    undo(&place.project, &place.host).await
}

#[tokio::test]
async fn one_that_cannot_be_undone_keeps_no_other_from_it() {
    let place = Place::new();
    place.begin().await;
    for path in [".exrc", ".nvimrc", ".vimrc"] {
        place.write(path, "evil\n");
    }
    all_put_back(&place).await;
    place.write(".exrc/in the way", "");
    let error = undone(&place).await.unwrap_err();
    assert!(error.body().starts_with(".exrc could not be put back"), "{error}");
    assert_eq!((place.read(".nvimrc"), place.read(".vimrc")), ("evil\n".into(), "evil\n".into()));
    // What was undone is the person's again; what was not can be as soon as nothing is there.
    fs::remove_file(place.at(".vimrc")).unwrap();
    fs::remove_dir_all(place.at(".exrc")).unwrap();
    undone(&place).await.unwrap();
    assert_eq!(place.read(".exrc"), "evil\n");
    assert!(!place.at(".vimrc").exists() && !place.look().await.can_undo);
}

#[tokio::test]
async fn what_a_person_wrote_since_is_not_overwritten_by_an_undo() {
    let place = Place::new();
    place.begin().await;
    place.write(".envrc", "evil\n");
    place.write(HOOK, "evil\n");
    all_put_back(&place).await;
    place.write(".envrc", "mine\n");
    place.write(HOOK, "mine\n");
    let error = undone(&place).await.unwrap_err();
    assert!(error.body().contains("somebody wrote there since"), "{error}");
    assert_eq!((place.read(".envrc"), place.read(HOOK)), ("mine\n".into(), "mine\n".into()));
}

#[tokio::test]
async fn what_can_be_undone_stays_so_when_another_is_kept_and_in_the_next_session() {
    let place = Place::new();
    place.begin().await;
    place.write(HOOK, "mine after all\n");
    place.write(".exrc", "kept\n");
    all_put_back(&place).await;
    place.write(".nvimrc", "another\n");
    place.write(".exrc", "kept\n");
    place.keep(".nvimrc").await.unwrap();
    place.keep(".exrc").await.unwrap();
    assert!(place.look().await.can_undo);
    place.end().await;
    place.begin().await;
    assert!(place.look().await.can_undo);
    fs::remove_file(place.at(".exrc")).unwrap();
    undone(&place).await.unwrap();
    assert_eq!(place.read(HOOK), "mine after all\n");
    assert!(!place.at(".exrc").exists(), "what was kept is undone");
}

#[tokio::test]
async fn what_settings_name_since_may_be_the_persons_and_is_not_taken_away() {
    let place = Place::new();
    place.write(".git/config", "[core]\n\thooksPath = ci\n");
    place.write("src/mine", "mine\n");
    place.write("src/sub/mine", "mine\n");
    place.begin().await;
    let settings = "sub/.git/config";
    place.write("sub/.git/HEAD", "ref: refs/heads/main\n");
    place.write(settings, "[core]\n\thooksPath = ../src\n");
    place.write("sub/x", "");
    // What was named before is compared as all else is.
    place.write("ci/pre-push", "evil\n");
    let mine = ["src/mine", "src/sub/mine"];
    for _ in 0..2 {
        let review = place.look().await;
        for one in &review.changes {
            assert_eq!(one.can_put_back, !mine.contains(&&*one.path), "{}", one.path);
        }
        let error = place.put_back(mine[0]).await.unwrap_err();
        assert!(error.body().contains("put the settings back"), "{error}");
        // Nor in the next session.
        place.end().await;
        place.begin().await;
    }
    place.put_back("ci/pre-push").await.unwrap();
    // With their settings they are no changes any more.
    let settings_seen = (settings.to_string(), What::New);
    assert!(place.paths().await.contains(&settings_seen));
    place.put_back(settings).await.unwrap();
    assert_eq!(place.paths().await, []);
    assert_eq!(place.read(mine[0]), "mine\n");
    // What the person keeps is compared from then on.
    place.write(settings, "[core]\n\thooksPath = ../src\n");
    for path in [settings, mine[0], mine[1]] {
        place.keep(path).await.unwrap();
    }
    place.begin().await;
    place.write("src/pre-commit", "evil\n");
    place.put_back("src/pre-commit").await.unwrap();
    assert_eq!(place.paths().await, []);
}
