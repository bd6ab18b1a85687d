//! `cargo xtask run` as an ordinary user with sudo. Everything is real but the
//! compiler: the programs are those that these tests were built with.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rcc_tests::people::CAROL;
use rcc_tests::{Machine, Release, Skip, built, skip};

use super::ran;

/// Stands for cargo and rustc: everything is built.
const COMPILER: &str = "#!/bin/sh
case \"$1\" in
  metadata) echo '{\"packages\": []}' ;;
  -vV) echo 'host: TRIPLE' ;;
esac
";

/// What the command needs of a checkout.
const CHECKOUT: [&str; 8] = [
    "Cargo.lock",
    "CHANGELOG.md",
    "LICENSE-MIT",
    "dbus",
    "packaging",
    "polkit",
    "src-tauri/icons",
    "ui/package-lock.json",
];

/// Puts a checkout with its programs where this one is, for carol.
fn checkout(upper: &Path, inside: &Path) -> anyhow::Result<()> {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
    let xtask = built("xtask")?;
    let target = xtask.parent().and_then(Path::parent).expect("a target folder");
    let place = |path: &Path| upper.join(path.strip_prefix("/").expect("absolute"));
    let copy = |from: &Path, to: &Path| -> anyhow::Result<()> {
        let to = place(to);
        fs::create_dir_all(to.parent().expect("a folder"))?;
        ran(Command::new("cp").arg("-a").arg(from).arg(to));
        Ok(())
    };
    for name in CHECKOUT {
        copy(&project.join(name), &project.join(name))?;
    }
    copy(&xtask, &target.join("debug/xtask"))?;
    copy(inside, inside)?;
    for program in ["rcc", "rcc-helper"] {
        copy(&built(program)?, &target.join("release").join(program))?;
    }
    let triple = inside.ancestors().nth(2).and_then(Path::file_name).expect("a triple");
    for name in ["cargo", "rustc"] {
        let path = upper.join("usr/local/bin").join(name);
        fs::create_dir_all(path.parent().expect("a folder"))?;
        fs::write(&path, COMPILER.replace("TRIPLE", &triple.to_string_lossy()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    }
    // Whoever has a checkout owns it.
    let top = project.components().take(2).collect::<PathBuf>();
    ran(Command::new("chown").args(["-R", &format!("{0}:{0}", CAROL.0)]).arg(place(&top)));
    let sudoers = upper.join("etc/sudoers.d");
    fs::create_dir_all(&sudoers)?;
    fs::write(sudoers.join("test"), format!("{} ALL=(ALL) NOPASSWD: ALL\n", CAROL.1))?;
    Ok(())
}

#[test]
fn an_ordinary_user_installs_and_uninstalls_with_sudo() {
    // Built by `cargo xtask test` before the tests.
    let Ok(xtask) = built("xtask") else { return skip(&Skip("xtask is not built".into())) };
    let target = xtask.parent().and_then(Path::parent).expect("a target folder");
    if target.starts_with("/tmp") {
        let why = format!("{} is in /tmp, and a booted machine has its own", target.display());
        return skip(&Skip(why));
    }
    let built_inside = fs::read_dir(target.join("xtask/static")).into_iter().flatten().flatten();
    let inside = built_inside
        .map(|entry| entry.path().join("release/rcc-inside"))
        .find(|path| path.is_file());
    let Some(inside) = inside else {
        return skip(&Skip("the static rcc-inside is not built".into()));
    };
    let machine =
        match Machine::start(Release::Own, |upper| checkout(upper, &inside)).expect("a machine") {
            Ok(machine) => machine,
            Err(reason) => return skip(&reason),
        };
    let xtask = target.join("debug/xtask");
    let xtask = |arguments: &str| {
        machine.user(CAROL, &format!("{} {arguments} 2>&1; echo code $?", xtask.display()))
    };
    let check = xtask("run --cli --check").expect("check");
    assert!(check.ends_with("code 3\n"), "something is to do: {check}");
    assert!(check.contains("put target/release/rcc-helper at /usr/lib/rcc/rcc-helper"), "{check}");

    // There is no network to build the image with: it ends there, in words, with
    // everything installed.
    let said = xtask("run --yes --cli").expect("run");
    assert!(said.contains("code 1") && said.contains("prepare the project"), "{said}");
    machine.root("/usr/lib/rcc/rcc-helper show | grep 'The firewall stands'").expect("the gate");
    machine
        .root("systemctl is-active rcc-firewall.service rcc-whitelist-update.timer")
        .expect("units");
    machine.user(CAROL, "rcc-sandbox ls && rcc --version").expect("the command line");
    let doctor = machine.user(CAROL, "rcc-sandbox doctor || true").expect("doctor");
    assert!(doctor.contains("The firewall's namespace stands"), "{doctor}");
    let check = xtask("run --cli --check").expect("check");
    assert!(check.ends_with("code 0\n"), "nothing is left to do: {check}");

    let said = xtask("uninstall --yes").expect("uninstall");
    assert!(said.contains("code 0"), "{said}");
    let left = machine
        .root("ls -d /usr/bin/rcc* /usr/lib/rcc /run/netns/rcc 2>/dev/null; ip -o link show rcc0 2>/dev/null; systemctl list-unit-files --no-legend 'rcc-*'; true")
        .expect("look");
    assert_eq!(left.trim(), "", "nothing is left but the administrator's list");
    machine.root("test -s /etc/rcc/network-whitelist.yaml").expect("which stays");
}
