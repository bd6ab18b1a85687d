//! Attacks from inside.

use std::fs;

use rcc_tests::Lab;

use super::{REACH, good, inside, set, start};

#[test]
fn f1_nothing_outside_the_project_can_be_read_or_written() {
    let Some((workshop, project)) = start("walls") else { return };
    let secret = project.parent().expect("a folder").join("secret.txt");
    fs::write(&secret, "the host's secret\n").expect("write");
    fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o666))
        .expect("chmod");
    let host = secret.display();
    let script = format!(
        "ln -s {host} link; ln {host} hard 2>/dev/null
         for path in {host} ../projects/secret.txt ../../..{host} link hard /proc/1/root{host} \
             /proc/self/root{host} /proc/1/cwd/../secret.txt /proc/$$/cwd/../secret.txt; do
           cat \"$path\" 2>/dev/null && echo \"READ $path\"
           (echo stolen >> \"$path\") 2>/dev/null && echo \"WROTE $path\"
         done
         mkdir -p m
         mount --bind / m 2>/dev/null && echo MOUNTED
         mount -t tmpfs none m 2>/dev/null && echo MOUNTED
         unshare -m true 2>/dev/null && echo OWN MOUNTS
         unshare -Urm sh -c 'umount -l /workspace && mount --bind / /mnt' 2>/dev/null && echo REMOUNTED
         for place in / /usr/bin /etc /run/rcc; do touch $place/x 2>/dev/null && echo WROTE $place; done
         echo done"
    );
    let ended = inside(&workshop, &project, &script);
    good(&workshop, &ended);
    assert!(!ended.out.contains("the host's secret"), "{}", ended.out);
    for word in ["MOUNTED", "REMOUNTED", "WROTE /", "OWN MOUNTS"] {
        // The link and the hard link are the project's own new files.
        assert!(!ended.out.contains(word), "{word}: {}", ended.out);
    }
    assert_eq!(fs::read_to_string(&secret).expect("read"), "the host's secret\n");
    // The same as seen by the host: what the link names was not made elsewhere.
    assert!(fs::symlink_metadata(project.join("link")).expect("the link").is_symlink());
}

/// Each descriptor of a process in the sandbox that is readable there, and whether it leads
/// to something that the sandbox has: a file is the one that stands there by that name, a
/// socket is of its network. One does not, to see that such a one is found.
const DESCRIPTORS: &str = r#"exec 9> gone; rm gone
for fd in /proc/[0-9]*/fd/*; do
  to=$(readlink "$fd") || continue
  case $to in
    pipe:*|anon_inode:*) kind=own ;;
    socket:*) grep -qw "${to//[^0-9]/}" /proc/net/* 2>/dev/null && kind=own || kind=OUTSIDE ;;
    *) [ "$fd" -ef "$to" ] && kind=own || kind=OUTSIDE ;;
  esac
  echo "$kind ${fd/#\/proc\/$$\//shell: } $to"
done"#;

#[test]
fn f1_no_descriptor_leads_outside() {
    let Some((workshop, project)) = start("descriptors") else { return };
    let ended = inside(&workshop, &project, DESCRIPTORS);
    good(&workshop, &ended);
    let lines = ended.out.lines();
    let outside: Vec<_> = lines.filter(|line| line.starts_with("OUTSIDE")).collect();
    assert_eq!(outside, ["OUTSIDE shell: fd/9 /workspace/gone (deleted)"], "{}", ended.out);
    assert!(ended.out.contains("own /proc/1/fd/"), "those of the first process: {}", ended.out);
}

/// What Git, an editor, a shell or a package manager would run of a project, and programs in
/// it that the person's `PATH` names first. Each says that it ran, where only the host can.
const TRAPS: &str = r#"set -e
git init -q .
mkdir bin .vscode .husky
printf '#!/bin/sh\necho "$0 $*" >> "$HOME/ran"\nexit 1\n' > bin/trap
chmod 755 bin/trap
for name in git podman crun runc conmon newuidmap newgidmap fuse-overlayfs slirp4netns pasta netavark \
    aardvark-dns mmdebstrap npm node pip pip3 python3 go claude env sh bash setpriv nsenter unshare \
    systemctl systemd-run loginctl xdg-open direnv make nft ip inside rcc-inside rcc-helper; do
  cp bin/trap bin/$name
done
for name in fsmonitor-watchman post-checkout post-commit post-index-change pre-auto-gc pre-commit \
    reference-transaction; do
  cp bin/trap .git/hooks/$name
  cp bin/trap .husky/$name
done
for key in core.fsmonitor core.pager core.editor core.sshCommand core.askPass diff.external \
    diff.evil.textconv filter.evil.clean filter.evil.smudge credential.helper gpg.program; do
  git config $key "$PWD/bin/trap"
done
echo '* filter=evil diff=evil' > .gitattributes
echo 'bin/trap envrc' > .envrc
echo '{"scripts": {"preinstall": "bin/trap", "prepare": "bin/trap"}}' > package.json
printf 'script-shell=%s\nnode-options=--require=%s\n' "$PWD/bin/trap" "$PWD/trap.js" > .npmrc
echo 'require("child_process").execFileSync(__dirname + "/bin/trap")' > trap.js
printf 'all $(shell bin/trap):\n\tbin/trap\n' > Makefile
echo '{"tasks": [{"command": "bin/trap", "runOptions": {"runOn": "folderOpen"}}]}' > .vscode/tasks.json
echo 'import os; os.system("bin/trap")' > sitecustomize.py
"#;

#[test]
fn f5_nothing_of_a_project_runs_on_the_computer() {
    let Some((workshop, project)) = start("traps") else { return };
    let mark = workshop.home().join("ran");
    let _ = fs::remove_file(&mark);
    let ann = |script: &str| workshop.run(&project, "sh", &["-c", script]).expect("sh");
    good(&workshop, &ann(TRAPS));
    ann("git status; git add .envrc");
    let ran = fs::read_to_string(&mark).expect("the traps work: Git runs them");
    fs::remove_file(&mark).expect("remove");
    assert!(ran.contains("/bin/trap"), "{ran}");

    let program = Lab::program("rcc");
    let path =
        format!("PATH={}/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", project.display());
    // As in an active virtual environment, and with what an editor's shell inherits.
    let environment = [
        path,
        format!("GIT_DIR={}/.git", project.display()),
        format!("NODE_OPTIONS=--require={}/trap.js", project.display()),
        format!("PYTHONPATH={}", project.display()),
        program.to_string_lossy().into_owned(),
    ];
    let rcc = |arguments: &[&str]| {
        let all: Vec<&str> =
            environment.iter().map(String::as_str).chain(arguments.iter().copied()).collect();
        let mut command = workshop.ann(&project, "/usr/bin/env", &all);
        let ended = workshop.finish(&mut command).expect("rcc");
        let ran = fs::read_to_string(&mark).unwrap_or_default();
        assert_eq!(ran, "", "rcc {arguments:?} ran something of the project's\n{ended:?}");
        ended
    };
    good(&workshop, &rcc(&["init", "--yes", "--image", "small"]));
    good(&workshop, &rcc(&["run", "--", "sh", "-c", "echo more >> package.json"]));
    for arguments in [
        ["ls", "--json"].as_slice(),
        &["doctor"],
        &["verify"],
        &["log"],
        &["layers"],
        &["review", "--diff"],
    ] {
        rcc(arguments);
    }
    good(&workshop, &rcc(&["stop"]));
    assert_eq!(rcc(&["review", "--diff"]).code, 1, "what was changed is looked at");
    good(&workshop, &rcc(&["review", "put-back", "package.json"]));
    good(&workshop, &rcc(&["review", "undo"]));
}

/// A list of hosts, mounts and switches in the project is somebody else's wish.
#[test]
fn f6_a_projects_own_settings_open_nothing() {
    let Some((workshop, project)) = start("proposes") else { return };
    let wishes = "version: 1
image: docker.io/library/evil
mounts: [/, ~/]
user-namespaces: true
offline: false
defaults:
  allow_public: true
  block_rfc1918: false
hosts: &hosts
  - host: other.example
    ports: [443]
whitelist: *hosts
";
    let look = format!(
        "cut -d' ' -f5 /proc/self/mountinfo | grep -v rcc.yaml | sort
         grep -E 'Cap|Seccomp:|NoNewPrivs' /proc/self/status; unshare -U true 2>&1; {REACH}"
    );
    let without = inside(&workshop, &project, &look);
    good(&workshop, &without);
    assert!(without.out.contains("unreachable"), "{without:?}");
    assert!(!without.err.contains(".rcc.yaml"), "{without:?}");
    good(&workshop, &workshop.rcc(&project, &["stop"]).expect("rcc stop"));
    for name in [".rcc.yaml", ".rcc.yml", "rcc.yaml", "network-whitelist.yaml", "hosts.yaml"] {
        fs::write(project.join(name), wishes).expect("write");
        std::os::unix::fs::chown(project.join(name), Some(4_001), Some(4_001)).expect("chown");
    }
    let with = inside(&workshop, &project, &look);
    good(&workshop, &with);
    assert_eq!(with.out, without.out);
    assert!(with.err.contains(".rcc.yaml is ignored"), "and it is said: {with:?}");
    let asked = workshop.lab.dns.asked_names();
    assert!(!asked.iter().any(|name| name.contains("other")), "{asked:?}");
}

/// First rcc alone is killed in the middle of a session, then everything of the person's:
/// the project is as the person and the agent left it.
#[test]
fn f7_a_crash_leaves_nothing_in_the_project() {
    let Some((workshop, project)) = start("crashes") else { return };
    let files = || -> Vec<String> {
        let all = workshop.run(&project, "find", &[".", "-printf", "%P %y %s %m\n"]).expect("find");
        let mut all: Vec<String> = all.out.lines().map(str::to_owned).collect();
        all.sort();
        all
    };
    // Some of what is guarded is there, most is not.
    good(&workshop, &workshop.run(&project, "git", &["init", "-q", "."]).expect("git"));
    let before = files();
    let program = Lab::program("rcc");
    let arguments = ["run", "--yes", "--image", "small", "--", "sh", "-c", "echo runs; sleep 600"];
    for all in [false, true] {
        let out = workshop.lab.folder().join("crash.out");
        let mut child = workshop
            .ann(&project, &program.to_string_lossy(), &arguments)
            .stdin(std::process::Stdio::null())
            .stdout(fs::File::create(&out).expect("a file"))
            .spawn()
            .expect("rcc run");
        rcc_tests::wait_for(|| fs::read_to_string(&out).is_ok_and(|said| said.contains("runs")))
            .expect("it runs");
        let others = if all { workshop.processes() } else { Vec::new() };
        child.kill().and_then(|()| child.wait()).expect("killed");
        for pid in others {
            let pid = nix::unistd::Pid::from_raw(pid);
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
        assert_eq!(files(), before);
    }
    // The engine finds its way back, and forgets what it still knows of it.
    let _ = workshop.run(&project, "podman", &["system", "migrate"]);
    good(&workshop, &workshop.run(&project, "podman", &["rm", "--all", "--force"]).expect("rm"));
    assert_eq!(files(), before);
}

#[test]
fn f9_the_home_is_a_place_of_its_own() {
    let Some((workshop, project)) = start("homes") else { return };
    let script = "echo $HOME; touch $HOME/mine && echo kept; cd; pwd; ls -A /workspace";
    let ended = inside(&workshop, &project, script);
    good(&workshop, &ended);
    assert_eq!(ended.out.trim(), "/home/agent\nkept\n/home/agent");
    good(&workshop, &workshop.rcc(&project, &["stop"]).expect("rcc stop"));
    let again = inside(&workshop, &project, "ls $HOME/mine");
    assert_eq!(again.out.trim(), "/home/agent/mine", "it persists: {again:?}");
    let other = workshop.project("others").expect("a project");
    assert_ne!(inside(&workshop, &other, "ls $HOME/mine").code, 0, "one for each project");
    assert_eq!(fs::read_dir(&project).expect("read").count(), 0, "nothing in the project");
}

#[test]
fn n1_h8_only_lo_and_eth0_and_no_socket_of_the_host() {
    let Some((workshop, project)) = start("bare") else { return };
    let links =
        inside(&workshop, &project, "ls /sys/class/net; cut -d: -f1 /proc/net/dev | tail -n +3");
    good(&workshop, &links);
    let mut names: Vec<_> = links.out.split_whitespace().collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names, ["eth0", "lo"], "{links:?}");

    let sockets = inside(
        &workshop,
        &project,
        "find / -xdev -type s 2>/dev/null; find /run /tmp /var/run/ -type s 2>/dev/null; \
         env | grep -E '^(DBUS|SSH_AUTH|WAYLAND|DISPLAY|XDG_RUNTIME|DOCKER|CONTAINER_HOST)'; \
         ls -d /run/user /run/dbus /run/podman /var/run/docker.sock /tmp/.X11-unix 2>/dev/null; \
         cut -d' ' -f8 /proc/net/unix | grep -v '^@' | grep / ; true",
    );
    good(&workshop, &sockets);
    let foreign: Vec<_> = sockets
        .out
        .lines()
        .filter(|line| *line != "Path" && !line.starts_with("/run/rcc"))
        .collect();
    assert!(foreign.is_empty(), "{foreign:?}");

    // Without the helper there is no link, and no other network either.
    let offline = workshop.project("offline").expect("a project");
    let arguments = ["run", "--offline", "--yes", "--image", "small", "--", "ls", "/sys/class/net"];
    let ended = workshop.rcc(&offline, &arguments).expect("rcc run");
    assert_eq!(ended.out.trim(), "lo", "{ended:?}");
}

#[test]
fn a_container_has_no_names_or_addresses_of_the_host() {
    let Some((workshop, project)) = start("names") else { return };
    let ended = inside(&workshop, &project, "cat /etc/hosts");
    good(&workshop, &ended);
    let names = ["127.0.0.1 localhost names", "::1 localhost ip6-localhost ip6-loopback"];
    assert_eq!(ended.out.lines().collect::<Vec<_>>(), names);
}

#[test]
fn n18_a_namespace_of_the_agents_own_changes_nothing_outside() {
    let Some((workshop, project)) = start("nested") else { return };
    set(&workshop, &project, "user-namespaces = true\n");
    let before = workshop.lab.in_gate("nft list ruleset | grep -v packets").expect("nft");
    // First the link is there: the rules of this sandbox are what counts.
    good(&workshop, &inside(&workshop, &project, "true"));
    let standing = workshop.lab.in_gate("ip -o addr; ip route").expect("ip");
    assert_ne!(before, "");
    let script = format!(
        "unshare -Urn sh -c 'cat /proc/net/dev; echo 1 > /proc/sys/net/ipv4/ip_forward; \
           ip link set eth0 down; ip addr flush dev eth0' 2>&1 | grep -c eth0:
         ip addr add 198.18.0.99/32 dev eth0 2>/dev/null && echo CHANGED
         {REACH}
         cut -d: -f1 /proc/net/dev | tail -n +3 | tr -d ' '"
    );
    let ended = inside(&workshop, &project, &script);
    assert!(!ended.err.contains("unshare failed"), "the switch is on: {ended:?}");
    let lines: Vec<_> = ended.out.lines().collect();
    assert_eq!(lines.first(), Some(&"0"), "it sees the sandbox's link: {ended:?}");
    assert!(!ended.out.contains("CHANGED") && ended.out.contains("unreachable"), "{ended:?}");
    assert!(lines.contains(&"eth0"), "the link stays: {ended:?}");
    assert_eq!(workshop.lab.in_gate("ip -o addr; ip route").expect("ip"), standing);
    let reach = "timeout 5 bash -c 'exec 3<>/dev/tcp/api.anthropic.com/443' && echo reached";
    assert!(inside(&workshop, &project, reach).out.contains("reached"), "it goes on working");
    // What it has there is a kernel with less in it than other containers have.
    let netfilter = "unshare -Urn perl -e 'socket($s, 16, 3, 12) or die \"no: $!\"' 2>&1";
    let ended = inside(&workshop, &project, netfilter);
    assert!(ended.out.contains("no: Function not implemented"), "{ended:?}");
    let verify = workshop.rcc(&project, &["verify", "--json"]).expect("rcc verify");
    let rows: serde_json::Value = serde_json::from_str(&verify.out).expect("JSON");
    for id in ["calls", "F1-mount"] {
        let row = rows.as_array().and_then(|rows| rows.iter().find(|row| row["id"] == id));
        assert_eq!(row.expect("a row")["verdict"], "holds", "{id}: {verify:?}");
    }
}

#[test]
fn n18_namespaces_are_off_until_a_person_switches_them_on() {
    let Some((workshop, project)) = start("flat") else { return };
    let script = "for kind in U n m p i u C; do unshare -$kind true && echo MADE $kind; done
                  perl -e 'syscall(56, 0x10000011, 0) >= 0 and print \"MADE by clone\"'; echo done";
    let ended = inside(&workshop, &project, script);
    assert_eq!(ended.out.trim(), "done", "{ended:?}");
    assert_eq!(ended.err.matches("Operation not permitted").count(), 7, "{ended:?}");
}
