//! The real program on a display of its own, driven by WebKitWebDriver.

use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};
use rcc_test_aids::{Group, Screen};
use serde_json::{Value, json};

/// Longest wait for what a page shows. Cold caches on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Longest time for one call of WebDriver.
const CALL: Duration = Duration::from_secs(60);

/// Longest time for the program to start; it takes 1 to 3 s.
const OPENING: Duration = Duration::from_secs(20);

const ATTEMPTS: u32 = 3;

/// An ordinary user for a test that root runs.
const NOBODY: u32 = 65534;

/// The name of an element in answers of WebDriver (W3C WebDriver, Elements).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Folders of one test, and whose they are.
pub struct Place {
    dir: tempfile::TempDir,
    uid: u32,
}

impl Place {
    /// A place, or what is missing on this computer.
    pub fn find() -> Result<Self, String> {
        for program in ["Xvfb", "dbus-run-session", "WebKitWebDriver"] {
            installed(program)?;
        }
        let uid = Uid::effective();
        let place = Self {
            dir: tempfile::tempdir().unwrap(),
            uid: if uid.is_root() { NOBODY } else { uid.as_raw() },
        };
        place.give(place.dir.path());
        for name in ["runtime", "config", "state", "cache", "data", "code", "code/web-shop"] {
            place.folder(name);
        }
        Ok(place)
    }

    /// Whether it is an ordinary user's own computer, engine and all.
    pub fn is_own(&self) -> bool {
        self.uid == Uid::effective().as_raw()
    }

    pub fn folder(&self, name: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        self.give(&path);
        path
    }

    /// Where the address of the window's session bus stands, while there is one.
    pub fn bus(&self) -> PathBuf {
        self.dir.path().join("runtime/bus-address")
    }

    /// A compositor of the person's, or what is missing for one.
    pub fn wayland(&self) -> Result<Screen, String> {
        for program in ["sway", "wtype"] {
            installed(program)?;
        }
        let mut sway = Command::new("sway");
        self.person(&mut sway);
        Ok(Screen::wayland(sway, &self.folder("runtime")).unwrap())
    }

    /// Whether a window of this place is there.
    pub fn runs(&self) -> bool {
        let own = std::fs::canonicalize(env!("CARGO_BIN_EXE_rcc-desktop")).unwrap();
        let place = self.dir.path().as_os_str().as_encoded_bytes();
        std::fs::read_dir("/proc").unwrap().flatten().any(|process| {
            std::fs::read_link(process.path().join("exe")).is_ok_and(|exe| exe == own)
                && std::fs::read(process.path().join("environ"))
                    .is_ok_and(|all| all.windows(place.len()).any(|part| part == place))
        })
    }

    /// Has a program run as the person, and say nothing.
    fn person(&self, program: &mut Command) {
        program
            .env("WEBKIT_DISABLE_DMABUF_RENDERER", "1")
            .env("XDG_CONFIG_HOME", self.folder("config"))
            .env("XDG_STATE_HOME", self.folder("state"))
            .env("XDG_CACHE_HOME", self.folder("cache"))
            .env("RCC_TEST_PICK_FOLDER", self.folder("code/web-shop"))
            .current_dir(self.dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if !self.is_own() {
            program
                .uid(self.uid)
                .gid(self.uid)
                .env("HOME", self.dir.path())
                .env("XDG_DATA_HOME", self.folder("data"))
                .env("XDG_RUNTIME_DIR", self.folder("runtime"));
        }
    }

    fn give(&self, path: &Path) {
        if !self.is_own() {
            chown(path, Some(self.uid), Some(self.uid)).unwrap();
        }
    }
}

fn installed(program: &str) -> Result<(), String> {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()));
    if found { Ok(()) } else { Err(format!("{program} is not installed")) }
}

/// An engine's service that rcc started for nobody would outlive the test.
impl Drop for Place {
    fn drop(&mut self) {
        if self.is_own() {
            return;
        }
        let place = self.dir.path().as_os_str().as_encoded_bytes();
        for process in std::fs::read_dir("/proc").unwrap().flatten() {
            let environment = std::fs::read(process.path().join("environ")).unwrap_or_default();
            if environment.windows(place.len()).any(|part| part == place)
                && let Ok(pid) = process.file_name().to_string_lossy().parse()
            {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }
}

/// The window. Everything that it started ends with it.
pub struct Window {
    session: String,
    // Ends in this order.
    _driver: Group,
    screen: Screen,
}

impl Window {
    /// Starts the program on X11; `RCC_TEST_PICK_FOLDER` is the place's `code/web-shop`.
    pub fn open(place: &Place) -> Self {
        Self::on(Screen::x11().unwrap(), place)
    }

    pub fn on(screen: Screen, place: &Place) -> Self {
        // Now and then WebKitWebDriver does not notice that the program is there.
        for _ in 0..ATTEMPTS {
            if let Some((driver, session)) = drive(place, &screen) {
                return Self { session, _driver: driver, screen };
            }
        }
        panic!("the window did not open in {ATTEMPTS} attempts");
    }

    /// Starts the program once more, as a file manager or a launcher does; answers
    /// whether it ended well, and by itself.
    pub fn start_again(&self, place: &Place, arguments: &[&Path]) -> bool {
        let mut again = Command::new(env!("CARGO_BIN_EXE_rcc-desktop"));
        place.person(&mut again);
        self.screen.show(&mut again);
        let bus = std::fs::read_to_string(place.bus()).unwrap();
        let mut again = again.args(arguments).env("DBUS_SESSION_BUS_ADDRESS", bus).spawn().unwrap();
        let deadline = Instant::now() + OPENING;
        loop {
            match again.try_wait().unwrap() {
                Some(ended) => return ended.success(),
                None if Instant::now() > deadline => {
                    let _ = again.kill();
                    let _ = again.wait();
                    return false;
                }
                None => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    /// Its button for closing is pressed. On Wayland only.
    pub fn close(&self) {
        self.screen.swaymsg(&["kill"]).unwrap();
    }

    /// Whether the desktop shows it. On Wayland only.
    pub fn is_in_sight(&self) -> bool {
        self.screen.swaymsg(&["-t", "get_tree"]).unwrap().contains("\"dev.rcc.Desktop\"")
    }

    /// Waits until the page shows `text` somewhere.
    pub fn shows(&self, text: &str) {
        until(text, || self.text().contains(text).then_some(()));
    }

    /// Waits for the first of these; its place in the list.
    pub fn shows_one_of(&self, texts: &[&str], patience: Duration) -> usize {
        until_for(&texts.join(" or "), patience, || {
            let shown = self.text();
            texts.iter().position(|text| shown.contains(text))
        })
    }

    /// All that is to be read.
    pub fn text(&self) -> String {
        let text = self.run("return document.body.innerText", &[]);
        text.as_str().unwrap_or_default().to_string()
    }

    /// What the terminal in sight shows.
    pub fn terminal(&self) -> String {
        let text = self.run("return window.__rccTerminalText()", &[]);
        text.as_str().unwrap_or_default().to_string()
    }

    /// Clicks the button that says `label`.
    pub fn click(&self, label: &str) {
        let find = r"return [...document.querySelectorAll('button')]
            .filter((button) => button.checkVisibility() && !button.disabled)
            .find((button) => new RegExp(`^${arguments[0]}(\\s|$)`).test(button.innerText.trim()))";
        let button = until(label, || {
            let found = self.run(find, &[json!(label)]);
            found[ELEMENT].as_str().map(str::to_string)
        });
        post(&format!("{}/element/{button}/click", self.session), &json!({})).unwrap();
    }

    /// Presses keys, wherever the focus is. Enter is `\u{e007}` (W3C WebDriver,
    /// Keyboard). A terminal's own field cannot be typed into as an element.
    pub fn keys(&self, text: &str) {
        let presses: Vec<Value> = text
            .chars()
            .flat_map(|key| ["keyDown", "keyUp"].map(|kind| json!({"type": kind, "value": key})))
            .collect();
        let body = json!({"actions": [{"type": "key", "id": "keyboard", "actions": presses}]});
        post(&format!("{}/actions", self.session), &body).unwrap();
    }

    pub fn run(&self, script: &str, arguments: &[Value]) -> Value {
        let body = json!({"script": script, "args": arguments});
        post(&format!("{}/execute/sync", self.session), &body).unwrap_or(Value::Null)
    }

    /// A picture of the display, into the folder that `RCC_TEST_PICTURES` names.
    /// WebDriver's own screenshot waits for ever without a compositor.
    pub fn picture(&self, name: &str) {
        let Some(folder) = std::env::var_os("RCC_TEST_PICTURES") else { return };
        std::fs::create_dir_all(&folder).unwrap();
        self.screen.picture(&Path::new(&folder).join(format!("{name}.png"))).unwrap();
    }
}

/// One driver with one program on the display; the address of its session.
fn drive(place: &Place, screen: &Screen) -> Option<(Group, String)> {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut driver = rcc_test_aids::bus(place.dir.path());
    place.person(&mut driver);
    screen.show(&mut driver);
    driver
        .args(["--", "sh", "-c", "printf %s \"$DBUS_SESSION_BUS_ADDRESS\" > \"$0\"; exec \"$@\""])
        .arg(place.bus())
        .args(["WebKitWebDriver", &format!("--port={port}")])
        .env("TAURI_AUTOMATION", "true")
        .env("TAURI_WEBVIEW_AUTOMATION", "true");
    let driver = Group::start(&mut driver).unwrap();
    let base = format!("http://127.0.0.1:{port}");
    until("WebKitWebDriver answers", || get(&format!("{base}/status")).ok());
    let wanted = json!({"capabilities": {"alwaysMatch": {"webkitgtk:browserOptions": {
        "binary": env!("CARGO_BIN_EXE_rcc-desktop"), "args": []
    }}}});
    let answer = post_within(OPENING, &format!("{base}/session"), &wanted).ok()?;
    let id = answer["sessionId"].as_str()?;
    Some((driver, format!("{base}/session/{id}")))
}

impl Drop for Window {
    fn drop(&mut self) {
        let _ = agent(CALL).delete(&self.session).call();
    }
}

pub fn until<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    until_for(what, PATIENCE, ask)
}

pub fn until_for<T>(what: &str, patience: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {} s: {what}", patience.as_secs());
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn agent(patience: Duration) -> ureq::Agent {
    ureq::Agent::config_builder()
        .timeout_global(Some(patience))
        .http_status_as_error(false)
        .build()
        .into()
}

fn get(url: &str) -> Result<Value, String> {
    let mut answer = agent(CALL).get(url).call().map_err(|e| e.to_string())?;
    value(answer.body_mut().read_json().map_err(|e| e.to_string())?)
}

fn post(url: &str, body: &Value) -> Result<Value, String> {
    post_within(CALL, url, body)
}

fn post_within(patience: Duration, url: &str, body: &Value) -> Result<Value, String> {
    let mut answer = agent(patience).post(url).send_json(body).map_err(|e| e.to_string())?;
    value(answer.body_mut().read_json().map_err(|e| e.to_string())?)
}

fn value(mut answer: Value) -> Result<Value, String> {
    match answer["value"]["error"].as_str() {
        Some(_) => Err(answer["value"].to_string()),
        None => Ok(answer["value"].take()),
    }
}
