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
