//! The regular check: how often it comes, that it comes by itself, and that it repairs.

use std::time::{Duration, Instant};

use rcc_tests::{Machine, Release};

use super::{boot, helper, install};

/// As often as a test has patience for.
const SHORTER: &str = "mkdir -p /etc/systemd/system/rcc-whitelist-update.timer.d && \
    printf '[Timer]\\nOnBootSec=\\nOnUnitActiveSec=3s\\nAccuracySec=100ms\\n' \
    > /etc/systemd/system/rcc-whitelist-update.timer.d/shorter.conf && systemctl daemon-reload";

/// When the timer last started the check; empty before the first time.
fn last(machine: &Machine) -> String {
    let show = "systemctl show -P LastTriggerUSec rcc-whitelist-update.timer";
    let said = machine.root(show).expect("systemctl");
    said.trim().replace("n/a", "")
}

/// Takes the host's table away and waits until it stands again; answers for how long.
fn repaired(machine: &Machine, patience: Duration) -> Duration {
    machine.root("nft flush ruleset").expect("flush");
    let start = Instant::now();
    while machine.root("nft list table inet rcc").is_err() {
        assert!(start.elapsed() < patience, "nobody repairs within {patience:?}");
        assert_eq!(helper(machine), 0, "it is not the service");
        std::thread::sleep(Duration::from_millis(200));
    }
    start.elapsed()
}

#[test]
fn n12_the_regular_check_comes_by_itself_and_repairs() {
    the_check_comes_by_itself_and_repairs(Release::Own);
}

#[test]
fn n12_on_debian_13_the_regular_check_comes_by_itself_and_repairs() {
    the_check_comes_by_itself_and_repairs(Release::Debian13);
}

fn the_check_comes_by_itself_and_repairs(release: Release) {
    let Some(machine) = boot(release) else { return };
    install(&machine, "this.deb");
    // What the unit's file says, as systemd understood it.
    let times = "systemctl show -p TimersMonotonic -p AccuracyUSec rcc-whitelist-update.timer";
    let times = machine.root(times).expect("times");
    for said in ["OnBootUSec=1min ;", "OnUnitActiveUSec=5min ;", "AccuracyUSec=10s"] {
        assert!(times.contains(said), "{said}: {times}");
    }
    assert_eq!(times.matches("USec=").count(), 3, "no other: {times}");

    // A minute after boot it comes.
    assert_eq!(last(&machine), "", "not yet");
    repaired(&machine, Duration::from_secs(75));
    let first = last(&machine);
    assert_ne!(first, "");
    let moments = "systemctl show -P UserspaceTimestampMonotonic && \
        systemctl show -P ExecMainStartTimestampMonotonic rcc-whitelist-update.service";
    let moments = machine.root(moments).expect("microseconds");
    let moments: Vec<u64> =
        moments.lines().map(|line| line.parse().expect("microseconds")).collect();
    let after = Duration::from_micros(moments[1] - moments[0]);
    assert!((60..75).contains(&after.as_secs()), "{after:?} after the start");

    // And again and again after it came.
    machine.root(SHORTER).expect("a shorter time");
    machine.root("systemctl restart rcc-whitelist-update.timer").expect("restart");
    let mut before = first;
    for _ in 0..3 {
        repaired(&machine, Duration::from_secs(10));
        let now = last(&machine);
        assert_ne!(now, before, "the timer started it");
        before = now;
    }
    let failed = machine.root("systemctl --failed --no-legend").expect("units");
    assert_eq!(failed, "", "no unit failed");
}
