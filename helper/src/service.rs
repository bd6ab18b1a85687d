//! The interface on the bus: each method parses, asks who is calling and whether
//! they may, and hands checked values to [`Control`]. Nothing is read again after
//! the check, and no method needs `&mut self`: a password prompt blocks nobody.

// The arguments of a signal are the contract's.
#![allow(clippy::too_many_arguments)]

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::fmt::Display;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rcc_dbus::{
    Attachment, AttachmentInfo, Check, Code, HelperError, PROTOCOL, Reached, Rule, RuleDropped,
    action,
};
use rcc_policy::MAX_DOCUMENT;
use zbus::message::Header;
use zbus::object_server::SignalEmitter;
use zbus::zvariant::OwnedFd;

use crate::auth::{Caller, action_of, authorise};
use crate::control::Control;
use crate::diagnose;
use crate::policy_file::InForce;
use crate::resolver::parent::Bucket;
use crate::setup;
use crate::watchers::Watchers;

/// How often one user may attach, and refresh, in a second and in a burst.
const ATTACH_RATE: (f64, f64) = (2.0, 200.0);
/// How often one user may change what holds for sandboxes, when each change holds all others
/// up for [`CHANGE_TIME`] at most; one that takes longer counts for as many more.
const CHANGE_RATE: (f64, f64) = (10.0, 300.0);
const CHANGE_TIME: Duration = Duration::from_millis(20);
/// Taking something away is never refused: whoever does that too often waits so long each time.
const CHANGE_PAUSE: Duration = Duration::from_millis(100);
/// As so many at most: what takes longer waits for something that is not the user's, as a
/// resolver that hangs.
const DEAREST: f64 = 20.0;
const REFRESH_PAUSE: Duration = Duration::from_secs(10);
/// How often the computer is looked at for `Diagnose`, in a second and in a burst; who asks
/// more often is told what was seen last.
const DIAGNOSE_RATE: (f64, f64) = (1.0, 10.0);

/// SHA-256 in hexadecimal.
const MAX_VERSION: usize = 64;

/// See the module.
pub struct Helper {
    control: Arc<Control>,
    watchers: Arc<Watchers>,
    attaching: Mutex<HashMap<u32, Bucket>>,
    changing: Mutex<HashMap<u32, Bucket>>,
    /// Held by a user's one change that is under way: others' come between two of them.
    turns: Mutex<HashMap<u32, Arc<tokio::sync::Mutex<()>>>>,
    refreshed: Mutex<HashMap<u32, Instant>>,
    /// What was seen last, and when one may look again. Held while one looks.
    diagnosed: tokio::sync::Mutex<(Bucket, Vec<Check>)>,
    /// Users who change what holds for all: their prompts keep nobody else waiting.
    asked: Mutex<HashSet<u32>>,
    /// Held by the one who edits the policy, and was let.
    editing: tokio::sync::Mutex<()>,
    /// Held by the one who sets up, and was let.
    setting_up: tokio::sync::Mutex<()>,
}

type Answer<T> = Result<T, HelperError>;

/// A user's one change of what holds for all.
struct Asked<'a>(&'a Mutex<HashSet<u32>>, u32);

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if let Ok(mut asked) = self.0.lock() {
            asked.remove(&self.1);
        }
    }
}

impl Helper {
    /// The interface over `control`.
    pub fn new(control: Arc<Control>, watchers: Arc<Watchers>) -> Self {
        Self {
            control,
            watchers,
            attaching: Mutex::default(),
            changing: Mutex::default(),
            turns: Mutex::default(),
            refreshed: Mutex::default(),
            diagnosed: tokio::sync::Mutex::new((
                Bucket::new(DIAGNOSE_RATE.0, DIAGNOSE_RATE.1),
                Vec::new(),
            )),
            asked: Mutex::default(),
            editing: Default::default(),
            setting_up: Default::default(),
        }
    }

    /// Who is calling, if polkit lets them call `method`.
    async fn admit(
        &self,
        method: &str,
        connection: &zbus::Connection,
        header: &Header<'_>,
    ) -> Answer<Caller> {
        let action = action_of(method)?;
        let _call = self.watchers.call();
        let nothing = HashMap::new();
        let (caller, ()) = tokio::try_join!(
            Caller::of(connection, header),
            authorise(connection, header, action, &nothing),
        )?;
        Ok(caller)
    }

    /// A user changes one such thing at a time: a prompt keeps a long list in memory.
    fn ask_once(&self, uid: u32) -> Answer<Asked<'_>> {
        if self.asked.lock().is_ok_and(|mut asked| asked.insert(uid)) {
            return Ok(Asked(&self.asked, uid));
        }
        let text = "You are changing something for everybody already; answer that prompt first.";
        Err(HelperError::new(Code::LimitReached, text))
    }

    /// Admits the caller to attachment `id`: to their own by the method's action,
    /// to another's as an administrator. Answers who it is, and whether it is another's. Somebody
    /// else's id looks like one that does not exist to who may not control it (H1). `pays`: it
    /// counts as a change that gives a sandbox more; taking away is never refused for its pace.
    async fn admit_to(
        &self,
        method: &str,
        id: u32,
        pays: bool,
        connection: &zbus::Connection,
        header: &Header<'_>,
    ) -> Answer<(u32, bool)> {
        let _call = self.watchers.call();
        let caller = self.admit(method, connection, header).await?;
        if pays && too_soon(&self.changing, caller.uid, CHANGE_RATE) {
            let text = "You change sandboxes faster than the firewall takes it; wait a moment.";
            return Err(HelperError::new(Code::LimitReached, text));
        }
        let none =
            || HelperError::new(Code::NoSuchAttachment, "You have no sandbox with this number.");
        match self.control.owner(id).await {
            Some(owner) if owner == caller.uid => Ok((caller.uid, false)),
            // Also for a number that does not exist: whether polkit is asked would
            // tell which ones do.
            _ => {
                let details = HashMap::from([("what", method)]);
                match authorise(connection, header, action::CONTROL_OTHERS, &details).await {
                    Ok(()) if self.control.owner(id).await.is_some() => Ok((caller.uid, true)),
                    _ => Err(none()),
                }
            }
        }
    }
}

impl Helper {
    /// Does a user's change when their last one is done, and counts what it took. What
    /// `takes` away did not pay on admission.
    async fn in_turn<T>(&self, uid: u32, takes: bool, change: impl Future<Output = T>) -> T {
        let turn = self.turns.lock().map(|mut turns| turns.entry(uid).or_default().clone());
        let turn = turn.unwrap_or_default();
        let _turn = turn.lock().await;
        if takes && too_soon(&self.changing, uid, CHANGE_RATE) {
            tokio::time::sleep(CHANGE_PAUSE).await;
            // What came meanwhile pays for it.
            too_soon(&self.changing, uid, CHANGE_RATE);
        }
        let begun = Instant::now();
        let done = change.await;
        let more = begun.elapsed().div_duration_f64(CHANGE_TIME) - 1.0;
        if let Ok(mut buckets) = self.changing.lock() {
            let new = || Bucket::new(CHANGE_RATE.0, CHANGE_RATE.1);
            buckets.entry(uid).or_insert_with(new).charge(more.clamp(0.0, DEAREST));
        }
        done
    }
}

/// Takes one from the bucket of a user; true when there is none.
fn too_soon(buckets: &Mutex<HashMap<u32, Bucket>>, uid: u32, (rate, burst): (f64, f64)) -> bool {
    buckets.lock().map_or(true, |mut buckets| {
        !buckets.entry(uid).or_insert_with(|| Bucket::new(rate, burst)).take()
    })
}

#[zbus::interface(name = "dev.rcc.Helper1")]
impl Helper {
    async fn attach(
        &self,
        #[zbus(connection)] connection: &zbus::Connection,
        #[zbus(header)] header: Header<'_>,
        netns: OwnedFd,
        rules: Vec<Rule>,
    ) -> Result<Attachment, HelperError> {
        crate::control::check_size(&rules)?;
        let caller = self.admit("Attach", connection, &header).await?;
        caller.check_may_attach(&self.control.policy().await.policy.defaults.attach)?;
        if too_soon(&self.attaching, caller.uid, ATTACH_RATE) {
            let text = "You open sandboxes faster than the firewall takes them; wait a moment.";
            return Err(HelperError::new(Code::LimitReached, text));
        }
        // It has a pace of its own.
        self.control.attach(caller.uid, netns.into(), &rules).await
    }

    #[zbus(out_args("dropped"))]
    async fn set_rules(
        &self,
        #[zbus(connection)] connection: &zbus::Connection,
        #[zbus(header)] header: Header<'_>,
        id: u32,
        rules: Vec<Rule>,
        expires_in: u32,
    ) -> Result<Vec<RuleDropped>, HelperError> {
        // Before anybody is asked: a prompt must not keep a large call in memory.
        crate::control::check_size(&rules)?;
        let takes = rules.is_empty();
        let (uid, _) = self.admit_to("SetRules", id, !takes, connection, &header).await?;
        self.in_turn(uid, takes, self.control.set_rules(id, &rules, expires_in)).await
    }

    async fn set_connected(
        &self,
        #[zbus(connection)] connection: &zbus::Connection,
        #[zbus(header)] header: Header<'_>,
        id: u32,
        connected: bool,
    ) -> Result<(), HelperError> {
        let (uid, administrator) =
            self.admit_to("SetConnected", id, connected, connection, &header).await?;
        let change = self.control.set_connected(id, connected, administrator);
        self.in_turn(uid, !connected, change).await
    }

    async fn open_internet(
        &self,
        #[zbus(connection)] connection: &zbus::Connection,
        #[zbus(header)] header: Header<'_>,
        id: u32,
        seconds: u32,
    ) -> Result<(), HelperError> {
        let (uid, _) = self.admit_to("OpenInternet", id, seconds > 0, connection, &header).await?;
        self.in_turn(uid, seconds == 0, self.control.open_internet(id, seconds)).await
    }

    #[zbus(out_args("destinations"))]
    async fn reached(
        &self,
        #[zbus(connection)] connection: &zbus::Connection,
        #[zbus(header)] header: Header<'_>,
        id: u32,
    ) -> Result<Vec<Reached>, HelperError> {
        self.admit_to("Reached", id, false, connection, &header).await?;
        Ok(self.control.reached_by(id))
    }

    async fn detach(
        &self,
        #[zbus(connection)] connection: &zbus::Connection,
        #[zbus(header)] header: Header<'_>,
        id: u32,
    ) -> Result<(), HelperError> {
        let (_, administrator) = self.admit_to("Detach", id, false, connection, &header).await?;
        self.control.detach(id, administrator).await
    }

    #[zbus(out_args("attachments"))]
    async fn list(
        &self,
        #[zbus(connection)] connection: &zbus::Connection,
        #[zbus(header)] header: Header<'_>,
        others: bool,
    ) -> Result<Vec<AttachmentInfo>, HelperError> {
        let _call = self.watchers.call();
        let caller = self.admit("List", connection, &header).await?;
        if others {
            let details = HashMap::from([("what", "List")]);
            authorise(connection, &header, action::CONTROL_OTHERS, &details).await?;
        }
        Ok(self.control.list((!others).then_some(caller.uid)).await)
    }

    async fn watch(
        &self,
        #[zbus(connection)] connection: &zbus::Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), HelperError> {
        let caller = self.admit("Watch", connection, &header).await?;
        self.watchers.add(caller)?;
        // What was refused while nobody watched is told now.
        self.control.refusals.notify_one();
        Ok(())
    }

    async fn unwatch(
        &self,
        #[zbus(connection)] connection: &zbus::Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), HelperError> {
        let caller = self.admit("Unwatch", connection, &header).await?;
        self.control.flush(|uid| !self.watchers.of(Some(uid)).is_empty()).await;
        self.control.sent().await;
        self.watchers.remove(&caller.name);
        // What was being sent meanwhile comes before this answer, too.
        self.control.sent().await;
        Ok(())
    }

    #[zbus(out_args("document", "version"))]
    async fn get_policy(
        &self,
        #[zbus(connection)] connection: &zbus::Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(String, String), HelperError> {
        self.admit("GetPolicy", connection, &header).await?;
        let policy = self.control.policy().await;
        Ok((policy.document.clone(), policy.version.clone()))
    }

    #[zbus(out_args("checks"))]
    async fn diagnose(
        &self,
        #[zbus(connection)] connection: &zbus::Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<Vec<Check>, HelperError> {
        self.admit("Diagnose", connection, &header).await?;
        let mut diagnosed = self.diagnosed.lock().await;
        if diagnosed.0.take() {
            diagnosed.1 = diagnose::checks(&self.control, connection).await;
        }
        Ok(diagnosed.1.clone())
    }

    #[zbus(out_args("version"))]
    async fn replace_policy(
        &self,
        #[zbus(connection)] connection: &zbus::Connection,
        #[zbus(header)] header: Header<'_>,
        document: String,
        expected_version: String,
    ) -> Result<String, HelperError> {
        action_of("ReplacePolicy")?;
        // Before anybody is asked, as for rules.
        if document.len() > MAX_DOCUMENT || expected_version.len() > MAX_VERSION {
            let text = "The list of allowed hosts is too long.";
            return Err(HelperError::new(Code::InvalidPolicy, text));
        }
        let _call = self.watchers.call();
        // Who it is goes into the log before anything is asked of polkit.
        let caller = Caller::of(connection, &header).await?;
        let _asked = self.ask_once(caller.uid)?;
        let fresh = aside(move || InForce::parse(document)).await?;
        let before = self.control.policy().await;
        let conflict = || {
            let text = "The list of allowed hosts was changed meanwhile; look at it again.";
            HelperError::new(Code::VersionConflict, text)
        };
        if before.version != expected_version {
            return Err(conflict());
        }
        // Nobody was asked yet, and two long lists take a while.
        let compare = move || {
            let change = diagnose::describe_change(&before.policy, &fresh.policy);
            Ok::<_, Infallible>((before.is_narrowed_by(&fresh), change, fresh))
        };
        let (narrower, change, fresh) = aside(compare).await?;
        let action = if narrower { action::EDIT_POLICY_NARROW } else { action::EDIT_POLICY_WIDEN };
        authorise(connection, &header, action, &HashMap::from([("change", change.as_str())]))
            .await?;
        let _one_at_a_time = self.editing.lock().await;
        // The prompt may have taken minutes, and others were asked meanwhile.
        if self.control.policy().await.version != expected_version {
            return Err(conflict());
        }
        fresh.write().map_err(|error| {
            HelperError::new(
                Code::Failed,
                format!("The list of allowed hosts could not be written: {error}."),
            )
        })?;
        let version = fresh.version.clone();
        tracing::info!(
            event = "policy-edit",
            uid = caller.uid,
            version,
            narrower,
            "the policy was edited"
        );
        self.control.use_policy(fresh).await?;
        Ok(version)
    }

    async fn refresh(
        &self,
        #[zbus(connection)] connection: &zbus::Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), HelperError> {
        let caller = self.admit("Refresh", connection, &header).await?;
        let early = |times: &mut HashMap<u32, Instant>| {
            let early = times.get(&caller.uid).is_some_and(|time| time.elapsed() < REFRESH_PAUSE);
            if !early {
                times.insert(caller.uid, Instant::now());
            }
            early
        };
        if self.refreshed.lock().map_or(true, |mut times| early(&mut times)) {
            let text = "The firewall was refreshed a moment ago; once in ten seconds is enough.";
            return Err(HelperError::new(Code::LimitReached, text));
        }
        let policy = aside(InForce::read).await?;
        self.control.use_policy(policy).await?;
        self.control.host_changed().await?;
        self.control.restore_host().await
    }

    async fn setup(
        &self,
        #[zbus(connection)] connection: &zbus::Connection,
        #[zbus(header)] header: Header<'_>,
        steps: Vec<String>,
    ) -> Result<(), HelperError> {
        let action = action_of("Setup")?;
        let steps = setup::steps(&steps)?;
        let _call = self.watchers.call();
        let caller = Caller::of(connection, &header).await?;
        let _asked = self.ask_once(caller.uid)?;
        let words = setup::describe(&steps);
        authorise(connection, &header, action, &HashMap::from([("steps", words.as_str())])).await?;
        let _one_at_a_time = self.setting_up.lock().await;
        setup::run_units(connection, caller.uid, &steps).await
    }

    #[zbus(out_args("protocol", "release"))]
    async fn version(
        &self,
        #[zbus(connection)] connection: &zbus::Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(u32, String), HelperError> {
        self.admit("Version", connection, &header).await?;
        Ok((PROTOCOL, env!("CARGO_PKG_VERSION").to_owned()))
    }

    #[zbus(signal)]
    pub async fn blocked(
        emitter: &SignalEmitter<'_>,
        id: u32,
        host: &str,
        address: &str,
        port: u16,
        protocol: &str,
        reason: &str,
        count: u32,
    ) -> zbus::Result<()>;

    #[zbus(signal)]
    pub async fn detached(emitter: &SignalEmitter<'_>, id: u32, reason: &str) -> zbus::Result<()>;

    #[zbus(signal)]
    pub async fn policy_changed(emitter: &SignalEmitter<'_>, version: &str) -> zbus::Result<()>;
}

/// A long list takes a while to check: names are answered meanwhile.
async fn aside<T: Send + 'static, E: Display + Send + 'static>(
    take: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, HelperError> {
    tokio::task::spawn_blocking(take)
        .await
        .map_err(|error| HelperError::new(Code::Failed, error.to_string()))?
        .map_err(|error| HelperError::new(Code::InvalidPolicy, error.to_string()))
}

/// The methods of the interface, for the test that holds them against
/// [`crate::auth::METHODS`].
#[cfg(test)]
fn introspection() -> String {
    // Without a bus there is no object; the interface describes itself.
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../dbus/dev.rcc.Helper1.xml");
    std::fs::read_to_string(path).expect("the contract's XML")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_has_an_action_and_every_action_a_method() {
        let xml = introspection();
        let methods: Vec<&str> = xml
            .split("<method name=\"")
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
            .collect();
        assert!(!methods.is_empty());
        for method in &methods {
            assert!(action_of(method).is_ok(), "{method} has no action");
        }
        for (method, _) in crate::auth::METHODS {
            assert!(methods.contains(method), "{method} is not in the contract");
        }
    }
}
