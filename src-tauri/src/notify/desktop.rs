//! The desktop's notifications (Desktop Notifications Specification 1.2).
//!
//! Spoken on the connection that is there anyway: a crate for it would bring
//! another major version of zbus.

use std::collections::HashMap;

use futures_util::StreamExt;
use zbus::zvariant::Value;

use super::decide::{About, Answer, Note, Step, escaped};

#[zbus::proxy(
    interface = "org.freedesktop.Notifications",
    default_service = "org.freedesktop.Notifications",
    default_path = "/org/freedesktop/Notifications"
)]
trait Notifications {
    fn get_capabilities(&self) -> zbus::Result<Vec<String>>;

    #[expect(clippy::too_many_arguments, reason = "the specification's own")]
    fn notify(
        &self,
        app_name: &str,
        replaces_id: u32,
        app_icon: &str,
        summary: &str,
        body: &str,
        actions: &[&str],
        hints: HashMap<&str, Value<'_>>,
        expire_timeout: i32,
    ) -> zbus::Result<u32>;

    fn close_notification(&self, id: u32) -> zbus::Result<()>;

    #[zbus(signal)]
    fn notification_closed(&self, id: u32, reason: u32) -> zbus::Result<()>;

    #[zbus(signal)]
    fn action_invoked(&self, id: u32, action_key: &str) -> zbus::Result<()>;
}

/// Milliseconds until it goes; as the desktop does it.
const AS_USUAL: i32 = -1;

/// `urgency` normal.
const NORMAL: u8 = 1;

/// What comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    Answered(About, Answer),
    Closed(About),
}

pub struct Desktop {
    server: NotificationsProxy<'static>,
    answered: ActionInvokedStream,
    closed: NotificationClosedStream,
    ids: HashMap<About, u32>,
    markup: bool,
    buttons: bool,
}

impl Desktop {
    pub async fn connect() -> zbus::Result<Self> {
        let bus = zbus::Connection::session().await?;
        let server = NotificationsProxy::new(&bus).await?;
        let capabilities = server.get_capabilities().await?;
        let has = |name: &str| capabilities.iter().any(|own| own == name);
        Ok(Self {
            answered: server.receive_action_invoked().await?,
            closed: server.receive_notification_closed().await?,
            ids: HashMap::new(),
            markup: has("body-markup"),
            buttons: has("actions"),
            server,
        })
    }

    pub async fn perform(&mut self, step: Step) -> zbus::Result<()> {
        match step {
            Step::Show(note) => self.show(note).await,
            Step::Withdraw(about) => match self.ids.remove(&about) {
                Some(id) => self.server.close_notification(id).await,
                None => Ok(()),
            },
        }
    }

    async fn show(&mut self, note: Note) -> zbus::Result<()> {
        let body = if self.markup { escaped(&note.body) } else { note.body.clone() };
        let mut actions = Vec::new();
        if self.buttons {
            if note.answers.iter().all(|(answer, _)| *answer != Answer::Show) {
                actions.extend([Answer::Show.key(), "Show"]);
            }
            actions.extend(note.answers.iter().flat_map(|(answer, label)| [answer.key(), label]));
        }
        let hints = HashMap::from([
            ("desktop-entry", Value::from(crate::APPLICATION)),
            ("urgency", Value::from(NORMAL)),
        ]);
        let replaces = self.ids.get(&note.about).copied().unwrap_or(0);
        let id = self
            .server
            .notify("rcc", replaces, "rcc", &note.title, &body, &actions, hints, AS_USUAL)
            .await?;
        self.ids.insert(note.about, id);
        Ok(())
    }

    /// The next thing that the person or the desktop did with one of ours;
    /// `None` when the bus is gone.
    pub async fn said(&mut self) -> Option<Said> {
        loop {
            let (id, key) = tokio::select! {
                answered = self.answered.next() => {
                    let answered = answered?;
                    let Ok(arguments) = answered.args() else { continue };
                    (arguments.id, Some(arguments.action_key.to_string()))
                }
                closed = self.closed.next() => {
                    let closed = closed?;
                    let Ok(arguments) = closed.args() else { continue };
                    (arguments.id, None)
                }
            };
            let about =
                self.ids.iter().find(|(_, own)| **own == id).map(|(about, _)| about.clone());
            let Some(about) = about else { continue };
            let said = match key {
                Some(key) => match Answer::from_key(&key) {
                    Some(answer) => Said::Answered(about.clone(), answer),
                    None => continue,
                },
                None => Said::Closed(about.clone()),
            };
            if matches!(said, Said::Closed(_)) {
                self.ids.remove(&about);
            }
            return Some(said);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;
    use zbus::object_server::SignalEmitter;
    use zbus::zvariant::OwnedValue;

    use super::*;
    use crate::testing::on_a_bus;

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
        let mut desktop = Desktop::connect().await.unwrap();
        let about = About::Blocked {
            project: "p".into(),
            target: "a.example".into(),
            port: 443,
            protocol: "tcp".into(),
        };
        let note = |body: &str| Note {
            about: about.clone(),
            title: "shop: blocked a.example".into(),
            body: body.into(),
            answers: vec![(Answer::Allow, "Allow for This Project"), (Answer::More, "More…")],
        };
        desktop.perform(Step::Show(note("<img src=x> & more"))).await.unwrap();
        let (id, summary, body, actions) = shows.recv().await.unwrap();
        assert_eq!(summary, "shop: blocked a.example");
        assert_eq!(body, "&lt;img src=x&gt; &amp; more");
        let buttons = ["default", "Show", "allow", "Allow for This Project", "more", "More…"];
        assert_eq!(actions, buttons);
        desktop.perform(Step::Show(note("again"))).await.unwrap();
        assert_eq!(shows.recv().await.unwrap().0, id);

        let emitter = SignalEmitter::new(&bus, path).unwrap();
        // One of somebody else's is passed over.
        Daemon::action_invoked(&emitter, 999, "allow").await.unwrap();
        Daemon::action_invoked(&emitter, id, "allow").await.unwrap();
        let answered = Said::Answered(about.clone(), Answer::Allow);
        assert_eq!(desktop.said().await.unwrap(), answered);
        Daemon::notification_closed(&emitter, id, 2).await.unwrap();
        assert_eq!(desktop.said().await.unwrap(), Said::Closed(about.clone()));

        desktop.perform(Step::Show(note("once more"))).await.unwrap();
        let (second, ..) = shows.recv().await.unwrap();
        desktop.perform(Step::Withdraw(about.clone())).await.unwrap();
        assert_eq!(closes.recv().await.unwrap(), second);
        // Nothing is left of it.
        desktop.perform(Step::Withdraw(about)).await.unwrap();
        assert!(closes.try_recv().is_err());
    }
}
