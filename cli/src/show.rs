//! What a person or a program reads.

use std::collections::HashSet;
use std::io::{BufRead, IsTerminal, Write};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rcc_sandbox::{Code, Error, Progress, Reporter, Step};
use serde_json::json;

/// A step that is faster is not shown (a warm start shows none).
const PATIENCE: Duration = Duration::from_millis(300);

/// How often a line without a terminal repeats how far it is.
const QUIET: Duration = Duration::from_secs(10);

/// One form: title, why, what to do, code.
pub fn error(error: &Error, json: bool) {
    if json {
        let value = json!({"error": {
            "code": error.code().as_str(), "title": error.title(), "body": error.body(),
            "hint": error.hint(), "detail": error.detail(),
        }});
        eprintln!("{value:#}");
        return;
    }
    eprintln!("rcc: {}", error.title());
    eprintln!("     {}", error.body());
    eprintln!("     {}", error.hint());
    if let Some(detail) = error.detail().map(str::trim).filter(|detail| !detail.is_empty()) {
        for line in detail.lines().rev().take(12).collect::<Vec<_>>().into_iter().rev() {
            eprintln!("     | {}", rcc_sandbox::display::line(line, 200));
        }
    }
    eprintln!("     {}", error.code().as_str());
}

/// A remark that needs no action.
pub fn note(text: &str) {
    eprintln!("rcc: {text}");
}

/// Shows `lines` and asks once whether to go on; only a yes is one. Where nobody can be
/// asked it is an error, with what `otherwise` says.
pub fn agreed(lines: &[String], question: &str, otherwise: &str) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(Error::new(Code::Invalid, "Nobody can be asked here.")
            .hint_is(otherwise)
            .into());
    }
    for line in lines {
        eprintln!("{line}");
    }
    eprint!("{question} [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Progress on stderr; ends its line when dropped.
pub struct Lines {
    state: Arc<Mutex<State>>,
    ticker: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct State {
    running: Vec<Running>,
    notes: HashSet<String>,
    terminal: bool,
    /// A program reads: on stderr only an error, as JSON.
    silent: bool,
    open_line: bool,
}

struct Running {
    step: Step,
    begun: Instant,
    doing: String,
    amount: Option<(u64, Option<u64>)>,
    said: Option<Instant>,
}

impl Lines {
    /// Begins; must be called within the runtime.
    pub fn begin(json: bool) -> (Self, Reporter) {
        let state = Arc::new(Mutex::new(State {
            terminal: std::io::stderr().is_terminal(),
            silent: json,
            ..State::default()
        }));
        let ticking = state.clone();
        let ticker = tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(100)).await;
                if let Ok(mut state) = ticking.lock() {
                    state.draw();
                }
            }
        });
        let reported = state.clone();
        let reporter = Reporter::new(move |progress| {
            if let Ok(mut state) = reported.lock() {
                state.take(progress);
            }
        });
        (Self { state, ticker }, reporter)
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.ticker.abort();
        if let Ok(mut state) = self.state.lock() {
            state.running.clear();
            state.end_line();
        }
    }
}

impl State {
    fn take(&mut self, progress: Progress) {
        match progress {
            Progress::Begun(step) => self.running.push(Running {
                step,
                begun: Instant::now(),
                doing: String::new(),
                amount: None,
                said: None,
            }),
            Progress::Amount { step, done, total } => {
                if let Some(running) = self.of(step) {
                    running.amount = Some((done, total));
                }
            }
            Progress::Doing(step, doing) => {
                if let Some(running) = self.of(step) {
                    running.doing = doing;
                }
            }
            Progress::Done(step, took) => {
                self.running.retain(|running| running.step != step);
                if took >= PATIENCE {
                    self.line(&format!("✓ {} {:.1} s", step.title(), took.as_secs_f64()));
                }
            }
            Progress::Failed(step) => {
                self.running.retain(|running| running.step != step);
                self.line(&format!("✗ {}", step.title()));
            }
            Progress::Note(text) => {
                if self.notes.insert(text.clone()) {
                    self.line(&format!("rcc: {text}"));
                }
            }
        }
    }

    fn of(&mut self, step: Step) -> Option<&mut Running> {
        self.running.iter_mut().find(|running| running.step == step)
    }

    fn draw(&mut self) {
        if self.silent {
            return;
        }
        let slow: Vec<String> = self
            .running
            .iter()
            .filter(|running| running.begun.elapsed() >= PATIENCE)
            .map(Running::text)
            .collect();
        if slow.is_empty() {
            return;
        }
        if self.terminal {
            let columns = rustix::termios::tcgetwinsize(rustix::stdio::stderr())
                .map_or(80, |size| size.ws_col);
            let text =
                rcc_sandbox::display::line(&slow.join("   "), usize::from(columns.max(20)) - 2);
            eprint!("\r\x1b[K{text}");
            let _ = std::io::stderr().flush();
            self.open_line = true;
            return;
        }
        let mut lines = Vec::new();
        for running in &mut self.running {
            let due = running.said.is_none_or(|said| said.elapsed() >= QUIET);
            if due && running.begun.elapsed() >= PATIENCE {
                running.said = Some(Instant::now());
                lines.push(running.text());
            }
        }
        lines.iter().for_each(|line| self.line(line));
    }

    fn line(&mut self, text: &str) {
        if self.silent {
            return;
        }
        if self.terminal && self.open_line {
            eprint!("\r\x1b[K");
        }
        self.open_line = false;
        eprintln!("{text}");
    }

    fn end_line(&mut self) {
        if self.open_line {
            eprint!("\r\x1b[K");
            self.open_line = false;
        }
    }
}

impl Running {
    fn text(&self) -> String {
        let mb = |bytes: u64| bytes / 1_000_000;
        let amount = match self.amount {
            Some((done, Some(total))) => format!(" {} of {} MB", mb(done), mb(total)),
            Some((done, None)) => format!(" {} MB", mb(done)),
            None => String::new(),
        };
        let doing = if self.doing.is_empty() || self.amount.is_some() {
            String::new()
        } else {
            format!(": {}", self.doing)
        };
        format!("… {}{amount}{doing}", self.step.title())
    }
}
