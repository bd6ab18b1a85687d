//! What the helper says of the computer.

use super::*;

#[test]
fn diagnose_says_what_works() {
    let Some((lab, mut ann, _)) = start() else { return };
    wait_for(|| ann.diagnose().is_ok_and(|checks| checks.iter().all(|check| check.state != "bad")))
        .unwrap_or_else(|_| panic!("{:?}", ann.diagnose()));
    let mut is_bad = |name: &str| {
        let checks = ann.diagnose().expect("diagnose");
        checks.iter().any(|check| check.name == name && check.state == "bad")
    };
    // Whoever asks without a pause makes nobody wait: the computer is not looked at anew,
    // but once a second, which is now and then just here.
    let seen_last = (0..5).any(|_| {
        lab.on_host("ip link set rcc0 down").expect("down");
        wait_for(|| is_bad("host-table")).expect("it is said");
        for _ in 0..50 {
            is_bad("gate");
        }
        lab.on_host("ip link set rcc0 up").expect("up");
        let old = is_bad("host-table");
        wait_for(|| !is_bad("host-table")).expect("a moment later what is");
        old
    });
    assert!(seen_last);
    lab.in_gate("ip link set uplink0 down").expect("down");
    wait_for(|| is_bad("gate")).expect("it is said");
    lab.in_gate("ip link set uplink0 up").expect("up");
    wait_for(|| !is_bad("gate")).expect("a moment later what is");
}

struct NetworkManager;

#[zbus::interface(name = "org.freedesktop.NetworkManager")]
impl NetworkManager {
    /// NM_CONNECTIVITY_PORTAL.
    #[zbus(property)]
    fn connectivity(&self) -> u32 {
        2
    }
}

#[test]
fn diagnose_says_that_the_network_wants_a_login() {
    let Some((lab, mut ann, _)) = start() else { return };
    let mut said = || {
        let checks = ann.diagnose().expect("diagnose");
        checks.into_iter().find(|check| check.name == "network-login")
    };
    assert_eq!(said(), None, "nobody says so");
    let policy = "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN\" \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\"><busconfig><policy context=\"default\"><allow own=\"org.freedesktop.NetworkManager\"/><allow send_destination=\"org.freedesktop.NetworkManager\"/></policy></busconfig>";
    std::fs::write("/run/rcc-lab/system.d/nm.conf", policy).expect("write");
    lab.on_host(
        "dbus-send --system --print-reply --dest=org.freedesktop.DBus / \
         org.freedesktop.DBus.ReloadConfig",
    )
    .expect("the bus reads it");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let played = runtime.block_on(async {
        zbus::connection::Builder::address("unix:path=/run/dbus/system_bus_socket")?
            .name("org.freedesktop.NetworkManager")?
            .serve_at("/org/freedesktop/NetworkManager", NetworkManager)?
            .build()
            .await
    });
    let played = played.expect("on the bus");
    let check = said().expect("it is said");
    assert!(check.state == "bad" && check.text.contains("login"), "{check:?}");
    drop(played);
}
