//! An engine that does not do what it is told, and what runs behind the filter of
//! system calls.

use std::fs;
use std::path::{Path, PathBuf};

use rcc_tests::{Lab, Skip, Workshop, skip};

use super::{good, inside, start};

/// Settings of ann's for her engine, with a runtime that changes what it was asked
/// for: the filter of system calls is exchanged for `filter` (text in JSON, may be
/// empty). It stands for an engine or runtime that does not do what it is told.
fn weaker_runtime(workshop: &Workshop, filter: &str) {
    let runtime = workshop.home().join("weaker-runtime");
    let script = format!(
        r#"#!/bin/sh
case " $* " in
  *" create "*)
    for word in "$@"; do
      test "$before" = --bundle && bundle=$word
      before=$word
    done
    perl -0 -pi -e 's/,"seccomp":(\{{(?:[^{{}}]|(?1))*\}})/{filter}/' "$bundle/config.json" ;;
esac
exec crun "$@"
"#
    );
    fs::write(&runtime, script).expect("write");
    fs::set_permissions(&runtime, std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("chmod");
    let settings = format!(
        "[engine]\nruntime = \"crun\"\n[engine.runtimes]\ncrun = [\"{}\"]\n",
        runtime.display()
    );
    fs::write(workshop.home().join(".config/containers/containers.conf"), settings).expect("write");
}

const NOT_OURS: &str = "the filter of system calls is not rcc's";

/// The engine does not always have the last words of what ended so soon.
const SAID_NOTHING: &str = "ended at once, and said nothing";

fn refuses_to_begin(workshop: &Workshop, project: &Path, why: &[&str]) {
    let refused = inside(workshop, project, "echo RAN");
    assert_eq!((refused.code, refused.out.as_str()), (125, ""), "{refused:?}");
    assert!(why.iter().any(|why| refused.err.contains(why)), "{refused:?}");
    let left = workshop.run(project, "podman", &["ps", "--all", "--quiet"]).expect("podman");
    assert_eq!(left.out.trim(), "", "{left:?}");
}

#[test]
fn a_container_that_lacks_a_wall_is_removed_before_anything_runs() {
    let Some((workshop, project)) = start("weaker") else { return };
    weaker_runtime(&workshop, "");
    // Whoever comes first: the host sees none, or the first process misses rcc's.
    refuses_to_begin(&workshop, &project, &["Seccomp is 0", NOT_OURS, SAID_NOTHING]);
}

#[test]
fn a_container_with_another_filter_is_removed_before_anything_runs() {
    let Some((workshop, project)) = start("other-filter") else { return };
    weaker_runtime(&workshop, r#","seccomp":{"defaultAction":"SCMP_ACT_ALLOW"}"#);
    refuses_to_begin(&workshop, &project, &[NOT_OURS, SAID_NOTHING]);
}

#[test]
fn settings_of_the_engines_do_not_take_the_filter_away() {
    let Some((workshop, project)) = start("unconfined") else { return };
    let weaker = "[containers]\nseccomp_profile = \"unconfined\"\n";
    fs::write(workshop.home().join(".config/containers/containers.conf"), weaker).expect("write");
    let ended =
        inside(&workshop, &project, "grep Seccomp: /proc/self/status; unshare -Ur echo RAN");
    assert_eq!(ended.out, "Seccomp:\t2\n", "{ended:?}");
    assert!(ended.err.contains("Operation not permitted"), "{ended:?}");
}

#[test]
fn a_container_with_our_labels_and_another_name_is_no_session() {
    let Some((workshop, project)) = start("labels") else { return };
    good(&workshop, &inside(&workshop, &project, "true"));
    let podman = |arguments: &[&str]| {
        let ended = workshop.run(&project, "podman", arguments).expect("podman");
        good(&workshop, &ended);
        ended.out.trim().to_owned()
    };
    let labels = "{{range $k, $v := .Config.Labels}}{{$k}}={{$v}}\n{{end}}";
    let ours = podman(&["ps", "--quiet"]);
    let labels = podman(&["inspect", "--format", labels, &ours]);
    let image = podman(&["inspect", "--format", "{{.ImageName}}", &ours]);
    good(&workshop, &workshop.rcc(&project, &["stop"]).expect("rcc stop"));
    let mut arguments = vec!["run", "--detach", "--network=none"];
    let lines: Vec<_> = labels.split(['\n']).filter(|line| line.contains('=')).collect();
    assert!(lines.len() > 4, "{labels}");
    for line in &lines {
        arguments.extend(["--label", line]);
    }
    arguments.extend([image.as_str(), "sleep", "60"]);
    podman(&arguments);
    let listed = workshop.rcc(&project, &["--json", "ls"]).expect("rcc ls");
    good(&workshop, &listed);
    assert!(!listed.out.contains("labels"), "{listed:?}");
}

/// One call of each kind that these tools make; each says its name when it worked.
const TOOLS: &str = r#"set -e
cat > t.py <<'P'
import asyncio, multiprocessing, socket, sqlite3, subprocess, threading
threading.Thread(target=int).start()
subprocess.run(["true"], check=True)
with multiprocessing.Pool(2) as pool: assert pool.map(abs, [-1]) == [1]
socket.create_server(("127.0.0.1", 0)).close()
asyncio.run(asyncio.sleep(0.01))
sqlite3.connect("a.db").execute("create table x(a)")
print("python")
P
python3 t.py && python3 -m venv v && v/bin/python -c 'print("venv")'
cat > t.js <<'P'
const { Worker } = require("worker_threads");
require("child_process").execSync("true");
require("fs").watch(".").close();
require("http").createServer().listen(0, "127.0.0.1", function () { this.close(); });
require("dns").lookup("localhost", () => {});
new Worker("1", { eval: true }).on("exit", () => console.log("node"));
P
node t.js && npm --version > /dev/null && echo npm
echo 'int main(void) { return 0; }' > m.c && printf 'm: m.c\n\tgcc -O2 -g -pthread m.c -o m\n' > Makefile
make -s -j2 m && ./m && echo gcc
git init -q r && cd r && cp ../m.c . && git add . && git commit -qm one && git gc -q && git clone -q . ../c
git worktree add -q ../w HEAD && git stash -q || true; echo git
tar cJf x.tar.xz m.c && rsync -a m.c n.c && sqlite3 b.db 'create table x(a)' && jq -n 1 > /dev/null
sleep 0.1 & wait; mkfifo f; top -bn1 > /dev/null; echo done"#;

#[test]
fn the_tools_of_the_default_image_work_behind_the_filter() {
    let Some((workshop, project)) = start("tools") else { return };
    let prepared = workshop
        .rcc_outside(&project, &["--json", "init", "--yes", "--image", "dev"])
        .expect("rcc init");
    if prepared.err.contains("RCC-E302") {
        skip(&Skip(format!("the image cannot be had here: {}", prepared.err)));
        return;
    }
    good(&workshop, &prepared);
    let name = ["-c", "user.name=ann", "-c", "user.email=ann@example.org"].join(" ");
    let script = TOOLS.replace("git commit", &format!("git {name} commit"));
    let ended =
        workshop.rcc(&project, &["run", "--yes", "--", "bash", "-c", &script]).expect("rcc run");
    good(&workshop, &ended);
    let said: Vec<_> = ended.out.split_whitespace().collect();
    assert_eq!(said, ["python", "venv", "node", "npm", "gcc", "git", "done"], "{ended:?}");
}

/// The tests of the sandbox crate want an ordinary user, who is here.
#[test]
fn the_container_tests_of_the_sandbox_crate_pass_for_ann() {
    let Some(built) = newest("container-") else {
        skip(&Skip("sandbox/tests/container.rs is not built; test the whole workspace".into()));
        return;
    };
    let Some((workshop, project)) = start("container-tests") else { return };
    let program = Lab::program("container-tests");
    fs::copy(&built, &program).expect("copy");
    // One after the other: Podman of Debian 12 fails now and then when two of its
    // processes set up the very first user namespace at once.
    let mut command =
        workshop.ann(&project, &program.to_string_lossy(), &["--show-output", "--test-threads=1"]);
    // One of them, for `cargo xtask mutate`.
    command
        .args(std::env::var_os("RCC_CONTAINER_TEST"))
        .env("RCC_INSIDE", Lab::program("inside"))
        // They are about sandboxes without a helper.
        .env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent");
    let ended = workshop.finish(&mut command).expect("run");
    assert_eq!(ended.code, 0, "{}\n{}", ended.out, ended.err);
    assert!(!ended.out.contains("SKIPPED"), "{}", ended.out);
    assert!(ended.out.contains("test result: ok."), "{}", ended.out);
    assert!(!ended.out.contains("test result: ok. 0 passed"), "{}", ended.out);
}

/// The newest program that cargo built under this name, beside this one.
fn newest(name: &str) -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    let programs = fs::read_dir(own.parent()?).ok()?.flatten().map(|entry| entry.path());
    programs
        .filter(|path| {
            let file = path.file_name().and_then(|file| file.to_str()).unwrap_or_default();
            file.starts_with(name) && !file.contains('.')
        })
        .max_by_key(|path| fs::metadata(path).and_then(|meta| meta.modified()).ok())
}
