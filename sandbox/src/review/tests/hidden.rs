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
