//! Small files that are mounted read-only into a sandbox. They lie in a private
//! folder of this login.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::fs::{Mode, OFlags};

use crate::claude::{Claude, PROGRAM_INSIDE};
use crate::engine::{FileLabel, MountSpec, is_plain};
use crate::error::{Code, Error, Result};
use crate::host::{Host, make_dirs, write_atomically};
use crate::project::Project;
use crate::secrets::EXTRA_CERTIFICATES;

/// The gate's resolver. Two servers with the same address would double nothing;
/// few attempts, so that an offline sandbox says so soon.
const RESOLV_CONF: &str = "nameserver 169.254.1.1\noptions timeout:1 attempts:5\n";

/// What Claude Code tells the model of where it is: memory that the computer's
/// administrator gives, which no project can take away (its documentation, "Memory").
const FOR_THE_AGENT: &str = include_str!("for-the-agent.md");

/// Largest file of certificates, in bytes.
const MAX_CERTIFICATES: u64 = 4 << 20;

/// Writes the files and answers their mounts.
pub(super) async fn mounts(host: &Host, project: &Project) -> Result<Vec<MountSpec>> {
    let folder = host.runtime.join("files").join(project.id());
    make_dirs(&folder)?;
    let git = git_config(&identity(host).await);
    let mut files = vec![
        ("resolv.conf", "/etc/resolv.conf", RESOLV_CONF.as_bytes().to_vec()),
        (
            "managed-settings.json",
            "/etc/claude-code/managed-settings.json",
            rcc_inside::hooks::managed_settings().into_bytes(),
        ),
        ("CLAUDE.md", "/etc/claude-code/CLAUDE.md", FOR_THE_AGENT.as_bytes().to_vec()),
        ("gitconfig", "/etc/gitconfig", git.into_bytes()),
        ("hosts", "/etc/hosts", hosts(&project.slug()).into_bytes()),
    ];
    if let Some(certificates) = extra_certificates()? {
        files.push(("extra-ca.pem", EXTRA_CERTIFICATES, certificates));
    }
    files
        .into_iter()
        .map(|(name, target, bytes)| {
            let path = folder.join(name);
            write_atomically(&path, &bytes)?;
            Ok(MountSpec::read_only(text(&path)?, target).label(FileLabel::Own))
        })
        .collect()
}

/// The mount of the program that runs inside. With SELinux it is a copy in the person's
/// own folder: a container's first program must bear the label of containers, the
/// package's bears the system's, and only its owner may give a file another one.
pub(super) fn inside(host: &Host, relabel: bool) -> Result<MountSpec> {
    let program = crate::programs::inside()?;
    let mount = |path: &Path| Ok(MountSpec::read_only(text(path)?, rcc_inside::PROGRAM));
    if !relabel {
        return mount(&program);
    }
    let bytes = fs::read(&program).map_err(|e| Error::io("read", &program, e))?;
    let copy = host.data.join("inside");
    if fs::read(&copy).ok().as_ref() != Some(&bytes) {
        write_atomically(&copy, &bytes)?;
    }
    // Not even its owner may write it.
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o555))
        .map_err(|e| Error::io("make a program of", &copy, e))?;
    Ok(mount(&copy)?.label(FileLabel::Shared))
}

/// The mount of Claude Code. What the person owns gets the label of containers; what an
/// administrator installed has one that containers may read.
pub(super) fn claude(host: &Host, claude: &Claude) -> Result<MountSpec> {
    let own = fs::metadata(&claude.path).is_ok_and(|meta| meta.uid() == host.uid);
    let label = if own { FileLabel::Shared } else { FileLabel::Kept };
    Ok(MountSpec::read_only(text(&claude.path)?, PROGRAM_INSIDE).label(label))
}

/// Writes the filter of system calls where the engine reads it. It is not mounted:
/// no sandbox sees it, and the kernel keeps its own copy.
pub(super) fn filter(host: &Host, project: &Project, user_namespaces: bool) -> Result<PathBuf> {
    let path = host.runtime.join("files").join(project.id()).join("seccomp.json");
    let profile = crate::engine::filter::profile(user_namespaces)
        .map_err(|e| Error::io("write", &path, e))?;
    write_atomically(&path, profile.as_bytes())?;
    Ok(path)
}

/// Instead of the engine's: that one has the computer's own names and addresses.
fn hosts(hostname: &str) -> String {
    format!("127.0.0.1 localhost {hostname}\n::1 localhost ip6-localhost ip6-loopback\n")
}

/// The engine's API takes text.
pub(super) fn text(path: &Path) -> Result<String> {
    path.to_str().map(str::to_string).ok_or_else(|| {
        Error::new(Code::Environment, format!("The path {} is not valid UTF-8.", path.display()))
    })
}

/// A path that the engine can be given. A project's path may have characters
/// that the engine takes for separators; then a link in our own folder stands
/// for it.
pub(super) fn source(host: &Host, project: &Project, relabel: bool) -> Result<PathBuf> {
    if project.path().to_str().is_some_and(is_plain) {
        return Ok(project.path().to_path_buf());
    }
    if relabel {
        return Err(Error::new(
            Code::FolderRefused,
            "With SELinux the engine can only label folders whose path has no comma, colon, quote or control character.",
        )
        .title_is(format!("Cannot open {}.", project.path().display()))
        .hint_is("Rename the folder."));
    }
    let folder = host.runtime.join("folders");
    make_dirs(&folder)?;
    let link = folder.join(project.id());
    if fs::read_link(&link).ok().as_deref() != Some(project.path()) {
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink(project.path(), &link)
            .map_err(|e| Error::io("make", &link, e))?;
    }
    Ok(link)
}

/// The certificates that the person handed to node.
fn extra_certificates() -> Result<Option<Vec<u8>>> {
    match std::env::var_os("NODE_EXTRA_CA_CERTS").filter(|path| !path.is_empty()) {
        Some(path) => certificates_of(Path::new(&path)).map(Some),
        None => Ok(None),
    }
}

/// What goes into the sandbox is certificates alone, and none that the agent of a
/// project chose: it could put a link to another file of the person's in their place.
fn certificates_of(path: &Path) -> Result<Vec<u8>> {
    let failed =
        |why: &dyn std::fmt::Display| Error::io("read NODE_EXTRA_CA_CERTS", path, why.to_string());
    let named = std::path::absolute(path).map_err(|e| failed(&e))?;
    let real = fs::canonicalize(&named).map_err(|e| failed(&e))?;
    if [&named, &real].iter().any(|path| crate::programs::is_in_project(path)) {
        return Err(failed(&"it lies in a project, whose agent could exchange it")
            .hint_is("Copy it to a place outside, and name that one."));
    }
    // A pipe would be waited for.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::open(&real, flags, Mode::empty()).map_err(|e| failed(&e))?;
    let file = fs::File::from(file);
    if !file.metadata().map_err(|e| failed(&e))?.is_file() {
        return Err(failed(&"it is no file"));
    }
    let mut text = Vec::new();
    file.take(MAX_CERTIFICATES + 1).read_to_end(&mut text).map_err(|e| failed(&e))?;
    if text.len() as u64 > MAX_CERTIFICATES {
        return Err(failed(&"it is larger than 4 MiB"));
    }
    let found = certificates(&String::from_utf8_lossy(&text));
    if found.is_empty() {
        return Err(failed(&"there is no certificate in it, in the form PEM"));
    }
    Ok(found.into_bytes())
}

/// The certificates of a PEM file (RFC 7468; the other two are OpenSSL's), without keys
/// and words.
fn certificates(text: &str) -> String {
    const KINDS: [&str; 3] = ["CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE"];
    let mut found = String::new();
    let mut block: Option<(&str, String)> = None;
    for line in text.lines().map(str::trim_end) {
        let marks = |mark: &str, kind: &str| line == format!("-----{mark} {kind}-----");
        if let Some(kind) = KINDS.into_iter().find(|kind| marks("BEGIN", kind)) {
            block = Some((kind, String::new()));
        }
        let Some((kind, lines)) = &mut block else { continue };
        lines.push_str(line);
        lines.push('\n');
        if marks("END", kind) {
            found.push_str(lines);
            block = None;
        }
    }
    found
}

/// Name and e-mail of the person's git, and the branch that new repositories get.
#[derive(Debug, Default, PartialEq, Eq)]
struct Identity {
    name: Option<String>,
    email: Option<String>,
    branch: Option<String>,
}

/// The settings of [`Identity`]: what Git's `--get-regexp` takes.
const ASKED: &str = r"^(user\.(name|email)|init\.defaultbranch)$";

/// Asked in the home folder, from the global file only: git must never run in
/// the project on the host (THREATS F5).
async fn identity(host: &Host) -> Identity {
    let Some(git) = crate::programs::find("git") else {
        return Identity::default();
    };
    // One call: starting git costs more than all that it is asked.
    let asked = crate::programs::command(&git)
        .args(["config", "--global", "--includes", "--null", "--get-regexp"])
        .arg(ASKED)
        .current_dir(&host.home)
        .env("GIT_CEILING_DIRECTORIES", "/")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    match tokio::time::timeout(std::time::Duration::from_secs(5), asked).await {
        Ok(Ok(output)) if output.status.success() => read_identity(&output.stdout),
        _ => Identity::default(),
    }
}

/// Reads `key\nvalue\0` for each setting; the last one counts, as in git.
fn read_identity(said: &[u8]) -> Identity {
    let mut identity = Identity::default();
    for setting in said.split(|byte| *byte == 0) {
        let Some((key, value)) =
            std::str::from_utf8(setting).ok().and_then(|setting| setting.split_once('\n'))
        else {
            continue;
        };
        let place = match key {
            "user.name" => &mut identity.name,
            "user.email" => &mut identity.email,
            "init.defaultbranch" => &mut identity.branch,
            _ => continue,
        };
        *place = Some(value.to_string()).filter(|value| !value.is_empty());
    }
    identity
}

/// The system's git configuration inside: what makes up for a read-only
/// `.git/config`, and who commits.
fn git_config(identity: &Identity) -> String {
    let mut text = String::from(
        "[safe]\n\tdirectory = /workspace\n[push]\n\tautoSetupRemote = true\n[branch]\n\tautoSetupMerge = false\n",
    );
    let mut set = |section: &str, key: &str, value: &Option<String>| {
        if let Some(value) = value {
            text.push_str(&format!("[{section}]\n\t{key} = {}\n", quoted(value)));
        }
    };
    set("user", "name", &identity.name);
    set("user", "email", &identity.email);
    set("init", "defaultBranch", &identity.branch);
    text
}

/// A value as git-config(1) reads it back.
fn quoted(value: &str) -> String {
    let mut text = String::from("\"");
    for c in value.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\t' => text.push_str("\\t"),
            c if c.is_control() => {}
            c => text.push(c),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_bring_settings_of_its_own() {
        let name = "Ann \"A\" \\ O\n[core]\n\tfsmonitor = evil";
        let identity = Identity { name: Some(name.into()), ..Identity::default() };
        let config = git_config(&identity);
        assert!(!config.lines().any(|line| line.trim() == "[core]"), "{config}");
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("gitconfig");
        fs::write(&file, config).unwrap();
        let read = std::process::Command::new("git")
            .args(["config", "--file"])
            .arg(&file)
            .args(["--get", "user.name"])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8(read.stdout).unwrap().trim_end_matches('\n'), name);
    }

    #[test]
    fn the_last_setting_counts_and_what_is_no_text_is_passed_over() {
        let said = b"user.name\nAnn\nA\0user.name\nBob\0user.email\0init.defaultbranch\ntrunk\0\xff\n\xff\0";
        let expected =
            Identity { name: Some("Bob".into()), email: None, branch: Some("trunk".into()) };
        assert_eq!(read_identity(said), expected);
        assert_eq!(read_identity(b""), Identity::default());
    }

    #[test]
    fn git_is_asked_as_it_answers() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("gitconfig");
        fs::write(&file, "[user]\n\tname = Ann Ä\n[init]\n\tdefaultBranch = trunk\n").unwrap();
        let asked = std::process::Command::new("git")
            .args(["config", "--file"])
            .arg(&file)
            .args(["--null", "--get-regexp", ASKED])
            .output()
            .unwrap();
        let expected =
            Identity { name: Some("Ann Ä".into()), email: None, branch: Some("trunk".into()) };
        assert_eq!(read_identity(&asked.stdout), expected);
    }

    #[test]
    fn c1_certificates_alone_are_handed_on_and_none_that_an_agent_chose() {
        const ONE: &str = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
        const KEY: &str = "-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----\n";
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let own = root.join("own.pem");
        fs::write(&own, format!("words\r\n{KEY}{ONE}# {ONE}{KEY}-----BEGIN CERTIFICATE-----\nx"))
            .unwrap();
        assert_eq!(certificates_of(&own).unwrap(), ONE.as_bytes());
        let trusted = ONE.replace("CERTIFICATE", "TRUSTED CERTIFICATE");
        fs::write(&own, format!("{trusted}{KEY}{ONE}")).unwrap();
        assert_eq!(certificates_of(&own).unwrap(), format!("{trusted}{ONE}").as_bytes());
        fs::write(&own, ONE).unwrap();

        let project = root.join("project");
        fs::create_dir(&project).unwrap();
        Project::open(&project, &crate::testing::host(&root)).unwrap();
        std::os::unix::fs::symlink(&own, project.join("ca.pem")).unwrap();
        fs::write(project.join("real.pem"), ONE).unwrap();
        std::os::unix::fs::symlink(project.join("real.pem"), root.join("link.pem")).unwrap();
        for path in [project.join("ca.pem"), root.join("link.pem")] {
            let error = certificates_of(&path).unwrap_err();
            assert!(error.to_string().contains("lies in a project"), "{error}");
        }
        let made = std::process::Command::new("mkfifo").arg(root.join("pipe")).status().unwrap();
        assert!(made.success());
        fs::write(root.join("key.pem"), KEY).unwrap();
        for path in [root.join("pipe"), "/dev/zero".into(), root.clone(), root.join("key.pem")] {
            certificates_of(&path).unwrap_err();
        }
    }

    #[test]
    fn odd_paths_get_a_plain_name() {
        let dir = tempfile::tempdir().unwrap();
        let host = crate::testing::host(dir.path());
        for name in ["a b ü", "a:b", "a,b", "a\nb", "a\"b"] {
            let folder = dir.path().join(name);
            fs::create_dir(&folder).unwrap();
            let project = Project::open(&folder, &host).unwrap();
            let source = source(&host, &project, false).unwrap();
            assert_eq!(source.canonicalize().unwrap(), project.path());
            assert!(!source.to_str().unwrap().contains([',', ':', '"', '\n']), "{source:?}");
        }
    }
}
