//! What comes out of a sandbox is text in the window.

use super::*;

/// What an agent leaves that this computer would run: a hook that is new, and a task of
/// an editor's in a folder further down, which is not guarded.
const LEAVES: &str = r#"git init -q . && printf '#!/bin/sh\necho evil\n' > .git/hooks/pre-commit
printf '{"evil": "<img src=x onerror=alert(1)>"}\n' > sub/.vscode/tasks.json
"#;
const TASKS: &str = "{\"tasks\": []}\n";

/// Links of every kind, hidden and not; titles, notifications, pictures, printing,
/// window operations, and questions whose answer would be typed.
const HOSTILE: &str = r#"clear
for url in file:///etc/passwd javascript:alert\(1\) ssh://host/ data:text/html,x https://linked.example/x; do
  printf '\033]8;;%s\007click\033]8;;\007\n' "$url"
done
printf '\033]0;<img src=x>pwned\007\033]2;pwned\007\033]9;pwned\007\033]777;notify;pwned;pwned\007'
printf '\033]1337;File=inline=1:AAAA\007\033_pwned\033\134\033[5i\033[8;5;5t\033[3;0;0t\033[21t\005'
printf '<img src=x onerror=document.title=1> https://shown.example/\n'
read -t 1 answer; echo hostile-${#answer}-end
"#;

/// Asks for names that no host can have and some that one could, byte by byte as a
/// resolver's library would not let it: markup, escape codes, a change of direction,
/// 255 bytes, letters of another script, and more than a person reads.
const NAMES: &str = r#"use IO::Socket::INET;
open R, "/etc/resolv.conf"; my ($to) = join("", <R>) =~ /nameserver (\S+)/;
my @names = (["<img src=x onerror=document.title=1>"], ["\e]0;pwned\a\e[2J"], ["\xe2\x80\xaegpj.exe"],
  ["a" x 63, "b" x 63, "c" x 63, "d" x 53], ["xn--80ak6aa92e"], map { ["n$_", "flood"] } 1 .. 150);
for my $name (@names) {
  my $labels = join "", map { pack "C/a", $_ } @$name, "example";
  IO::Socket::INET->new(PeerAddr => "$to:53", Proto => "udp")
    ->send(pack("n6", 7, 0x0100, 1, 0, 0, 0) . "$labels\0" . pack("n2", 1, 1));
}
print "asked-", scalar @names, "-end\n";
"#;

/// F2, N17, T1 and T3 through the real window: what comes out of a sandbox is text there,
/// nothing of it is opened or looked up, and what this computer would run is shown and
/// put back.
#[test]
fn what_an_agent_leaves_is_text_and_is_put_back() {
    let Some((workshop, project)) = lab() else { return };
    let own = |path: &Path| chown(path, Some(ANN.0), Some(ANN.0)).expect("chown");
    let tasks = project.join("sub/.vscode/tasks.json");
    for folder in ["sub", "sub/.vscode"] {
        fs::create_dir(project.join(folder)).expect("mkdir");
        own(&project.join(folder));
    }
    for (name, text) in [
        ("sub/.vscode/tasks.json", TASKS),
        ("leave.sh", LEAVES),
        ("hostile.sh", HOSTILE),
        ("names.pl", NAMES),
    ] {
        fs::write(project.join(name), text).expect("write");
        own(&project.join(name));
    }
    let opened = Opened::instead_of_the_desktop(&workshop);
    let window = Window::open(&workshop, &project).expect("the window");
    open(&window);
    ask(&window, "run: bash leave.sh");
    // With the configuration of the repository that it made.
    window.shows("3 files that your computer would run were changed.");

    window.chord(&[CONTROL, SHIFT], "T");
    window.prints("$");
    t3_what_a_program_prints_is_text(&window, opened.as_ref());
    n17_names_are_text_and_never_looked_up(&window, &workshop);

    // At the end it is there still, and only then nobody changes it meanwhile.
    stop(&window, &workshop, &project);
    window.click("Review");
    window.shows("Git would run this at the next commit.");
    window.click("Show what changed in sub/.vscode/tasks.json");
    window.shows("{\"evil\": \"<img src=x onerror=alert(1)>\"}");
    assert_eq!(markup(&window), 0);
    let hook = project.join(".git/hooks/pre-commit");
    assert!(hook.exists());
    window.click("Keep .git/config");
    // The rows move up: another click would meet the next one's button.
    window.until("its row goes", || (!window.text().contains(".git/config")).then_some(()));
    window.click("Put Back .git/hooks/pre-commit");
    window.until("the hook goes", || (!hook.exists()).then_some(()));
    window.until("its row goes", || (!window.text().contains("pre-commit")).then_some(()));
    window.click("Put Back sub/.vscode/tasks.json");
    window.shows("Nothing changed that your computer would run.");
    assert_eq!(fs::read_to_string(&tasks).expect("read"), TASKS);
    window.click("Undo");
    window.shows("Put Back");
    assert_ne!(fs::read_to_string(&tasks).expect("read"), TASKS);
}

/// Elements that only a text taken for markup could make.
fn markup(window: &Window) -> u64 {
    let count = window.script("return document.querySelectorAll('img, main b, iframe').length");
    count.as_u64().expect("a number")
}

/// What the desktop was asked to open, told by a program in the place of its opener.
struct Opened(PathBuf);

impl Opened {
    /// None where the computer has no such program.
    fn instead_of_the_desktop(workshop: &Workshop) -> Option<Self> {
        const OPENER: &str = "/usr/bin/xdg-open";
        if !Path::new(OPENER).exists() {
            eprintln!("No {OPENER} here (package xdg-utils): what is opened is not looked at.");
            return None;
        }
        let list = workshop.lab.folder().join("opened");
        let program = workshop.lab.folder().join("opener");
        fs::write(&list, "").expect("write");
        chown(&list, Some(ANN.0), Some(ANN.0)).expect("chown");
        fs::write(&program, format!("#!/bin/sh\necho \"$1\" >> {}\n", list.display()))
            .expect("write");
        fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .expect("chmod");
        // In the lab's own mounts.
        let flags = nix::mount::MsFlags::MS_BIND;
        nix::mount::mount(Some(&program), OPENER, None::<&str>, flags, None::<&str>)
            .expect("mount");
        Some(Self(list))
    }

    fn links(&self) -> String {
        fs::read_to_string(&self.0).expect("read")
    }
}

fn t3_what_a_program_prints_is_text(window: &Window, opened: Option<&Opened>) {
    let place = window.script("return location.href + document.title");
    type_line(window, "bash hostile.sh");
    window.prints("hostile-0-end");
    window.prints("<img src=x onerror=document.title=1>");
    assert_eq!(markup(window), 0);
    assert_eq!(window.script("return location.href + document.title"), place);
    assert!(!window.text().contains("pwned"), "{}", window.text());
    let Some(opened) = opened else { return };
    // The last one is of the web, which tells that a click is one.
    let find = "return [...document.querySelectorAll('.xterm-rows > div')]
        .filter((row) => row.checkVisibility() && row.textContent.startsWith('click'))
        .map((row) => { const { x, y, height } = row.getBoundingClientRect();
                        return [Math.round(x + 10), Math.round(y + height / 2)]; })";
    let rows = window.until("the links", || {
        let rows = window.script(find).as_array()?.clone();
        (rows.len() == 5).then_some(rows)
    });
    for row in &rows {
        window.control_click(row[0].as_i64().expect("x"), row[1].as_i64().expect("y"));
    }
    window.until("the link of the web", || (!opened.links().is_empty()).then_some(()));
    assert_eq!(opened.links(), "https://linked.example/x\n");
}

fn n17_names_are_text_and_never_looked_up(window: &Window, workshop: &Workshop) {
    type_line(window, "clear; perl names.pl");
    window.prints("asked-155-end");
    let long = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(53)].join(".");
    window.click("Network");
    window.shows("xn--80ak6aa92e.example");
    window.shows(&format!("{long}.example"));
    // Also while one points at them, where a browser would begin to connect.
    let text = window.text();
    let hidden = |letter: char| letter.is_control() && !letter.is_whitespace();
    assert!(!text.contains(hidden) && !text.contains('\u{202e}'), "{text:?}");
    assert_eq!(markup(window), 0);
    assert!(!window.script("return document.title").to_string().contains('1'));
    let wide = "return document.documentElement.scrollWidth <= innerWidth";
    assert_eq!(window.script(wide), true, "a long name does not move the page");
    let asked = workshop.lab.dns.asked_names();
    let shown = ["example", "linked", "shown", "xn--", "flood"];
    let never = asked.iter().find(|name| shown.iter().any(|part| name.contains(part)));
    assert_eq!(never, None, "{asked:?}");
    window.click("Claude");
}
