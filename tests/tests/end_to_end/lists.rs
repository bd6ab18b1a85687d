//! Lists of allowed hosts that are edited by hand while a sandbox runs.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rcc_tests::{Lab, Workshop};

use super::{good, start};

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
    // A second; more on a busy computer.
    let second = Duration::from_secs(5);
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
