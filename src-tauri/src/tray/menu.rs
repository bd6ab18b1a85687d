//! The tray's menu, icon state and tooltip as pure functions of what runs.

use rcc_sandbox::display;

use crate::wire::{Activity, NetworkWord, StateWord};

/// Sessions in the menu; the rest are in the window.
const MOST: usize = 12;

/// Characters of a name.
const NAME: usize = 28;

/// Characters of a question.
const QUESTION: usize = 60;

/// A session that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The project's id.
    pub project: String,
    pub name: String,
    pub activity: Option<Activity>,
    pub network: NetworkWord,
    /// Bytes, where this computer can tell.
    pub memory: Option<u64>,
}

/// What a click means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    Show(String),
    NewShell(String),
    SetNetwork(String, bool),
    Stop(String),
    OpenFolder,
    AllowedHosts,
    DisconnectAll,
    StopAll,
    ShowWindow,
    Quit,
}

/// One line of a menu. Labels are as a person reads them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    Do { label: String, action: Action, enabled: bool },
    Sub { label: String, entries: Vec<Entry> },
    Word(String),
    Separator,
}

/// The state that the icon's shape shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shape {
    Idle,
    Running,
    NeedsYou,
    Trouble,
}

/// The menu of PRODUCT 2.9. `now` is in seconds since 1970.
pub fn menu(lines: &[Line], now: u64) -> Vec<Entry> {
    let mut entries = Vec::new();
    if lines.is_empty() {
        entries.push(Entry::Word("No sessions running".into()));
    }
    for line in lines.iter().take(MOST) {
        let id = &line.project;
        let mut below = vec![
            go("Show", Action::Show(id.clone())),
            go("New Shell", Action::NewShell(id.clone())),
        ];
        match line.network {
            NetworkWord::Connected => {
                below.push(go("Disconnect Network", Action::SetNetwork(id.clone(), false)));
            }
            NetworkWord::Disconnected | NetworkWord::Offline => {
                below.push(go("Connect Network", Action::SetNetwork(id.clone(), true)));
            }
            NetworkWord::Unknown => {}
        }
        below.push(go("Stop Session", Action::Stop(id.clone())));
        entries.push(Entry::Sub { label: label(line, now), entries: below });
    }
    if lines.len() > MOST {
        entries.push(go("More…", Action::ShowWindow));
    }
    let some = !lines.is_empty();
    let connected = lines.iter().any(|line| line.network == NetworkWord::Connected);
    entries.extend([
        Entry::Separator,
        go("Open Folder…", Action::OpenFolder),
        go("Allowed Hosts…", Action::AllowedHosts),
        Entry::Separator,
        go_if(connected, "Disconnect All Networks", Action::DisconnectAll),
        go_if(some, "Stop All Sessions…", Action::StopAll),
        Entry::Separator,
        go("Show rcc", Action::ShowWindow),
        go("Quit rcc", Action::Quit),
    ]);
    entries
}

fn go(label: &str, action: Action) -> Entry {
    go_if(true, label, action)
}

fn go_if(enabled: bool, label: &str, action: Action) -> Entry {
    Entry::Do { label: label.into(), action, enabled }
}

fn label(line: &Line, now: u64) -> String {
    let name = display::line(&line.name, NAME);
    let words = words(line.activity.as_ref(), now);
    let busy = line.activity.as_ref().is_none_or(|activity| {
        matches!(activity.state, StateWord::Working | StateWord::Background)
    });
    match line.memory {
        Some(memory) if busy => format!("{name} — {words} · {}", size(memory)),
        _ => format!("{name} — {words}"),
    }
}

fn words(activity: Option<&Activity>, now: u64) -> String {
    let Some(activity) = activity else { return "running".into() };
    let detail = activity.detail.as_deref().map(|detail| display::line(detail, QUESTION));
    match (activity.state, detail) {
        (StateWord::NeedsYou, Some(question)) => format!("needs you: “{question}”"),
        (StateWord::NeedsYou, None) => "needs you".into(),
        (StateWord::Trouble, Some(reason)) => format!("trouble: {reason}"),
        (StateWord::Trouble, None) => "trouble".into(),
        (StateWord::Starting, _) => "starting".into(),
        (StateWord::Working, _) => "working".into(),
        (StateWord::Background, _) => "working in the background".into(),
        (StateWord::Done, _) if activity.turns == 0 => "ready".into(),
        (StateWord::Done, _) => format!("finished {}", age(now.saturating_sub(activity.since))),
        (StateWord::Ended, _) => "ended".into(),
    }
}

fn age(seconds: u64) -> String {
    match seconds {
        0..60 => "just now".into(),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..86_400 => format!("{} h ago", seconds / 3600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}

fn size(bytes: u64) -> String {
    const MB: u64 = 1 << 20;
    const GB: u64 = 1 << 30;
    if bytes >= GB {
        // One digit after the point, in whole numbers: 1.2 GB.
        let tenths = (bytes + GB / 20) * 10 / GB;
        format!("{}.{} GB", tenths / 10, tenths % 10)
    } else {
        format!("{} MB", bytes / MB)
    }
}

/// The most urgent state.
pub fn shape(lines: &[Line]) -> Shape {
    let any = |state| {
        lines.iter().any(|line| line.activity.as_ref().is_some_and(|now| now.state == state))
    };
    if any(StateWord::NeedsYou) {
        Shape::NeedsYou
    } else if any(StateWord::Trouble) {
        Shape::Trouble
    } else if lines.is_empty() {
        Shape::Idle
    } else {
        Shape::Running
    }
}

/// `2 sessions · 1 needs you · 3.1 GB`.
pub fn tooltip(lines: &[Line]) -> String {
    let mut parts = vec![match lines.len() {
        0 => "No sessions running".to_string(),
        1 => "1 session".into(),
        many => format!("{many} sessions"),
    }];
    let waiting = waiting(lines).count();
    match waiting {
        0 => {}
        1 => parts.push("1 needs you".into()),
        many => parts.push(format!("{many} need you")),
    }
    let memory: u64 = lines.iter().filter_map(|line| line.memory).sum();
    if memory > 0 {
        parts.push(size(memory));
    }
    parts.join(" · ")
}

/// The project that a click on the icon shows: the one that waits longest.
pub fn urgent(lines: &[Line]) -> Option<&str> {
    waiting(lines)
        .min_by_key(|line| line.activity.as_ref().map_or(u64::MAX, |activity| activity.since))
        .map(|line| line.project.as_str())
}

fn waiting(lines: &[Line]) -> impl Iterator<Item = &Line> {
    lines.iter().filter(|line| {
        line.activity.as_ref().is_some_and(|activity| activity.state == StateWord::NeedsYou)
    })
}

/// As the menu's protocol wants it: `_` would underline the next letter
/// (com.canonical.dbusmenu).
pub fn escaped(label: &str) -> String {
    label.replace('_', "__")
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn line(name: &str, state: StateWord, detail: Option<&str>) -> Line {
        Line {
            project: format!("id-{name}"),
            name: name.into(),
            activity: Some(Activity {
                state,
                detail: detail.map(Into::into),
                turns: 1,
                since: 1_000,
            }),
            network: NetworkWord::Connected,
            memory: Some((12 << 30) / 10),
        }
    }

    fn labels(entries: &[Entry]) -> Vec<String> {
        let label = |entry: &Entry| match entry {
            Entry::Do { label, .. } | Entry::Sub { label, .. } | Entry::Word(label) => {
                label.clone()
            }
            Entry::Separator => "-".into(),
        };
        entries.iter().map(label).collect()
    }

    #[test]
    fn the_menu_is_the_one_of_the_product() {
        let lines = [
            line("web-shop", StateWord::NeedsYou, Some("Which database?")),
            line("api", StateWord::Working, None),
            line("docs", StateWord::Done, None),
        ];
        let menu = menu(&lines, 1_000 + 240);
        assert_eq!(
            labels(&menu),
            [
                "web-shop — needs you: “Which database?”",
                "api — working · 1.2 GB",
                "docs — finished 4 min ago",
                "-",
                "Open Folder…",
                "Allowed Hosts…",
                "-",
                "Disconnect All Networks",
                "Stop All Sessions…",
                "-",
                "Show rcc",
                "Quit rcc",
            ]
        );
        let Entry::Sub { entries, .. } = &menu[0] else { panic!() };
        assert_eq!(labels(entries), ["Show", "New Shell", "Disconnect Network", "Stop Session"]);
        assert_eq!(shape(&lines), Shape::NeedsYou);
        assert_eq!(urgent(&lines), Some("id-web-shop"));
        assert_eq!(tooltip(&lines), "3 sessions · 1 needs you · 3.6 GB");
    }

    #[test]
    fn without_sessions_it_says_so() {
        let menu = menu(&[], 0);
        assert_eq!(menu[0], Entry::Word("No sessions running".into()));
        let off = |label: &str| {
            menu.iter().any(|entry| {
                matches!(entry, Entry::Do { label: own, enabled: false, .. } if own == label)
            })
        };
        assert!(off("Stop All Sessions…") && off("Disconnect All Networks"));
        assert_eq!((shape(&[]), urgent(&[])), (Shape::Idle, None));
        assert_eq!(tooltip(&[]), "No sessions running");
    }

    #[test]
    fn t1_names_of_the_agents_cannot_grow_or_underline() {
        let long = "a_very_long_name_of_a_folder_that_goes_on";
        let mut one = line(long, StateWord::NeedsYou, Some("x\u{202e}\n\u{1b}[2J"));
        one.memory = None;
        let label = labels(&menu(&[one], 0)).remove(0);
        assert_eq!(label, "a_very_long_name_of_a_folde… — needs you: “x [2J”");
        assert_eq!(escaped("a_b"), "a__b");
        let many = vec![line("x", StateWord::Trouble, None); 15];
        let labels = labels(&menu(&many, 0));
        assert_eq!(labels.iter().filter(|label| label.starts_with("x —")).count(), MOST);
        assert_eq!(labels[MOST], "More…");
        assert_eq!(shape(&many), Shape::Trouble);
    }

    #[test]
    fn sizes_are_short() {
        assert_eq!(size(300 << 20), "300 MB");
        assert_eq!(size(3 << 30), "3.0 GB");
    }
}
