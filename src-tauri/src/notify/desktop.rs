//! The desktop's notifications, by notify-rust: each that is shown has a wait of
//! its own for what the person does with it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use notify_rust::{Hint, Notification, NotificationHandle, NotificationResponse, Timeout, Urgency};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::decide::{About, Answer, Note, Step, escaped};

/// Longest wait for the desktop's daemon; one that hangs must not hold up the rest.
const PATIENCE: Duration = Duration::from_secs(5);

/// What comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    Answered(About, Answer),
    Closed(About),
}

pub struct Desktop {
    shown: HashMap<About, Shown>,
    /// Asked from the daemon before the first is shown.
    able: Option<Able>,
    said: mpsc::UnboundedReceiver<(u32, Said)>,
    tell: mpsc::UnboundedSender<(u32, Said)>,
}

/// What the daemon can do.
#[derive(Debug, Clone, Copy)]
struct Able {
    markup: bool,
    buttons: bool,
}

/// One that stands on the desktop.
struct Shown {
    handle: Arc<NotificationHandle>,
    wait: JoinHandle<()>,
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.wait.abort();
    }
}

impl Desktop {
    pub fn new() -> Self {
        let (tell, said) = mpsc::unbounded_channel();
        Self { shown: HashMap::new(), able: None, said, tell }
    }

    /// Does it, or nothing on a desktop without notifications.
    pub async fn perform(&mut self, step: Step) {
        let done = async {
            match step {
                Step::Show(note) => self.show(note).await,
                Step::Withdraw(about) => {
                    if let Some(shown) = self.shown.remove(&about) {
                        shown.handle.close_async().await;
                    }
                }
            }
        };
        // The window shows the same; the next may find a daemon that answers.
        let _ = tokio::time::timeout(PATIENCE, done).await;
    }

    async fn show(&mut self, note: Note) {
        let Some(able) = self.able().await else { return };
        let mut notification = Notification::new();
        notification
            .appname("rcc")
            .icon(crate::APPLICATION)
            .summary(&note.title)
            .body(&if able.markup { escaped(&note.body) } else { note.body.clone() })
            .hint(Hint::DesktopEntry(crate::APPLICATION.into()))
            .urgency(Urgency::Normal)
            .timeout(Timeout::Default);
        if able.buttons {
            for (answer, label) in &note.answers {
                notification.action(answer.key(), label);
            }
            // A click beside the buttons. Last and without a label: some desktops make a
            // fourth button of it else.
            if note.answers.iter().all(|(answer, _)| *answer != Answer::Show) {
                notification.action(Answer::Show.key(), "");
            }
        }
        // In the place of the one about the same, whose wait ends here.
        if let Some(old) = self.shown.remove(&note.about) {
            notification.id(old.handle.id());
        }
        let Ok(handle) = notification.show_async().await else { return };
        let handle = Arc::new(handle);
        let wait = tokio::spawn(wait(handle.clone(), note.about.clone(), self.tell.clone()));
        self.shown.insert(note.about, Shown { handle, wait });
    }

    async fn able(&mut self) -> Option<Able> {
        if self.able.is_none() {
            // The crate has only the blocking way to ask.
            let asked = tokio::task::spawn_blocking(notify_rust::get_capabilities).await;
            let capabilities = asked.ok()?.ok()?;
            let has = |name: &str| capabilities.iter().any(|own| own == name);
            self.able = Some(Able { markup: has("body-markup"), buttons: has("actions") });
        }
        self.able
    }

    /// The next thing that the person or the desktop did with one of ours.
    pub async fn said(&mut self) -> Option<Said> {
        loop {
            let (id, said) = self.said.recv().await?;
            let (Said::Answered(about, _) | Said::Closed(about)) = &said;
            // What was replaced or withdrawn meanwhile is no answer any more.
            if self.shown.get(about).is_none_or(|shown| shown.handle.id() != id) {
                continue;
            }
            if matches!(said, Said::Closed(_)) {
                self.shown.remove(about);
            }
            return Some(said);
        }
    }
}

async fn wait(
    handle: Arc<NotificationHandle>,
    about: About,
    tell: mpsc::UnboundedSender<(u32, Said)>,
) {
    let id = handle.id();
    handle
        .wait_for_action_async(|response: &NotificationResponse| {
            let said = match response {
                NotificationResponse::Default => Said::Answered(about, Answer::Show),
                NotificationResponse::Action(key) => match Answer::from_key(key) {
                    Some(answer) => Said::Answered(about, answer),
                    None => return,
                },
                _ => Said::Closed(about),
            };
            // The app may be ending.
            let _ = tell.send((id, said));
        })
        .await;
}

#[cfg(test)]
mod tests {
    use zbus::object_server::SignalEmitter;
    use zbus::zvariant::OwnedValue;

    use super::*;
    use crate::wire::Blocked;
    use rcc_test_aids::on_a_bus;

    type Call = (u32, String, String, Vec<String>);

    /// A notification daemon; what it is asked goes into the channels.
    struct Daemon {
        last: u32,
        shown: mpsc::UnboundedSender<Call>,
        closed: mpsc::UnboundedSender<u32>,
    }

    #[zbus::interface(name = "org.freedesktop.Notifications")]
    impl Daemon {
        fn get_capabilities(&self) -> Vec<String> {
            ["body", "body-markup", "actions"].map(Into::into).into()
        }

        #[expect(clippy::too_many_arguments, reason = "the specification's own")]
        fn notify(
            &mut self,
            _app_name: &str,
            replaces_id: u32,
            _app_icon: &str,
            summary: &str,
            body: &str,
            actions: Vec<String>,
            hints: HashMap<String, OwnedValue>,
            _expire_timeout: i32,
        ) -> u32 {
            let entry = hints["desktop-entry"].downcast_ref::<String>().unwrap();
            assert_eq!(entry, "dev.rcc.Desktop");
            if replaces_id == 0 {
                self.last += 1;
            }
            let id = if replaces_id == 0 { self.last } else { replaces_id };
            self.shown.send((id, summary.into(), body.into(), actions)).unwrap();
            id
        }

        async fn close_notification(
            &mut self,
            id: u32,
            #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
        ) {
            self.closed.send(id).unwrap();
            Self::notification_closed(&emitter, id, 3).await.unwrap();
        }

        #[zbus(signal)]
        async fn notification_closed(
            emitter: &SignalEmitter<'_>,
            id: u32,
            reason: u32,
        ) -> zbus::Result<()>;

        #[zbus(signal)]
        async fn action_invoked(
            emitter: &SignalEmitter<'_>,
            id: u32,
            action_key: &str,
        ) -> zbus::Result<()>;
    }

    #[test]
    fn a_daemon_shows_replaces_and_withdraws() {
        on_a_bus("notify::desktop::tests::on_the_bus");
    }

    /// Run by the test above, with a session bus of its own.
    #[tokio::test]
    #[ignore = "needs a bus of its own"]
    async fn on_the_bus() {
        let (shown, mut shows) = mpsc::unbounded_channel();
        let (closed, mut closes) = mpsc::unbounded_channel();
        let path = "/org/freedesktop/Notifications";
        let bus = zbus::connection::Builder::session()
            .unwrap()
            .serve_at(path, Daemon { last: 0, shown, closed })
            .unwrap()
            .name("org.freedesktop.Notifications")
            .unwrap()
            .build()
            .await
            .unwrap();
        let mut desktop = Desktop::new();
        let about = About::Blocked(Blocked {
            project: "p".into(),
            target: "a.example".into(),
            port: 0,
            protocol: "tcp".into(),
            reason: "not-allowed".into(),
        });
        let note = |body: &str| Note {
            about: about.clone(),
            title: "shop: blocked a.example".into(),
            body: body.into(),
            answers: vec![(Answer::Allow, "Allow for This Project"), (Answer::More, "More…")],
        };
        desktop.perform(Step::Show(note("<img src=x> & more"))).await;
        let (id, summary, body, actions) = shows.recv().await.unwrap();
        assert_eq!(summary, "shop: blocked a.example");
        assert_eq!(body, "&lt;img src=x&gt; &amp; more");
        let buttons = ["allow", "Allow for This Project", "more", "More…", "default", ""];
        assert_eq!(actions, buttons);
        desktop.perform(Step::Show(note("again"))).await;
        assert_eq!(shows.recv().await.unwrap().0, id);

        // The daemon may answer before the wait has begun to listen: it is told until it hears.
        let emitter = SignalEmitter::new(&bus, path).unwrap();
        let answered = heard(&mut desktop, async || {
            // One of somebody else's is passed over. notify-rust hears nothing between two
            // signals for a moment (known-issues.md).
            Daemon::action_invoked(&emitter, 999, "not-now").await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
            Daemon::action_invoked(&emitter, id, "allow").await.unwrap();
        });
        assert_eq!(answered.await, Said::Answered(about.clone(), Answer::Allow));
        // Who answers here has it taken away, whatever the daemon does by itself.
        desktop.perform(Step::Withdraw(about.clone())).await;
        assert_eq!(closes.recv().await.unwrap(), id);

        desktop.perform(Step::Show(note("once more"))).await;
        let (second, ..) = shows.recv().await.unwrap();
        assert_ne!(second, id);
        let closed = heard(&mut desktop, async || {
            Daemon::notification_closed(&emitter, second, 2).await.unwrap();
        });
        assert_eq!(closed.await, Said::Closed(about.clone()));
        // Nothing is left of it.
        desktop.perform(Step::Withdraw(about)).await;
        assert!(closes.try_recv().is_err());
    }

    /// What the desktop hears while `tell` is done again and again.
    async fn heard(desktop: &mut Desktop, tell: impl AsyncFn()) -> Said {
        for _ in 0..100 {
            tell().await;
            let said = tokio::time::timeout(Duration::from_millis(50), desktop.said()).await;
            if let Ok(said) = said {
                return said.unwrap();
            }
        }
        panic!("nothing was heard")
    }
}
