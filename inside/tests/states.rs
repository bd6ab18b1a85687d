//! Each line of the tables of what Claude Code was measured to do, and what the state must then be. Needs nothing.

use std::time::{Duration, Instant};

use rcc_inside::frame::{Exit, HookEvent};
use rcc_inside::state::{IDLE_AFTER, Program, State, Tracker, title_glyph};

/// A played session: time goes on only when told to.
struct Session {
    tracker: Tracker,
    now: Instant,
}

impl Session {
    fn of(program: Program) -> Self {
        let now = Instant::now();
        Self { tracker: Tracker::new(program, now), now }
    }

    /// Claude Code in the middle of a turn.
    fn working() -> Self {
        let mut session = Self::of(Program::Claude);
        session
            .hook("SessionStart")
            .title("✳ Claude Code")
            .after(500)
            .hook("UserPromptSubmit")
            .title("◐ Fix it");
        session.after(900).title("◑ Fix it").after(400);
        assert_eq!(session.state(), State::Working);
        session
    }

    fn asked(tool: &str, detail: &str) -> Self {
        let mut session = Self::working();
        session.title("✳ Fix it").after(100).event(HookEvent {
            name: "PermissionRequest".into(),
            tool: Some(tool.into()),
            detail: Some(detail.into()),
            ..HookEvent::default()
        });
        assert_eq!(session.state(), State::NeedsYou);
        session
    }

    fn after(&mut self, milliseconds: u64) -> &mut Self {
        self.now += Duration::from_millis(milliseconds);
        self.tracker.tick(self.now);
        self
    }

    fn title(&mut self, title: &str) -> &mut Self {
        self.tracker.title(title, self.now);
        self
    }

    fn event(&mut self, event: HookEvent) -> &mut Self {
        self.tracker.hook(&event, self.now);
        self
    }

    fn hook(&mut self, name: &str) -> &mut Self {
        self.event(HookEvent { name: name.into(), ..HookEvent::default() })
    }

    fn session_start(&mut self, source: &str) -> &mut Self {
        self.event(HookEvent {
            name: "SessionStart".into(),
            source: Some(source.into()),
            ..HookEvent::default()
        })
    }

    fn notification(&mut self, kind: &str) -> &mut Self {
        self.event(HookEvent {
            name: "Notification".into(),
            notification_type: Some(kind.into()),
            detail: Some("a message".into()),
            ..HookEvent::default()
        })
    }

    fn tool_ended(&mut self, tool: &str) -> &mut Self {
        self.event(HookEvent {
            name: "PostToolUse".into(),
            tool: Some(tool.into()),
            ..HookEvent::default()
        })
    }

    fn exit(&mut self, code: i32) -> &mut Self {
        self.tracker.exited(Exit { code: Some(code), signal: None }, false, self.now);
        self
    }

    fn state(&self) -> State {
        self.tracker.status().state
    }

    fn detail(&self) -> Option<&str> {
        self.tracker.status().detail.as_deref()
    }

    fn turns(&self) -> u32 {
        self.tracker.status().turns
    }
}

#[test]
fn claude_starts_until_its_first_hook() {
    let mut session = Session::of(Program::Claude);
    assert_eq!(session.after(5000).state(), State::Starting);
    assert_eq!(session.session_start("startup").state(), State::Done);
    assert_eq!(session.turns(), 0);
}

#[test]
fn claude_starts_until_its_first_title() {
    assert_eq!(Session::of(Program::Claude).title("✳ Claude Code").state(), State::Done);
    assert_eq!(Session::of(Program::Claude).title("◐ Claude Code").state(), State::Working);
    assert_eq!(Session::of(Program::Claude).title("").state(), State::Starting);
}

#[test]
fn a_prompt_is_work_at_once() {
    let mut session = Session::of(Program::Claude);
    session.session_start("startup").title("✳ Claude Code").after(10_000);
    assert_eq!(session.hook("UserPromptSubmit").state(), State::Working);
    assert_eq!(session.title("◐ Fix").after(3000).title("◑ Fix").state(), State::Working);
}

#[test]
fn a_first_prompt_that_overtakes_the_start_stays_work() {
    let mut session = Session::of(Program::Claude);
    assert_eq!(session.hook("UserPromptSubmit").session_start("startup").state(), State::Working);
}

#[test]
fn a_permission_request_needs_you() {
    let session = Session::asked("Bash", "Bash: cargo test");
    assert_eq!(session.detail(), Some("Bash: cargo test"));
}

#[test]
fn a_permission_request_without_a_text_shows_the_tool() {
    let mut session = Session::working();
    session.event(HookEvent {
        name: "PermissionRequest".into(),
        tool: Some("Edit".into()),
        ..HookEvent::default()
    });
    assert_eq!((session.state(), session.detail()), (State::NeedsYou, Some("Edit")));
}

#[test]
fn the_late_notification_keeps_the_question() {
    let mut session = Session::asked("AskUserQuestion", "Which database?");
    session.after(6400).notification("permission_prompt");
    assert_eq!((session.state(), session.detail()), (State::NeedsYou, Some("Which database?")));
}

#[test]
fn a_notification_alone_needs_you() {
    for kind in ["permission_prompt", "elicitation_dialog", "elicitation_url_dialog"] {
        let mut session = Session::working();
        session.notification(kind);
        assert_eq!(
            (session.state(), session.detail()),
            (State::NeedsYou, Some("a message")),
            "{kind}"
        );
    }
    assert_eq!(Session::working().notification("auth_success").state(), State::Working);
}

#[test]
fn a_waiting_question_does_not_become_done_by_the_title() {
    let mut session = Session::asked("Bash", "x");
    assert_eq!(session.after(30_000).state(), State::NeedsYou);
}

#[test]
fn a_turning_title_leaves_needs_you_at_once() {
    let mut session = Session::asked("Bash", "x");
    assert_eq!(session.after(50).title("◐ Fix it").state(), State::Working);
    assert_eq!(session.detail(), None);
}

#[test]
fn a_title_that_was_on_its_way_does_not_answer_the_question() {
    let mut session = Session::working();
    session.hook("PermissionRequest").after(50).title("◐ Fix it");
    assert_eq!(session.state(), State::NeedsYou);
    assert_eq!(session.after(50).title("✳ Fix it").after(3000).state(), State::NeedsYou);
}

#[test]
fn a_tool_that_ran_is_work_again() {
    let mut session = Session::asked("Bash", "x");
    assert_eq!(session.after(25_000).tool_ended("Bash").state(), State::Working);
}

#[test]
fn another_tool_does_not_answer_the_question() {
    let mut session = Session::asked("Bash", "x");
    assert_eq!(session.tool_ended("Edit").state(), State::NeedsYou);
}

#[test]
fn a_tool_that_ends_after_the_stop_is_not_work() {
    let mut session = Session::working();
    assert_eq!(session.hook("Stop").tool_ended("Bash").state(), State::Done);
}

#[test]
fn stop_is_done_or_background() {
    let mut session = Session::working();
    session.hook("Stop").title("✳ Fix it");
    assert_eq!((session.state(), session.turns()), (State::Done, 1));

    let mut session = Session::working();
    session.event(HookEvent { name: "Stop".into(), background: true, ..HookEvent::default() });
    assert_eq!(session.title("✳ Fix it").after(60_000).state(), State::Background);
    assert_eq!(session.notification("idle_prompt").state(), State::Background);
    assert_eq!(session.title("◐ Fix it").state(), State::Working);
}

#[test]
fn a_turning_title_on_its_way_does_not_undo_a_stop() {
    let mut session = Session::working();
    assert_eq!(
        session.hook("Stop").after(40).title("◐ Fix it").title("✳ Fix it").state(),
        State::Done
    );
    assert_eq!(session.turns(), 1);
}

#[test]
fn idle_prompt_is_a_backstop() {
    assert_eq!(Session::working().notification("idle_prompt").state(), State::Done);
    assert_eq!(Session::asked("Bash", "x").notification("idle_prompt").state(), State::Done);
    let mut session = Session::working();
    assert_eq!(session.hook("Stop").after(60_000).notification("idle_prompt").turns(), 1);
}

#[test]
fn esc_during_work_does_not_stay_working() {
    let mut session = Session::working();
    session.after(100).title("✳ Fix it").after(999);
    assert_eq!(session.state(), State::Working);
    session.after(2);
    assert_eq!((session.state(), session.turns()), (State::Done, 1));
    assert_eq!(session.after(60_000).state(), State::Done);
}

#[test]
fn esc_straight_after_a_hook_does_not_stay_working() {
    let mut session = Session::working();
    session.title("✳ Fix it").tool_ended("Bash").after(999);
    assert_eq!(session.state(), State::Working);
    assert_eq!(session.after(2).state(), State::Done);
}

#[test]
fn a_short_idle_title_is_no_end() {
    let mut session = Session::working();
    assert_eq!(
        session.title("✳ Fix it").after(900).title("◐ Fix it").after(5000).state(),
        State::Working
    );
}

#[test]
fn esc_at_a_question_takes_it_back() {
    let mut session = Session::asked("AskUserQuestion", "Which?");
    session.after(2000);
    session.tracker.escape(session.now);
    assert_eq!(session.after(999).state(), State::NeedsYou);
    assert_eq!(session.after(2).state(), State::Done);
}

#[test]
fn esc_then_a_new_question_needs_you() {
    let mut session = Session::asked("Bash", "one");
    session.tracker.escape(session.now);
    session.after(500).hook("PermissionRequest");
    assert_eq!(session.after(5000).state(), State::NeedsYou);
}

#[test]
fn a_failed_turn_is_trouble_until_the_next_prompt() {
    let mut session = Session::working();
    session.event(HookEvent {
        name: "StopFailure".into(),
        error: Some("rate limit".into()),
        ..HookEvent::default()
    });
    session.title("✳ Fix it").after(60_000);
    assert_eq!((session.state(), session.detail()), (State::Trouble, Some("rate limit")));
    for (error, words) in [
        ("rate_limit", "the account's limit is reached"),
        ("unknown", "Claude's API answered with an error"),
    ] {
        session.event(HookEvent {
            name: "StopFailure".into(),
            error: Some(error.into()),
            ..HookEvent::default()
        });
        assert_eq!(session.detail(), Some(words));
    }
    assert_eq!(session.hook("UserPromptSubmit").state(), State::Working);
    assert_eq!(session.detail(), None);
}

#[test]
fn a_command_of_the_person_is_a_stop_alone() {
    let mut session = Session::of(Program::Claude);
    assert_eq!(session.session_start("startup").hook("Stop").state(), State::Done);
}

#[test]
fn compaction_and_subagents_mean_nothing() {
    assert_eq!(Session::working().session_start("compact").state(), State::Working);
    assert_eq!(Session::working().hook("SubagentStop").state(), State::Working);
    assert_eq!(Session::asked("Bash", "x").hook("SubagentStop").state(), State::NeedsYou);
    assert_eq!(Session::working().hook("PreToolUse").state(), State::Working);
}

#[test]
fn the_end_of_a_session_is_the_end() {
    let mut session = Session::working();
    assert_eq!(session.hook("SessionEnd").title("").state(), State::Ended);
    assert_eq!(session.exit(130).state(), State::Ended);
    assert_eq!(session.hook("UserPromptSubmit").state(), State::Ended);
}

#[test]
fn clearing_ends_one_session_and_starts_the_next() {
    let mut session = Session::working();
    session.hook("SessionEnd").session_start("clear");
    assert_eq!((session.state(), session.turns()), (State::Done, 0));
}

#[test]
fn a_program_that_is_gone_is_ended_or_trouble() {
    assert_eq!(Session::working().exit(0).state(), State::Ended);
    let mut session = Session::working();
    session.exit(1);
    assert_eq!((session.state(), session.detail()), (State::Trouble, Some("exit code 1")));
    let mut session = Session::working();
    session.tracker.exited(Exit { code: None, signal: Some(9) }, false, session.now);
    assert_eq!((session.state(), session.detail()), (State::Trouble, Some("ended by signal 9")));
    let mut session = Session::working();
    session.tracker.exited(Exit { code: None, signal: Some(15) }, true, session.now);
    assert_eq!(session.state(), State::Ended);
}

#[test]
fn a_shell_is_ready_and_its_titles_and_exit_codes_mean_nothing() {
    let mut session = Session::of(Program::Other);
    assert_eq!(session.title("➜ workspace").after(2000).state(), State::Done);
    assert_eq!(session.exit(1).state(), State::Ended);
}

#[test]
fn claude_in_a_shell_counts_while_it_runs() {
    let mut session = Session::of(Program::Other);
    session.session_start("startup").hook("UserPromptSubmit").title("◐ Fix");
    assert_eq!(session.state(), State::Working);
    assert_eq!(session.hook("SessionEnd").title("➜ workspace").state(), State::Done);
    assert_eq!(session.turns(), 0);
}

#[test]
fn at_most_four_reports_a_second_and_the_last_is_never_lost() {
    let mut session = Session::of(Program::Claude);
    let mut reports = Vec::new();
    for step in 0..1000 {
        session.hook(if step % 2 == 0 { "UserPromptSubmit" } else { "Stop" });
        reports.extend(session.tracker.report(session.now));
        session.after(1);
    }
    assert!((4..=5).contains(&reports.len()), "{} reports in a second", reports.len());
    let deadline = session.tracker.deadline().unwrap();
    assert!(deadline <= session.now + IDLE_AFTER);
    let last = session.tracker.report(deadline).unwrap();
    assert_eq!((last.state, last.turns), (State::Done, 500));
    assert_eq!(session.tracker.report(deadline + IDLE_AFTER), None);
    assert_eq!(session.tracker.deadline(), None);
}

#[test]
fn glyphs_are_single_signs_before_a_space() {
    assert_eq!(title_glyph("✳ Claude Code"), Some('✳'));
    assert_eq!(title_glyph("✳\u{fe0e} Claude"), Some('✳'));
    assert_eq!(title_glyph("◐"), Some('◐'));
    assert_eq!(title_glyph("⠂ x"), Some('⠂'));
    assert_eq!(title_glyph("Über uns"), None);
    assert_eq!(title_glyph("* x"), None);
    assert_eq!(title_glyph("…etc"), None);
    assert_eq!(title_glyph(""), None);
}
