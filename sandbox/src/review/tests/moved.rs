//! A folder that gets another name.

use super::*;

const HOOK: &str = ".git/hooks/pre-commit";

impl Place {
    /// The folder under another name.
    fn moved(&mut self, name: &str) {
        let to = self.dir.path().join(name);
        fs::rename(self.project.path(), &to).unwrap();
        self.project = Project::open(&to, &self.host).unwrap();
    }

    fn another(&self, name: &str) -> Project {
        let folder = self.dir.path().join(name);
        fs::create_dir_all(&folder).unwrap();
        Project::open(&folder, &self.host).unwrap()
    }
}

#[tokio::test]
async fn f2_a_folder_with_another_name_keeps_what_nobody_looked_at() {
    let mut place = Place::new();
    place.begin().await;
    place.write(HOOK, "evil\n");
    place.end().await;
    place.moved("renamed");
    assert_eq!(place.paths().await, paths(&[(HOOK, What::New)]));
    place.moved("again");
    place.begin().await;
    assert_eq!(place.paths().await, paths(&[(HOOK, What::New)]));
    // Another folder under the old name has no record of that one.
    let another = place.another("project");
    assert_eq!(look(&another, &place.host).await.unwrap(), Review::default());
    place.put_back(HOOK).await.unwrap();
    assert_eq!(place.paths().await, []);
}

#[tokio::test]
async fn f2_two_folders_that_change_names_keep_their_records() {
    let mut place = Place::new();
    place.begin().await;
    place.write(HOOK, "evil\n");
    let other = place.another("other");
    begin(&other, &place.host, "two").await.unwrap();
    fs::write(other.path().join(".envrc"), "evil\n").unwrap();
    place.moved("between");
    fs::rename(place.dir.path().join("other"), place.dir.path().join("project")).unwrap();
    place.moved("other");
    assert_eq!(place.paths().await, paths(&[(HOOK, What::New)]));
    place.project = place.another("project");
    assert_eq!(place.paths().await, paths(&[(".envrc", What::New)]));
}

#[tokio::test]
async fn f2_the_end_of_a_session_whose_folder_was_moved_is_not_another_folders() {
    let mut place = Place::new();
    place.begin().await;
    place.write(HOOK, "evil\n");
    let old = place.project.clone();
    place.moved("renamed");
    place.another("project");
    end(&old, &place.host, "one").await.unwrap();
    place.begin().await;
    assert_eq!(place.paths().await, paths(&[(HOOK, What::New)]));
}

#[tokio::test]
async fn f2_another_folder_that_is_opened_first_takes_no_record_away() {
    let mut place = Place::new();
    place.begin().await;
    place.write(".exrc", "evil\n");
    place.put_back(".exrc").await.unwrap();
    place.write(HOOK, "evil\n");
    place.write(".envrc", "evil\n");
    place.end().await;
    let (old, path) = (place.dir.path().join("old"), place.project.path().to_path_buf());
    fs::rename(&path, &old).unwrap();
    // The same project once more, with settings of its own.
    place.project = place.another("project");
    place.write(".envrc", "another's\n");
    place.write("package.json", "{}\n");
    let expected = paths(&[(".envrc", What::Changed)]);
    for _ in 0..2 {
        let review = place.look().await;
        assert!(!review.changes[0].can_put_back && !review.notes.is_empty());
        assert!(!review.can_undo);
        assert_eq!(place.paths().await, expected);
        assert_eq!(diff(&place.project, &place.host, &review.changes[0].id).await.unwrap(), None);
        place.put_back(".envrc").await.unwrap_err();
        assert_eq!(place.read(".envrc"), "another's\n");
        // Nor in a session.
        place.begin().await;
    }
    place.write(HOOK, "evil\n");
    place.keep(".envrc").await.unwrap();
    place.put_back(HOOK).await.unwrap();
    assert_eq!(place.paths().await, []);
    place.project = Project::open(&old, &place.host).unwrap();
    place.begin().await;
    assert_eq!(place.paths().await, paths(&[(".envrc", What::Changed), (HOOK, What::New)]));
    place.put_back(".envrc").await.unwrap();
    assert_eq!(place.read(".envrc"), "use nix\n");
}

#[tokio::test]
async fn f2_a_folder_out_of_a_backup_is_not_the_record() {
    let place = Place::new();
    place.begin().await;
    place.write(HOOK, "evil\n");
    place.end().await;
    let project = place.project.path();
    fs::rename(project, place.dir.path().join("old")).unwrap();
    let mut copy = std::process::Command::new("cp");
    copy.arg("-a").arg(place.dir.path().join("old")).arg(project);
    assert!(copy.status().unwrap().success());
    fs::remove_dir_all(place.dir.path().join("old")).unwrap();
    place.begin().await;
    assert_eq!(place.paths().await, paths(&[(HOOK, What::Changed)]));
    // Whoever deletes it has answered.
    fs::remove_file(place.at(HOOK)).unwrap();
    assert_eq!(place.look().await, Review::default());
}

#[tokio::test]
async fn f2_the_end_of_a_session_is_not_that_of_a_folder_that_was_looked_at_since() {
    let mut place = Place::new();
    place.begin().await;
    let session = place.project.clone();
    place.moved("old");
    place.project = place.another("project");
    place.write(HOOK, "evil\n");
    place.look().await;
    end(&session, &place.host, "one").await.unwrap();
    place.begin().await;
    fs::write(place.at(HOOK), "mine\n").unwrap();
    assert_eq!(place.paths().await, paths(&[(HOOK, What::Changed)]));
}

#[tokio::test]
async fn folders_in_which_nothing_ran_leave_no_copies_of_the_record() {
    let mut place = Place::new();
    place.begin().await;
    for name in ["one", "two", "three"] {
        place.moved(name);
        place.project = place.another("project");
        assert_eq!(place.look().await, Review::default());
    }
    let records = fs::read_dir(place.host.state.join("review")).unwrap().count();
    assert_eq!(records, 2);
}
