//! One login for all projects: a long-lived token of Claude's (`claude
//! setup-token`) in the desktop's secret store (Secret Service API 0.2). It goes
//! from there into the request that starts a program, as everything of
//! [`crate::secrets`] does: never into a file of rcc's, a command line, or what the
//! engine keeps.
//!
//! The session with the store is a plain one: the session bus is the person's
//! alone, and whoever can read it can ask the store itself.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use zbus::zvariant::{ObjectPath, OwnedObjectPath, OwnedValue, Type, Value};

use crate::error::{Code, Error, Result};

/// The variable that Claude Code takes it from.
pub const VARIABLE: &str = "CLAUDE_CODE_OAUTH_TOKEN";

/// Longest wait for the store when nobody is asked anything.
const PATIENCE: Duration = Duration::from_secs(2);

/// Longest wait while the store asks the person for its password.
const PROMPT_PATIENCE: Duration = Duration::from_secs(120);

/// What such a token begins with.
const PREFIX: &str = "sk-ant-oat";

/// Shorter or longer is none. The ones of today have 108 characters.
const LENGTH: std::ops::RangeInclusive<usize> = 40..=500;

/// By these the store finds it again.
const ATTRIBUTES: [(&str, &str); 2] = [("application", "rcc"), ("kind", "claude-login")];

#[zbus::proxy(
    interface = "org.freedesktop.Secret.Service",
    default_service = "org.freedesktop.secrets",
    default_path = "/org/freedesktop/secrets",
    gen_blocking = false
)]
trait Service {
    fn open_session(
        &self,
        algorithm: &str,
        input: Value<'_>,
    ) -> zbus::Result<(OwnedValue, OwnedObjectPath)>;
    fn search_items(
        &self,
        attributes: HashMap<&str, &str>,
    ) -> zbus::Result<(Vec<OwnedObjectPath>, Vec<OwnedObjectPath>)>;
    fn unlock(
        &self,
        objects: &[ObjectPath<'_>],
    ) -> zbus::Result<(Vec<OwnedObjectPath>, OwnedObjectPath)>;
    fn read_alias(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    fn create_collection(
        &self,
        properties: HashMap<&str, Value<'_>>,
        alias: &str,
    ) -> zbus::Result<(OwnedObjectPath, OwnedObjectPath)>;
}

#[zbus::proxy(
    interface = "org.freedesktop.Secret.Collection",
    default_service = "org.freedesktop.secrets",
    gen_blocking = false
)]
trait Collection {
    fn create_item(
        &self,
        properties: HashMap<&str, Value<'_>>,
        secret: Secret,
        replace: bool,
    ) -> zbus::Result<(OwnedObjectPath, OwnedObjectPath)>;
}

#[zbus::proxy(
    interface = "org.freedesktop.Secret.Item",
    default_service = "org.freedesktop.secrets",
    gen_blocking = false
)]
trait Item {
    fn get_secret(&self, session: &ObjectPath<'_>) -> zbus::Result<Secret>;
    fn delete(&self) -> zbus::Result<OwnedObjectPath>;
}

#[zbus::proxy(
    interface = "org.freedesktop.Secret.Prompt",
    default_service = "org.freedesktop.secrets",
    gen_blocking = false
)]
trait Prompt {
    fn prompt(&self, window_id: &str) -> zbus::Result<()>;
    #[zbus(signal)]
    fn completed(&self, dismissed: bool, result: Value<'_>) -> zbus::Result<()>;
}

/// A secret as it travels. It is never printed.
#[derive(Clone, Serialize, Deserialize, Type)]
struct Secret {
    session: OwnedObjectPath,
    parameters: Vec<u8>,
    value: Vec<u8>,
    content_type: String,
}

/// The token, if one is kept and the store is unlocked. Asks the person nothing,
/// and answers soon.
pub async fn token() -> Option<String> {
    let asked = async {
        let bus = zbus::Connection::session().await.ok()?;
        let service = ServiceProxy::new(&bus).await.ok()?;
        let (unlocked, _) = service.search_items(ATTRIBUTES.into()).await.ok()?;
        let item = ItemProxy::builder(&bus).path(unlocked.first()?).ok()?.build().await.ok()?;
        let (_, session) = service.open_session("plain", "".into()).await.ok()?;
        let secret = item.get_secret(&session).await.ok()?;
        checked(&String::from_utf8(secret.value).ok()?)
    };
    tokio::time::timeout(PATIENCE, asked).await.ok().flatten()
}

/// Whether one is kept; `None` where there is no secret store.
pub async fn is_kept() -> Option<bool> {
    let asked = async {
        let bus = zbus::Connection::session().await.ok()?;
        let service = ServiceProxy::new(&bus).await.ok()?;
        let (unlocked, locked) = service.search_items(ATTRIBUTES.into()).await.ok()?;
        Some(!unlocked.is_empty() || !locked.is_empty())
    };
    tokio::time::timeout(PATIENCE, asked).await.ok().flatten()
}

/// Keeps a token as a person pasted it, in the place of another one. The store
/// may ask for its password.
///
/// # Errors
/// [`Code::Invalid`] for what is no such token, [`Code::Environment`] with what
/// the store said.
pub async fn keep(pasted: &str) -> Result<()> {
    let token = checked(pasted).ok_or_else(|| {
        Error::new(Code::Invalid, "This is not a token that `claude setup-token` prints.")
            .title_is("The login cannot be kept.")
            .hint_is(format!("Copy the whole of it; it begins with {PREFIX}."))
    })?;
    patiently(async {
        let bus = zbus::Connection::session().await?;
        let service = ServiceProxy::new(&bus).await?;
        let collection = default_collection(&bus, &service).await?;
        let (_, session) = service.open_session("plain", "".into()).await?;
        let secret = Secret {
            session,
            parameters: Vec::new(),
            value: token.into_bytes(),
            content_type: "text/plain".into(),
        };
        let attributes: HashMap<&str, &str> = ATTRIBUTES.into();
        let properties = HashMap::from([
            ("org.freedesktop.Secret.Item.Label", Value::from("Claude login for rcc")),
            ("org.freedesktop.Secret.Item.Attributes", Value::from(attributes)),
        ]);
        let collection = CollectionProxy::builder(&bus).path(collection)?.build().await?;
        let (_, prompt) = collection.create_item(properties, secret, true).await?;
        answered(&bus, prompt).await
    })
    .await
}

/// Takes it out of the store. Programs that run keep what they were given.
///
/// # Errors
/// As [`keep`].
pub async fn forget() -> Result<()> {
    patiently(async {
        let bus = zbus::Connection::session().await?;
        let service = ServiceProxy::new(&bus).await?;
        let (unlocked, locked) = service.search_items(ATTRIBUTES.into()).await?;
        for item in unlocked.into_iter().chain(locked) {
            let prompt = ItemProxy::builder(&bus).path(item)?.build().await?.delete().await?;
            answered(&bus, prompt).await?;
        }
        Ok(())
    })
    .await
}

/// A pasted token without the line breaks of a narrow terminal; none when it
/// cannot be one.
fn checked(pasted: &str) -> Option<String> {
    let token: String = pasted.chars().filter(|c| !c.is_whitespace()).collect();
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    (token.starts_with(PREFIX) && LENGTH.contains(&token.len()) && token.chars().all(plain))
        .then_some(token)
}

/// The collection for new secrets, unlocked; made where there is none yet.
async fn default_collection(
    bus: &zbus::Connection,
    service: &ServiceProxy<'_>,
) -> zbus::Result<OwnedObjectPath> {
    let there = service.read_alias("default").await?;
    if there.as_str() == "/" {
        let label = HashMap::from([(
            "org.freedesktop.Secret.Collection.Label",
            Value::from("Default keyring"),
        )]);
        let (made, prompt) = service.create_collection(label, "default").await?;
        answered(bus, prompt).await?;
        return if made.as_str() == "/" { service.read_alias("default").await } else { Ok(made) };
    }
    let (_, prompt) = service.unlock(&[there.as_ref()]).await?;
    answered(bus, prompt).await?;
    Ok(there)
}

/// Lets the store ask the person, when it wants to.
async fn answered(bus: &zbus::Connection, prompt: OwnedObjectPath) -> zbus::Result<()> {
    if prompt.as_str() == "/" {
        return Ok(());
    }
    let prompt = PromptProxy::builder(bus).path(prompt)?.build().await?;
    let mut completed = prompt.receive_completed().await?;
    prompt.prompt("").await?;
    let dismissed = match completed.next().await {
        Some(signal) => *signal.args()?.dismissed(),
        None => true,
    };
    if dismissed { Err(zbus::Error::Failure("it stayed locked".into())) } else { Ok(()) }
}

async fn patiently(act: impl Future<Output = zbus::Result<()>>) -> Result<()> {
    let failed = |why: String| {
        Error::new(Code::Environment, why)
            .title_is("The secret store of this computer cannot be used.")
            .hint_is(
                "Unlock or install a keyring (GNOME Keyring, KWallet, KeePassXC) and try again.",
            )
    };
    match tokio::time::timeout(PROMPT_PATIENCE, act).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(failed(format!(
            "It says: {}.",
            crate::display::line(error.to_string().trim_end_matches('.'), 200)
        ))),
        Err(_) => Err(failed("It did not answer in two minutes.".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcc_test_aids::on_a_bus;

    const TOKEN: &str = "sk-ant-oat01-0123456789_abcdefghijklmnopqrstuvwxyz-0123456789";

    #[test]
    fn a_token_may_be_broken_into_lines_and_nothing_else_is_one() {
        let broken = format!("  {}\n{}\r\n", &TOKEN[..30], &TOKEN[30..]);
        assert_eq!(checked(&broken).as_deref(), Some(TOKEN));
        for bad in ["", "sk-ant-api03-0123456789012345678901234567890123456789", "sk-ant-oat01-x"] {
            assert_eq!(checked(bad), None, "{bad}");
        }
        assert_eq!(checked(&format!("{TOKEN}\u{1b}[0m")), None);
        assert_eq!(checked(&format!("{TOKEN}{}", "a".repeat(500))), None);
    }

    struct Store {
        locked: bool,
        kept: Option<Vec<u8>>,
    }

    fn path(text: &str) -> OwnedObjectPath {
        ObjectPath::try_from(text.to_string()).unwrap().into()
    }

    type Shared = std::sync::Arc<std::sync::Mutex<Store>>;
    struct FakeService(Shared);
    struct FakeCollection(Shared);
    struct FakeItem(Shared);
    struct FakePrompt(Shared);

    #[zbus::interface(name = "org.freedesktop.Secret.Service")]
    impl FakeService {
        fn open_session(
            &self,
            algorithm: &str,
            _input: Value<'_>,
        ) -> (OwnedValue, OwnedObjectPath) {
            assert_eq!(algorithm, "plain");
            (Value::from("").try_into().unwrap(), path("/session"))
        }

        fn search_items(
            &self,
            attributes: HashMap<String, String>,
        ) -> (Vec<OwnedObjectPath>, Vec<OwnedObjectPath>) {
            assert_eq!(attributes["kind"], "claude-login");
            let store = self.0.lock().unwrap();
            let items = if store.kept.is_some() { vec![path("/item")] } else { Vec::new() };
            if store.locked { (Vec::new(), items) } else { (items, Vec::new()) }
        }

        fn unlock(&self, objects: Vec<OwnedObjectPath>) -> (Vec<OwnedObjectPath>, OwnedObjectPath) {
            if self.0.lock().unwrap().locked {
                (Vec::new(), path("/prompt"))
            } else {
                (objects, path("/"))
            }
        }

        fn read_alias(&self, name: &str) -> OwnedObjectPath {
            assert_eq!(name, "default");
            path("/collection")
        }
    }

    #[zbus::interface(name = "org.freedesktop.Secret.Collection")]
    impl FakeCollection {
        fn create_item(
            &self,
            properties: HashMap<String, OwnedValue>,
            secret: Secret,
            replace: bool,
        ) -> (OwnedObjectPath, OwnedObjectPath) {
            assert!(replace && properties.contains_key("org.freedesktop.Secret.Item.Label"));
            assert_eq!(secret.session, path("/session"));
            let mut store = self.0.lock().unwrap();
            assert!(!store.locked, "written while it was locked");
            store.kept = Some(secret.value);
            (path("/item"), path("/"))
        }
    }

    #[zbus::interface(name = "org.freedesktop.Secret.Item")]
    impl FakeItem {
        fn get_secret(&self, session: OwnedObjectPath) -> Secret {
            let value = self.0.lock().unwrap().kept.clone().unwrap();
            Secret { session, parameters: Vec::new(), value, content_type: "text/plain".into() }
        }

        fn delete(&self) -> OwnedObjectPath {
            self.0.lock().unwrap().kept = None;
            path("/")
        }
    }

    #[zbus::interface(name = "org.freedesktop.Secret.Prompt")]
    impl FakePrompt {
        async fn prompt(
            &self,
            _window_id: &str,
            #[zbus(signal_emitter)] emitter: zbus::object_server::SignalEmitter<'_>,
        ) {
            self.0.lock().unwrap().locked = false;
            Self::completed(&emitter, false, Value::from("")).await.unwrap();
        }

        #[zbus(signal)]
        async fn completed(
            emitter: &zbus::object_server::SignalEmitter<'_>,
            dismissed: bool,
            result: Value<'_>,
        ) -> zbus::Result<()>;
    }

    #[test]
    fn a_token_is_kept_read_and_forgotten() {
        on_a_bus("login::tests::on_the_bus");
    }

    /// Run by the test above, with a session bus of its own.
    #[tokio::test]
    #[ignore = "needs a bus of its own"]
    async fn on_the_bus() {
        assert_eq!((is_kept().await, token().await), (None, None));
        let store = Shared::new(Store { locked: true, kept: None }.into());
        let _bus = zbus::connection::Builder::session()
            .unwrap()
            .serve_at("/org/freedesktop/secrets", FakeService(store.clone()))
            .unwrap()
            .serve_at("/collection", FakeCollection(store.clone()))
            .unwrap()
            .serve_at("/item", FakeItem(store.clone()))
            .unwrap()
            .serve_at("/prompt", FakePrompt(store.clone()))
            .unwrap()
            .name("org.freedesktop.secrets")
            .unwrap()
            .build()
            .await
            .unwrap();
        assert_eq!(is_kept().await, Some(false));
        assert_eq!(keep("hello").await.unwrap_err().code(), Code::Invalid);
        keep(TOKEN).await.unwrap();
        assert_eq!(token().await.as_deref(), Some(TOKEN));
        // Nobody is asked for a password when a program starts.
        store.lock().unwrap().locked = true;
        assert_eq!((is_kept().await, token().await), (Some(true), None));
        store.lock().unwrap().locked = false;
        forget().await.unwrap();
        assert_eq!((is_kept().await, token().await), (Some(false), None));
    }
}
