//! How soon a sandbox, and Claude Code in it, are there.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rcc_policy::Preset;
use rcc_tests::{Lab, Workshop};

use super::{Line, alone, beside, compared, milliseconds, more, open_tun, skipped};
use crate::workspace;

pub(super) fn measure(lines: &mut Vec<Line>) -> anyhow::Result<()> {
    let workshop = match Workshop::start(&Preset::Locked.document(&[]))? {
        Ok(workshop) => workshop,
        Err(reason) => {
            lines.push(skipped("session start", &reason.0));
            return Ok(());
        }
    };
    let project = workshop.project("bench")?;
    let image =
        workshop.run(&project, "podman", &["images", "--format", "{{.Repository}}:{{.Tag}}"])?;
    let image = image.out.lines().find(|line| line.contains("rcc-small")).context("no image")?;
    let volume = format!("{}:/workspace", project.display());
    let hardened = |network| {
        "run --rm --userns=keep-id --cap-drop=all --security-opt=no-new-privileges --read-only \
         --tmpfs=/tmp -v"
            .split_whitespace()
            .chain([volume.as_str()])
            .chain(network)
            .chain([image, "sh", "-c", "echo ready"])
            .collect::<Vec<&str>>()
    };
    let (without, with_default) = (hardened(Some("--network=none")), hardened(None));
    open_tun(&workshop.lab)?;
    let rcc = ["run", "--yes", "--image", "small", "--", "sh", "-c", "echo ready"];
    let ready = |line: &str| line.contains("ready");
    let (mut own, mut others, mut usual) = (Vec::new(), Vec::new(), Ok(Vec::new()));
    for round in 0..11 {
        let took = until(&mut workshop.ann(&project, &program("rcc"), &rcc), ready)?;
        ensure!(workshop.rcc(&project, &["stop"])?.code == 0, "rcc stop");
        let other = until(&mut workshop.ann(&project, "podman", &without), ready)?;
        let third = until(&mut workshop.ann(&project, "podman", &with_default), ready);
        // The first round of each warms up.
        if round > 0 {
            own.push(took);
            others.push(other);
            more(&mut usual, third.map(|took| vec![took]));
        }
    }
    let what = "session start to the first byte of a shell, ms";
    let with = "podman run --network=none, hardened alike";
    lines.push(compared(what, own.clone(), with, &others, "at most 1.15"));
    let with = "podman run with its default network, hardened alike";
    lines.extend(beside(what, own, with, usual, "below 1"));
    let mut again = Vec::new();
    for round in 0..11 {
        let took = until(&mut workshop.ann(&project, &program("rcc"), &rcc), ready)?;
        if round > 0 {
            again.push(took);
        }
    }
    lines.push(alone("another program in a running sandbox, ms", again, "none"));
    claude(&workshop, &project, lines)
}

/// From `rcc claude` to Claude's own sign that it waits for a person, in a new
/// sandbox each time.
fn claude(workshop: &Workshop, project: &Path, lines: &mut Vec<Line>) -> anyhow::Result<()> {
    if workspace::find("script").is_none() {
        lines.push(skipped("rcc claude to Claude's screen", "script (util-linux) is not there"));
        return Ok(());
    }
    let command = format!("{} claude --yes --image small", program("rcc"));
    let typed = ["-qfec", command.as_str(), "/dev/null"];
    let waits = |shown: &str| shown.contains(CLAUDE_WAITS);
    let (mut fresh, mut second) = (Vec::new(), Vec::new());
    for round in 0..6 {
        ensure!(workshop.rcc(project, &["stop"])?.code == 0, "rcc stop");
        let new = until(&mut workshop.ann(project, "script", &typed), waits)?;
        let another = until(&mut workshop.ann(project, "script", &typed), waits)?;
        if round > 0 {
            fresh.push(new);
            second.push(another);
        }
    }
    ensure!(workshop.rcc(project, &["stop"])?.code == 0, "rcc stop");
    let ended = workshop.run(project, "sh", &["-c", WITHOUT_A_SANDBOX])?;
    ensure!(ended.code == 0, "a home without a sandbox: {ended:?}");
    let typed = ["-qfec", "sh ../claude-without", "/dev/null"];
    let mut bare = Vec::new();
    for round in 0..6 {
        let took = until(&mut workshop.ann(project, "script", &typed), waits)?;
        if round > 0 {
            bare.push(took);
        }
    }
    let own = "Claude Code without a sandbox";
    lines.push(compared("rcc claude to its screen, ms", fresh, own, &bare, "at most 700 ms"));
    let what = "rcc claude in a running sandbox, ms";
    lines.push(compared(what, second, own, &bare, "none"));
    Ok(())
}

/// The same Claude Code with the home that it has in the sandbox, started by a shell.
const WITHOUT_A_SANDBOX: &str = r#"
home=$(cd .. && pwd)/home-without
cp -r ~/.local/share/containers/storage/volumes/rcc-home-*/_data "$home" &&
sed -i "s|\"/workspace\"|\"$PWD\"|" "$home/.claude.json" &&
claude=$(ls -d ~/.local/share/rcc/claude/*/claude | tail -n 1) &&
cat >../claude-without <<END
export HOME=$home TERM=xterm-256color COLORTERM=truecolor LANG=C.UTF-8 DISABLE_AUTOUPDATER=1
export CLAUDE_CODE_DISABLE_OFFICIAL_MARKETPLACE_AUTOINSTALL=1
export CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1
exec $claude --dangerously-skip-permissions
END
"#;

/// The glyph in the title of a Claude Code that waits.
const CLAUDE_WAITS: &str = "\u{2733}";

pub(super) fn program(name: &str) -> String {
    Lab::program(name).to_string_lossy().into_owned()
}

/// Milliseconds until what a program says fits; it is ended then.
pub(super) fn until(command: &mut Command, fits: impl Fn(&str) -> bool) -> anyhow::Result<f64> {
    let start = Instant::now();
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut output = child.stdout.take().context("no output")?;
    let (mut said, mut piece) = (Vec::new(), [0; 4096]);
    let took = loop {
        let length = output.read(&mut piece)?;
        said.extend_from_slice(&piece[..length]);
        let shown = String::from_utf8_lossy(&said);
        if fits(&shown) {
            break milliseconds(start);
        }
        ensure!(length > 0, "{command:?} ended and said {shown}");
    };
    // Its input ends, so it does; a terminal's program hangs up.
    drop(child.stdin.take());
    let deadline = Instant::now() + Duration::from_secs(2);
    while child.try_wait()?.is_none() {
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(took)
}
