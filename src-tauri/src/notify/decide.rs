//! Which notifications there are, as a pure function of what happens. Time is
//! passed in.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use rcc_sandbox::display;

use crate::wire::Blocked;

/// Characters of a question.
const QUESTION: usize = 140;

/// So many blocked hosts of a project within [`WITHIN`] are told one by one.
const SINGLE: usize = 3;
/// See [`SINGLE`].
const WITHIN: Duration = Duration::from_secs(30);

/// One that is shown gets another text after so long at the earliest: an agent that asks
/// for one host after the other would light the screen up without end.
const PAUSE: Duration = Duration::from_secs(5);
/// Hosts of a project that are remembered for that long.
const TOLD: usize = 1_000;
/// So many questions of a project within [`WITHIN`] are told.
const QUESTIONS: usize = 6;

/// What a notification is about; one is shown of each at a time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum About {
    NeedsYou {
        project: String,
    },
    Blocked(Blocked),
    /// Many hosts at once.
    Hosts {
        project: String,
    },
}

impl About {
    pub fn project(&self) -> &str {
        match self {
            Self::NeedsYou { project } | Self::Hosts { project } => project,
            Self::Blocked(Blocked { project, .. }) => project,
        }
    }
}

/// What a click on a notification means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Show,
    Allow,
    NotNow,
    More,
}

impl Answer {
    /// The word on the wire; a click beside the buttons is `default`.
    pub fn key(self) -> &'static str {
        match self {
            Self::Show => "default",
            Self::Allow => "allow",
            Self::NotNow => "not-now",
            Self::More => "more",
        }
    }

    pub fn from_key(key: &str) -> Option<Self> {
        [Self::Show, Self::Allow, Self::NotNow, Self::More]
            .into_iter()
            .find(|answer| answer.key() == key)
    }
}

/// What the desktop is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// In the place of one about the same.
    Show(Note),
    Withdraw(About),
}

/// A notification as plain text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    pub about: About,
    pub title: String,
    pub body: String,
    /// At most three buttons: GNOME shows no more.
    pub answers: Vec<(Answer, &'static str)>,
}

/// What is shown, and what was told lately.
#[derive(Default)]
pub struct Notes {
    shown: BTreeMap<About, ()>,
    /// When hosts of a project were told, and which, newest last.
    told: HashMap<String, VecDeque<(Instant, String)>>,
    /// The question that each project was told with.
    questions: HashMap<String, Option<String>>,
    /// When a project's were told, newest last.
    asked: HashMap<String, VecDeque<Instant>>,
    /// When it was told that many hosts of a project were blocked.
    crowds: HashMap<String, Instant>,
}

impl Notes {
    /// Claude of a project needs the person. `quiet`: not to be told.
    pub fn needs_you(
        &mut self,
        project: &str,
        name: &str,
        question: Option<&str>,
        quiet: bool,
        now: Instant,
    ) -> Vec<Step> {
        let question = question.map(|text| display::line(text, QUESTION));
        if self.questions.get(project) == Some(&question) {
            return Vec::new();
        }
        let about = About::NeedsYou { project: project.into() };
        let asked = self.asked.entry(project.into()).or_default();
        asked.retain(|at| now.saturating_duration_since(*at) < WITHIN);
        let just_told = |at: &Instant| now.saturating_duration_since(*at) < PAUSE;
        let is_told = self.shown.contains_key(&about) && asked.back().is_some_and(just_told);
        if !quiet && (is_told || asked.len() >= QUESTIONS) {
            // Not told: the next time that the sandbox says so it may be.
            return Vec::new();
        }
        // Told by the window itself counts as told.
        self.questions.insert(project.into(), question.clone());
        if quiet {
            return Vec::new();
        }
        asked.push_back(now);
        self.shown.insert(about.clone(), ());
        vec![Step::Show(Note {
            about,
            title: format!("{} needs you", short(name)),
            body: question.unwrap_or_else(|| "Claude waits for an answer.".into()),
            answers: vec![(Answer::Show, "Show")],
        })]
    }

    /// It needs nobody any more.
    pub fn goes_on(&mut self, project: &str) -> Vec<Step> {
        self.questions.remove(project);
        self.withdraw(|about| *about == About::NeedsYou { project: project.into() })
    }

    /// A host of a project was blocked.
    pub fn blocked(
        &mut self,
        blocked: &Blocked,
        name: &str,
        quiet: bool,
        now: Instant,
    ) -> Vec<Step> {
        let Blocked { project, target, port, .. } = blocked;
        let about = About::Blocked(blocked.clone());
        let told = self.told.entry(project.clone()).or_default();
        told.retain(|(at, _)| now.saturating_duration_since(*at) < WITHIN);
        // One of each host until it is answered.
        if quiet || self.shown.contains_key(&about) || told.iter().any(|(_, own)| own == target) {
            return Vec::new();
        }
        told.push_back((now, target.clone()));
        if told.len() > TOLD {
            told.pop_front();
        }
        let many = told.len();
        if many > SINGLE {
            let project = project.clone();
            let mut steps = self
                .withdraw(|about| matches!(about, About::Blocked(own) if own.project == project));
            let about = About::Hosts { project };
            let last = self.crowds.get(about.project());
            if last.is_some_and(|at| now.saturating_duration_since(*at) < PAUSE) {
                return steps;
            }
            self.crowds.insert(about.project().into(), now);
            self.shown.insert(about.clone(), ());
            steps.push(Step::Show(Note {
                about,
                title: format!("{}: {many} hosts blocked", short(name)),
                body: "Claude asked for them.".into(),
                answers: vec![(Answer::Show, "Show")],
            }));
            return steps;
        }
        let port = if *port == 0 { 443 } else { *port };
        let note = Note {
            title: format!("{}: blocked {target}", short(name)),
            body: if blocked.is_private() {
                format!("It has a private address. Port {port} will be allowed.")
            } else {
                format!("Claude asked for this name. Port {port} will be allowed.")
            },
            answers: vec![
                (Answer::Allow, "Allow for This Project"),
                (Answer::NotNow, "Not Now"),
                (Answer::More, "More…"),
            ],
            about: about.clone(),
        };
        self.shown.insert(about, ());
        vec![Step::Show(note)]
    }

    /// The person looks at a project: the window tells it all.
    pub fn looked_at(&mut self, project: &str) -> Vec<Step> {
        self.told.remove(project);
        self.withdraw(|about| about.project() == project)
    }

    /// Its session is over.
    pub fn ended(&mut self, project: &str) -> Vec<Step> {
        self.questions.remove(project);
        self.looked_at(project)
    }

    /// The desktop took it away, or the person did.
    pub fn closed(&mut self, about: &About) {
        self.shown.remove(about);
    }

    /// Hosts that were told and not answered yet.
    pub fn open(&self) -> Vec<About> {
        self.shown.keys().filter(|about| matches!(about, About::Blocked(_))).cloned().collect()
    }

    /// Answered elsewhere.
    pub fn answered(&mut self, about: &About) -> Vec<Step> {
        self.withdraw(|own| own == about)
    }

    fn withdraw(&mut self, goes: impl Fn(&About) -> bool) -> Vec<Step> {
        let gone: Vec<About> = self.shown.keys().filter(|about| goes(about)).cloned().collect();
        gone.into_iter()
            .map(|about| {
                self.shown.remove(&about);
                Step::Withdraw(about)
            })
            .collect()
    }
}

/// A project's name is a folder's, which anybody may have chosen.
fn short(name: &str) -> String {
    display::line(name, 40)
}

/// For a body that is read as markup (Desktop Notifications Specification).
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(target: &str) -> Blocked {
        Blocked {
            project: "p".into(),
            target: target.into(),
            port: 0,
            protocol: "tcp".into(),
            reason: "not-allowed".into(),
        }
    }

    fn about(target: &str) -> About {
        About::Blocked(host(target))
    }

    fn titles(steps: &[Step]) -> Vec<String> {
        let title = |step: &Step| match step {
            Step::Show(note) => note.title.clone(),
            Step::Withdraw(about) => format!("- {about:?}"),
        };
        steps.iter().map(title).collect()
    }

    #[test]
    fn a_question_is_told_once_and_withdrawn_when_it_is_answered() {
        let mut notes = Notes::default();
        let steps =
            notes.needs_you("p", "web-shop", Some("Which <b>one</b>?"), false, Instant::now());
        let [Step::Show(note)] = &steps[..] else { panic!("{steps:?}") };
        assert_eq!((note.title.as_str(), note.answers.len()), ("web-shop needs you", 1));
        assert_eq!(escaped(&note.body), "Which &lt;b&gt;one&lt;/b&gt;?");
        assert_eq!(
            notes.needs_you("p", "web-shop", Some("Which <b>one</b>?"), false, Instant::now()),
            []
        );
        assert_eq!(
            notes.needs_you("p", "web-shop", Some("Another"), false, Instant::now() + PAUSE).len(),
            1
        );
        let gone = Step::Withdraw(About::NeedsYou { project: "p".into() });
        assert_eq!(notes.goes_on("p"), [gone]);
        assert_eq!(notes.goes_on("p"), []);
        assert_eq!(
            notes.needs_you("p", "web-shop", Some("Another"), false, Instant::now()).len(),
            1
        );
        assert_eq!(notes.looked_at("p").len(), 1);
    }

    #[test]
    fn n17_a_sandbox_that_asks_without_end_is_told_now_and_then() {
        let mut notes = Notes::default();
        let begun = Instant::now();
        let at = |tenths: u64| begun + Duration::from_millis(100 * tenths);
        let shows = |steps: &[Step]| steps.iter().any(|step| matches!(step, Step::Show(_)));
        // Ten seconds of ten new hosts each: three single ones, then all together.
        let hosts = (0..100).filter(|n| {
            let steps = notes.blocked(&host(&format!("h{n}.example")), "x", false, at(*n));
            shows(&steps)
        });
        assert_eq!(hosts.count(), 3 + 2);
        // Another question each time, with and without an answer in between.
        let asked = (0..100)
            .filter(|n| shows(&notes.needs_you("p", "x", Some(&format!("Q{n}")), false, at(*n))));
        assert_eq!(asked.count(), 2);
        let asked = (0..100).filter(|n| {
            notes.goes_on("p");
            shows(&notes.needs_you("p", "x", Some(&format!("Q{n}")), false, at(400 + n)))
        });
        assert_eq!(asked.count(), QUESTIONS);
        assert!(shows(&notes.needs_you("p", "x", Some("later"), false, at(1_000))));
    }

    #[test]
    fn who_looks_at_it_is_not_told() {
        let mut notes = Notes::default();
        assert_eq!(notes.needs_you("p", "x", Some("Q"), true, Instant::now()), []);
        // Looking away does not bring up what was seen.
        assert_eq!(notes.needs_you("p", "x", Some("Q"), false, Instant::now()), []);
        assert_eq!(notes.blocked(&host("a.example"), "x", true, Instant::now()), []);
        assert_eq!(notes.open(), []);
    }

    #[test]
    fn a_host_is_told_once_with_three_answers() {
        let mut notes = Notes::default();
        let now = Instant::now();
        let steps = notes.blocked(&host("a.example"), "web-shop", false, now);
        let [Step::Show(note)] = &steps[..] else { panic!("{steps:?}") };
        assert_eq!(note.title, "web-shop: blocked a.example");
        assert_eq!(note.body, "Claude asked for this name. Port 443 will be allowed.");
        let labels: Vec<_> = note.answers.iter().map(|(_, label)| *label).collect();
        assert_eq!(labels, ["Allow for This Project", "Not Now", "More…"]);
        assert_eq!(notes.blocked(&host("a.example"), "web-shop", false, now), []);
        assert_eq!(notes.open(), [about("a.example")]);
        // Put away, and asked again at once: the person has just said no.
        notes.closed(&about("a.example"));
        assert_eq!(notes.blocked(&host("a.example"), "web-shop", false, now), []);
        let later = now + WITHIN;
        assert_eq!(notes.blocked(&host("a.example"), "web-shop", false, later).len(), 1);
        assert_eq!(notes.answered(&about("a.example")).len(), 1);
    }

    #[test]
    fn a_private_host_says_so_and_what_no_rule_opens_is_no_question() {
        let private = Blocked { reason: "private".into(), port: 5432, ..host("db.internal") };
        let steps = Notes::default().blocked(&private, "shop", false, Instant::now());
        let [Step::Show(note)] = &steps[..] else { panic!("{steps:?}") };
        assert_eq!(note.body, "It has a private address. Port 5432 will be allowed.");
        assert!(private.is_private() && private.can_be_allowed());
        for (reason, protocol) in
            [("never", "tcp"), ("limit", "tcp"), ("unnamed", "tcp"), ("not-allowed", "icmp")]
        {
            let never =
                Blocked { reason: reason.into(), protocol: protocol.into(), ..host("a.example") };
            assert!(!never.can_be_allowed(), "{reason} {protocol}");
        }
    }

    #[test]
    fn n17_what_the_agent_chose_is_one_line_of_harmless_text() {
        let evil = "a\u{1b}[2J\n\u{202e}b";
        let mut notes = Notes::default();
        let asked = notes.needs_you("p", evil, Some(evil), false, Instant::now());
        let blocked = notes.blocked(&host("a.example"), evil, false, Instant::now());
        for step in asked.into_iter().chain(blocked) {
            let Step::Show(note) = step else { panic!("{step:?}") };
            let text = format!("{} {}", note.title, note.body);
            assert!(!text.chars().any(|c| c.is_control() || c == '\u{202e}'), "{text:?}");
        }
    }

    #[test]
    fn n17_many_hosts_become_one_notification() {
        let mut notes = Notes::default();
        let now = Instant::now();
        for name in ["a", "b", "c"] {
            assert_eq!(notes.blocked(&host(name), "shop", false, now).len(), 1);
        }
        let steps = notes.blocked(&host("d"), "shop", false, now);
        assert_eq!(steps.len(), 4);
        assert_eq!(titles(&steps)[3], "shop: 4 hosts blocked");
        // The next ones take its place.
        assert_eq!(
            titles(&notes.blocked(&host("e"), "shop", false, now + PAUSE)),
            ["shop: 5 hosts blocked"]
        );
        assert_eq!(notes.ended("p").len(), 1);
        let later = notes.blocked(&host("f"), "shop", false, now + WITHIN);
        assert_eq!(titles(&later), ["shop: blocked f"]);
    }

    #[test]
    fn answers_come_back_as_they_went() {
        for answer in [Answer::Show, Answer::Allow, Answer::NotNow, Answer::More] {
            assert_eq!(Answer::from_key(answer.key()), Some(answer));
        }
        assert_eq!(Answer::from_key("run"), None);
    }
}
