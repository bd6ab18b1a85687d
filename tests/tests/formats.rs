//! The packages for other distributions than Debian, as far as this computer can look at
//! them: what is in them, and what the tools of those distributions say. Nothing is
//! installed on this computer.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rcc_tests::{Skip, built, skip};

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the project")
}

/// Runs it and answers what it writes.
fn ran(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}{error}");
    said
}

/// False, and said, where one of these is missing.
fn there(built_programs: &[&str], programs: &[&str]) -> bool {
    let missing = built_programs.iter().find_map(|name| built(name).err().map(|e| e.to_string()));
    let missing = missing.or_else(|| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let lacks = |name: &&&str| !std::env::split_paths(&path).any(|one| one.join(name).exists());
        programs.iter().find(lacks).map(|name| format!("{name} is not installed"))
    });
    if let Some(reason) = &missing {
        skip(&Skip(reason.clone()));
    }
    missing.is_none()
}

fn package(kind: &str, folder: &Path) {
    let mut xtask = Command::new(built("xtask").expect("xtask"));
    ran(xtask.args(["package", "--debug", "--kind", kind, "--output"]).arg(folder));
}

/// Path and mode of each file of the one list, as others than Debian place them.
fn listed() -> BTreeSet<(String, String)> {
    let text = fs::read_to_string(project().join("packaging/files.toml")).expect("the list");
    let value = |line: &str, key: &str| {
        line.strip_prefix(key).map(|rest| rest.trim_matches([' ', '=', '"']).to_owned())
    };
    let mut found = BTreeSet::new();
    let mut to = String::new();
    for line in text.lines() {
        if let Some(path) = value(line, "to ") {
            to = path
                .replace("/zsh/vendor-completions/", "/zsh/site-functions/")
                .replace("/doc/rcc-sandbox/copyright", "/licenses/rcc-sandbox/copyright");
            let long = ["/CHANGELOG.md", "/third-party-licences"];
            if to.contains("/man/") || long.iter().any(|end| to.ends_with(end)) {
                to += ".gz";
            }
        } else if let Some(mode) = value(line, "mode ") {
            found.insert((to.clone(), mode));
        }
    }
    for text in ["LICENSE-MIT", "LICENSE-APACHE"] {
        found.insert((format!("/usr/share/licenses/rcc-sandbox/{text}"), "0644".into()));
    }
    assert!(found.len() > 30, "{found:?}");
    found
}

/// Path and mode of each file below a folder.
fn standing(root: &Path) -> BTreeSet<(String, String)> {
    let all = ran(Command::new("find").arg(root).args(["-type", "f", "-printf", "/%P %m\n"]));
    let entry = |line: &str| {
        let (path, mode) = line.split_once(' ').expect("two words");
        (path.to_owned(), format!("0{mode}"))
    };
    all.lines().map(entry).collect()
}

#[test]
fn the_rpm_has_what_the_list_says() {
    let programs = ["xtask", "rcc", "rcc-helper", "rcc-desktop"];
    if !there(&programs, &["rpmbuild", "rpm"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    package("rpm", folder.path());
    let found = fs::read_dir(folder.path()).expect("read").flatten().map(|entry| entry.path());
    let packages: Vec<PathBuf> = found.collect();
    let [rpm] = packages.as_slice() else { panic!("{packages:?}") };
    let ask = |arguments: &[&str]| ran(Command::new("rpm").args(arguments).arg(rpm));
    assert_eq!(ask(&["-qpc"]).trim(), "/etc/rcc/network-whitelist.yaml", "it is kept");
    let needs = ask(&["-qp", "--requires"]);
    for need in ["podman >= 4.3", "nftables", "polkit", "shadow-utils", "libwebkit2gtk-4.1.so.0"] {
        assert!(needs.contains(need), "{need} in {needs}");
    }
    for script in ["POSTIN", "PREUN", "POSTUN"] {
        let text = ask(&["-qp", "--qf", &format!("%{{{script}}}")]);
        assert!(text.lines().count() > 3, "{script}: {text}");
        ran(Command::new("sh").args(["-n", "-c", &text]));
    }
    // Into a folder that plays a computer, and out of it again.
    let root = folder.path().join("root");
    fs::create_dir(&root).expect("a folder");
    let install = ["-i", "--nodeps", "--noscripts", "--nosignature", "--root"];
    ran(Command::new("rpm").args(install).arg(&root).arg(rpm));
    let mut stands = standing(&root);
    stands.retain(|(path, _)| !path.starts_with("/var/lib/rpm") && !path.contains("/rpmdb/"));
    stands.retain(|(path, _)| !path.starts_with("/root/") && !path.contains(".rpmdb"));
    assert_eq!(stands, listed());
    let remove = ["-e", "--nodeps", "--noscripts", "--root"];
    ran(Command::new("rpm").args(remove).arg(&root).arg("rcc-sandbox"));
    let left = standing(&root);
    assert!(!left.iter().any(|(path, _)| path.contains("rcc")), "{left:?}");
    let lint = Command::new("rpmlint")
        .arg("--config")
        .arg(project().join("packaging/rpm/rpmlint.toml"))
        .arg(rpm)
        .output();
    match lint {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(!said.contains(": E: "), "{said}");
        }
        Err(error) => skip(&Skip(format!("rpmlint cannot be run: {error}"))),
    }
}

#[test]
fn the_pkgbuild_packs_what_the_list_says() {
    let programs = ["xtask", "rcc", "rcc-helper", "rcc-desktop"];
    if !there(&programs, &["bash", "git"]) {
        return;
    }
    if !project().join(".git").exists() {
        return skip(&Skip("this is no clone: there is no source to pack".into()));
    }
    let folder = tempfile::tempdir().expect("a folder");
    package("arch", folder.path());
    let arch = folder.path().join("arch");
    ran(Command::new("bash").arg("-n").arg(arch.join("PKGBUILD")));
    ran(Command::new("bash").arg("-n").arg(arch.join("rcc-sandbox.install")));
    let sums = "cd \"$1\" && . ./PKGBUILD && echo \"$sha256sums  $source\" | sha256sum --check";
    ran(Command::new("bash").args(["-c", sums, "sh"]).arg(&arch));
    // What its build() makes, of the programs that are there; then its package().
    let (source, target) = (folder.path().join("src"), folder.path().join("pkg"));
    fs::create_dir_all(&target).expect("a folder");
    package("tree", &source.join("made"));
    let pack = "srcdir=$2; pkgdir=$3; cd \"$1\" && . ./PKGBUILD && package";
    ran(Command::new("bash").args(["-c", pack, "sh"]).arg(&arch).arg(&source).arg(&target));
    assert_eq!(standing(&target), listed());
}
