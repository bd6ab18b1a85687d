//! The way through the window's button, for real: an ordinary user clicks, the
//! real Claude Code runs in a container behind the real helper, and its API is
//! played in the lab. `tests/end_to_end` goes the same way by the command line.

mod hostile_text;

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
        let all = || {
            let all = workshop.run(project, "podman", &["ps", "--all", "--quiet"]);
            all.expect("podman").out.lines().count()
        };
        wait_for(|| all() == 1).unwrap_or_else(|_| panic!("killed after {after} ms: {}", all()));
        stop(&window, workshop, project);
    }
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
