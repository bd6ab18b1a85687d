//! What an outcome says of a wall.

use std::net::IpAddr;

use rcc_inside::probes::{End, Outcome, Probe};

use super::tries::Tries;
use super::{GATE, Row};
use crate::session::{Label, NetworkState, Walls};

/// A wall holds when each of its tries was made and came to nothing.
pub(super) fn judge(tries: Tries, outcomes: &[Outcome]) -> Row {
    let Tries { id, what, tried, probes } = tries;
    if let Some(possible) = outcomes.iter().find(|outcome| outcome.end == End::Possible) {
        return Row::seen(id, what, tried, false, possible.seen.as_str());
    }
    if let Some(late) = outcomes.iter().find(|outcome| is_unfinished(outcome)) {
        return Row::unfinished(id, what, tried, late);
    }
    let pairs = || probes.iter().zip(outcomes);
    let untold: Vec<&str> =
        pairs().filter(|(probe, one)| !tells(probe, one)).map(|(_, one)| &*one.seen).collect();
    let Some(first) = outcomes.first().filter(|_| outcomes.len() == probes.len()) else {
        return Row { tried, ..Row::not_tried(id, what, "nothing was tried") };
    };
    match untold.first() {
        None => Row::seen(id, what, tried, true, first.seen.as_str()),
        Some(why) => {
            let (count, all) = (untold.len(), probes.len());
            let why = format!("{count} of {all} tries say nothing: {why}");
            Row { tried, ..Row::not_tried(id, what, why) }
        }
    }
}

/// What came of it says that there is a wall. Silence does, unless it is the gate's
/// resolver that is silent: then nobody read the question.
fn tells(probe: &Probe, outcome: &Outcome) -> bool {
    match outcome.end {
        End::Possible | End::Refused => true,
        End::Silent => !matches!(probe, Probe::Ask { server, .. } if *server == GATE),
        End::Untried | End::Unfinished => false,
    }
}

fn is_unfinished(outcome: &Outcome) -> bool {
    outcome.end == End::Unfinished
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
        (End::Possible, End::Refused) => {
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
pub(super) const OTHER_NAME: &str = "Another name at an allowed address is reached";

/// Threats that a look from inside one sandbox cannot try, each with its reason.
const ELSEWHERE: [(&str, &str, &str); 19] = [
    (
        "F2",
        "Files that this computer would execute are written",
        "the project has none yet; the review shows new ones",
    ),
    (
        "F3",
        "Editors' tasks and builds are changed unseen",
        "to change them is the agent's right; `rcc review` shows it",
    ),
    (
        "F4",
        "A guarded file is got rid of with its folder",
        "it would change your project; tested in the project's lab",
    ),
    (
        "F5",
        "rcc runs something of the project on this computer",
        "nothing inside can see that; tested in the project's lab",
    ),
    (
        "F6",
        "The project itself allows hosts or folders",
        "it would change your project; tested in the project's lab",
    ),
    (
        "F7",
        "Files are left in the project after a crash",
        "the session would have to crash; tested in the project's lab",
    ),
    (
        "F8",
        "An odd path of the project opens another folder",
        "this project has the path that it has; tested in the project's lab",
    ),
    (
        "F9",
        "Claude writes its own state into the project",
        "only Claude's doing shows it; tested in the project's lab",
    ),
    (
        "N5",
        "The firewall itself asks for a refused name",
        "only a name server outside sees that; tested in the project's lab",
    ),
    (
        "N7",
        "An address is open too late, or too long",
        "it takes a name whose address changes; tested in the project's lab",
    ),
    (
        "N9",
        "A sandbox inherits what another was allowed",
        "it takes a sandbox that ended; tested in the project's lab",
    ),
    (
        "N10",
        "It reaches something before its rules stand",
        "they stand by now; tested in the project's lab",
    ),
    (
        "N11",
        "It reaches more while the firewall service restarts",
        "it would restart the service; tested in the project's lab",
    ),
    (
        "N12",
        "A reload of another firewall opens it",
        "it would change this computer's firewall; tested in the project's lab",
    ),
    (
        "N14",
        "Fragments, broadcasts or other protocols get out",
        "no program inside can make such packets (see N8); tested from outside in the project's lab",
    ),
    (
        "N16",
        "A name that only looks like an allowed one is answered",
        "no name is allowed, or no network",
    ),
    (
        "N17",
        "A flood of names hides what matters",
        "it would fill your own log; tested in the project's lab",
    ),
    (
        "N19",
        "This computer becomes a router for its neighbours",
        "it takes a neighbour; tested in the project's lab",
    ),
    (
        "N22",
        "It leaves by another interface than the administrator's",
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
pub(super) fn not_tried(
    state: NetworkState,
    open: bool,
    others: &[IpAddr],
    listening: bool,
) -> Vec<Row> {
    let mut rows = vec![
        Row::not_tried(
            "N15",
            "Something outside connects to the sandbox",
            "it would send packets out of this computer; tested in the project's lab",
        ),
        Row::not_tried(
            "N21",
            "An allowed host is used as a mailbox",
            "no firewall prevents that: allow few hosts",
        ),
        Row::not_tried(
            "C2",
            "The agent reads the token that it uses",
            "cannot be prevented: use a token of its own for a project that you do not trust",
        ),
        Row::not_tried(
            "kernel",
            "A hole in the kernel is a way out",
            "the sandbox shares this computer's kernel: keep it up to date",
        ),
        Row::not_tried("people", "You are talked into something", "no wall prevents that"),
    ];
    if others.is_empty() {
        let why = "no other sandbox of yours is connected";
        rows.push(Row::not_tried("N13", "Another sandbox is reached", why));
    }
    if !listening {
        let why = "no server could be started on this computer to be reached";
        rows.push(Row::not_tried("N2-server", "The computer's own services are reached", why));
    }
    if open {
        let why = "the public internet is open: by the list, or for a time by you";
        rows.push(Row::not_tried("N4-open", "Other resolvers are out of reach", why));
    }
    if state == NetworkState::Unknown {
        let why = "the firewall service does not answer; `rcc doctor` says more";
        rows.push(Row::not_tried("helper", "The firewall says what it does", why));
    }
    rows
}

/// `None` where there is no SELinux.
fn labelled(label: Label) -> Option<Row> {
    let what = "It touches files and programs that are not its own (SELinux)";
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

pub(super) fn held_by_the_kernel(walls: Walls) -> Vec<Row> {
    let row = |id, what, tried: &str, holds: bool, good: &str, bad: &str| {
        Row::seen(id, what, tried, holds, if holds { good } else { bad })
    };
    let mut rows = vec![
        row(
            "namespaces",
            "The sandbox sees the computer's users, files, programs or network (--userns=host, --network=host)",
            "/proc of its first process, from outside",
            walls.own_view,
            "users, mounts, processes and network of its own",
            "it shares the computer's view",
        ),
        row(
            "rights",
            "It has rights of root's (--privileged, CAP_NET_ADMIN)",
            "/proc of its first process, from outside",
            walls.no_privileges,
            "no capability, now or by a program; no new privileges",
            "it has capabilities, or may get some",
        ),
        row(
            "seccomp",
            "Dangerous system calls are possible",
            "/proc of its first process, from outside",
            walls.filter,
            "a filter is in force",
            "there is no filter",
        ),
    ];
    rows.extend(labelled(walls.label));
    rows
}

/// Files, then rights, then the network, then what is left; each by its number.
pub(super) fn order(id: &str) -> (u8, u32, &str) {
    let place = match id {
        "works" => 0,
        _ if id.starts_with('F') => 1,
        "namespaces" | "rights" | "seccomp" | "label" | "calls" | "memory" => 2,
        _ if id.starts_with('H') => 3,
        _ if id.starts_with('N') => 4,
        "firewall" => 5,
        _ => 6,
    };
    let digits: String = id.chars().filter(char::is_ascii_digit).collect();
    (place, digits.parse().unwrap_or(0), id)
}

#[cfg(test)]
mod tests {
    use super::super::{NO_NAME, Verdict};
    use super::*;

    fn outcome(end: End, seen: &str) -> Outcome {
        Outcome { end, seen: seen.into() }
    }

    fn verdict(probes: &[Probe], outcomes: &[Outcome]) -> (Verdict, String) {
        let probes = probes.to_vec();
        let row = judge(Tries { id: "N1", what: "w", tried: "t".into(), probes }, outcomes);
        (row.verdict, row.seen)
    }

    #[test]
    fn one_success_is_a_hole() {
        let probes = [Probe::OtherLink, Probe::RawSocket];
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
        let probes = [Probe::OtherLink, Probe::RawSocket];
        let (no, untried) = (outcome(End::Refused, "no"), outcome(End::Untried, "no memory"));
        let (verdict_of_both, why) = verdict(&probes, &[no.clone(), untried]);
        assert_eq!(verdict_of_both, Verdict::NotTried);
        assert!(why.contains("1 of 2") && why.contains("no memory"), "{why}");
        assert_eq!(verdict(&probes, &[no]).0, Verdict::NotTried);
        assert_eq!(verdict(&[], &[]).0, Verdict::NotTried);
    }

    #[test]
    fn what_was_not_finished_holds_nothing_and_hides_no_hole() {
        let probes = [Probe::OtherLink, Probe::RawSocket];
        let (no, late) = (outcome(End::Refused, "no"), Outcome::unfinished());
        let (found, why) = verdict(&probes, &[no, late.clone()]);
        assert_eq!((found, found.word()), (Verdict::Unfinished, "not tried"));
        assert!(why.contains("the computer was busy"), "{why}");
        let yes = outcome(End::Possible, "yes");
        assert_eq!(verdict(&probes, &[late, yes]).0, Verdict::Open);
    }

    #[test]
    fn a_resolver_that_is_silent_did_not_refuse() {
        let silent = [outcome(End::Silent, "no answer")];
        let ask = |server| Probe::Ask { server, name: NO_NAME.into(), kind: 16 };
        assert_eq!(verdict(&[ask(GATE)], &silent).0, Verdict::NotTried);
        let other = IpAddr::from([192, 0, 2, 53]);
        assert_eq!(verdict(&[ask(other)], &silent).0, Verdict::Holds);
    }

    #[test]
    fn n20_a_server_that_is_away_proves_nothing() {
        let all = [End::Possible, End::Refused, End::Silent, End::Untried, End::Unfinished];
        for (good, evil) in all.iter().flat_map(|good| all.map(|evil| (*good, evil))) {
            let [works, other] = names("a.example", &outcome(good, "good"), &outcome(evil, "evil"));
            let expected = match (good, evil) {
                (_, End::Possible) => Verdict::Open,
                (End::Possible, End::Refused) => Verdict::Holds,
                (End::Unfinished, _) | (_, End::Unfinished) => Verdict::Unfinished,
                _ => Verdict::NotTried,
            };
            assert_eq!(other.verdict, expected, "{good:?} {evil:?}");
            assert_eq!(works.verdict == Verdict::Holds, good == End::Possible);
        }
    }

    #[test]
    fn rows_have_an_order() {
        let mut ids = ["people", "N20", "F1", "N3", "works", "rights", "H8"];
        ids.sort_by_key(|id| order(id));
        assert_eq!(ids, ["works", "F1", "rights", "H8", "N3", "N20", "people"]);
    }
}
