//! The way through the window's button, for real: an ordinary user clicks, the
//! real Claude Code runs in a container behind the real helper, and its API is
//! played in the lab. `tests/end_to_end` goes the same way by the command line.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rcc_policy::Preset;
use rcc_tests::{ANN, Window, Workshop, played_api, skip, wait_for};

/// Says the greeting of a server, or how it failed.
const REACH: &str = "timeout 10 bash -c 'exec 3<>/dev/tcp/other.example/443 && head -n 1 <&3' \
                     || echo unreachable\n";

/// Enter, Escape, Tab, Control, Shift and Page Down (W3C WebDriver, Keyboard).
const ENTER: &str = "\u{e007}";
const ESCAPE: &str = "\u{e00c}";
const TAB: &str = "\u{e004}";
const CONTROL: &str = "\u{e009}";
const SHIFT: &str = "\u{e008}";
const PAGE_DOWN: &str = "\u{e00f}";

/// A lab with a project of ann's in it, or the reason why there is none.
fn lab() -> Option<(Workshop, PathBuf)> {
    if let Some(reason) = Window::missing() {
        skip(&reason);
        return None;
    }
    let started = Workshop::start(&Preset::Locked.document(&[])).expect("a lab with containers");
    let workshop = match started {
        Ok(workshop) => workshop,
        Err(reason) => {
            skip(&reason);
            return None;
        }
    };
    let project = workshop.project("web-shop").expect("a project");
    for (name, text) in [("notes.txt", "before\n"), ("reach.sh", REACH)] {
        fs::write(project.join(name), text).expect("write");
        chown(project.join(name), Some(ANN.0), Some(ANN.0)).expect("chown");
    }
    // The window takes the image from the project's settings.
    let ready = workshop.rcc(&project, &["init", "--yes", "--image", "small"]).expect("rcc init");
    assert_eq!(ready.code, 0, "{ready:?}");
    Some((workshop, project))
}

/// From the list of projects to Claude's first screen.
fn open(window: &Window) {
    window.click("Open Folder…");
    window.shows("Claude can change this folder and nothing else.");
    window.click("Open in Sandbox");
    window.shows("Behind the firewall");
    window.prints("Claude Code");
    window.shows("Ready");
}

fn ask(window: &Window, prompt: &str) {
    window.enter_terminal();
    window.keys(prompt);
    window.prints(prompt);
    window.keys(ENTER);
}

/// A line for a shell; what it prints must not be in the line itself.
fn type_line(window: &Window, line: &str) {
    window.enter_terminal();
    window.keys(line);
    window.keys(ENTER);
}

fn stop(window: &Window, workshop: &Workshop, project: &Path) {
    window.click("Project menu");
    window.click("Stop Session…");
    window.click("Stop Session");
    window.shows("Open in Sandbox");
    // The window goes by the end of the sandbox, which is a moment before its container's.
    let left = || workshop.run(project, "podman", &["ps", "--all", "--quiet"]).expect("podman");
    wait_for(|| left().out.trim().is_empty()).unwrap_or_else(|_| panic!("{:?}", left()));
}

#[test]
fn a_click_opens_claude_and_another_allows_a_blocked_host() {
    let Some((workshop, project)) = lab() else { return };
    let notes = project.join("notes.txt");

    let window = Window::open(&workshop, &project).expect("the window");
    open(&window);
    let ask = |prompt: &str| ask(&window, prompt);
    ask("Say hello.");
    window.prints("Hello from the played API.");
    let asked = workshop.api.requests();
    let message = asked.iter().find(|request| request.line.starts_with("POST /v1/messages"));
    let message = message.unwrap_or_else(|| panic!("no message came: {asked:?}"));
    assert!(message.known, "with another key");
    assert_eq!(message.peer.ip().to_string(), "192.0.2.2", "through the gate and the host");
    let told = asked.iter().any(|request| request.body.contains("You are in a sandbox of rcc"));
    assert!(told, "Claude does not know where it is");

    ask("run: echo after >> notes.txt; wc -l notes.txt");
    window.prints("The command printed: 2 notes.txt");
    assert_eq!(fs::read_to_string(&notes).expect("read"), "before\nafter\n");

    ask("run: bash reach.sh");
    window.prints("unreachable");
    window.shows("Blocked: other.example");
    let never = workshop.lab.dns.asked_names();
    assert!(!never.iter().any(|name| name.contains("other")), "N5: {never:?}");

    window.click("Allow for This Project");
    window.until("the bar goes", || {
        (!window.text().contains("Blocked: other.example")).then_some(())
    });
    ask("run: bash reach.sh");
    window.prints("from 192.0.2.2:");

    r1_what_ran_out_of_memory_gets_more_and_goes_on(&window, &workshop, &project);
    stop(&window, &workshop, &project);
}

/// No lab has limits, so the kernel's part is played: the file that the engine's monitor
/// writes when a sandbox was ended for its memory (`vm::r1_…` has the real one).
fn r1_what_ran_out_of_memory_gets_more_and_goes_on(
    window: &Window,
    workshop: &Workshop,
    project: &Path,
) {
    // The folder is the container's own user's.
    const END: &str = "id=$(podman ps --quiet --no-trunc) && \
        own=$(podman inspect --format '{{.StaticDir}}' $id) && \
        podman unshare touch $own/oom && \
        for newer in $XDG_RUNTIME_DIR/libpod/tmp/persist/$id; do \
            test ! -d $newer || podman unshare touch $newer/oom; done && \
        podman kill $id";
    let ended = workshop.run(project, "sh", &["-c", END]).expect("sh");
    assert_eq!(ended.code, 0, "{ended:?}");
    window.shows("ran out of memory");
    let button = window.until("the button", || {
        let text = window.text();
        let line = text.lines().find(|line| line.starts_with("Raise to"))?;
        Some(line.to_owned())
    });
    window.click(&button);
    window.prints("Hello from the played API.");
    window.shows("Ready");
    // `Raise to 12 GB and Resume`, and the person's settings say so.
    let gigabytes = button.split(' ').nth(2).and_then(|number| number.parse::<f64>().ok());
    let mut limits: Vec<f64> = Vec::new();
    each_file(&workshop.home().join(".config/rcc"), &mut |path| {
        let text = fs::read_to_string(path).unwrap_or_default();
        limits.extend(
            text.lines().filter_map(|line| line.strip_prefix("memory-mib = ")?.parse::<f64>().ok()),
        );
    });
    assert_eq!(limits, [gigabytes.expect("a number") * 1024.0], "{button}");
}

/// Each state that the window shows, from the real Claude's own hooks and titles: another
/// release of it may name them otherwise. And a conversation goes on after `/exit`, after
/// the session was stopped, and where the window did not see it begin.
#[test]
fn the_states_are_claudes_own_and_conversations_go_on() {
    let Some((workshop, project)) = lab() else { return };
    let window = Window::open(&workshop, &project).expect("the window");
    open(&window);
    let ask = |prompt: &str| ask(&window, prompt);
    let no_more = |state: &str| {
        window
            .until(&format!("no more {state}"), || (!window.text().contains(state)).then_some(()));
    };

    // A question that has just been drawn may not take a key yet.
    let answer = |key: &str| {
        window.until("the answer is taken", || {
            window.keys(key);
            std::thread::sleep(Duration::from_secs(2));
            (!window.text().contains("Needs you")).then_some(())
        });
    };

    // Esc has no hook.
    ask("wait: 20");
    window.shows("Working");
    window.keys(ESCAPE);
    no_more("Working");
    // What was not answered stands in the field again.
    window.chord(&[CONTROL], "u");

    ask("ask: Which colour?");
    window.shows("Needs you: Which colour?");
    answer(ENTER);
    window.shows("Finished just now");
    ask("ask: Which size?");
    window.shows("Needs you: Which size?");
    answer(ESCAPE);
    no_more("Working");

    ask("run: sleep 4");
    window.shows("Working");
    window.shows("Finished just now");
    ask("fail: nobody can answer this");
    window.prints("nobody can answer this");
    window.shows("Claude's API answered with an error");

    // Claude's own mode is another one for as long as the person wants it.
    for _ in 0..5 {
        let screen = window.terminal();
        let modes = ["bypass permissions on", "accept edits on", "plan mode on", "auto mode on"];
        if !modes.iter().any(|mode| screen.contains(mode)) {
            break;
        }
        window.chord(&[SHIFT], TAB);
        std::thread::sleep(Duration::from_secs(1));
    }
    let made = project.join("allowed.txt");
    ask("run: touch allowed.txt");
    window.shows("Needs you: Bash");
    assert!(!made.exists());
    answer(ENTER);
    window.until("the file", || made.exists().then_some(()));
    window.shows("Finished just now");

    ask("/exit");
    window.shows("Claude ended (code 0).");
    window.click("Resume Conversation");
    window.prints("touch allowed.txt");
    window.shows("Ready");
    stop(&window, &workshop, &project);
    window.click("Resume Conversation");
    window.prints("touch allowed.txt");
    window.shows("Ready");
    stop(&window, &workshop, &project);

    // What the window knew of it is gone; the agent's own home is not.
    drop(window);
    fs::remove_file(workshop.home().join(".local/state/rcc/projects.json")).expect("remove");
    let window = Window::start(&workshop, &project).expect("the window again");
    window.click("Resume Conversation");
    window.prints("touch allowed.txt");
    stop(&window, &workshop, &project);
}

/// R3, T1, T2, T3 and C1 through the real window.
#[test]
fn a_session_outlives_its_window_and_what_runs_in_it_stays_in_it() {
    let Some((workshop, project)) = lab() else { return };
    let window = Window::open(&workshop, &project).expect("the window");
    open(&window);
    ask(&window, "Say hello.");
    window.prints("Hello from the played API.");
    window.chord(&[CONTROL, SHIFT], "T");
    window.prints("$");
    type_line(&window, "echo in-the-shell-$((40+2))");
    window.prints("in-the-shell-42");

    c1_the_key_is_nowhere_to_be_seen(&workshop, &project);
    t1_sequences_get_no_answer(&window);
    t2_a_flood_leaves_the_window_usable(&window);
    an_edit_by_hand_holds_at_once(&window, &workshop);

    // R3: killed, and then closed as one closes it.
    window.kill().expect("kill the window");
    let window = Window::open(&workshop, &project).expect("the window again");
    found_again(&window);
    drop(window);
    let window = Window::open(&workshop, &project).expect("the window once more");
    found_again(&window);
    // This machine holds no limits, which is a note.
    window.click("Protected, with notes");
    window.click("Check Now");
    window.shows("ways out were tried, and none led out.");
    window.script("document.querySelector('.popup:popover-open')?.hidePopover()");
    stop(&window, &workshop, &project);
    r3_killed_while_it_opens(window, &workshop, &project);
}

/// At some moments of an opening; what was begun is found again, or is none.
fn r3_killed_while_it_opens(mut window: Window, workshop: &Workshop, project: &Path) {
    for after in [50, 300, 700, 1_200] {
        window.click("Open in Sandbox");
        std::thread::sleep(Duration::from_millis(after));
        window.kill().expect("kill the window");
        window = Window::start(workshop, project).expect("the window again");
        window.until("it can be opened, or is open", || {
            let text = window.text();
            let open = text.contains("Open in Sandbox") || text.contains("New Claude");
            (open || window.terminal().contains("Claude Code")).then_some(())
        });
        if !window.terminal().contains("Claude Code") {
            let word =
                if window.text().contains("New Claude") { "New Claude" } else { "Open in Sandbox" };
            window.click(word);
        }
        window.prints("Claude Code");
        let all = workshop.run(project, "podman", &["ps", "--all", "--quiet"]).expect("podman");
        assert_eq!(all.out.lines().count(), 1, "killed after {after} ms: {all:?}");
        stop(&window, workshop, project);
    }
}

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

fn found_again(window: &Window) {
    window.shows("Running");
    window.click("web-shop");
    window.shows("Shell 1");
    window.prints("Hello from the played API.");
    window.chord(&[CONTROL], PAGE_DOWN);
    window.prints("in-the-shell-42");
    let line = format!("echo again-$(({}))", window.terminal().matches("again-").count());
    type_line(window, &line);
    window.until("the shell goes on", || {
        let shown = window.terminal();
        (shown.matches("again-").count() > shown.matches("echo again-").count()).then_some(())
    });
}

/// Neither in command lines, nor with the engine, nor in any file of rcc's or
/// the project's.
fn c1_the_key_is_nowhere_to_be_seen(workshop: &Workshop, project: &Path) {
    let key = played_api::KEY.as_bytes();
    let has = |bytes: &[u8]| bytes.windows(key.len()).any(|window| window == key);
    for entry in fs::read_dir("/proc").expect("processes").flatten() {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        assert!(!has(&line), "{}", String::from_utf8_lossy(&line));
    }
    let all = workshop.run(project, "podman", &["ps", "--all", "--quiet"]).expect("podman");
    let ids: Vec<&str> = ["inspect"].into_iter().chain(all.out.split_whitespace()).collect();
    assert!(ids.len() > 1, "{all:?}");
    let inspected = workshop.run(project, "podman", &ids).expect("podman inspect");
    assert!(inspected.out.len() > 1000 && !has(inspected.out.as_bytes()), "{inspected:?}");
    let home = workshop.home();
    let folders = [
        project.to_path_buf(),
        home.join(".config"),
        home.join(".local/state"),
        home.join(".local/share/containers/storage/overlay-containers"),
        format!("/run/user/{}", ANN.0).into(),
        workshop.lab.folder().join("window.log"),
    ];
    let mut files = 0;
    for folder in folders {
        each_file(&folder, &mut |path| {
            files += 1;
            assert!(!has(&fs::read(path).unwrap_or_default()), "{}", path.display());
        });
    }
    assert!(files > 5, "only {files} files were looked at");
}

fn each_file(path: &Path, look: &mut impl FnMut(&Path)) {
    let Ok(meta) = fs::symlink_metadata(path) else { return };
    if meta.is_file() {
        look(path);
    } else if meta.is_dir() {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            each_file(&entry.path(), look);
        }
    }
}

/// A question for the clipboard or for a title would be answered by typing.
fn t1_sequences_get_no_answer(window: &Window) {
    type_line(
        window,
        "printf '\\033]52;c;c2VjcmV0\\007\\033]52;c;?\\007\\033]0;<b>pwned\\007\\033[21t'; read -t 2 x; \
         echo answer-${#x}-end",
    );
    window.prints("answer-0-end");
    assert_eq!(window.script("return document.querySelectorAll('main b').length"), 0);
    let around = "return ['header', 'nav', 'footer'].map((part) =>
        document.querySelector(part)?.innerText).join(' ') + document.title";
    let around = window.script(around).to_string();
    assert!(!around.contains("pwned"), "{around}");
}

fn t2_a_flood_leaves_the_window_usable(window: &Window) {
    type_line(window, "yes");
    window.until("the flood", || window.terminal().ends_with("y\ny\ny").then_some(()));
    let mut slowest = Duration::ZERO;
    let mut memory = Vec::new();
    for second in 0..12 {
        let until = Instant::now() + Duration::from_secs(1);
        while Instant::now() < until {
            let asked = Instant::now();
            window.script("return document.title");
            slowest = slowest.max(asked.elapsed());
            std::thread::sleep(Duration::from_millis(50));
        }
        // The first second fills what was scrolled away.
        if second > 0 {
            memory.push(window.memory().expect("memory"));
        }
    }
    // Other pages open meanwhile.
    window.click("Network");
    window.shows("Reached");
    window.click("Shell 1");
    // What is garbage for a while comes and goes by 80 MB: the middle of each
    // half counts. Lines kept without end would be far more.
    let middle = |part: &[u64]| {
        let mut part = part.to_vec();
        part.sort_unstable();
        part[part.len() / 2]
    };
    let grown = middle(&memory[6..]).saturating_sub(middle(&memory[..6])) >> 20;
    assert!(slowest < Duration::from_secs(3), "the page did not answer for {slowest:?}");
    assert!(grown < 60, "{grown} MB more after some seconds: {memory:?}");
    window.enter_terminal();
    let pressed = Instant::now();
    window.chord(&[CONTROL], "c");
    window.until("Ctrl+C", || window.terminal().trim_end().ends_with('$').then_some(()));
    let took = pressed.elapsed();
    eprintln!("Under a flood: slowest answer {slowest:?}, {grown} MB more, Ctrl+C after {took:?}");
    assert!(took < Duration::from_secs(3), "Ctrl+C after {took:?}");
    type_line(window, "clear; echo in-the-shell-$((40+2))");
    window.prints("in-the-shell-42");
}

/// A list that an editor wrote holds in the sandbox that runs, and so does
/// taking an entry out of it.
fn an_edit_by_hand_holds_at_once(window: &Window, workshop: &Workshop) {
    let list = workshop.home().join(".config/rcc/hosts.yaml");
    type_line(window, "bash reach.sh; echo first-$((1+1))");
    window.prints("first-2");
    assert!(window.terminal().contains("unreachable"), "{}", window.terminal());
    let text = "version: 1\n# by hand\nwhitelist:\n  - host: other.example\n    ports: [443]\n";
    fs::write(&list, text).expect("write");
    chown(&list, Some(ANN.0), Some(ANN.0)).expect("chown");
    // The helper is told a moment after the file was closed.
    window.until("the host that was allowed by hand", || {
        type_line(window, "clear; bash reach.sh");
        std::thread::sleep(Duration::from_secs(1));
        window.terminal().contains("from 192.0.2.2:").then_some(())
    });
    fs::remove_file(&list).expect("remove");
    window.until("the host that was taken out by hand", || {
        type_line(window, "clear; bash reach.sh");
        std::thread::sleep(Duration::from_secs(1));
        window.terminal().contains("unreachable").then_some(())
    });
    type_line(window, "clear; echo in-the-shell-$((40+2))");
    window.prints("in-the-shell-42");
}
