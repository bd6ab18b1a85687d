//! The real window through WebDriver: what it shows on a fresh account, and the
//! way to Claude where there is an engine.
//!
//! Needs Xvfb, sway, dbus-run-session, WebKitWebDriver. The terminal also needs an
//! ordinary user with rootless Podman, and `RCC_TEST_IMAGE`, an image that is
//! there already. `RCC_TEST_PICTURES` names a folder for pictures.

#![allow(clippy::unwrap_used, reason = "a test")]

mod desktop;
mod driver;

use std::time::Duration;

use desktop::{DARK, Desktop, LIGHT};
use driver::{Place, Window, until, until_for};
use rcc_test_aids::skip;

const ENTER: &str = "\u{e007}";

#[test]
fn a_fresh_account_sees_the_empty_list_and_an_error_in_the_one_form() {
    let place = match Place::find() {
        Ok(place) => place,
        Err(why) => return skip(&why),
    };
    let window = Window::open(&place);
    // What is missing comes first; nobody has no ids, and often no engine.
    let empty = "Open a folder for Claude to work in.";
    if window.shows_one_of(&["Before the first sandbox", empty], Duration::from_secs(60)) == 0 {
        for line in ["Container engine", "Firewall service", "Base image", "Claude Code"] {
            window.shows(line);
        }
    }
    window.picture("empty");

    // The page can call nothing that is not its own, and runs nothing that is not in the program.
    let refused = window.run(
        "return window.__TAURI_INTERNALS__.invoke('plugin:app|version').then(() => 'allowed', () => 'refused')",
        &[],
    );
    assert_eq!(refused, "refused");
    let evaluated = window.run(
        "const script = document.createElement('script'); script.textContent = 'window.__injected = 1';
         document.body.append(script);
         const image = document.createElement('div'); image.innerHTML = '<img src=x onerror=\"window.__injected = 2\">';
         document.body.append(image); script.remove(); image.remove();
         return window.__injected ?? 'nothing'",
        &[],
    );
    assert_eq!(evaluated, "nothing");

    window.click("Open Folder…");
    window.shows("web-shop");
    window.picture("closed");
    if place.is_own() {
        return skip("the error of an account without id ranges: this one may have an engine");
    }
    window.click("Open in Sandbox");
    // Nobody has no ids of its own; without Podman that comes first.
    let errors = [
        "Your user has no range of subordinate ids.",
        "Podman is not installed.",
        "does not answer",
    ];
    window.shows_one_of(&errors, Duration::from_secs(60));
    window.shows("Try Again");
    window.picture("error");
    window.click("Close");
    window.shows("Open in Sandbox");

    // The list is remembered.
    drop(window);
    let window = Window::open(&place);
    window.shows("web-shop");
    window.click("web-shop");
    // In the menu of the project's row, which shows at the pointer.
    let menu = "[...document.querySelectorAll('button')].find((button) => button.ariaLabel === arguments[0])?.click()";
    window.run(menu, &[serde_json::json!("More about web-shop")]);
    window.click("Forget");
    window.shows("Open a folder for Claude to work in.");
}

/// Wayland is what most desktops are; the rest of the tests is on X11, where more can be
/// pressed and looked at from outside.
#[test]
fn on_wayland_the_window_is_the_same() {
    let place = match Place::find() {
        Ok(place) => place,
        Err(why) => return skip(&why),
    };
    let screen = match place.wayland() {
        Ok(screen) => screen,
        Err(why) => return skip(&why),
    };
    let window = Window::on(screen, &place);
    let empty = "Open a folder for Claude to work in.";
    window.shows_one_of(&["Before the first sandbox", empty], Duration::from_secs(60));
    let seen = || {
        let seen = window.run(
            "return [document.visibilityState, document.hasFocus() ? 'focus' : 'no focus',
                innerWidth, innerHeight].join(' ')",
            &[],
        );
        seen.as_str().unwrap_or_default().to_owned()
    };
    // It is alone on the output.
    until(&format!("it is in front, and as large as the output: {}", seen()), || {
        (seen() == "visible focus 1280 900").then_some(())
    });
    window.click("Open Folder…");
    window.shows("web-shop");
    window.picture("wayland");
}

#[test]
fn a_second_start_shows_its_folder_in_the_first_window() {
    let place = match Place::find() {
        Ok(place) => place,
        Err(why) => return skip(&why),
    };
    let window = Window::open(&place);
    let first = ["Before the first sandbox", "Open a folder for Claude to work in."];
    window.shows_one_of(&first, Duration::from_secs(60));
    assert!(window.start_again(&place, &[&place.folder("code/web-shop")]));
    window.shows("Open in Sandbox");
    let title = || window.run("return document.querySelector('h1')?.innerText ?? ''", &[]);
    until("its project", || (title() == "web-shop").then_some(()));
    // A relative path is one of the second start's own folder.
    place.folder("code/api");
    assert!(window.start_again(&place, &["code/api".as_ref()]));
    until("another", || (title() == "api").then_some(()));
    // What is refused is said there, too; the list stays as it was.
    assert!(window.start_again(&place, &["/".as_ref()]));
    window.shows("Cannot open the whole computer.");
    window.click("Close");
    until("the project again", || (title() == "api").then_some(()));
}

/// Without a panel that shows the tray there is no way back to a hidden window.
#[test]
fn closing_hides_only_where_something_brings_it_back() {
    let place = match Place::find() {
        Ok(place) => place,
        Err(why) => return skip(&why),
    };
    let screen = match place.wayland() {
        Ok(screen) => screen,
        Err(why) => return skip(&why),
    };
    let window = Window::on(screen, &place);
    let first = ["Before the first sandbox", "Open a folder for Claude to work in."];
    window.shows_one_of(&first, Duration::from_secs(60));
    let desktop = Desktop::start(&place.bus(), LIGHT);
    desktop.show_tray();
    // It registers there, a moment later; the first time says so before it hides.
    std::thread::sleep(Duration::from_secs(3));
    window.close();
    window.shows("rcc stays in the tray.");
    assert!(window.is_in_sight());
    window.click("Hide");
    until("it hides", || (!window.is_in_sight()).then_some(()));
    assert!(window.start_again(&place, &[]));
    until("it is back", || window.is_in_sight().then_some(()));
    window.close();
    until("it hides without a word", || (!window.is_in_sight()).then_some(()));
    assert!(window.start_again(&place, &[]));
    until("it is back", || window.is_in_sight().then_some(()));

    // The panel is gone: nothing runs, so it ends.
    drop(desktop);
    std::thread::sleep(Duration::from_secs(3));
    window.close();
    until("it ends", || (!place.runs()).then_some(()));
}

#[test]
fn light_and_dark_follow_the_desktop() {
    let place = match Place::find() {
        Ok(place) => place,
        Err(why) => return skip(&why),
    };
    let window = Window::open(&place);
    let shows = |dark: bool| {
        let script = "return matchMedia('(prefers-color-scheme: dark)').matches
            && getComputedStyle(document.body).colorScheme !== 'light'";
        until(if dark { "dark" } else { "light" }, || {
            (window.run(script, &[]) == dark).then_some(())
        });
    };
    shows(false);
    // A desktop whose portal comes after the window, and changes its mind.
    let desktop = Desktop::start(&place.bus(), DARK);
    for (scheme, dark) in [(DARK, true), (LIGHT, false), (DARK, true)] {
        desktop.prefers(scheme);
        shows(dark);
    }
    window.picture("dark");
}

#[test]
fn claude_answers_in_the_terminal() {
    let place = match Place::find() {
        Ok(place) => place,
        Err(why) => return skip(&why),
    };
    if !place.is_own() {
        return skip("root has no rootless engine; run it as an ordinary user");
    }
    let Ok(image) = std::env::var("RCC_TEST_IMAGE") else {
        return skip("RCC_TEST_IMAGE names no image, and building one takes minutes");
    };
    let project = place.folder("code/web-shop").canonicalize().unwrap();
    settings(&place, &project, &image);
    let window = Window::open(&place);
    window.click("web-shop");
    window.click("Open in Sandbox");
    let minute = Duration::from_secs(90);
    if window.shows_one_of(&["Stop Session…", "Start Offline"], minute) == 1 {
        window.picture("no-helper");
        window.click("Start Offline");
    }
    window.shows_one_of(&["Stop Session…"], minute);
    let began = |window: &Window| {
        until_for("Claude's screen", minute, || {
            window.terminal().contains("Claude Code").then_some(())
        })
    };
    began(&window);
    until("the focus is in the terminal", || {
        window
            .run("return document.activeElement.className", &[])
            .as_str()?
            .contains("xterm")
            .then_some(())
    });
    window.keys("! echo $((6*7)) > answer.txt");
    window.keys(ENTER);
    until_for("the answer is in the folder", minute, || {
        (std::fs::read_to_string(project.join("answer.txt")).ok()?.trim() == "42").then_some(())
    });
    window.picture("claude");

    // The app goes, the session stays, and is found again with its screen.
    drop(window);
    let window = Window::open(&place);
    window.shows("Running");
    window.click("web-shop");
    began(&window);
    window.picture("again");
    window.click("Stop Session…");
    window.click("Stop Session");
    window.shows_one_of(&["Open in Sandbox"], minute);
}

/// The project with an image that is there, and the engine's own settings.
fn settings(place: &Place, project: &std::path::Path, image: &str) {
    use std::fs;
    let config = place.folder("config");
    let engine = std::env::var_os("XDG_CONFIG_HOME")
        .map(std::path::PathBuf::from)
        .unwrap_or_else(|| {
            std::path::PathBuf::from(std::env::var_os("HOME").unwrap()).join(".config")
        })
        .join("containers");
    if engine.is_dir() {
        std::os::unix::fs::symlink(engine, config.join("containers")).unwrap();
    }
    let path = project.to_str().unwrap();
    let settings = format!("path = {path:?}\nimage = {image:?}\n");
    fs::create_dir_all(config.join("rcc/projects")).unwrap();
    // Named by the first 16 digits of the path's SHA-256, as rcc does it.
    let output = std::process::Command::new("sh")
        .args(["-c", "printf %s \"$1\" | sha256sum", "sh", path])
        .output()
        .unwrap();
    let id = String::from_utf8(output.stdout[..16].to_vec()).unwrap();
    fs::write(config.join(format!("rcc/projects/{id}.toml")), settings).unwrap();
}
