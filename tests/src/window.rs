//! The real window in the lab, on a display of its own, driven by
//! WebKitWebDriver. Debug builds only: the file dialog is out of a driver's
//! reach and is answered by the program itself then (ui/README.md).

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rcc_test_aids::{Group, Screen};
use serde_json::{Value, json};

use crate::containers::Workshop;
use crate::lab::{ANN, Lab, Skip, built, wait_for};

const PROGRAM: &str = "rcc-desktop";
/// Longest wait for what the page or the terminal shows, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);
/// Longest time for one call of WebDriver.
const CALL: Duration = Duration::from_secs(30);
/// Longest time for the program to start; it takes 1 to 3 s.
const OPENING: Duration = Duration::from_secs(30);
/// Now and then WebKitWebDriver does not notice that the program is there.
const ATTEMPTS: u32 = 3;
/// The name of an element in answers of WebDriver (W3C WebDriver, Elements).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Ann's window. Everything that it started ends with it; when the test is
/// failing, a picture of the display is kept.
pub struct Window {
    driver: SocketAddr,
    session: String,
    // Ends in this order.
    _program: Group,
    screen: Screen,
}

impl Window {
    /// Why there can be no window on this machine whose file dialog is answered.
    pub fn missing() -> Option<Skip> {
        if !cfg!(debug_assertions) {
            return Some(Skip("the window answers its file dialog in debug builds only".into()));
        }
        Self::cannot_start()
    }

    /// Why there can be no window on this machine.
    pub fn cannot_start() -> Option<Skip> {
        for (program, package) in [
            ("/usr/bin/Xvfb", "xvfb"),
            ("/usr/bin/WebKitWebDriver", "webkit2gtk-driver"),
            ("/usr/bin/dbus-run-session", "dbus-daemon"),
        ] {
            if !Path::new(program).exists() {
                return Some(Skip(format!("{program} is not installed (package {package})")));
            }
        }
        built(PROGRAM).err().map(|error| Skip(error.to_string()))
    }

    /// Starts the program as ann; *Open Folder…* chooses `folder`.
    pub fn open(workshop: &Workshop, folder: &Path) -> anyhow::Result<Self> {
        Self::with(workshop, folder, &[])
    }

    /// Starts the program as ann with `folder` as a file manager would hand it in.
    pub fn start(workshop: &Workshop, folder: &Path) -> anyhow::Result<Self> {
        Self::with(workshop, folder, &[&folder.to_string_lossy()])
    }

    fn with(workshop: &Workshop, folder: &Path, arguments: &[&str]) -> anyhow::Result<Self> {
        let to = Lab::program(PROGRAM);
        fs::copy(built(PROGRAM)?, &to).with_context(|| format!("copy to {}", to.display()))?;
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755))?;
        let screen = screen(workshop, folder)?;
        for _ in 0..ATTEMPTS {
            if let Some((program, driver, session)) = drive(workshop, folder, arguments, &screen)? {
                return Ok(Self { driver, session, _program: program, screen });
            }
        }
        bail!("the window did not open in {ATTEMPTS} attempts")
    }

    /// All that is to be read on the page, without the terminal.
    pub fn text(&self) -> String {
        self.read("return document.body.innerText")
    }

    /// What the terminal in sight shows, with what was scrolled away.
    pub fn terminal(&self) -> String {
        self.read("return window.__rccTerminalText()")
    }

    /// When the program was started, in milliseconds since 1970 as its page counts
    /// them; to a hundredth of a second (proc_pid_stat(5)).
    pub fn started(&self) -> anyhow::Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", program()?))?;
        let field = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(19));
        let ticks: f64 = field.context("no start")?.parse()?;
        let uptime = fs::read_to_string("/proc/uptime")?;
        let uptime: f64 = uptime.split_whitespace().next().context("no uptime")?.parse()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
        Ok((now - uptime + ticks / 100.0) * 1e3)
    }

    /// Ends the program as nothing but the kernel can be kept from doing; what it
    /// was driven by goes with it.
    pub fn kill(self) -> anyhow::Result<()> {
        let id = program()?;
        kill(Pid::from_raw(id), Signal::SIGKILL)?;
        wait_for(|| !Path::new(&format!("/proc/{id}/exe")).exists())
    }

    /// Memory of the program and of what it started for its page, in bytes, each
    /// shared page counted once among those that share it.
    pub fn memory(&self) -> anyhow::Result<u64> {
        let own = Lab::program(PROGRAM);
        let names = ["WebKitWebProcess", "WebKitNetworkProcess"];
        let mut bytes = 0;
        for id in processes() {
            let exe = fs::read_link(format!("/proc/{id}/exe")).unwrap_or_default();
            let ours = exe == own
                || exe.file_name().is_some_and(|name| names.iter().any(|one| name == *one));
            if ours && let Ok(text) = fs::read_to_string(format!("/proc/{id}/smaps_rollup")) {
                let pss = text.lines().find_map(|line| line.strip_prefix("Pss:"));
                let number = pss.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse().ok());
                bytes += 1024 * number.unwrap_or(0_u64);
            }
        }
        Ok(bytes)
    }

    /// Presses one key while others are held, by their names in W3C WebDriver.
    pub fn chord(&self, held: &[&str], key: &str) {
        // On Wayland WebKit's driver forgets what is held.
        let names: Vec<_> = held.iter().map(|held| named(held)).collect();
        if self.screen.press(&names, named(key)).expect("wtype") {
            return;
        }
        let press = |kind: &str, key: &str| json!({"type": kind, "value": key});
        let downs = held.iter().map(|key| press("keyDown", key));
        let ups = held.iter().rev().map(|key| press("keyUp", key));
        let actions: Vec<Value> =
            downs.chain([press("keyDown", key), press("keyUp", key)]).chain(ups).collect();
        let body = json!({"actions": [{"type": "key", "id": "keyboard", "actions": actions}]});
        self.post(CALL, "/actions", &body).expect("press keys");
    }

    /// Clicks at a place of the page while Control is held, as one opens a link. It is
    /// pointed at for a moment before: a terminal looks for links only there.
    pub fn control_click(&self, x: i64, y: i64) {
        let pause = |ms: u32| json!({"type": "pause", "duration": ms});
        let control = |kind: &str| json!({"type": kind, "value": "\u{e009}"});
        let to = json!({"type": "pointerMove", "x": x, "y": y, "origin": "viewport"});
        // A terminal that was not pointed at before takes the second move for the first.
        let near = json!({"type": "pointerMove", "x": x + 3, "y": y, "origin": "viewport"});
        let press = |kind: &str| json!({"type": kind, "button": 0});
        let pointer =
            [pause(0), near, to, pause(300), press("pointerDown"), press("pointerUp"), pause(0)];
        // One of each goes at the same time: the key is the first and the last.
        let mut keys = vec![pause(0); pointer.len()];
        keys[0] = control("keyDown");
        keys[pointer.len() - 1] = control("keyUp");
        let body = json!({"actions": [
            {"type": "key", "id": "keyboard", "actions": keys},
            {"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"},
             "actions": pointer},
        ]});
        self.post(CALL, "/actions", &body).expect("click");
    }

    /// Runs a script of the test's in the page.
    pub fn script(&self, script: &str) -> Value {
        self.run(script, &[]).expect("run a script in the page")
    }

    /// As [`Window::script`], for one that takes its time.
    pub fn script_within(&self, script: &str, patience: Duration) -> anyhow::Result<Value> {
        let milliseconds = u64::try_from(patience.as_millis())?;
        self.post(CALL, "/timeouts", &json!({"script": milliseconds}))?;
        self.post(patience, "/execute/sync", &json!({"script": script, "args": []}))
    }

    /// Waits until the page shows `text` somewhere.
    pub fn shows(&self, text: &str) {
        self.until(text, || self.text().contains(text).then_some(()));
    }

    /// Waits until the terminal shows `text` somewhere.
    pub fn prints(&self, text: &str) {
        self.until(text, || self.terminal().contains(text).then_some(()));
    }

    /// Clicks into the terminal and waits until what is typed goes there.
    pub fn enter_terminal(&self) {
        let find = "return [...document.querySelectorAll('.xterm-screen')]
            .find((screen) => screen.checkVisibility())";
        self.click_on("the terminal", find, "");
        let inside = "return document.activeElement?.closest('.xterm') ? 'yes' : 'no'";
        self.until("the focus in the terminal", || (self.read(inside) == "yes").then_some(()));
    }

    /// Waits for an answer; fails with what is to be seen.
    pub fn until<T>(&self, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(answer) = ask() {
                return answer;
            }
            assert!(
                Instant::now() < deadline,
                "not within {} s: {what}\n--- page\n{}\n--- terminal\n{}",
                PATIENCE.as_secs(),
                self.text(),
                self.terminal()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits for the button that says `label` and clicks it.
    pub fn click(&self, label: &str) {
        let find = "return [...document.querySelectorAll('button')]
            .filter((button) => button.checkVisibility() && !button.disabled)
            .find((button) => button.ariaLabel === arguments[0]
                || button.innerText.split('\\n')[0].trim() === arguments[0])";
        self.click_on(&format!("the button {label}"), find, label);
    }

    /// Waits for the element that a script finds and clicks it.
    fn click_on(&self, what: &str, find: &str, argument: &str) {
        self.until(what, || {
            let found = self.run(find, &[json!(argument)]).ok()?;
            let element = found[ELEMENT].as_str()?;
            // It may be gone meanwhile, or another one.
            self.post(CALL, &format!("/element/{element}/click"), &json!({})).ok()
        });
    }

    /// Presses keys, wherever the focus is. Enter is `\u{e007}` (W3C WebDriver,
    /// Keyboard). A terminal's own field cannot be typed into as an element.
    pub fn keys(&self, text: &str) {
        let presses: Vec<Value> = text
            .chars()
            .flat_map(|key| ["keyDown", "keyUp"].map(|kind| json!({"type": kind, "value": key})))
            .collect();
        let body = json!({"actions": [{"type": "key", "id": "keyboard", "actions": presses}]});
        self.post(CALL, "/actions", &body).expect("press keys");
    }

    fn read(&self, script: &str) -> String {
        let text = self.run(script, &[]).unwrap_or_default();
        text.as_str().unwrap_or_default().to_owned()
    }

    fn run(&self, script: &str, arguments: &[Value]) -> anyhow::Result<Value> {
        self.post(CALL, "/execute/sync", &json!({"script": script, "args": arguments}))
    }

    fn post(&self, patience: Duration, path: &str, body: &Value) -> anyhow::Result<Value> {
        let path = format!("/session/{}{path}", self.session);
        call(self.driver, patience, "POST", &path, Some(body))
    }

    /// A picture of the display, beside what `cargo xtask` keeps. WebDriver's own
    /// waits for ever without a compositor.
    fn picture(&self) -> anyhow::Result<()> {
        let own = std::env::current_exe()?;
        let target = own.ancestors().nth(3).context("a target folder")?;
        let folder = target.join("run");
        fs::create_dir_all(&folder)?;
        let path = folder.join("window-in-lab.png");
        self.screen.picture(&path)?;
        eprintln!("The window: {}", path.display());
        Ok(())
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Err(error) = self.picture()
        {
            eprintln!("No picture of the window: {error:#}");
        }
        let path = format!("/session/{}", self.session);
        let _ = call(self.driver, CALL, "DELETE", &path, None);
    }
}

/// A key of WebDriver's as wtype(1) and XKB name it.
fn named(key: &str) -> &str {
    match key {
        "\u{e008}" => "shift",
        "\u{e009}" => "ctrl",
        "\u{e00a}" => "alt",
        "\u{e007}" => "Return",
        "\u{e00e}" => "Prior",
        "\u{e00f}" => "Next",
        "\u{e004}" => "Tab",
        letter => letter,
    }
}

/// The process of the program.
fn program() -> anyhow::Result<i32> {
    let own = Lab::program(PROGRAM);
    processes()
        .into_iter()
        .find(|id| fs::read_link(format!("/proc/{id}/exe")).is_ok_and(|exe| exe == own))
        .context("the window does not run")
}

fn processes() -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// A display that nobody sees: X11's, or Wayland's where `RCC_TEST_WAYLAND` is set.
fn screen(workshop: &Workshop, folder: &Path) -> anyhow::Result<Screen> {
    if std::env::var_os("RCC_TEST_WAYLAND").is_none() {
        return Screen::x11().context("start Xvfb");
    }
    let runtime = format!("/run/user/{}", ANN.0);
    Screen::wayland(workshop.ann(folder, "sway", &[]), Path::new(&runtime)).context("start sway")
}

/// One driver with one program on the display; `None` when the program was not
/// noticed in time.
fn drive(
    workshop: &Workshop,
    folder: &Path,
    arguments: &[&str],
    screen: &Screen,
) -> anyhow::Result<Option<(Group, SocketAddr, String)>> {
    let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    let port = format!("--port={}", address.port());
    let log = fs::File::create(workshop.lab.folder().join("window.log"))?;
    let mut command = workshop.ann(folder, "dbus-run-session", &["--", "WebKitWebDriver", &port]);
    screen.show(&mut command);
    command
        .env("WEBKIT_DISABLE_DMABUF_RENDERER", "1")
        .env("TAURI_AUTOMATION", "true")
        .env("TAURI_WEBVIEW_AUTOMATION", "true")
        .env("RCC_TEST_PICK_FOLDER", folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    let driver = Group::start(&mut command).context("start WebKitWebDriver")?;
    wait_for(|| call(address, CALL, "GET", "/status", None).is_ok())
        .context("WebKitWebDriver does not answer")?;
    let wanted = json!({"capabilities": {"alwaysMatch": {"webkitgtk:browserOptions": {
        "binary": Lab::program(PROGRAM), "args": arguments
    }}}});
    let answer = call(address, OPENING, "POST", "/session", Some(&wanted));
    let session = answer.ok().and_then(|answer| Some(answer["sessionId"].as_str()?.to_owned()));
    Ok(session.map(|session| (driver, address, session)))
}

/// One request to WebDriver on a connection of its own.
fn call(
    to: SocketAddr,
    patience: Duration,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> anyhow::Result<Value> {
    let mut stream = TcpStream::connect_timeout(&to, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    let body = body.map(Value::to_string).unwrap_or_default();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes())?;
    let mut stream = BufReader::new(stream);
    let mut length = None;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let Some((name, value)) = line.trim().split_once(':') else {
            if line.trim().is_empty() {
                break;
            }
            continue;
        };
        if name.eq_ignore_ascii_case("content-length") {
            length = Some(value.trim().parse()?);
        }
    }
    let mut answer = vec![0; length.context("an answer without a length")?];
    stream.read_exact(&mut answer)?;
    let mut answer: Value = serde_json::from_slice(&answer)?;
    ensure!(answer["value"]["error"].is_null(), "{}", answer["value"]);
    Ok(answer["value"].take())
}
