//! Attacks from inside, and `rcc verify`, which tries them for a person.

use std::fs;
use std::path::Path;

use rcc_tests::Workshop;

use super::{REACH, good, inside, start};

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
