//! Many sandboxes at once, as real containers by the real `rcc`, again and again: nothing
//! of them is left.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rcc_tests::{Lab, Workshop, wait_for};

use super::{good, start};

/// Sandboxes at once, and rounds, as a run of all tests has time for.
const FEW: (usize, usize) = (5, 2);
/// Sandboxes at once when `RCC_TURNS` says how many rounds.
const MANY: usize = 50;
/// So many are opened at the same time.
const TOGETHER: usize = 4;

/// Of these Podman has some for a while (known-issues.md).
const KEPT: &str = "processes conmon of an exec";

/// What there is of sandboxes, by what it is.
type Left = BTreeMap<String, usize>;

#[test]
fn r2_real_sandboxes_that_come_and_go_leave_nothing() {
    let Some((workshop, _)) = start("alone") else { return };
    start_polkit_again(&workshop);
    let turns = std::env::var("RCC_TURNS").ok().and_then(|turns| turns.parse().ok());
    let (at_once, rounds) = turns.map_or(FEW, |turns| (MANY, turns));
    let projects: Vec<PathBuf> = (0..at_once)
        .map(|number| workshop.project(&format!("crowd-{number}")).expect("a project"))
        .collect();
    // The first one warms up what is kept for good, such as a home for each project.
    round(&workshop, &projects);
    let helper = workshop.lab.helper().expect("a helper");
    let before = left(&workshop);
    let begun = Instant::now();
    for _ in 0..rounds {
        round(&workshop, &projects);
    }
    let seconds = begun.elapsed().as_secs_f64() / rounds as f64;
    // What was killed goes a moment later, and what cleans up after it. Podman's own take
    // five minutes to end: a short run does not wait.
    let mut after = Left::new();
    let _ = wait_for(|| {
        after = left(&workshop);
        after.remove(KEPT);
        grown(&before, &after).is_empty()
    });
    assert_eq!(workshop.lab.helper(), Some(helper), "it never had to start anew");
    if turns.is_some() {
        let kept = || processes(&workshop).get(KEPT).copied().unwrap_or(0);
        let end = Instant::now() + Duration::from_secs(400);
        while kept() > 0 && Instant::now() < end {
            std::thread::sleep(Duration::from_secs(5));
        }
        after.insert(KEPT.into(), kept());
    }
    eprintln!("{rounds} rounds of {at_once}, {seconds:.0} s each: {before:?}, then {after:?}");
    let more = grown(&before, &after);
    assert!(more.is_empty(), "{more:#?}");
}

/// What there is more of than before.
fn grown(before: &Left, after: &Left) -> Vec<String> {
    let mut grown = Vec::new();
    for (what, count) in after {
        let known = if what == "containers" { 0 } else { before.get(what).copied().unwrap_or(0) };
        // Descriptors of what answers while it is looked at.
        let more = if what.starts_with("descriptors") { 3 } else { 0 };
        if *count > known + more {
            grown.push(format!("{what}: {known}, then {count}"));
        }
    }
    grown
}

/// As on a computer the bus starts polkit when it has ended; it does so by itself now and
/// then (known-issues.md).
fn start_polkit_again(workshop: &Workshop) {
    const SERVICE: &str = "[D-BUS Service]\nName=org.freedesktop.PolicyKit1\n\
        Exec=/usr/lib/polkit-1/polkitd --no-debug\nUser=root\n";
    let file = "/run/rcc-lab/services/org.freedesktop.PolicyKit1.service";
    fs::write(file, SERVICE).expect("write");
    let reload = "dbus-send --system --print-reply --dest=org.freedesktop.DBus / \
        org.freedesktop.DBus.ReloadConfig";
    workshop.lab.on_host(reload).expect("the bus reads it");
}

/// All projects get a sandbox, which reaches what it may, and lose it again.
fn round(workshop: &Workshop, projects: &[PathBuf]) {
    const REACH: &str =
        "timeout 10 bash -c 'exec 3<>/dev/tcp/api.anthropic.com/443' && echo reached";
    let program = Lab::program("rcc");
    for together in projects.chunks(TOGETHER) {
        let opened: Vec<_> =
            together.iter().map(|project| open(workshop, project, REACH)).collect();
        for (mut child, said) in opened {
            let status = child.wait().expect("rcc run");
            let said = fs::read_to_string(said).expect("what it said");
            let good = status.success() && said.contains("reached");
            assert!(good, "{status}: {said}\n{}", workshop.lab.log());
        }
    }
    let first = &projects[0];
    let list = workshop.rcc(first, &["ls", "--json"]).expect("rcc ls");
    let list: serde_json::Value = serde_json::from_str(&list.out).expect("JSON");
    let connected = list.as_array().expect("a list").iter();
    let connected = connected.filter(|one| one["network"] == "connected").count();
    assert_eq!(connected, projects.len(), "{list:#}");
    // One in five is killed, as by a power cut of its own; then all are put away.
    for project in projects.iter().skip(1).step_by(5) {
        let ids = format!("label=dev.rcc.path={}", project.display());
        let kill = ["ps", "--quiet", "--filter", &ids];
        let found = workshop.run(first, "podman", &kill).expect("podman ps");
        let killed = workshop.run(first, "podman", &["kill", found.out.trim()]).expect("podman");
        good(workshop, &killed);
    }
    let arguments = ["stop", "--all"];
    good(
        workshop,
        &workshop
            .finish(&mut workshop.ann(first, &program.to_string_lossy(), &arguments))
            .expect("rcc stop"),
    );
    let show = || workshop.lab.on_host("/run/rcc-lab/bin/rcc-helper show").unwrap_or_default();
    wait_for(|| show().contains("No sandbox is attached."))
        .unwrap_or_else(|_| panic!("{}", show()));
}

fn open(workshop: &Workshop, project: &Path, script: &str) -> (std::process::Child, PathBuf) {
    let name = project.file_name().expect("a name").to_string_lossy();
    let said = workshop.lab.folder().join(format!("{name}.out"));
    let out = fs::File::create(&said).expect("a file");
    let program = Lab::program("rcc");
    let arguments = ["run", "--yes", "--image", "small", "--", "bash", "-c", script];
    let child = workshop
        .ann(project, &program.to_string_lossy(), &arguments)
        .stdin(Stdio::null())
        .stderr(out.try_clone().expect("a file"))
        .stdout(out)
        .spawn()
        .expect("rcc run");
    (child, said)
}

fn left(workshop: &Workshop) -> Left {
    let mut left = Left::new();
    let here = workshop.home();
    let lines = |program: &str, arguments: &[&str]| {
        let ended = workshop.run(here, program, arguments).expect(program);
        assert_eq!(ended.code, 0, "{ended:?}");
        ended.out.lines().count()
    };
    left.insert("containers".into(), lines("podman", &["ps", "--all", "--quiet"]));
    left.insert("volumes".into(), lines("podman", &["volume", "ls", "--quiet"]));
    left.insert("images".into(), lines("podman", &["images", "--all", "--quiet"]));
    let count = |script: &str| -> usize {
        workshop.lab.in_gate(script).expect(script).trim().parse().expect("a number")
    };
    left.insert("rules".into(), count("nft list ruleset | grep -c ."));
    left.insert("links".into(), count("ip -o link | wc -l"));
    left.insert("records".into(), count("ls -A /run/rcc/sandboxes | wc -l"));
    for folder in [
        "/run/rcc",
        "/run/user/4001",
        "/run/rcc-lab/home/ann/.local/state",
        "/run/rcc-lab/home/ann/.config",
        "/run/rcc-lab/home/ann/.local/share/containers/storage/overlay-containers",
        "/run/rcc-lab/home/ann/.local/share/containers/storage/overlay",
    ] {
        left.insert(
            format!("files in {folder}"),
            count(&format!("find {folder} -xdev -maxdepth 4 2>/dev/null | wc -l")),
        );
    }
    // Others' come and go there, too.
    left.insert("files in /tmp".into(), count("find /tmp /var/tmp -maxdepth 1 -user 4001 | wc -l"));
    left.extend(processes(workshop));
    let helper = workshop.lab.helper().expect("a helper");
    let held = fs::read_dir(format!("/proc/{helper}/fd")).map_or(0, Iterator::count);
    left.insert("descriptors of the helper".into(), held);
    left
}

/// Processes of the person's, by their names.
fn processes(workshop: &Workshop) -> Left {
    let mut all = Left::new();
    for pid in workshop.processes() {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let exec = if line.contains("--exec-attach") { " of an exec" } else { "" };
        *all.entry(format!("processes {}{exec}", name.trim())).or_default() += 1;
    }
    all
}
