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
    Cancel, Code, Engine, Handed, Host, ImageChoice, OpenRequest, Program, Progress, Project,
    Reporter, Session, Size, Step, TerminalEvent, image, review, session,
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
    if nix::unistd::geteuid().is_root() {
        return Err(
            "root: `end_to_end` runs it for an ordinary user (the_container_tests_…)".into()
        );
    }
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
        let project = Project::open(folder, &self.host).unwrap();
        session.stop(&self.host).await.unwrap();
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
    // Its own files cannot be written by anybody; /tmp and its like are in memory.
    assert_eq!(
        sh("awk '$5 == \"/\" { print $6 }' /proc/self/mountinfo | cut -d, -f1").await.0,
        "ro"
    );
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
    let project = Project::open(&folder, &place.host).unwrap();
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
    let project = Project::open(&folder, &place.host).unwrap();
    assert!(Session::find(&place.engine, &project).await.unwrap().is_none());
}

/// One raw system call of each kind that kernels were taken over by, with the error
/// that rcc's filter gives: 38 as on a kernel without it, 1 as without the right.
/// Numbers and constants of x86_64 (asm/unistd_64.h).
const ESCAPES: &[(&str, &str, i32)] = &[
    ("keyctl, CVE-2016-0728", "250, 0, 0, 0, 0, 0", 38),
    ("add_key", "248, 0, 0, 0, 0, 0", 38),
    ("request_key", "249, 0, 0, 0, 0", 38),
    ("bpf, CVE-2020-8835, CVE-2021-3490", "321, 0, 0, 0", 1),
    ("perf_event_open, CVE-2013-2094", "298, 0, 0, -1, -1, 0", 1),
    ("io_uring_setup, CVE-2023-2598, CVE-2024-0582", "425, 8, 0", 38),
    ("userfaultfd", "323, 0", 1),
    ("mount, CVE-2022-0492", "165, 0, 0, 0, 0, 0", 1),
    ("umount2", "166, 0, 0", 1),
    ("pivot_root", "155, 0, 0", 1),
    ("fsopen, CVE-2022-0185", "430, 0, 0", 38),
    ("fsconfig, CVE-2022-0185", "431, 0, 0, 0, 0, 0", 38),
    ("open_tree", "428, -100, 0, 1", 38),
    ("move_mount", "429, -100, 0, -100, 0, 0", 38),
    ("mount_setattr", "442, -100, 0, 0, 0, 0", 38),
    ("unshare of users, CVE-2022-0185 and many more", "272, 0x10000000", 1),
    ("clone with users", "56, 0x10000011, 0, 0, 0, 0", 1),
    ("clone3, whose flags no filter sees", "435, 0, 0", 38),
    ("setns", "308, 0, 0", 1),
    ("open_by_handle_at, the Shocker exploit", "304, 0, 0, 0", 1),
    ("name_to_handle_at", "303, -100, 0, 0, 0, 0", 1),
    ("finit_module", "313, 0, 0, 0", 1),
    ("kexec_load", "246, 0, 0, 0, 0", 1),
    ("modify_ldt", "154, 0, 0, 0", 1),
    ("iopl", "172, 3", 1),
    ("vmsplice, CVE-2008-0600", "278, 0, 0, 0, 0", 38),
    ("mq_open, CVE-2017-11176", "240, 0, 0, 0, 0", 38),
    ("pidfd_getfd", "438, 0, 0, 0", 1),
    ("READ_IMPLIES_EXEC", "135, 0x400000", 38),
    ("AF_ALG, CVE-2019-8912", "41, 38, 5, 0", 38),
    ("AF_VSOCK, CVE-2021-26708", "41, 40, 1, 0", 38),
    ("AF_PACKET, CVE-2017-7308, CVE-2020-14386", "41, 17, 3, 768", 38),
    ("AF_TIPC, CVE-2021-43267", "41, 30, 5, 0", 38),
    ("AF_RDS, CVE-2019-11815", "41, 21, 5, 0", 38),
    ("AF_KEY, CVE-2022-27666", "41, 15, 3, 2", 38),
    ("DCCP, CVE-2017-6074", "41, 2, 6, 33", 38),
    ("SCTP", "41, 2, 1, 132", 38),
    ("the firewall's netlink, CVE-2022-32250, CVE-2024-1086", "41, 16, 3, 12", 38),
    ("TIOCSTI, CVE-2017-5226", "16, 0, 0x5412, 0", 38),
    ("TIOCSTI past a comparison of 64 bits, CVE-2019-7303", "16, 0, 0x100005412, 0", 38),
    ("TIOCSETD, CVE-2017-2636", "16, 0, 0x5423, 0", 38),
];

#[tokio::test]
async fn the_calls_of_known_escapes_are_refused_by_rccs_own_filter() {
    if cfg!(not(target_arch = "x86_64")) {
        eprintln!("SKIPPED: the numbers of the calls are those of x86_64");
        return;
    }
    let Some(place) = place().await else { return };
    let folder = place.project("escapes");
    let session = place.open(&folder).await;
    let calls: String = ESCAPES
        .iter()
        .map(|(name, call, _)| {
            format!(
                "$! = 0; $r = syscall({call}); print \"{name} \", $r, \" \", $! + 0, \"\\n\";\n"
            )
        })
        .collect();
    // Numbers with a bit more are those of x32 (CVE-2014-0038): this one is getpid.
    let x32 = "if (!fork) { syscall(0x40000027); exit 7 } wait; print \"x32 \", $? & 127, \"\\n\";";
    fs::write(folder.join("escapes.pl"), calls + x32).unwrap();
    let (said, code) = place.sh(&session, "perl escapes.pl", &Handed::default()).await;
    assert_eq!(code, 0, "{said}");
    let wanted: Vec<String> =
        ESCAPES.iter().map(|(name, _, error)| format!("{name} -1 {error}")).collect();
    let seen: Vec<&str> = said.lines().collect();
    assert_eq!(seen[..ESCAPES.len()], wanted);
    // SIGSYS.
    assert_eq!(seen[ESCAPES.len()..], ["x32 31"]);
    // A program of 32 bits: _exit(42) by int 0x80.
    fs::write(folder.join("program32"), program_of_32_bits()).unwrap();
    let run = "chmod 755 program32; ./program32";
    let code = place.sh(&session, run, &Handed::default()).await.1;
    // 128 + SIGSYS, or what a shell says where the kernel knows no such programs.
    assert!(code == 159 || code == 126, "{code}");
    place.end(&session, &folder).await;
}

/// The smallest ELF file for i386 (elf(5)): a header, one segment, three instructions.
fn program_of_32_bits() -> Vec<u8> {
    let mut bytes = b"\x7fELF\x01\x01\x01".to_vec();
    bytes.resize(16, 0);
    let code = [0xb8, 1, 0, 0, 0, 0xbb, 42, 0, 0, 0, 0xcd, 0x80];
    let size = 52 + 32 + u32::try_from(code.len()).unwrap();
    let (base, header) = (0x0804_8000_u32, 84_u32);
    bytes.extend([2, 0, 3, 0, 1, 0, 0, 0]);
    for word in [base + header, 52, 0, 0] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend([52, 0, 32, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    for word in [1, 0, base, base, size, size, 5, 0x1000] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend(code);
    bytes
}

#[tokio::test]
async fn the_tools_of_the_image_work_behind_the_filter() {
    let Some(place) = place().await else { return };
    let folder = place.project("tools");
    let session = place.open(&folder).await;
    // Each tool where the image has it; git and a shell every image of rcc's has.
    let script = r#"set -e
        git init -q repo && cd repo && echo a > a && git add a
        git -c user.name=a -c user.email=a@b commit -qm one && git clone -q . ../copy && git gc -q
        has() { command -v "$1" > /dev/null; }
        if has python3; then python3 -c 'import threading, subprocess, multiprocessing as m, socket
threading.Thread(target=print).start(); subprocess.run(["true"], check=True)
with m.Pool(2) as p: assert p.map(abs, [-1]) == [1]
socket.create_server(("127.0.0.1", 0))'; echo python; fi
        if has gcc; then echo 'int main(){return 0;}' > m.c; gcc -O2 -pthread m.c -o m && ./m; echo gcc; fi
        if has node; then node -e "new (require(\"worker_threads\").Worker)(\"1\", {eval: true})"; echo node; fi
        sleep 0.1 & wait; mkfifo f; seq 3 | sort -n | tail -1; echo done"#;
    let (said, code) = place.sh(&session, script, &Handed::default()).await;
    assert!(code == 0 && said.ends_with("3\ndone"), "{code}: {said}");
    place.end(&session, &folder).await;
}

#[tokio::test]
async fn the_review_sees_what_an_agent_did_and_puts_it_back() {
    let Some(place) = place().await else { return };
    let folder = place.project("review");
    fs::create_dir(folder.join(".git")).unwrap();
    fs::write(folder.join(".git/HEAD"), "ref: refs/heads/main\n").unwrap();
    fs::write(folder.join(".git/config"), "[core]\n").unwrap();
    let project = Project::open(&folder, &place.host).unwrap();
    let paths = async || {
        let found = review::look(&project, &place.host).await.unwrap();
        found.changes.into_iter().map(|one| one.path).collect::<Vec<_>>()
    };
    let session = place.open(&folder).await;
    assert_eq!(paths().await, Vec::<String>::new());
    let secret = place.folder.path().join("secret");
    fs::write(&secret, "a secret of ann's").unwrap();
    // A guard for what does not exist there is none.
    let attack = format!(
        "mkdir .git/hooks && echo evil > .git/hooks/pre-commit && chmod 755 .git/hooks/pre-commit
         ln -s {} .envrc; mkdir .vscode; echo evil > .vscode/tasks.json; echo evil > .git/commondir
         echo evil > package.json; mkfifo .mcp.json",
        secret.display()
    );
    assert_eq!(place.sh(&session, &attack, &Handed::default()).await.1, 0);
    // The host replaces a guarded file by rename, which takes the guard away.
    fs::write(folder.join("new"), "[core]\n").unwrap();
    fs::rename(folder.join("new"), folder.join(".git/config")).unwrap();
    assert_eq!(place.sh(&session, "echo '[evil]' >> .git/config", &Handed::default()).await.1, 0);
    let expected = [
        ".envrc",
        ".git/commondir",
        ".git/config",
        ".git/hooks/pre-commit",
        ".mcp.json",
        ".vscode/tasks.json",
        "package.json",
    ];
    assert_eq!(paths().await, expected);
    let found = review::look(&project, &place.host).await.unwrap();
    for change in &found.changes {
        let shown = review::diff(&project, &place.host, &change.id).await.unwrap();
        assert!(!format!("{shown:?}").contains("a secret"), "{change:?}");
    }
    // While the sandbox runs, too.
    let ids: Vec<String> = found.changes.into_iter().map(|one| one.id).collect();
    review::put_back(&project, &place.host, &ids).await.unwrap();
    assert_eq!(paths().await, Vec::<String>::new());
    assert_eq!(fs::read_to_string(folder.join(".git/config")).unwrap(), "[core]\n");
    assert_eq!(fs::read_to_string(&secret).unwrap(), "a secret of ann's");
    let again = "mkdir -p .git/hooks && echo evil > .git/hooks/pre-push";
    assert_eq!(place.sh(&session, again, &Handed::default()).await.1, 0);
    session.stop(&place.host).await.unwrap();
    // What the person does now is the person's; the hook stays to be looked at.
    fs::write(folder.join(".envrc"), "use nix\n").unwrap();
    let session = place.open(&folder).await;
    assert_eq!(paths().await, [".git/hooks/pre-push"]);
    place.end(&session, &folder).await;
}
