//! Whether sandboxes go on after the person logged out: systemd ends the
//! processes of who has no session any more, unless they linger (loginctl(1)).

use std::time::Duration;

use zbus::zvariant::OwnedObjectPath;

use crate::error::{Code, Error, Result};
use crate::host::Host;

/// The login service answers in milliseconds; a password may be asked for.
const PATIENCE: Duration = Duration::from_secs(120);

#[zbus::proxy(
    interface = "org.freedesktop.login1.Manager",
    default_service = "org.freedesktop.login1",
    default_path = "/org/freedesktop/login1",
    gen_blocking = false
)]
trait Manager {
    fn get_user(&self, uid: u32) -> zbus::Result<OwnedObjectPath>;
    fn set_user_linger(&self, uid: u32, enable: bool, interactive: bool) -> zbus::Result<()>;
}

#[zbus::proxy(
    interface = "org.freedesktop.login1.User",
    default_service = "org.freedesktop.login1",
    gen_blocking = false
)]
trait User {
    #[zbus(property)]
    fn linger(&self) -> zbus::Result<bool>;
}

/// Whether the person's programs outlive their last session; `None` on a
/// computer without systemd's login service, where nothing ends them.
pub async fn state(host: &Host) -> Option<bool> {
    let asked = async {
        let bus = zbus::Connection::system().await.ok()?;
        let manager = ManagerProxy::new(&bus).await.ok()?;
        let user = manager.get_user(host.uid).await.ok()?;
        let user = UserProxy::builder(&bus).path(user).ok()?.build().await.ok()?;
        user.linger().await.ok()
    };
    tokio::time::timeout(Duration::from_secs(3), asked).await.ok().flatten()
}

/// Lets them go on, or not. The login service may ask for a password.
///
/// # Errors
/// [`Code::Environment`] with what it said.
pub async fn set(host: &Host, linger: bool) -> Result<()> {
    let failed = |why: String| {
        Error::new(Code::Environment, why)
            .title_is("Sandboxes cannot be kept after logging out.")
            .hint_is(format!("Try `loginctl enable-linger {}` in a terminal.", host.user))
    };
    let asked = async {
        let bus = zbus::Connection::system().await?;
        ManagerProxy::new(&bus).await?.set_user_linger(host.uid, linger, true).await
    };
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(failed(format!(
            "The login service says: {}.",
            crate::display::line(error.to_string().trim_end_matches('.'), 200)
        ))),
        Err(_) => Err(failed("The login service did not answer in two minutes.".into())),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use rcc_test_aids::on_a_bus;

    static LINGERS: AtomicBool = AtomicBool::new(false);

    struct Logind;
    struct Ann;

    #[zbus::interface(name = "org.freedesktop.login1.Manager")]
    impl Logind {
        fn get_user(&self, uid: u32) -> OwnedObjectPath {
            zbus::zvariant::ObjectPath::try_from(format!("/user/{uid}")).unwrap().into()
        }

        fn set_user_linger(
            &self,
            uid: u32,
            enable: bool,
            interactive: bool,
        ) -> zbus::fdo::Result<()> {
            assert!(interactive);
            if uid != 1000 {
                return Err(zbus::fdo::Error::AccessDenied("no".into()));
            }
            LINGERS.store(enable, Ordering::Relaxed);
            Ok(())
        }
    }

    #[zbus::interface(name = "org.freedesktop.login1.User")]
    impl Ann {
        #[zbus(property)]
        fn linger(&self) -> bool {
            LINGERS.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn a_person_can_stay_after_logging_out() {
        on_a_bus("linger::tests::on_the_bus");
    }

    /// Run by the test above, with a system bus of its own.
    #[tokio::test]
    #[ignore = "needs a bus of its own"]
    async fn on_the_bus() {
        let dir = tempfile::tempdir().unwrap();
        let mut host = crate::testing::host(dir.path());
        assert_eq!(state(&host).await, None);
        let _bus = zbus::connection::Builder::system()
            .unwrap()
            .serve_at("/org/freedesktop/login1", Logind)
            .unwrap()
            .serve_at("/user/1000", Ann)
            .unwrap()
            .name("org.freedesktop.login1")
            .unwrap()
            .build()
            .await
            .unwrap();
        assert_eq!(state(&host).await, Some(false));
        set(&host, true).await.unwrap();
        assert_eq!(state(&host).await, Some(true));
        host.uid = 7;
        assert_eq!(set(&host, true).await.unwrap_err().code(), Code::Environment);
    }
}
