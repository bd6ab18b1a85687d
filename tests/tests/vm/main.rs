//! The package on a whole computer with a kernel of its own: what the containers of the
//! other tests share with the computer below them, or do not have at all. It takes minutes:
//! `cargo xtask test --vm` runs it.

mod links;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rcc_tests::people::ANN;
use rcc_tests::{Security, Skip, Vm, built, skip};

/// Where the package is on the computer.
const PACKAGE: &str = "/opt/rcc-sandbox.deb";
/// Of the computer. What the sandboxes may use together is more.
const MEMORY_MIB: u32 = 1_024;

/// A computer with the package and a small image of ann's: this is what is in it.
const PREPARE: &str = "
dpkg -i /opt/rcc-sandbox.deb >/dev/null
rm /opt/rcc-sandbox.deb
mkdir -p /tmp/image/bin /home/ann/a /home/ann/b /home/ann/c
cp /bin/busybox /tmp/image/bin
for name in $(/bin/busybox --list); do ln -s busybox /tmp/image/bin/$name 2>/dev/null || true; done
tar -C /tmp/image -cf /home/ann/image.tar .
rm -r /tmp/image
chown -R ann: /home/ann
# As a person's who lets sandboxes go on after a logout; the user's systemd keeps the limits.
mkdir -p /var/lib/systemd/linger
touch /var/lib/systemd/linger/ann
# Slow in software, and nobody's concern here.
systemctl mask -q podman-restart.service podman-auto-update.service podman.socket podman.service e2scrub_reap.service
";

fn boot(security: Security) -> Option<Vm> {
    if std::env::var_os("RCC_VM").is_none() {
        skip(&Skip("a whole computer in software takes minutes: `cargo xtask test --vm`".into()));
        return None;
    }
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("vm-package");
    let mut xtask = Command::new(built("xtask").expect("xtask"));
    let made = xtask.args(["package", "--debug", "--output"]).arg(&folder).output().expect("xtask");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let package = PathBuf::from(String::from_utf8_lossy(&made.stdout).trim());
    let (files, script) = match security {
        Security::AppArmor => (vec![(package, PACKAGE)], PREPARE.to_owned()),
        Security::SeLinux => (
            vec![(package, PACKAGE), (DEBIAN_POLICY.into(), "/opt/debian.cil")],
            format!("{PREPARE}{PREPARE_POLICY}"),
        ),
    };
    match Vm::start(security, MEMORY_MIB, &files, &script).expect("a computer") {
        Ok(vm) => Some(vm),
        Err(reason) => {
            skip(&reason);
            None
        }
    }
}

fn root(vm: &mut Vm, script: &str) -> String {
    let said = vm.root(script).and_then(rcc_tests::Said::good);
    said.unwrap_or_else(|error| panic!("{script}: {error}")).trim().to_owned()
}

fn ann(vm: &mut Vm, script: &str) -> String {
    let said = vm.user(ANN, script).and_then(rcc_tests::Said::good);
    said.unwrap_or_else(|error| panic!("{script}: {error}")).trim().to_owned()
}

/// Runs a script in the sandbox of one of ann's projects.
fn inside(project: &str, script: &str) -> String {
    format!("cd ~/{project} && rcc run --yes --image localhost/busy -- sh -c '{script}'")
}

/// What a script says there, without what `rcc` says of its own progress.
fn said_inside(vm: &mut Vm, project: &str, script: &str) -> String {
    ann(vm, &format!("{} 2>/dev/null", inside(project, script)))
}

/// Holds so much, and goes on when the command that started it has ended: `dd` has its
/// buffer full and nobody reads what it writes.
fn hold(mib: u32) -> String {
    format!("(dd if=/dev/zero bs={mib}M count=1 2>/dev/null | sleep 10000) >/dev/null 2>&1 &")
}

/// What the kernel counts for each sandbox, in the order of their start: bytes in use.
fn used(vm: &mut Vm, project: &str) -> u64 {
    let group = group(vm, project);
    number(&root(vm, &format!("cat {group}/memory.current")))
}

/// The engine's group of a project's sandbox.
fn group(vm: &mut Vm, project: &str) -> String {
    let script = format!(
        "podman ps --no-trunc --filter label=dev.rcc.path=/home/ann/{project} --format '{{{{.ID}}}}'"
    );
    let id = ann(vm, &script);
    root(vm, &format!("find /sys/fs/cgroup/user.slice -name 'libpod-{id}.scope'"))
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("{text} is no number"))
}

/// Bytes that the computer could still give to programs.
fn available(vm: &mut Vm) -> u64 {
    let text =
        "sync; echo 3 > /proc/sys/vm/drop_caches; awk '/^MemAvailable/ {print $2}' /proc/meminfo";
    number(&root(vm, text)) << 10
}

#[test]
fn r1_memory_is_held_to_its_limit_paid_for_when_used_and_given_back() {
    const MIB: u64 = 1 << 20;
    let Some(mut vm) = boot(Security::AppArmor) else { return };
    let vm = &mut vm;
    // A kernel that loads its modules when they are asked for, and a security module.
    assert!(root(vm, "cat /sys/kernel/security/lsm").contains("apparmor"));
    assert!(
        root(vm, "systemctl is-active rcc-firewall rcc-whitelist-update.timer").contains("active")
    );
    ann(vm, "podman import -q ~/image.tar localhost/busy");
    let doctor = ann(vm, "rcc doctor | grep limits");
    assert!(doctor.starts_with("ok"), "{doctor}");

    // The report's table, a sixteenth of it: the limits are more than the computer has.
    let table = [("a", 512, 64), ("b", 1_024, 128), ("c", 512, 6)];
    for (project, wish) in [("b", "memory-mib = 1024"), ("c", "processes = 100")] {
        let listed = ann(vm, &format!("{}; rcc ls --json", inside(project, "true")));
        let json = listed.find('[').map_or("", |start| &listed[start..]);
        let sessions: serde_json::Value = serde_json::from_str(json).expect(&listed);
        let id = sessions.pointer("/0/project").and_then(|id| id.as_str()).expect(&listed);
        let file = format!("~/.config/rcc/projects/{id}.toml");
        ann(
            vm,
            &format!(
                "cd ~/{project}; mkdir -p ~/.config/rcc/projects; echo '{wish}' >> {file}; rcc stop"
            ),
        );
    }
    for (project, _, _) in table {
        ann(vm, &inside(project, "true"));
    }
    let before = available(vm);
    let idle = table.map(|(project, _, _)| used(vm, project));
    for (project, _, mib) in table {
        ann(vm, &inside(project, &hold(mib)));
    }
    let after = available(vm);
    println!("| scenario | limit | asked for | the kernel counts | ");
    for ((project, limit, mib), idle) in table.into_iter().zip(idle) {
        let group = group(vm, project);
        let held = root(
            vm,
            &format!(
                "cat {group}/container/memory.max {group}/container/memory.swap.max {group}/container/memory.low"
            ),
        );
        let expected = format!("{}\n0\n{}", limit * MIB, limit * MIB / 8);
        assert_eq!(held, expected, "limit, swap and what the kernel takes last, of {project}");
        let more = used(vm, project).saturating_sub(idle);
        println!("| {project} | {limit} MiB | {mib} MiB | {:.1} MiB |", more as f64 / MIB as f64);
        let mib = u64::from(mib) * MIB;
        assert!((mib..mib + 8 * MIB).contains(&more), "{project} is charged what it uses: {more}");
    }
    let paid = before.saturating_sub(after);
    println!("the computer has {:.1} MiB less", paid as f64 / MIB as f64);
    assert!((170 * MIB..240 * MIB).contains(&paid), "paid is what is used, not the limits: {paid}");

    // Freed is given back within a second.
    let group_b = group(vm, "b");
    let freed = root(
        vm,
        &format!(
            "full=$(cat {group_b}/memory.current); pkill -f bs=128M; sleep 1; echo $((full - $(cat {group_b}/memory.current)))"
        ),
    );
    println!("a second after the end {freed} of {} bytes are back", 128 * MIB);
    assert!(number(&freed) >= 128 * MIB / 100 * 95, "given back: {freed}");

    // Pages of files are the computer's again when it wants them.
    ann(
        vm,
        &inside(
            "b",
            "dd if=/dev/zero of=/workspace/file bs=1M count=300 2>/dev/null; cat /workspace/file > /dev/null",
        ),
    );
    let cached = used(vm, "b");
    assert!(cached > 250 * MIB, "files are kept in memory, and counted: {cached}");
    let wants = available_as_it_is(vm) + 100 * MIB;
    root(vm, &format!("head -c {wants} /dev/zero | tail -c 1 > /dev/null; rm -f /home/ann/b/file"));
    let left = used(vm, "b");
    println!(
        "of {} MiB of files {} are left when the computer wants memory",
        cached / MIB,
        left / MIB
    );
    assert!(left < cached / 2, "its files give way: {left}");

    // More than the limit: the program in the sandbox is ended, and nothing else.
    let more = inside("a", "dd if=/dev/zero of=/dev/null bs=700M count=1");
    let said = vm.user(ANN, &more).expect("run");
    assert_eq!(said.code, 137, "{}", said.text);
    assert!(said.text.contains("ran out of memory (512 MiB)"), "in words: {}", said.text);
    assert!(said.text.contains("memory-mib"), "and what to do: {}", said.text);
    for project in ["a", "b", "c"] {
        assert_eq!(said_inside(vm, project, "echo here"), "here", "{project} goes on");
    }
    let walls = ann(vm, "cd ~/a && rcc verify");
    let memory = walls.lines().find(|line| line.contains(" memory ")).unwrap_or_default();
    assert!(memory.starts_with("holds"), "verify sees it: {walls}");

    // What takes something away reads the kernel's connections, by one more module.
    ann(
        vm,
        "cd ~/a && rcc net off && rcc net on && rcc allow host.example && rcc deny host.example",
    );

    // A fork bomb fills the sandbox's own number of processes, and nobody else's.
    let _ = vm.user(ANN, &inside("c", "for i in $(seq 500); do sleep 1000 & done")).expect("run");
    let group_c = group(vm, "c");
    let peak = number(&root(vm, &format!("cat {group_c}/pids.peak")));
    assert!((90..=100).contains(&peak), "{peak} processes");
    assert_eq!(said_inside(vm, "b", "echo here"), "here", "another sandbox still makes processes");
}

/// Without giving up what is kept of files.
fn available_as_it_is(vm: &mut Vm) -> u64 {
    number(&root(vm, "awk '/^MemFree/ {print $2}' /proc/meminfo")) << 10
}

#[test]
fn h6_a_power_cut_while_the_list_is_written_leaves_the_old_or_the_new() {
    const CUTS: u64 = 3;
    let Some(mut vm) = boot(Security::AppArmor) else { return };
    let vm = &mut vm;
    // One version after the other, each a hundred hosts long and with its number at both ends.
    const WRITE: &str = r#"
call() { busctl --json=short call dev.rcc.Helper1 /dev/rcc/Helper1 dev.rcc.Helper1 "$@"; }
number=FIRST
while [ $number -lt $((FIRST + 9000)) ]; do
  number=$((number + 1))
  version=$(call GetPolicy | sed 's/.*,"\([^"]*\)"\]}$/\1/')
  list="version: 1
whitelist:
$(for host in first $(seq 98) last; do echo "  - {host: v$number-$host.example, ports: [443]}"; done)
"
  call ReplacePolicy ss "$list" "$version" >/dev/null || exit 1
  echo $number > /run/answered
done
"#;
    for cut in 1..=CUTS {
        // No number comes twice.
        vm.begin(&WRITE.replace("FIRST", &(cut * 10_000).to_string())).expect("begin");
        let answered = "for i in $(seq 100); do [ -e /run/answered ] && break; sleep 1; done; cat /run/answered";
        assert_ne!(root(vm, answered), "", "the writer writes");
        std::thread::sleep(Duration::from_millis(700 * cut));
        let answered = number(&root(vm, "cat /run/answered"));
        vm.cut_power().expect("a boot");
        // Nobody has logged in, nobody has called the service.
        let gate = root(
            vm,
            "systemctl is-active rcc-firewall; nft list table inet rcc | grep -c drop; ip netns list",
        );
        assert!(gate.starts_with("active\n") && gate.contains("rcc"), "the gate stands: {gate}");
        let hosts = root(vm, "grep -o 'v[0-9]*-[a-z0-9]*' /etc/rcc/network-whitelist.yaml");
        let lines: Vec<_> = hosts.lines().collect();
        let version = lines[0].split('-').next().expect("a number");
        let stands = number(version.trim_start_matches('v'));
        assert!(stands >= answered, "what was answered stays: {stands}, {answered}");
        assert_eq!(lines.len(), 100, "a whole list: {hosts}");
        assert_eq!(lines[0], format!("{version}-first"));
        assert!(lines.iter().all(|line| line.starts_with(&format!("{version}-"))), "{hosts}");
        assert_eq!(lines[99], format!("{version}-last"));
        let left = root(vm, "ls /etc/rcc");
        assert_eq!(left, "network-whitelist.yaml", "nothing half written stays");
        println!("cut {cut}: list {stands} stands, {answered} was answered before");
    }
}

/// A name server that knows one name, for an hour.
const NAMES: &str = r#"
cat > /run/names.py <<'END'
import socket, struct
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.53", 53))
while True:
    asked, whom = server.recvfrom(512)
    question = asked[12:asked.index(b"\0", 12) + 5]
    answers = []
    if question[-4:-2] == b"\0\1":
        answers = [b"\xc0\x0c\0\1\0\1" + struct.pack(">IH", 3600, 4) + bytes([203, 0, 113, 9])]
    head = asked[:2] + b"\x81\x80\0\1" + struct.pack(">H", len(answers)) + bytes(4)
    server.sendto(head + question + b"".join(answers), whom)
END
systemd-run -q --unit=names python3 /run/names.py
rm -f /etc/resolv.conf
echo nameserver 127.0.0.53 > /etc/resolv.conf
"#;

/// What a call of the helper answers ann.
fn called(vm: &mut Vm, call: &str) -> serde_json::Value {
    const CALL: &str = "busctl --json=short call dev.rcc.Helper1 /dev/rcc/Helper1 dev.rcc.Helper1";
    let said = ann(vm, &format!("{CALL} {call}"));
    if said.is_empty() {
        serde_json::Value::Null
    } else {
        serde_json::from_str(&said).expect(&said)
    }
}

/// For how many seconds more the first sandbox is open to the internet.
fn open_for(vm: &mut Vm) -> u64 {
    let list = called(vm, "List b false");
    let one = list.pointer("/data/0/0").and_then(|one| one.as_array()).expect("a sandbox");
    one.last().and_then(serde_json::Value::as_u64).expect("seconds")
}

/// For how many seconds more the kernel lets one reach the address of the name, and the time
/// since the computer started, sleep and all.
fn left(vm: &mut Vm) -> (f64, f64) {
    let said = root(
        vm,
        "cut -d' ' -f1 /proc/uptime; ip netns exec rcc nft -j list ruleset | python3 -c '
import json, sys
sets = [one[\"set\"] for one in json.load(sys.stdin)[\"nftables\"] if \"set\" in one]
all = [one for set in sets for one in set.get(\"elem\", []) if \"203.0.113.9\" in json.dumps(one)]
print(max([one[\"elem\"][\"expires\"] for one in all], default=0))'",
    );
    let mut numbers = said.lines().map(|line| line.parse().unwrap_or_else(|_| panic!("{said}")));
    let up = numbers.next().expect("a time");
    (numbers.next().unwrap_or(0.0), up)
}

/// How many sandboxes the kernel lets out to the internet.
fn openings(vm: &mut Vm) -> u64 {
    let count =
        "ip netns exec rcc nft list ruleset | grep -c 'ip daddr != @private4 .*goto r_' || true";
    number(&root(vm, count))
}

#[test]
fn n7_what_is_open_for_a_time_ends_while_the_computer_sleeps() {
    const SLEPT: u64 = 60;
    let Some(mut vm) = boot(Security::AppArmor) else { return };
    let vm = &mut vm;
    root(vm, NAMES);
    ann(vm, "podman import -q ~/image.tar localhost/busy");
    // The end of an opening writes all rules of its sandbox: the name is another's.
    ann(vm, &inside("a", "true"));
    ann(vm, &inside("b", "true"));
    ann(vm, "cd ~/b && rcc allow host.example");
    let asked = said_inside(vm, "b", "nslookup host.example");
    assert!(asked.contains("203.0.113.9"), "{asked}");
    let id = called(vm, "List b false").pointer("/data/0/0/0").and_then(|id| id.as_u64());
    let id = id.expect("a number");

    // The time of day, which anybody may set who may, decides nothing.
    called(vm, &format!("OpenInternet uu {id} 900"));
    for set in ["+5 hours", "-9 hours", "+4 hours"] {
        root(vm, &format!("date -s '{set}' > /dev/null"));
        let open = open_for(vm);
        assert!((600..=900).contains(&open), "{open} s more at {set}");
    }

    // A sleep takes the time of what is open, and ends what is over, as soon as it is awake.
    called(vm, &format!("OpenInternet uu {id} {}", SLEPT - 10));
    let (before, up) = left(vm);
    assert!(openings(vm) == 1 && before > 3_000.0, "{before}");
    vm.sleep(Duration::from_secs(SLEPT)).expect("it sleeps");
    // Asked of the kernel alone: a call would have the helper look at its clock.
    let (after, later) = (0..20)
        .map(|_| left(vm))
        .find(|(left, _)| *left < before - 30.0)
        .unwrap_or_else(|| left(vm));
    assert_eq!(openings(vm), 0, "the opening is over for the kernel");
    println!(
        "{:.0} s went by, of which it slept {SLEPT}: {before} s were left, then {after}",
        later - up
    );
    assert!(later - up >= SLEPT as f64, "the clock counts sleep: {up}, {later}");
    assert!(before - after >= later - up - 3.0, "{before} s were left, {after} are");
    assert_eq!(open_for(vm), 0, "the opening is over");
    assert_eq!(said_inside(vm, "a", "echo here"), "here", "the sandbox goes on");
}

/// Besides [`PREPARE`], where SELinux is enforcing: what docs/administration.md tells an
/// administrator of a Debian 13. The package has brought its own.
const PREPARE_POLICY: &str = "
semodule -l | grep -x rcc
semodule -n -i /opt/debian.cil
rm /opt/debian.cil
sed -i 's/^__default__:.*/__default__:unconfined_u:s0/' /etc/selinux/default/seusers
";
/// See there.
const DEBIAN_POLICY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/selinux-debian.cil");

/// What SELinux refused to rcc, the programs that it starts, and containers.
const REFUSED: &str = "dmesg | grep 'avc: *denied' | grep -E 'comm=\"(rcc|inside|podman|crun|conmon|nft|ip|dbus-daemon|polkitd)|scontext=[^ ]*:container_' || true";

/// It gives itself five seconds, which is little in software on a computer that has other work.
const VERIFY: &str = "cd ~/a; for i in 1 2 3 4 5; do rcc verify; code=$?; [ $code = 125 ] || [ $code = 3 ] || break; done; exit $code";

/// The categories of a label, as the kernel writes it.
fn categories(label: &str) -> String {
    label.rsplit(':').next().filter(|level| level.starts_with('c')).expect(label).to_owned()
}

#[test]
fn f1_selinux_keeps_a_sandbox_from_what_is_not_its_own() {
    let Some(mut vm) = boot(Security::SeLinux) else { return };
    let vm = &mut vm;
    assert_eq!(ann(vm, "getenforce"), "Enforcing");
    // Under the policy the firewall stands before anybody logs in.
    let gate = root(
        vm,
        "systemctl is-active rcc-firewall rcc-whitelist-update.timer; nft list table inet rcc | grep -c drop; ip netns list",
    );
    assert!(gate.starts_with("active\nactive\n") && gate.contains("rcc"), "{gate}");
    ann(vm, "podman import -q ~/image.tar localhost/busy");
    let doctor = ann(vm, "rcc doctor || true");
    let line = |name: &str| doctor.lines().find(|line| line.contains(name)).unwrap_or_default();
    assert!(line(" engine ").contains("SELinux"), "{doctor}");
    assert!(line(" selinux ").starts_with("ok"), "{doctor}");

    // Each sandbox is in a domain of containers, with categories that only it has.
    let label = "cat /proc/self/attr/current; echo theirs > /workspace/made";
    let [a, b] = ["a", "b"].map(|project| {
        let said = ann(vm, &inside(project, label));
        let label = said.lines().last().unwrap_or_default().trim_end_matches('\0').to_owned();
        assert!(label.contains(":container_t:s0:c"), "{said}");
        let folder = ann(vm, &format!("ls -Zd ~/{project}"));
        let folder = folder.split(' ').next().unwrap_or_default().to_owned();
        assert!(folder.contains(":container_file_t:"), "{folder}");
        assert_eq!(categories(&folder), categories(&label), "the folder is the sandbox's own");
        categories(&label)
    });
    assert_ne!(a, b, "two sandboxes");
    // Its network, too: the firewall service was started by the bus, and polkit asked.
    assert!(ann(vm, "rcc ls --json").contains("\"connected\""), "the link is in");
    ann(vm, "cd ~/a && rcc allow host.example && rcc deny host.example");
    // The host writes the folder, and what it writes is read.
    ann(vm, "echo host > ~/a/new && rm ~/a/made");
    assert_eq!(said_inside(vm, "a", "cat new; echo more >> new"), "host");
    assert_eq!(ann(vm, "cat ~/a/new"), "host\nmore");

    let walls = ann(vm, VERIFY);
    let held = |id: &str| {
        walls.lines().any(|line| line.starts_with("holds") && line.contains(&format!(" {id} ")))
    };
    assert!(held("label") && held("F1") && held("F1-write"), "{walls}");
    assert!(
        walls.contains(&format!("enforcing; its label is system_u:system_r:container_t:s0:{a}")),
        "{walls}"
    );
    assert_eq!(root(vm, REFUSED), "", "nothing that rcc does is refused");

    // What users and mounts do not stop: files of the person's that got into the folder by
    // another name, a neighbour's and one of the home's.
    ann(
        vm,
        "echo home > ~/mine; chmod 644 ~/mine ~/b/made; ln ~/b/made ~/a/one; ln ~/mine ~/a/two",
    );
    let steal = "cat one; cat two; cat two > two; true";
    let said = ann(vm, &inside("a", steal));
    assert!(!said.contains("theirs") && !said.contains("home"), "{said}");
    assert_eq!(said.matches("Permission denied").count(), 3, "{said}");
    let refused = root(vm, REFUSED);
    for (file, label) in [("one", "container_file_t"), ("two", "user_home_t")] {
        let of_it =
            |line: &&str| line.contains(&format!("name=\"{file}\"")) && line.contains(label);
        assert!(refused.lines().any(|line| of_it(&line)), "{file}: {refused}");
    }
    assert!(
        refused.lines().all(|line| line.contains(&format!(":container_t:s0:{a} "))),
        "{refused}"
    );

    // It was SELinux, and nothing else: without labels both are read, and rcc says so.
    let without = "mkdir -p ~/.config/containers; printf '[containers]\\nlabel = false\\n' > ~/.config/containers/containers.conf; \
        cd ~/a && rcc stop && systemctl --user stop podman.service podman.socket && systemctl --user start podman.socket; ln -f ~/b/made ~/a/one";
    ann(vm, without);
    let said = ann(vm, &inside("a", "cat one two"));
    assert!(said.ends_with("theirs\nhome"), "{said}");
    let walls = ann(vm, VERIFY);
    let label = walls.lines().find(|line| line.contains(" label ")).unwrap_or_default();
    assert!(label.starts_with("not tried"), "{walls}");
    let doctor = ann(vm, "rcc doctor || true");
    assert!(
        doctor.lines().any(|line| line.starts_with("note") && line.contains(" selinux ")),
        "{doctor}"
    );
}
