//! Other firewalls on this computer. A packet of a sandbox's passes their forward
//! chains, too: one that drops what it does not know leaves sandboxes without a
//! network. Nothing here changes anything; `rcc-helper setup` opens them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::process::{Command, Stdio};

use rcc_dbus::SetupStep;
use serde_json::Value;

use crate::nft::TABLE;
use crate::rules::HOST_LINK;

/// The program, with its full path: a root service asks no `PATH`.
const NFT: &str = "/usr/sbin/nft";

/// A firewall whose forward chain drops what it does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firewall {
    /// Which, if `Setup` knows how to open it.
    pub step: Option<SetupStep>,
    /// Its table, for people: `inet firewalld`.
    pub table: String,
    /// It has a rule for the link of sandboxes.
    pub open: bool,
}

/// What stands in the network namespace of the calling thread.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Firewalls {
    /// Those that drop what is forwarded.
    pub forward: Vec<Firewall>,
    /// Tables that drop what the computer itself sends, as a VPN's kill switch does.
    pub output: Vec<String>,
    /// Tables with rules for what single users or groups of the computer send.
    pub by_user: Vec<String>,
}

/// Looks at them.
pub fn look() -> io::Result<Firewalls> {
    let chains: Value = serde_json::from_slice(&run(&["list", "chains"])?)?;
    let mut firewalls = of_chains(&chains);
    for table in output_tables(&chains) {
        // Without the elements of sets, which may be many.
        let mut words = vec!["-t", "list", "table"];
        words.extend(table.split(' '));
        // One that is gone meanwhile says nothing of anybody.
        let answer = serde_json::from_slice(&run(&words).unwrap_or_default());
        if tells_users_apart(&answer.unwrap_or_default()) {
            firewalls.by_user.push(table);
        }
    }
    for firewall in &mut firewalls.forward {
        let mut words = vec!["list", "table"];
        words.extend(firewall.table.split(' '));
        // A table that is gone meanwhile drops nothing.
        let text = run(&words).unwrap_or_default();
        firewall.open = String::from_utf8_lossy(&text).contains(&format!("\"{HOST_LINK}\""));
    }
    Ok(firewalls)
}

fn run(words: &[&str]) -> io::Result<Vec<u8>> {
    let output = Command::new(NFT)
        .arg("-j")
        .args(words)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()?;
    if output.status.success() { Ok(output.stdout) } else { Err(io::ErrorKind::Other.into()) }
}

/// Tables that see what the computer itself sends. Sandboxes have IPv4 alone.
fn output_tables(answer: &Value) -> BTreeSet<String> {
    let chains = answer["nftables"].as_array().into_iter().flatten().map(|one| &one["chain"]);
    let seeing =
        chains.filter(|chain| ["output", "postrouting"].iter().any(|hook| chain["hook"] == *hook));
    seeing.filter_map(foreign_table).collect()
}

/// The table of a chain, unless it is ours or of no interest.
fn foreign_table(chain: &Value) -> Option<String> {
    let (family, table) = (chain["family"].as_str()?, chain["table"].as_str()?);
    let interesting = (family, table) != ("inet", TABLE) && ["ip", "inet"].contains(&family);
    interesting.then(|| format!("{family} {table}"))
}

/// True when a rule of the table looks at who sends: `meta skuid`, `meta skgid`, and
/// `-m owner` of iptables.
fn tells_users_apart(answer: &Value) -> bool {
    let rules = answer["nftables"].as_array().into_iter().flatten().map(|one| &one["rule"]["expr"]);
    rules.into_iter().any(looks_at_users)
}

/// Wherever it stands in an expression: in a set, a map, beside something else.
fn looks_at_users(part: &Value) -> bool {
    match part {
        Value::Object(fields) => {
            ["skuid", "skgid"].iter().any(|key| part["meta"]["key"] == *key)
                || part["xt"]["name"] == "owner"
                || fields.values().any(looks_at_users)
        }
        Value::Array(parts) => parts.iter().any(looks_at_users),
        _ => false,
    }
}

/// What the chains alone say.
fn of_chains(answer: &Value) -> Firewalls {
    // The chains of a table, and which of them drop at a hook.
    let mut tables: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    for chain in answer["nftables"].as_array().into_iter().flatten().map(|one| &one["chain"]) {
        if let Some(table) = foreign_table(chain) {
            tables.entry(table).or_default().push(chain);
        }
    }
    let mut firewalls = Firewalls::default();
    for (table, chains) in tables {
        let named = |start: &str| {
            chains
                .iter()
                .any(|chain| chain["name"].as_str().is_some_and(|name| name.starts_with(start)))
        };
        let drops = |hook: &str| {
            chains.iter().any(|chain| chain["hook"] == hook && chain["policy"] == "drop")
        };
        // firewalld refuses with a last rule, not with the chain's policy.
        let is_firewalld = table == "inet firewalld";
        if drops("forward") || is_firewalld {
            let step = if is_firewalld {
                Some(SetupStep::Firewalld)
            } else if named("ufw-") {
                Some(SetupStep::Ufw)
            } else if named("DOCKER-USER") {
                Some(SetupStep::Docker)
            } else {
                None
            };
            firewalls.forward.push(Firewall { step, table: table.clone(), open: false });
        }
        if drops("output") {
            firewalls.output.push(table);
        }
    }
    firewalls
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn chain(family: &str, table: &str, name: &str, hook: &str, policy: &str) -> Value {
        json!({"chain": {"family": family, "table": table, "name": name, "hook": hook, "policy": policy}})
    }

    #[test]
    fn firewalls_are_told_apart() {
        let answer = json!({"nftables": [
            {"metainfo": {}},
            chain("inet", "rcc", "fwd", "forward", "drop"),
            chain("inet", "firewalld", "filter_FORWARD", "forward", "accept"),
            chain("ip", "filter", "FORWARD", "forward", "drop"),
            {"chain": {"family": "ip", "table": "filter", "name": "ufw-user-forward"}},
            chain("inet", "mine", "fw", "forward", "drop"),
            chain("inet", "open", "fw", "forward", "accept"),
            chain("ip6", "filter", "FORWARD", "forward", "drop"),
            chain("inet", "vpn", "out", "output", "drop"),
        ]});
        let found = of_chains(&answer);
        let steps: Vec<_> =
            found.forward.iter().map(|one| (one.table.as_str(), one.step)).collect();
        assert_eq!(
            steps,
            [
                ("inet firewalld", Some(SetupStep::Firewalld)),
                ("inet mine", None),
                ("ip filter", Some(SetupStep::Ufw)),
            ]
        );
        assert_eq!(found.output, ["inet vpn"]);
        assert_eq!(of_chains(&Value::Null), Firewalls::default());
        assert!(output_tables(&answer).iter().eq(["inet vpn"]));
    }

    #[test]
    fn rules_by_user_are_seen_wherever_they_look() {
        let table = |expr: Value| json!({"nftables": [{"metainfo": {}}, {"rule": {"expr": expr}}]});
        let skuid = json!({"meta": {"key": "skuid"}});
        for expr in [
            json!([{"match": {"op": "==", "left": skuid, "right": 1000}}, {"accept": null}]),
            json!([{"match": {"op": "!=", "left": {"meta": {"key": "skgid"}}, "right": 7}}, {"drop": null}]),
            json!([{"match": {"op": "==", "left": {"concat": [skuid, {"meta": {"key": "oifname"}}]}, "right": "@s"}}]),
            json!([{"vmap": {"key": skuid, "data": "@m"}}]),
            json!([{"xt": {"type": "match", "name": "owner"}}, {"drop": null}]),
        ] {
            assert!(tells_users_apart(&table(expr.clone())), "{expr}");
        }
        for expr in [
            json!([{"match": {"op": "==", "left": {"meta": {"key": "oifname"}}, "right": "skuid"}}]),
            json!([{"xt": {"type": "match", "name": "comment"}}, {"drop": null}]),
            json!(null),
        ] {
            assert!(!tells_users_apart(&table(expr.clone())), "{expr}");
        }
        assert!(!tells_users_apart(&Value::Null));
    }
}
