//! The window's figures: first paint, memory, what a terminal draws and how soon
//! a key is seen. The real program in a lab, on a display that nobody sees.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rcc_policy::Preset;
use rcc_tests::{Window, Workshop};
use serde_json::Value;

use super::{Line, alone, compared, percentile, skipped, succeed};
use crate::workspace;

/// Enter, Control and Shift (W3C WebDriver, Keyboard).
const ENTER: &str = "\u{e007}";
const CONTROL: &str = "\u{e009}";
const SHIFT: &str = "\u{e008}";

/// Bytes of each kind of output.
const BYTES: usize = 8 << 20;

/// `INITIAL_CREDIT` of `inside`, and one piece more, so that there is always one.
const AHEAD: usize = (256 << 10) + (66 << 10);

/// Longest time for that.
const PATIENCE: Duration = Duration::from_secs(120);

/// Name, and a line that is written again and again.
const KINDS: [(&str, &str); 3] = [
    ("76-column text", "The quick brown fox jumps over the lazy dog and runs away from all of us"),
    ("yes", "y"),
    ("coloured text", "\x1b[31mred\x1b[0m and \x1b[1;38;5;75mblue and bold\x1b[0m, done"),
];

/// Builds the window with optimisation; where that cannot be, measuring says so.
pub(super) fn build() -> anyhow::Result<()> {
    if workspace::without_webkit().is_some() || workspace::build_page().is_err() {
        return Ok(());
    }
    let mut build = workspace::cargo();
    build.args(["build", "--release", "--package", "rcc-desktop"]);
    succeed(&mut build, "bench build of the window")
}

pub(super) fn measure(lines: &mut Vec<Line>) -> anyhow::Result<()> {
    if let Some(reason) = Window::cannot_start() {
        lines.push(skipped("window", &reason.0));
        return Ok(());
    }
    let workshop = match Workshop::start(&Preset::Locked.document(&[]))? {
        Ok(workshop) => workshop,
        Err(reason) => {
            lines.push(skipped("window", &reason.0));
            return Ok(());
        }
    };
    let project = workshop.project("bench")?;
    ensure!(workshop.rcc(&project, &["init", "--yes", "--image", "small"])?.code == 0, "rcc init");
    let mut paints: [Vec<f64>; 3] = Default::default();
    for round in 0..6 {
        let window = Window::start(&workshop, &project)?;
        window.shows("bench");
        let took = first_paint(&window)?;
        // The first one reads the programs from the disk.
        if round > 0 {
            paints.iter_mut().zip(took).for_each(|(all, more)| all.push(more));
        }
    }
    let [paint, asked, shown] = paints;
    lines.push(alone("first paint of the window, ms", paint, "at most 500"));
    lines.push(alone("the window until it asks for its page, ms", asked, "none"));
    lines.push(alone("the window until it shows its projects, ms", shown, "none"));

    let window = Window::start(&workshop, &project)?;
    window.click("Open in Sandbox");
    window.prints("Claude Code");
    window.shows("Ready");
    let one = settled(&window)?;
    for _ in 0..2 {
        window.enter_terminal();
        window.chord(&[CONTROL, SHIFT], "T");
        window.until("a shell", || window.terminal().ends_with('$').then_some(()));
    }
    let three = settled(&window)?;
    lines.push(alone("window with three terminals, PSS in MB", vec![three], "at most 300"));
    lines.push(alone("a further terminal, PSS in MB", vec![(three - one) / 2.0], "at most 15"));
    let mut first = None;
    for (name, line) in KINDS {
        rate(&window, name, line, lines)?;
        // The first kind fills what is kept of a terminal; from then on nothing may grow.
        if first.is_none() {
            first = Some(settled(&window)?);
        }
    }
    let (before, after) = (first.context("no output")?, settled(&window)?);
    let what = "window's memory after all kinds of output, PSS in MB";
    lines.push(compared(what, vec![after], "after the first", &[before], "flat"));
    lines.push(alone("key to the frame that shows it, ms", keys(&window)?, "at most 16"));
    type_line(&window, "yes");
    window.until("the flood", || window.terminal().ends_with("y\ny").then_some(()));
    let flooded = keys(&window)?;
    let late = percentile(&flooded, 95);
    let what = "key to a frame under a flood, p95, ms";
    lines.push(Line { raw: flooded, ..alone(what, vec![late], "at most 60") });
    Ok(())
}

/// Milliseconds from the start of the program until something was painted, until
/// the page was asked for, and until it had its projects.
fn first_paint(window: &Window) -> anyhow::Result<[f64; 3]> {
    let started = window.started()?;
    let at = |what: &str, script: &str| -> f64 {
        window.until(what, || window.script(script).as_f64()) - started
    };
    let named = |name: &str| {
        format!(
            "const entry = performance.getEntriesByName('{name}')[0];
             return entry ? performance.timeOrigin + entry.startTime : null"
        )
    };
    Ok([
        at("the first paint", &named("first-contentful-paint")),
        at("the page", "return performance.timeOrigin"),
        at("the projects", &named("projects")),
    ])
}

/// Megabytes once the web view has settled.
fn settled(window: &Window) -> anyhow::Result<f64> {
    std::thread::sleep(Duration::from_secs(4));
    let kilobytes = u32::try_from(window.memory()? >> 10)?;
    Ok(f64::from(kilobytes) / 1024.0)
}

fn type_line(window: &Window, line: &str) {
    window.enter_terminal();
    window.keys(line);
    window.keys(ENTER);
}

/// What a sandbox's program gets onto the screen, against the same bytes from
/// the page's own memory into the same terminal.
fn rate(window: &Window, name: &str, line: &str, lines: &mut Vec<Line>) -> anyhow::Result<()> {
    let times = BYTES / (line.len() + 1);
    // The terminal driver makes two bytes of a line's end.
    let megabytes = f64::from(u32::try_from(times * (line.len() + 2))?) / 1e6;
    let printable = line.replace('\x1b', "\\033");
    type_line(
        window,
        &format!("yes \"$(printf '{printable}')\" | head -n {times} > /tmp/out; clear"),
    );
    window.until("the file", || (window.terminal().lines().count() == 1).then_some(()));
    let feed = format!(
        "const line = new TextEncoder().encode({}), lines = Math.ceil(65536 / line.length);
         const piece = new Uint8Array(line.length * lines), view = __rccTerminal();
         for (let n = 0; n < lines; n += 1) piece.set(line, n * line.length);
         const begun = performance.now();
         let left = {times}, ahead = 0;
         return new Promise((done) => {{
             const taken = (bytes) => {{
                 ahead -= bytes;
                 if (left <= 0 && ahead === 0) done(performance.now() - begun);
                 else feed();
             }};
             const feed = () => {{
                 // As far ahead as a sandbox's program may be at first.
                 for (; left > 0 && ahead + piece.length <= {AHEAD}; left -= lines) {{
                     ahead += piece.length;
                     view.write(piece, taken);
                 }}
             }};
             feed();
         }})",
        serde_json::to_string(&format!("{line}\r\n"))?
    );
    let (mut own, mut memory) = (Vec::new(), Vec::new());
    for round in 0..3 {
        window.enter_terminal();
        window.keys(&format!("cat /tmp/out; echo end-{round}-$((40+2))"));
        let begun = Instant::now();
        window.keys(ENTER);
        let end = format!(
            "return new Promise((done) => {{
                 const look = () => {{
                     if (__rccTerminal().end().includes('end-{round}-42')) done(true);
                     else setTimeout(look, 5);
                 }};
                 look();
             }})"
        );
        ensure!(window.script_within(&end, PATIENCE)? == Value::Bool(true), "{name}");
        own.push(megabytes / begun.elapsed().as_secs_f64());
        let took = window.script_within(&feed, PATIENCE)?;
        memory.push(megabytes * 1e3 / took.as_f64().context("the page told no time")?);
        type_line(window, "clear");
    }
    let what = format!("terminal, {name}, MB/s");
    lines.push(compared(&what, own, "the same bytes from memory", &memory, "at least 0.9"));
    Ok(())
}

/// Milliseconds from a key's arrival in the page to the end of the frame after
/// the next output was taken in.
fn keys(window: &Window) -> anyhow::Result<Vec<f64>> {
    const KEYS: usize = 60;
    window.enter_terminal();
    window.script(
        "window.__rccKeys = [];
         if (window.__rccListens) return;
         window.__rccListens = true;
         document.addEventListener('keydown', () => {
             const pressed = performance.now();
             __rccTerminal().whenParsed(() => requestAnimationFrame(() => {
                 const painted = new MessageChannel();
                 painted.port1.onmessage = () => __rccKeys.push(performance.now() - pressed);
                 painted.port2.postMessage(0);
             }));
         }, true)",
    );
    for _ in 0..KEYS {
        window.keys("x");
        std::thread::sleep(Duration::from_millis(40));
    }
    std::thread::sleep(Duration::from_millis(300));
    let raw = window.script("return window.__rccKeys");
    // Takes back what was typed, or ends what floods.
    window.chord(&[CONTROL], "c");
    let raw: Vec<f64> = raw.as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
    ensure!(raw.len() >= KEYS / 2, "only {} of {KEYS} keys were seen", raw.len());
    Ok(raw)
}
