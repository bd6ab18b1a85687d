//! Real containers, as an ordinary user with rootless Podman.
//!
//! Needs `podman`, a user that is not root with subordinate ids, the program
//! `inside` (`RCC_INSIDE`), and an image with a shell: `RCC_TEST_IMAGE`, else
//! the image `small` if it was built. What is missing is printed as the reason
//! for skipping.

#![allow(clippy::unwrap_used, reason = "in a test a failed step is the test's failure")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use bollard::container::LogOutput;
use futures_util::StreamExt;
use rcc_sandbox::{
    Cancel, Code, Engine, Handed, Host, ImageChoice, OpenRequest, Program, Progress, Reporter,
    Session, Size, Step, TerminalEvent, image, session,
};
use tokio::io::AsyncWriteExt;

struct Place {
    host: Host,
    engine: Engine,
    image: ImageChoice,
    folder: tempfile::TempDir,
}

/// The place, or the reason why there is none.
async fn place() -> Option<Place> {
    match try_place().await {
        Ok(place) => Some(place),
        Err(reason) => {
            eprintln!("SKIPPED: {reason}");
            None
        }
    }
}

async fn try_place() -> Result<Place, String> {
    let host = Host::detect().map_err(|e| e.to_string())?;
    let engine = Engine::connect(&host).await.map_err(|e| e.to_string())?;
    if std::env::var_os("RCC_INSIDE").is_none() {
        return Err("RCC_INSIDE does not name the static program".into());
    }
    let image = match std::env::var("RCC_TEST_IMAGE") {
        Ok(name) => ImageChoice::parse(&name).map_err(|e| e.to_string())?,
        Err(_) => ImageChoice::Small,
    };
    match image::find(&engine, &image, &[]).await {
        Ok(Some(_)) => {}
        _ => return Err(format!("there is no image {image}; set RCC_TEST_IMAGE")),
    }
    // Below the home: /tmp may be a mount that the engine's namespace does not have.
    let folder = tempfile::tempdir_in(&host.home).map_err(|e| e.to_string())?;
    Ok(Place { host, engine, image, folder })
}

impl Place {
    fn project(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::create_dir(&path).unwrap();
        path
    }

    fn request(&self, folder: &Path) -> OpenRequest {
        OpenRequest {
            folder: folder.into(),
            image: Some(self.image.clone()),
            offline: true,
            piped: false,
            claude: false,
            handed: Handed::default(),
        }
    }

    async fn open(&self, folder: &Path) -> Session {
        session::open(&self.host, &self.request(folder), &Reporter::silent(), &Cancel::new())
            .await
            .unwrap()
    }

    /// Runs a script on pipes; answers what it wrote and its exit code.
    async fn sh(&self, session: &Session, script: &str, handed: &Handed) -> (String, i32) {
        let program = Program::Command(vec!["sh".into(), "-c".into(), script.into()]);
        let mut pipes = session.start_piped(&program, handed, &self.host).await.unwrap();
        pipes.input.shutdown().await.unwrap();
        let mut text = Vec::new();
        while let Some(piece) = pipes.output.next().await {
            match piece.unwrap() {
                LogOutput::StdErr { .. } => {}
                other => text.extend_from_slice(&other.into_bytes()),
            }
        }
        (
            String::from_utf8_lossy(&text).trim().to_string(),
            session.exit_code(&pipes.id).await.unwrap(),
        )
    }

    async fn end(&self, session: &Session, folder: &Path) {
        let project = rcc_sandbox::Project::open(folder, &self.host).unwrap();
        session.stop().await.unwrap();
        assert!(Session::find(&self.engine, &project).await.unwrap().is_none());
        let volume = format!("rcc-home-{}", project.id());
        assert!(
            Command::new("podman")
                .args(["volume", "rm", &volume])
                .output()
                .unwrap()
                .status
                .success()
        );
    }
}

#[tokio::test]
async fn an_offline_sandbox_has_the_walls_and_nothing_of_the_session() {
    let Some(place) = place().await else { return };
    let folder = place.project("walls");
    let session = place.open(&folder).await;
    let none = Handed::default();
    let sh = async |script: &str| place.sh(&session, script, &none).await;
    // N1: no other network than lo.
    assert_eq!(
        sh("ls /sys/class/net 2>/dev/null || tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '")
            .await
            .0,
        "lo"
    );
    assert_eq!(sh("grep CapEff /proc/self/status | cut -f2").await.0, "0000000000000000");
    assert_eq!(sh("grep NoNewPrivs /proc/self/status | cut -f2").await.0, "1");
    assert_eq!(sh("id -u").await.0, place.host.uid.to_string());
    // F9: an own home, and nothing of it in the project.
    assert_eq!(sh("echo $HOME; cd; pwd").await.0, "/home/agent\n/home/agent");
    assert_ne!(sh("echo x > /etc/x").await.1, 0);
    assert_ne!(sh("echo x > /run/rcc/inside || mv /run/rcc /run/x").await.1, 0);
    // H8: no sockets of the person's session.
    assert_eq!(
        sh("find / -xdev -type s 2>/dev/null; env | grep -E 'DBUS|XDG_RUNTIME|SSH_AUTH|DISPLAY'")
            .await
            .0,
        ""
    );
    assert_eq!(sh("echo made > /workspace/f; exit 7").await, (String::new(), 7));
    assert_eq!(fs::read_to_string(folder.join("f")).unwrap(), "made\n");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    place.end(&session, &folder).await;
}

#[tokio::test]
async fn opening_twice_also_through_a_symlink_is_one_sandbox() {
    let Some(place) = place().await else { return };
    let folder = place.project("twice");
    let link = place.folder.path().join("link");
    std::os::unix::fs::symlink(&folder, &link).unwrap();
    let (one, two) = tokio::join!(place.open(&folder), place.open(&link));
    assert_eq!(one.id(), two.id());
    assert!(one.new != two.new, "exactly one of them made it");
    place.end(&one, &folder).await;
}

#[tokio::test]
async fn odd_paths_work() {
    let Some(place) = place().await else { return };
    for name in ["a b", "ü:c", "d,e", "f\"g", "h\ni", "-j"] {
        let folder = place.project(name);
        fs::create_dir_all(folder.join(".git/hooks")).unwrap();
        let session = place.open(&folder).await;
        let (_, code) = place
            .sh(
                &session,
                "echo x > /workspace/made && ! touch /workspace/.git/hooks/y",
                &Handed::default(),
            )
            .await;
        assert_eq!(code, 0, "{name:?}");
        assert!(folder.join("made").exists(), "{name:?}");
        place.end(&session, &folder).await;
    }
}

#[tokio::test]
async fn guarded_files_hold_against_writing_renaming_and_replacing_the_parent() {
    let Some(place) = place().await else { return };
    let folder = place.project("guard");
    fs::create_dir_all(folder.join(".git/hooks")).unwrap();
    fs::write(folder.join(".git/config"), "[core]\n").unwrap();
    fs::write(folder.join(".git/HEAD"), "ref: refs/heads/main\n").unwrap();
    let session = place.open(&folder).await;
    for attack in [
        "echo evil >> .git/config",
        "rm -f .git/config",
        "mv .git/config .git/x",
        "touch .git/hooks/post-commit",
        "mv .git .old",
        "rm -rf .git/hooks",
        "chmod 777 .git/config",
        "umount .git/config",
    ] {
        assert_ne!(place.sh(&session, attack, &Handed::default()).await.1, 0, "{attack}");
    }
    assert_eq!(place.sh(&session, "touch .git/index", &Handed::default()).await.1, 0);
    place.end(&session, &folder).await;
    assert_eq!(fs::read_to_string(folder.join(".git/config")).unwrap(), "[core]\n");
    // F7: nothing was left for paths that do not exist.
    let mut names: Vec<_> =
        fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, [".git"]);
}

#[tokio::test]
async fn a_secret_reaches_the_program_and_no_record() {
    let Some(place) = place().await else { return };
    let folder = place.project("secret");
    let session = place.open(&folder).await;
    let mut handed = Handed::default();
    handed.set("ANTHROPIC_API_KEY", "sk-very-secret-0123");
    assert_eq!(
        place.sh(&session, "echo $ANTHROPIC_API_KEY", &handed).await.0,
        "sk-very-secret-0123"
    );
    let program = Program::Command(vec!["sleep".into(), "30".into()]);
    let terminal = session.start(&program, Size::default(), &handed, &place.host).await.unwrap();
    let said = |program: &str, arguments: &[&str]| {
        String::from_utf8_lossy(&Command::new(program).args(arguments).output().unwrap().stdout)
            .into_owned()
    };
    assert!(!said("podman", &["inspect", session.id()]).contains("very-secret"));
    assert!(!said("podman", &["logs", session.id()]).contains("very-secret"));
    assert!(!said("ps", &["axww", "-o", "args"]).contains("very-secret"));
    drop(terminal);
    place.end(&session, &folder).await;
}

#[tokio::test]
async fn a_terminal_outlives_its_viewer_and_tells_how_it_ended() {
    let Some(place) = place().await else { return };
    let folder = place.project("terminal");
    let session = place.open(&folder).await;
    let program = Program::Command(vec![
        "sh".into(),
        "-c".into(),
        "read word; echo got $word; read end; exit 5".into(),
    ]);
    let terminal =
        session.start(&program, Size::default(), &Handed::default(), &place.host).await.unwrap();
    let number = terminal.number();
    let (input, mut output) = terminal.split();
    input.write(b"marker\r").await.unwrap();
    until(&mut output, "got marker").await;
    drop((input, output));
    let (input, mut output) =
        session.attach(number, Size { columns: 100, rows: 30 }).await.unwrap().split();
    until(&mut output, "got marker").await;
    input.write(b"\r").await.unwrap();
    loop {
        match output.next().await.expect("the end was told") {
            TerminalEvent::Ended(ended) => break assert_eq!(ended.exit_code(), 5),
            TerminalEvent::Lost => panic!("the terminal was lost"),
            _ => {}
        }
    }
    place.end(&session, &folder).await;
}

async fn until(output: &mut rcc_sandbox::TerminalOutput, words: &str) {
    let mut seen = String::new();
    let waiting = async {
        while !seen.contains(words) {
            match output.next().await {
                Some(TerminalEvent::Screen(bytes) | TerminalEvent::Output(bytes)) => {
                    seen.push_str(&String::from_utf8_lossy(&bytes));
                }
                other => panic!("{other:?} before `{words}`"),
            }
        }
    };
    let patience = std::time::Duration::from_secs(20);
    assert!(tokio::time::timeout(patience, waiting).await.is_ok(), "`{words}` never came");
}

#[tokio::test]
async fn cancelling_leaves_no_container() {
    let Some(place) = place().await else { return };
    let folder = place.project("cancel");
    let cancel = Cancel::new();
    let (stop, begun) = (cancel.clone(), Arc::new(Mutex::new(false)));
    let seen = begun.clone();
    let report = Reporter::new(move |progress| {
        if progress == Progress::Begun(Step::StartSandbox) {
            *seen.lock().unwrap() = true;
            let stop = stop.clone();
            tokio::spawn(async move {
                tokio::time::sleep(std::time::Duration::from_millis(30)).await;
                stop.cancel();
            });
        }
    });
    let error =
        session::open(&place.host, &place.request(&folder), &report, &cancel).await.unwrap_err();
    assert_eq!(error.code(), Code::Cancelled);
    assert!(*begun.lock().unwrap());
    let project = rcc_sandbox::Project::open(&folder, &place.host).unwrap();
    let filter = format!("label=dev.rcc.project={}", project.id());
    let left = Command::new("podman").args(["ps", "-aq", "--filter", &filter]).output().unwrap();
    assert!(left.stdout.is_empty(), "{}", String::from_utf8_lossy(&left.stdout));
}

#[tokio::test]
async fn without_a_helper_nothing_is_started() {
    let Some(place) = place().await else { return };
    if rcc_sandbox::Network::connect().await.is_ok() {
        eprintln!("SKIPPED: a helper answers on this computer");
        return;
    }
    let folder = place.project("no-helper");
    let request = OpenRequest { offline: false, ..place.request(&folder) };
    let error = session::open(&place.host, &request, &Reporter::silent(), &Cancel::new())
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::HelperMissing);
    assert!(error.hint().contains("--offline"));
    let project = rcc_sandbox::Project::open(&folder, &place.host).unwrap();
    assert!(Session::find(&place.engine, &project).await.unwrap().is_none());
}
