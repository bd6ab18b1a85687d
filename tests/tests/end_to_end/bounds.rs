//! What a sandbox may use up of the computer.

use super::{good, inside, set, start};

/// Fills each place that is in memory until there is no room, a gigabyte at most, and says
/// how much went in and that the kernel said so.
const FILL: &str = r#"for place in /tmp /var/tmp /dev/shm; do
  said=$(LC_ALL=C dd if=/dev/zero of=$place/fill bs=1M count=1024 2>&1 | grep -c 'No space left')
  echo "$place $(stat -f -c %T $place) $(stat -c %s $place/fill) $said"
done"#;

const GO_ON: &str = r#"for place in /tmp /var/tmp /dev/shm; do
  echo word 2>/dev/null > $place/more && echo "$place has room"
  rm $place/fill && echo word > $place/more && cat $place/more
done"#;

#[test]
fn r1_what_a_sandbox_fills_is_its_own_and_no_disk() {
    let Some((workshop, project)) = start("filling") else { return };
    set(&workshop, &project, "memory-mib = 256\n");
    // Kibibytes of ann's on the disk: her project, the sandbox's home, the engine's files.
    let disk = || -> u64 {
        let said = workshop.lab.on_host(&format!("du -sxk {}/", workshop.home().display()));
        said.expect("du").split_whitespace().next().and_then(|n| n.parse().ok()).expect("a size")
    };
    good(&workshop, &inside(&workshop, &project, "true"));
    let before = disk();
    let filled = inside(&workshop, &project, FILL);
    good(&workshop, &filled);
    // Half of its memory for each of the first two; of the third the engine says how much.
    let half = 128 << 20;
    let own = format!("/tmp tmpfs {half} 1\n/var/tmp tmpfs {half} 1\n/dev/shm tmpfs ");
    let engines = filled.out.strip_prefix(&own).and_then(|rest| rest.strip_suffix(" 1\n"));
    let engines: Option<u64> = engines.and_then(|size| size.parse().ok());
    assert!(engines.is_some_and(|size| size < 70_000_000), "{filled:?}");
    let after = disk();
    assert!(after < before + 8_192, "{before} KiB before, {after} while all is full");
    // In the same sandbox, with everything still full.
    let ended = inside(&workshop, &project, GO_ON);
    good(&workshop, &ended);
    assert_eq!(ended.out.trim(), "word\nword\nword", "{ended:?}");
}
