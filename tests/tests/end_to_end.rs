//! The whole way, for real: an ordinary user, rootless Podman, the real Claude
//! Code in a container, the real helper, and an API that is played in the lab.
//! Each test starts a lab of its own; the labs take turns. Named after the rows
//! of docs/threat-model.md where they attack one.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rcc_policy::Preset;
use rcc_tests::{Ended, Lab, Skip, Workshop, skip};

/// Says the greeting of a server, or how it failed.
const REACH: &str = "timeout 10 bash -c 'exec 3<>/dev/tcp/other.example/443 && head -n 1 <&3' \
                     || echo unreachable";

fn start(name: &str) -> Option<(Workshop, PathBuf)> {
    match Workshop::start(&Preset::Locked.document(&[])).expect("a lab with containers") {
        Ok(workshop) => {
            let project = workshop.project(name).expect("a project");
            Some((workshop, project))
        }
        Err(reason) => {
            skip(&reason);
            None
        }
    }
}

/// Runs a script in the project's sandbox.
fn inside(workshop: &Workshop, project: &Path, script: &str) -> Ended {
    let arguments = ["run", "--yes", "--image", "small", "--", "bash", "-c", script];
    workshop.rcc(project, &arguments).expect("rcc run")
}

fn good(workshop: &Workshop, ended: &Ended) {
    assert_eq!(ended.code, 0, "{}\n{}\n{}", ended.out, ended.err, workshop.lab.log());
}

#[test]
fn claude_answers_changes_a_file_and_reaches_only_what_is_allowed() {
    let Some((workshop, project)) = start("web-shop") else { return };
    fs::write(project.join("notes.txt"), "before\n").expect("write");
    std::os::unix::fs::chown(project.join("notes.txt"), Some(4_001), Some(4_001)).expect("chown");
    let claude = |prompt: &str| {
        let arguments = ["claude", "--yes", "--image", "small", "-p", prompt];
        workshop.rcc(&project, &arguments).expect("rcc claude")
    };

    let said = claude("Say hello.");
    good(&workshop, &said);
    assert!(said.out.contains("Hello from the played API."), "{said:?}");
    let asked = workshop.api.requests();
    let message = asked.iter().find(|request| request.line.starts_with("POST /v1/messages"));
    let message = message.unwrap_or_else(|| panic!("no message came: {asked:?}"));
    assert!(message.known, "with another key");
    assert_eq!(message.peer.ip().to_string(), "192.0.2.2", "through the gate and the host");

    let changed = claude("run: pwd; echo after >> notes.txt; cat notes.txt");
    good(&workshop, &changed);
    assert!(changed.out.contains("/workspace") && changed.out.contains("after"), "{changed:?}");
    assert_eq!(fs::read_to_string(project.join("notes.txt")).expect("read"), "before\nafter\n");

    let blocked = claude(&format!("run: {REACH}"));
    good(&workshop, &blocked);
    assert!(blocked.out.contains("unreachable"), "{blocked:?}");
    let log = workshop.rcc(&project, &["log"]).expect("rcc log");
    good(&workshop, &log);
    assert!(log.out.contains("other.example"), "{log:?}");
    let never = workshop.lab.dns.asked_names();
    assert!(!never.iter().any(|name| name.contains("other")), "N5: {never:?}");

    let allowed = workshop.rcc(&project, &["allow", "other.example"]).expect("rcc allow");
    good(&workshop, &allowed);
    let reached = claude(&format!("run: {REACH}"));
    good(&workshop, &reached);
    assert!(reached.out.contains("from 192.0.2.2:"), "{reached:?}");

    let denied = workshop.rcc(&project, &["deny", "other.example"]).expect("rcc deny");
    good(&workshop, &denied);
    let again = claude(&format!("run: {REACH}"));
    assert!(again.out.contains("unreachable"), "{again:?}");
}

/// Says again and again whether the host is reached, and holds one connection from the
/// first time on.
const WATCH: &str = r#"
while [ ! -e stop ]; do
  timeout 3 bash -c 'exec 4<>/dev/tcp/other.example/443 && head -n 1 <&4' 2>/dev/null || echo unreachable
  if [ -z "$held" ] && exec 3<>/dev/tcp/other.example/9999; then held=1; read -r line <&3; echo held; fi 2>/dev/null
  if [ "$held" = 1 ]; then
    if printf ping >&3 && read -r -t 2 -N 4 answer <&3; then echo alive; else held=2; echo cut; fi 2>/dev/null
  fi
  sleep 0.05
done"#;

const EMPTY: &str = "version: 1\nwhitelist: []\n";

fn write_list(path: &Path, text: &str) {
    fs::write(path, text).expect("write");
    std::os::unix::fs::chown(path, Some(4_001), Some(4_001)).expect("chown");
}

#[test]
fn an_edit_by_hand_holds_in_the_sandbox_of_a_command_that_runs() {
    let Some((workshop, project)) = start("by-hand") else { return };
    good(&workshop, &workshop.rcc(&project, &["init", "--yes", "--image", "small"]).expect("init"));
    let out = workshop.lab.folder().join("watch.out");
    let program = Lab::program("rcc").to_string_lossy().into_owned();
    let mut command = workshop.ann(&project, &program, &["run", "--", "bash", "-c", WATCH]);
    let output = fs::File::create(&out).expect("a file");
    let mut child = command
        .stdin(Stdio::null())
        .stderr(output.try_clone().expect("a file"))
        .stdout(output)
        .spawn()
        .expect("rcc run");
    // What came after so many bytes; the sandbox says something every tenth of a second.
    let since = |from: usize| {
        let text = fs::read(&out).expect("read");
        String::from_utf8_lossy(text.get(from..).unwrap_or_default()).into_owned()
    };
    let until = |what: &str, from: usize, at_most: Duration, wanted: &str| {
        let begun = Instant::now();
        while !since(from).contains(wanted) {
            assert!(begun.elapsed() < at_most, "{what}: {}\n{}", since(0), workshop.lab.log());
            std::thread::sleep(Duration::from_millis(10));
        }
        eprintln!("{what}: {:?}", begun.elapsed());
    };
    until("it runs", 0, Duration::from_secs(60), "unreachable\n");

    let home = workshop.home().join(".config/rcc");
    let own = fs::read_dir(home.join("projects")).expect("settings").next().expect("one");
    let own = own.expect("file").path().with_extension("yaml");
    let everywhere = home.join("hosts.yaml");
    let computer = PathBuf::from("/etc/rcc/network-whitelist.yaml");
    let before = fs::read_to_string(&computer).expect("the computer's list");
    let entry = "  - host: other.example\n    ports: [443, 9999]\n";
    // A second; twice that on a busy computer.
    let second = Duration::from_secs(2);
    for (list, without) in [
        (everywhere.clone(), EMPTY.to_owned()),
        (own.clone(), EMPTY.to_owned()),
        (computer.clone(), before),
    ] {
        let name = list.display().to_string();
        let with =
            without.replace("whitelist: []", "whitelist:").trim_end().to_owned() + "\n" + entry;
        let at = since(0).len();
        write_list(&list, &with);
        until(&format!("{name} adds"), at, second, "from 192.0.2.2:");
        // A mistake: said in one line, and what was allowed stays.
        let at = since(0).len();
        write_list(&list, &format!("{with}nonsense: 1\n"));
        until(&format!("{name} with a mistake"), at, second, "is not in force");
        let said = since(at);
        let line = said.lines().find(|line| line.contains("not in force")).expect("a line");
        assert!(line.contains(&format!("{name}, line ")), "{line}");
        let at = since(0).len();
        until("the list before stays", at, second * 3, "from 192.0.2.2:");
        assert!(!since(at).contains("unreachable"), "{}", since(at));
        let at = since(0).len();
        write_list(&list, &without);
        until(&format!("{name} takes away"), at, second, "unreachable");
    }
    // What is taken out while another list of the project cannot be read goes with the
    // correction of that one.
    let at = since(0).len();
    write_list(&everywhere, &format!("version: 1\nwhitelist:\n{entry}"));
    until("it adds once more", at, second, "from 192.0.2.2:");
    write_list(&own, "version: 1\nwhitelist: 7\n");
    let at = since(0).len();
    write_list(&everywhere, EMPTY);
    until("it could not be brought", at, second, "A settings file cannot be used.");
    let at = since(0).len();
    write_list(&own, EMPTY);
    until("then it is", at, second, "unreachable");
    let all = since(0);
    let (alive, cut) = (all.find("alive").expect("held"), all.find("cut\n").expect("cut"));
    assert!(alive < cut && !all[cut..].contains("alive"), "the held connection ends: {all}");
    fs::write(project.join("stop"), "").expect("write");
    assert!(child.wait().expect("wait").success());
    a_mistake_is_shown_on_the_last_row_of_a_terminal(&workshop, &project, &home);
}

fn a_mistake_is_shown_on_the_last_row_of_a_terminal(
    workshop: &Workshop,
    project: &Path,
    home: &Path,
) {
    let screen = workshop.lab.folder().join("screen");
    let shell = format!("stty rows 20 columns 90; exec {} shell", Lab::program("rcc").display());
    fs::write(&screen, "").expect("write");
    std::os::unix::fs::chown(&screen, Some(4_001), Some(4_001)).expect("chown");
    let mut command = workshop.ann(
        project,
        "script",
        &["--quiet", "--flush", "--return", "--command", &shell, &screen.to_string_lossy()],
    );
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("script");
    let mut keys = child.stdin.take().expect("keys");
    let until = |what: &str, holds: &dyn Fn(&str) -> bool| {
        let begun = Instant::now();
        loop {
            let shown = String::from_utf8_lossy(&fs::read(&screen).expect("read")).into_owned();
            if holds(&shown) {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "{what}: {shown:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let row = "\x1b[20;1H\x1b[0;7mrcc: The edited list of hosts is not in force. ";
    keys.write_all(b"echo shown-$((40+2))\n").expect("type");
    until("the shell", &|shown| shown.contains("shown-42"));
    write_list(&home.join("hosts.yaml"), "version: 1\nwhitelist: 7\n");
    until("the line", &|shown| shown.contains(row));
    // After a while the screen is drawn again, without it.
    until("the screen", &|shown| {
        let after = shown.split(row).nth(1).unwrap_or_default();
        after.contains("shown-42")
    });
    keys.write_all(b"exit 5\n").expect("type");
    assert_eq!(child.wait().expect("wait").code(), Some(5));
}

#[test]
fn sessions_are_listed_stopped_and_pass_exit_codes_on() {
    let Some((workshop, project)) = start("api") else { return };
    let ended = inside(&workshop, &project, "exit 7");
    assert_eq!(ended.code, 7, "{ended:?}\n{}", workshop.lab.log());
    let list = workshop.rcc(&project, &["ls", "--json"]).expect("rcc ls");
    good(&workshop, &list);
    let list: serde_json::Value = serde_json::from_str(&list.out).expect("JSON");
    let sessions = list.as_array().expect("a list");
    assert_eq!(sessions.len(), 1, "{list:#}");
    assert_eq!(sessions[0]["path"], project.to_string_lossy().as_ref());
    assert_eq!(sessions[0]["network"], "connected", "{list:#}");

    let off = workshop.rcc(&project, &["net", "off"]).expect("rcc net");
    good(&workshop, &off);
    let reach = "timeout 5 bash -c 'exec 3<>/dev/tcp/api.anthropic.com/443' && echo reached";
    assert!(!inside(&workshop, &project, reach).out.contains("reached"));
    good(&workshop, &workshop.rcc(&project, &["net", "on"]).expect("rcc net"));
    assert!(inside(&workshop, &project, reach).out.contains("reached"));

    good(&workshop, &workshop.rcc(&project, &["stop"]).expect("rcc stop"));
    let list = workshop.rcc(&project, &["ls", "--json"]).expect("rcc ls");
    assert_eq!(list.out.trim(), "[]");
    let left = workshop.run(&project, "podman", &["ps", "--all", "--quiet"]).expect("podman");
    assert_eq!(left.out.trim(), "", "{left:?}");
    let shown = workshop.lab.on_host("/run/rcc-lab/bin/rcc-helper show").expect("show");
    assert!(shown.contains("No sandbox is attached."), "{shown}");
}

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
         for fd in /proc/1/fd/*; do cat $fd/../secret.txt 2>/dev/null; done
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
    refuses_to_begin(&workshop, &project, &["Seccomp is 0", NOT_OURS]);
}

#[test]
fn a_container_with_another_filter_is_removed_before_anything_runs() {
    let Some((workshop, project)) = start("other-filter") else { return };
    weaker_runtime(&workshop, r#","seccomp":{"defaultAction":"SCMP_ACT_ALLOW"}"#);
    refuses_to_begin(&workshop, &project, &[NOT_OURS]);
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

/// Switches on what is off by default, in ann's settings for the project.
fn may_make_namespaces(workshop: &Workshop, project: &Path) {
    good(workshop, &workshop.rcc(project, &["init", "--yes", "--image", "small"]).expect("init"));
    let settings = workshop.home().join(".config/rcc/projects");
    let file = fs::read_dir(settings).expect("settings").next().expect("one").expect("file").path();
    let text = fs::read_to_string(&file).expect("read") + "user-namespaces = true\n";
    fs::write(&file, text).expect("write");
}

#[test]
fn n18_a_namespace_of_the_agents_own_changes_nothing_outside() {
    let Some((workshop, project)) = start("nested") else { return };
    may_make_namespaces(&workshop, &project);
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
    let calls = rows.as_array().and_then(|rows| rows.iter().find(|row| row["id"] == "calls"));
    assert_eq!(calls.expect("a row")["verdict"], "holds", "{verify:?}");
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

#[test]
fn f2_a_hook_of_the_agents_is_told_shown_and_put_back() {
    let Some((workshop, project)) = start("review") else { return };
    let rcc = |arguments: &[&str]| workshop.rcc(&project, arguments).expect("rcc");
    assert_eq!(rcc(&["review"]).code, 0, "nothing ran in it yet");
    let attack = "git init -q . && echo evil > .git/hooks/pre-commit && echo '{}' > package.json";
    let ended = inside(&workshop, &project, attack);
    good(&workshop, &ended);
    assert!(ended.err.contains("that this computer would run changed"), "{ended:?}");
    let list = rcc(&["--json", "review", "--diff"]);
    assert_eq!(list.code, 1, "{list:?}");
    let found: serde_json::Value = serde_json::from_str(&list.out).expect("JSON");
    let changes = found["changes"].as_array().expect("changes");
    let of = |path: &str| {
        let change = changes.iter().find(|one| one["path"] == path).expect(path);
        (change["id"].as_str().expect("an id").to_owned(), change)
    };
    let (hook, shown) = of(".git/hooks/pre-commit");
    assert_eq!(shown["diff"], serde_json::json!(["+ evil"]));
    assert_eq!(shown["why"], "Git would run this at the next commit.");
    assert_eq!(of("package.json").1["runs_by_itself"], false);
    // While the agent works there, a name could stand for another content.
    let refused = rcc(&["review", "keep", ".git/hooks/pre-commit"]);
    assert!(refused.code == 125 && refused.err.contains("The sandbox runs"), "{refused:?}");
    good(&workshop, &inside(&workshop, &project, "echo worse >> .git/hooks/pre-commit"));
    let refused = rcc(&["review", "keep", &hook]);
    assert!(refused.code == 125 && refused.err.contains("RCC-E105"), "{refused:?}");
    let stopped = rcc(&["stop"]);
    assert!(stopped.err.contains("`rcc review` shows them"), "{stopped:?}");
    good(&workshop, &rcc(&["review", "put-back", ".git/hooks/pre-commit"]));
    assert!(!project.join(".git/hooks/pre-commit").exists());
    good(&workshop, &rcc(&["review", "undo"]));
    assert_eq!(
        fs::read_to_string(project.join(".git/hooks/pre-commit")).expect("read"),
        "evil\nworse\n"
    );
    good(&workshop, &rcc(&["review", "keep", "--all"]));
    assert_eq!(rcc(&["review"]).code, 0);
}

#[test]
fn layers_are_listed_and_those_that_no_project_uses_are_removed() {
    let Some((workshop, project)) = start("layers") else { return };
    let rcc = |arguments: &[&str]| workshop.rcc(&project, arguments).expect("rcc");
    let podman = |arguments: &[&str]| workshop.run(&project, "podman", arguments).expect("podman");
    good(&workshop, &rcc(&["init", "--yes", "--image", "small"]));
    // Ann's storage is kept between runs, with what other tests left there.
    good(&workshop, &rcc(&["layers", "remove", "--unused", "--yes"]));
    assert_eq!(rcc(&["--json", "layers"]).out.trim(), "[]");
    let images = podman(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    let small = images.out.lines().find(|name| name.starts_with("localhost/rcc-small:"));
    let small = small.unwrap_or_else(|| panic!("{images:?}")).to_owned();
    // As an opening makes them, without the network that packages come over.
    let context = workshop.home().join("projects/layer");
    fs::create_dir(&context).expect("mkdir");
    let recipe = format!("FROM {small}\nRUN head -c 5000000 /dev/urandom > /opt/more\n");
    fs::write(context.join("Containerfile"), recipe).expect("write");
    let (one, other) =
        ("localhost/rcc-small-with:aaaaaaaaaaaa", "localhost/rcc-small-with:bbbbbbbbbbbb");
    let folder = context.to_string_lossy().into_owned();
    good(&workshop, &podman(&["build", "--network", "none", "--tag", one, &folder]));
    good(&workshop, &podman(&["tag", one, other]));
    let listed = rcc(&["--json", "layers"]);
    let layers: serde_json::Value = serde_json::from_str(&listed.out).expect("JSON");
    assert_eq!(layers[0]["name"], one, "{listed:?}");
    assert_eq!(layers[1]["projects"], serde_json::json!([]), "{listed:?}");
    let size = layers[0]["size"].as_u64().expect("a size");
    assert!((5_000_000..8_000_000).contains(&size), "without the image below: {size}");
    assert!(rcc(&["layers"]).out.contains("no project uses it"));

    // Nobody can be asked, no such layer, no layer at all.
    for refused in [
        vec!["layers", "remove", "--unused"],
        vec!["layers", "remove", "--yes", "nonsense"],
        vec!["layers", "remove", "--yes", &small],
    ] {
        assert_eq!(rcc(&refused).code, 125, "{refused:?}");
    }
    good(&workshop, &rcc(&["layers", "remove", "--yes", one]));
    let left = podman(&["images", "--format", "{{.Repository}}:{{.Tag}}"]).out;
    assert!(!left.contains(one) && left.contains(other) && left.contains(&small), "{left}");
    // One that a sandbox runs with stays, whatever settings say.
    good(&workshop, &rcc(&["run", "--image", other, "--", "true"]));
    let refused = rcc(&["layers", "remove", "--unused", "--yes"]);
    assert!(refused.code == 125 && refused.err.contains("could not remove"), "{refused:?}");
    good(&workshop, &rcc(&["stop"]));
    let used = rcc(&["layers"]).out;
    assert!(used.contains("used just now"), "{used}");
    good(&workshop, &rcc(&["layers", "remove", "--unused", "--yes"]));
    assert_eq!(rcc(&["layers"]).out, "No layers are kept.\n");
    assert!(podman(&["images", "--format", "{{.Repository}}:{{.Tag}}"]).out.contains(&small));
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

#[test]
fn verify_tries_the_walls_and_sees_a_hole() {
    let Some((workshop, project)) = start("verify") else { return };
    // Something that this computer would execute.
    fs::create_dir_all(project.join(".git/hooks")).expect("mkdir");
    fs::write(project.join(".git/config"), "[core]\n").expect("write");
    good(&workshop, &inside(&workshop, &project, "true"));
    let verify = || {
        let begun = std::time::Instant::now();
        let ended = workshop.rcc(&project, &["verify", "--json"]).expect("rcc verify");
        let rows: Vec<serde_json::Value> =
            serde_json::from_str(&ended.out).unwrap_or_else(|error| panic!("{error}: {ended:?}"));
        let verdict = move |id: &str| {
            let row = rows.iter().find(|row| row["id"] == id);
            let row = row.unwrap_or_else(|| panic!("no row {id} in {rows:#?}"));
            (row["verdict"].as_str().unwrap_or_default().to_owned(), row.clone())
        };
        (ended.code, verdict, begun.elapsed())
    };
    let (code, verdict, took) = verify();
    for id in [
        "works",
        "F1",
        "F1-write",
        "F1-mount",
        "F2",
        "namespaces",
        "rights",
        "seccomp",
        "calls",
        "H8",
        "N1",
        "N2",
        "N3",
        "N4",
        "N6",
        "N8",
        "N18",
        "N20",
        "firewall",
    ] {
        let (word, row) = verdict(id);
        assert_eq!(word, "holds", "{row:#}");
    }
    for id in ["N15", "N21", "C2", "kernel"] {
        assert_eq!(verdict(id).0, "not tried");
    }
    assert_eq!(code, 0);
    assert!(took < std::time::Duration::from_secs(6), "{took:?}");
    let left =
        workshop.lab.on_host("find / -xdev -name 'verify-*' -path '*rcc*' | head").expect("find");
    assert_eq!(left.trim(), "", "nothing is left of it");
    // A hole in the gate is seen.
    let hole =
        "nft insert rule inet rcc c_divert accept; nft insert rule inet rcc c_forward accept";
    workshop.lab.in_gate(hole).expect("nft");
    let (code, verdict, _) = verify();
    let (word, row) = verdict("N20");
    assert_eq!((word.as_str(), code), ("OPEN", 1), "{row:#}");
}
