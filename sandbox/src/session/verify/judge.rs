//! What an outcome says of a wall.

use std::net::IpAddr;

use rcc_inside::probes::{End, Outcome, Probe};

use super::tries::{EXECUTED, HOSTS, LOOKALIKE, NAMES, OTHER_SANDBOX, Proof, Tries};
use super::{Known, Row};
use crate::session::{Label, NetworkState, Walls};

/// A wall holds when each of its tries was made, came to nothing, and showed that it was
/// the wall that it came to nothing by.
pub(super) fn judge(tries: Tries, outcomes: &[Outcome]) -> Row {
    let Tries { id, what, tried, probes } = tries;
    let said: Vec<Says> =
        probes.iter().zip(outcomes).map(|((_, proof), one)| says(*proof, one)).collect();
    let of = |says: Says| said.iter().position(|one| *one == says).and_then(|at| outcomes.get(at));
    if let Some(hole) = of(Says::Hole) {
        return Row::seen(id, what, tried, false, hole.seen.as_str());
    }
    if let Some(late) = outcomes.iter().find(|outcome| is_unfinished(outcome)) {
        return Row::unfinished(id, what, tried, late);
    }
    let Some(first) = outcomes.first().filter(|_| outcomes.len() == probes.len()) else {
        return Row { tried, ..Row::not_tried(id, what, "nothing was tried") };
    };
    let untold = said.iter().filter(|one| **one == Says::Nothing).count();
    match of(Says::Nothing) {
        None => Row::seen(id, what, tried, true, first.seen.as_str()),
        Some(Outcome { seen: why, .. }) => {
            let why = format!("{untold} of {} tries say nothing: {why}", probes.len());
            Row { tried, ..Row::not_tried(id, what, why) }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Says {
    Wall,
    Hole,
    Nothing,
}

fn says(proof: Proof, outcome: &Outcome) -> Says {
    match (outcome.end, proof) {
        (End::Possible, _) | (End::Rejected, Proof::Silence) => Says::Hole,
        (End::Untried | End::Unfinished, _)
        | (End::Silent, Proof::Refusal | Proof::Reset)
        | (End::Refused, Proof::Reset | Proof::Silence) => Says::Nothing,
        (End::Refused, Proof::Failure | Proof::Refusal)
        | (End::Rejected, Proof::Failure | Proof::Refusal | Proof::Reset)
        | (End::Silent, Proof::Failure | Proof::Silence) => Says::Wall,
    }
}

fn is_unfinished(outcome: &Outcome) -> bool {
    outcome.end == End::Unfinished
}

/// Without the tries of other sandboxes that are gone by now: what was sent to them went
/// elsewhere.
pub(super) fn without_gone(
    tries: Tries,
    outcomes: Vec<Outcome>,
    there: &[IpAddr],
) -> (Tries, Vec<Outcome>) {
    let stays = |probe: &Probe| match probe {
        Probe::Connect { address, .. } => there.contains(address),
        _ => true,
    };
    let pairs = tries.probes.into_iter().zip(outcomes);
    let (probes, outcomes) = pairs.filter(|((probe, _), _)| stays(probe)).unzip();
    (Tries { probes, ..tries }, outcomes)
}

/// N20, and that the firewall lets through what it should: `good` is a hello to the
/// server of `name`, `evil` one for another name to the same server.
pub(super) fn names(name: &str, good: &Outcome, evil: &Outcome) -> [Row; 2] {
    let allowed = "What is allowed can be reached";
    let tried = format!("TLS to {name}");
    let works = match good.end {
        End::Possible => Row::seen("works", allowed, tried, true, good.seen.as_str()),
        End::Unfinished => Row::unfinished("works", allowed, tried, good),
        _ => {
            let why = format!("{name} does not answer: {}", good.seen);
            Row { tried, ..Row::not_tried("works", allowed, why) }
        }
    };
    let tried = format!("TLS to the address of {name} with another name");
    let other = match (good.end, evil.end) {
        (_, End::Possible) => Row::seen("N20", OTHER_NAME, tried, false, evil.seen.as_str()),
        (End::Unfinished, _) => Row::unfinished("N20", OTHER_NAME, tried, good),
        (_, End::Unfinished) => Row::unfinished("N20", OTHER_NAME, tried, evil),
        (End::Possible, End::Refused | End::Rejected) => {
            Row::seen("N20", OTHER_NAME, tried, true, evil.seen.as_str())
        }
        (End::Possible, End::Silent | End::Untried) => {
            let why = format!("it was not ended, and nothing answered: {}", evil.seen);
            Row { tried, ..Row::not_tried("N20", OTHER_NAME, why) }
        }
        // A server that is away refuses everybody.
        (_, _) => {
            let why = format!("{name} does not answer with its own name, either");
            Row { tried, ..Row::not_tried("N20", OTHER_NAME, why) }
        }
    };
    [works, other]
}

/// What N20 says.
pub(super) const OTHER_NAME: &str = "Another name at an allowed address is refused";

/// Threats that a look from inside one sandbox cannot try, each with its reason.
const ELSEWHERE: [(&str, &str, &str); 19] = [
    ("F2", EXECUTED, "the project has none yet; the review shows new ones"),
    (
        "F3",
        "Editors' tasks and builds are not changed unseen",
        "to change them is the agent's right; `rcc review` shows it",
    ),
    (
        "F4",
        "A guarded file does not go with its folder",
        "it would change your project; tested in the project's lab",
    ),
    (
        "F5",
        "rcc runs nothing of the project on this computer",
        "nothing inside can see that; tested in the project's lab",
    ),
    (
        "F6",
        "The project itself can allow no hosts or folders",
        "it would change your project; tested in the project's lab",
    ),
    (
        "F7",
        "No files are left in the project after a crash",
        "the session would have to crash; tested in the project's lab",
    ),
    (
        "F8",
        "An odd path of the project opens no other folder",
        "this project has the path that it has; tested in the project's lab",
    ),
    (
        "F9",
        "Claude's own state is not in the project",
        "only Claude's doing shows it; tested in the project's lab",
    ),
    (
        "N5",
        "The firewall itself does not ask for a refused name",
        "only a name server outside sees that; tested in the project's lab",
    ),
    (
        "N7",
        "An address is open as long as its name has it",
        "it takes a name whose address changes; tested in the project's lab",
    ),
    (
        "N9",
        "A sandbox inherits nothing that another was allowed",
        "it takes a sandbox that ended; tested in the project's lab",
    ),
    (
        "N10",
        "Nothing is reached before its rules stand",
        "they stand by now; tested in the project's lab",
    ),
    (
        "N11",
        "Nothing more is reached while the firewall service restarts",
        "it would restart the service; tested in the project's lab",
    ),
    (
        "N12",
        "A reload of another firewall does not open it",
        "it would change this computer's firewall; tested in the project's lab",
    ),
    (
        "N14",
        "Fragments, broadcasts and other protocols do not get out",
        "only who listens outside sees whether one arrives; tested in the project's lab",
    ),
    ("N16", LOOKALIKE, "no name is allowed, or no network"),
    (
        "N17",
        "A flood of names does not hide what matters",
        "it would fill your own log; tested in the project's lab",
    ),
    (
        "N19",
        "This computer is no router for its neighbours",
        "it takes a neighbour; tested in the project's lab",
    ),
    (
        "N22",
        "Nothing leaves by another interface than the administrator's",
        "it takes a server behind each; tested in the project's lab",
    ),
];

/// Of threats that have no row yet.
pub(super) fn elsewhere(rows: &[Row]) -> Vec<Row> {
    let without = |id: &&str| !rows.iter().any(|row| row.id == *id);
    let all = ELSEWHERE.iter().filter(|(id, ..)| without(id));
    all.map(|(id, what, why)| Row::not_tried(id, what, *why)).collect()
}

/// Rows without a try, each with its reason.
pub(super) fn not_tried(known: &Known, listening: bool) -> Vec<Row> {
    let mut rows = vec![
        Row::not_tried(
            "N15",
            "Nothing outside connects to the sandbox",
            "it would send packets out of this computer; tested in the project's lab",
        ),
        Row::not_tried(
            "N21",
            "An allowed host is not used as a mailbox",
            "no firewall prevents that: allow few hosts",
        ),
        Row::not_tried(
            "C2",
            "The agent does not read the token that it uses",
            "cannot be prevented: use a token of its own for a project that you do not trust",
        ),
        Row::not_tried(
            "kernel",
            "A hole in the kernel is no way out",
            "the sandbox shares this computer's kernel: keep it up to date",
        ),
        Row::not_tried("people", "You are not talked into something", "no wall prevents that"),
    ];
    if known.others.is_empty() {
        let why = "no other sandbox of yours is connected";
        rows.push(Row::not_tried("N13", OTHER_SANDBOX, why));
    }
    if !listening {
        let why = "no server could be started on this computer to be reached";
        rows.push(Row::not_tried("N2", "The computer's own services are out of reach", why));
    }
    if let Some(why) = known.why_open() {
        let of_the_list = [("hosts", HOSTS), ("N4", NAMES), ("N16", LOOKALIKE)];
        rows.extend(of_the_list.map(|(id, what)| Row::not_tried(id, what, why)));
    }
    if known.state == NetworkState::Unknown {
        let why = "the firewall service does not answer; `rcc doctor` says more";
        rows.push(Row::not_tried("helper", "The firewall says what it does", why));
    }
    rows
}

/// `None` where there is no SELinux.
fn labelled(label: &Label) -> Option<Row> {
    let what = "Files and programs that are not its own are out of reach (SELinux)";
    let tried = "/proc of its first process, from outside";
    let row = |holds, seen: String| Some(Row::seen("label", what, tried, holds, seen));
    match label {
        Label::Off => None,
        Label::Confined(label) => row(true, format!("enforcing; its label is {label}")),
        Label::Unconfined(label) => row(false, format!("its label is {label}")),
        Label::Permissive(label) => {
            let why = format!("its label is {label}, but this computer's SELinux is permissive");
            Some(Row::not_tried("label", what, why))
        }
        Label::Unused(label) => {
            let why = format!("the engine gives containers no labels here; its label is {label}");
            Some(Row::not_tried("label", what, why))
        }
    }
}

pub(super) fn held_by_the_kernel(walls: &Walls) -> Vec<Row> {
    let row = |id, what, tried: &str, holds: bool, good: &str, bad: &str| {
        Row::seen(id, what, tried, holds, if holds { good } else { bad })
    };
    let process = "/proc of its first process, from outside";
    let mut rows = vec![
        row(
            "namespaces",
            "The computer's users, files and programs are not in sight (--userns=host, --pid=host)",
            process,
            walls.own_view,
            "users, mounts and processes of its own",
            "it shares the computer's view",
        ),
        row(
            "host-network",
            "The computer's network is not in sight (--network=host)",
            process,
            walls.own_view,
            "a network of its own",
            "it shares the computer's view",
        ),
        row(
            "privileged",
            "It has no rights of root's (--privileged)",
            process,
            walls.no_privileges,
            "no capability, now or by a program; no new privileges",
            "it has capabilities, or may get some",
        ),
        row(
            "net-admin",
            "It has no right over networks (CAP_NET_ADMIN)",
            process,
            walls.no_privileges,
            "no capability, now or by a program",
            "it has capabilities, or may get some",
        ),
        row(
            "seccomp",
            "Dangerous system calls are refused",
            process,
            walls.filter,
            "a filter is in force",
            "there is no filter",
        ),
    ];
    rows.extend(labelled(&walls.label));
    rows
}

/// Files, then rights, then the network, then what is left; each by its number.
pub(super) fn order(id: &str) -> (u8, u32, &str) {
    let place = match id {
        "works" => 0,
        _ if id.starts_with('F') => 1,
        "namespaces" | "privileged" | "net-admin" | "seccomp" | "label" | "calls" | "memory" => 2,
        _ if id.starts_with('H') => 3,
        "hosts" => 4,
        _ if id.starts_with('N') => 5,
        "host-network" | "firewall" | "list" => 6,
        _ => 7,
    };
    let digits: String = id.chars().filter(char::is_ascii_digit).collect();
    (place, digits.parse().unwrap_or(0), id)
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    fn outcome(end: End, seen: &str) -> Outcome {
        Outcome { end, seen: seen.into() }
    }

    fn verdict(proofs: &[Proof], outcomes: &[Outcome]) -> (Verdict, String) {
        let probes = proofs.iter().map(|proof| (Probe::OtherLink, *proof)).collect();
        let row = judge(Tries { id: "N1", what: "w", tried: "t".into(), probes }, outcomes);
        (row.verdict, row.seen)
    }

    #[test]
    fn one_success_is_a_hole() {
        let probes = [Proof::Refusal; 2];
        let (no, yes) = (outcome(End::Refused, "no"), outcome(End::Possible, "yes"));
        let untried = outcome(End::Untried, "no memory");
        let open = (Verdict::Open, "yes".to_owned());
        assert_eq!(verdict(&probes, &[no.clone(), yes.clone()]), open);
        assert_eq!(verdict(&probes, &[untried, yes]), open);
        let neither = outcome(End::Refused, "neither");
        assert_eq!(verdict(&probes, &[no, neither]), (Verdict::Holds, "no".to_owned()));
    }

    #[test]
    fn what_was_not_tried_holds_nothing() {
        let probes = [Proof::Refusal; 2];
        let (no, untried) = (outcome(End::Refused, "no"), outcome(End::Untried, "no memory"));
        let (verdict_of_both, why) = verdict(&probes, &[no.clone(), untried]);
        assert_eq!(verdict_of_both, Verdict::NotTried);
        assert!(why.contains("1 of 2") && why.contains("no memory"), "{why}");
        assert_eq!(verdict(&probes, &[no]).0, Verdict::NotTried);
        assert_eq!(verdict(&[], &[]).0, Verdict::NotTried);
    }

    #[test]
    fn what_was_not_finished_holds_nothing_and_hides_no_hole() {
        let probes = [Proof::Refusal; 2];
        let (no, late) = (outcome(End::Refused, "no"), Outcome::unfinished());
        let (found, why) = verdict(&probes, &[no, late.clone()]);
        assert_eq!((found, found.word()), (Verdict::Unfinished, "not tried"));
        assert!(why.contains("the computer was busy"), "{why}");
        let yes = outcome(End::Possible, "yes");
        assert_eq!(verdict(&probes, &[late, yes]).0, Verdict::Open);
    }

    #[test]
    fn what_nobody_prevented_is_no_wall() {
        use Verdict::{Holds, NotTried, Open};
        let [refused, rejected, silent] = [End::Refused, End::Rejected, End::Silent];
        for (proof, expected) in [
            // What is there and not reached is behind a wall.
            (Proof::Failure, [Holds, Holds, Holds]),
            // A name server that is silent did not refuse.
            (Proof::Refusal, [Holds, Holds, NotTried]),
            // A computer somewhere may be away, or without a way there; only the gate resets.
            (Proof::Reset, [NotTried, Holds, NotTried]),
            // Another sandbox's own kernel says no where nobody listens: it was reached.
            (Proof::Silence, [NotTried, Open, Holds]),
        ] {
            let seen =
                [refused, rejected, silent].map(|end| verdict(&[proof], &[outcome(end, "")]).0);
            assert_eq!(seen, expected, "{proof:?}");
        }
    }

    #[test]
    fn a_sandbox_that_ended_meanwhile_was_not_reached() {
        let [here, gone] = [[198, 18, 0, 1], [198, 18, 0, 2]].map(IpAddr::from);
        let probes = [here, gone].map(|address| Probe::Connect { address, port: 22 });
        let probes = probes.map(|probe| (probe, Proof::Silence)).into();
        let tries = Tries { id: "N13", what: "w", tried: "t".into(), probes };
        let outcomes = vec![outcome(End::Silent, "no answer"), outcome(End::Rejected, "refused")];
        let (tries, outcomes) = without_gone(tries, outcomes, &[here]);
        assert_eq!(judge(tries, &outcomes).verdict, Verdict::Holds);
    }

    #[test]
    fn n20_a_server_that_is_away_proves_nothing() {
        let all = [
            End::Possible,
            End::Refused,
            End::Rejected,
            End::Silent,
            End::Untried,
            End::Unfinished,
        ];
        for (good, evil) in all.iter().flat_map(|good| all.map(|evil| (*good, evil))) {
            let [works, other] = names("a.example", &outcome(good, "good"), &outcome(evil, "evil"));
            let expected = match (good, evil) {
                (_, End::Possible) => Verdict::Open,
                (End::Possible, End::Refused | End::Rejected) => Verdict::Holds,
                (End::Unfinished, _) | (_, End::Unfinished) => Verdict::Unfinished,
                _ => Verdict::NotTried,
            };
            assert_eq!(other.verdict, expected, "{good:?} {evil:?}");
            assert_eq!(works.verdict == Verdict::Holds, good == End::Possible);
        }
    }

    #[test]
    fn rows_have_an_order() {
        let mut ids = ["people", "N20", "F1", "N3", "works", "privileged", "H8", "hosts"];
        ids.sort_by_key(|id| order(id));
        assert_eq!(ids, ["works", "F1", "privileged", "H8", "hosts", "N3", "N20", "people"]);
    }
}
