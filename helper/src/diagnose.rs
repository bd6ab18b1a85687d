//! What works and what does not, in words.

use std::collections::HashSet;
use std::net::IpAddr;

use rcc_dbus::Check;
use rcc_policy::{Defaults, Entry, Interface, MayAttach, Policy, UsersMayAdd};

use crate::control::Control;
use crate::firewalls::Firewalls;
use crate::layout::{POLICY_FILE, RESOLVER_USER};
use crate::policy_file::InForce;
use crate::resolver::parent::{self, Channel};
use crate::resolver::wire::Tried;
use crate::uplink::Uplink;

fn check(name: &str, problem: Option<(&str, String)>, fine: &str) -> Check {
    let (state, text) = match problem {
        Some((state, text)) => (state.to_owned(), text),
        None => ("ok".to_owned(), fine.to_owned()),
    };
    Check { name: name.to_owned(), state, text }
}

/// Every check of the helper. `connection` is to the system bus.
pub async fn checks(control: &Control, connection: &zbus::Connection) -> Vec<Check> {
    let policy = control.policy().await;
    let empty = policy.policy.entries.is_empty() && !policy.policy.defaults.allow_public;
    let open = policy.policy.defaults.allow_public;
    let unread = tokio::task::spawn_blocking(InForce::read).await.ok().and_then(Result::err);
    let policy_problem = if let Some(mistake) = unread {
        Some(("bad", format!("{mistake}. What was in force before stays.")))
    } else if empty {
        Some(("note", "The list of allowed hosts is empty: sandboxes reach nothing but what their owners add.".to_owned()))
    } else if open {
        Some((
            "note",
            "The whole public internet is allowed; only private ranges are blocked.".to_owned(),
        ))
    } else {
        None
    };
    let resolver = control.resolver.is_there();
    // Name servers take their time; the others are looked at meanwhile.
    let look = async {
        let (host, gate) = (control.host_table_stands().await, control.uplink_is_up().await);
        (host, gate, control.firewalls().await)
    };
    let (upstream, (host, gate, firewalls)) = tokio::join!(upstream(&control.resolver), look);
    let mut checks = vec![
        check(
            "gate",
            (!gate).then(|| ("bad", "The way from the firewall's namespace to this computer is cut: sandboxes reach nothing.".to_owned())),
            "The firewall's namespace stands, and so does its link.",
        ),
        check(
            "host-table",
            (!host).then(|| ("bad", "The host's side of the firewall is missing; sandboxes are cut off until it stands.".to_owned())),
            "The host's side of the firewall stands.",
        ),
        check(
            "resolver",
            (!resolver).then(|| ("bad", format!("The resolver does not run. Is there a user {RESOLVER_USER}?"))),
            "The resolver runs.",
        ),
        upstream,
        check("policy", policy_problem, "The list of allowed hosts is in force."),
        check(
            "ipv6",
            Some(("note", "Sandboxes have IPv4 only; names answer with IPv4 addresses.".to_owned())),
            "",
        ),
        check(
            "shared-addresses",
            Some(("note", "Names that share an address are told apart on port 443 alone.".to_owned())),
            "",
        ),
    ];
    if wants_login(connection).await {
        let text = "This network wants a login before it lets anybody through (says NetworkManager): open any page in a browser of this computer, not of a sandbox.";
        checks.push(check("network-login", Some(("bad", text.to_owned())), ""));
    }
    checks.push(host_firewall(firewalls.as_ref()));
    let (uplink, state) = control.uplink().await;
    checks.extend(state.map(|(state, text)| check("uplink", Some((state, text)), "")));
    if let Some(table) = firewalls.as_ref().and_then(|found| found.output.first()) {
        checks.push(host_output(table, &uplink));
    }
    if let Some(table) = firewalls.as_ref().and_then(|found| found.by_user.first()) {
        checks.push(host_users(table));
    }
    checks
}

/// Whether the computer's name servers answer. The resolver asks them: bytes of theirs are
/// nothing for this process.
async fn upstream(resolver: &Channel) -> Check {
    let servers = match parent::servers() {
        Ok(servers) => servers,
        Err(error) => {
            let text = format!("/etc/resolv.conf cannot be read: {error}.");
            return check("upstream", Some(("bad", text)), "");
        }
    };
    if servers.is_empty() {
        let text = "/etc/resolv.conf names no name server; sandboxes cannot resolve names.";
        return check("upstream", Some(("bad", text.to_owned())), "");
    }
    if !resolver.is_there() {
        return answers(&servers, None);
    }
    answers(&servers, Some(resolver.try_servers().await.unwrap_or(Tried::Silent)))
}

fn answers(servers: &[IpAddr], tried: Option<Tried>) -> Check {
    let list = servers.iter().take(3).map(IpAddr::to_string).collect::<Vec<_>>().join(", ");
    let problem = match tried {
        Some(Tried::Answers) => None,
        Some(Tried::Fails) => Some((
            "bad",
            format!(
                "The computer's name server ({list}) says that it cannot look names up; sandboxes cannot resolve any. Is the computer online?"
            ),
        )),
        Some(Tried::Silent) => Some((
            "bad",
            format!(
                "The computer's name server ({list}) did not answer within a second; sandboxes cannot resolve names."
            ),
        )),
        None => Some((
            "note",
            format!(
                "The computer's name server ({list}) could not be asked: the resolver does not run."
            ),
        )),
    };
    check("upstream", problem, &format!("The computer's name server ({list}) answers."))
}

/// A firewall for what the computer itself sends. Sandboxes are none of its matter, and
/// the person may think that they are.
fn host_output(table: &str, uplink: &Uplink) -> Check {
    let what = format!(
        "Table {table} drops what this computer sends (a VPN's kill switch?). It does not see what sandboxes send"
    );
    match uplink {
        Uplink::Any => {
            let text = format!(
                "{what}; `uplink: INTERFACE` under `defaults` in {POLICY_FILE} has them leave by the VPN's interface alone."
            );
            check("host-output", Some(("note", text)), "")
        }
        Uplink::Only(interface) => {
            check("host-output", None, &format!("{what}, which leave by {interface} alone."))
        }
        Uplink::Nowhere => check("host-output", None, &format!("{what}, which leave by none.")),
    }
}

/// A firewall for what single users send. Whose sandbox it is does not matter to it.
fn host_users(table: &str) -> Check {
    let text = format!(
        "Table {table} has rules for what single users of this computer send. They do not hold the sandboxes of these users: `attach: group NAME` under `defaults` in {POLICY_FILE} says who may have any, `uplink: INTERFACE` by which interface they leave."
    );
    check("host-users", Some(("note", text)), "")
}

/// Whether the computer is behind a captive portal. NetworkManager knows when it runs; it
/// is asked what it found out, so that nothing is sent anywhere for this. It is not started.
async fn wants_login(connection: &zbus::Connection) -> bool {
    const NAME: &str = "org.freedesktop.NetworkManager";
    // NMConnectivityState.
    const PORTAL: u32 = 2;
    let ask = async {
        let bus = zbus::fdo::DBusProxy::new(connection).await.ok()?;
        if !bus.name_has_owner(NAME.try_into().ok()?).await.ok()? {
            return None;
        }
        let path = "/org/freedesktop/NetworkManager";
        let properties = Some("org.freedesktop.DBus.Properties");
        let what = &(NAME, "Connectivity");
        let reply = connection.call_method(Some(NAME), path, properties, "Get", what).await.ok()?;
        let value: zbus::zvariant::OwnedValue = reply.body().deserialize().ok()?;
        u32::try_from(value).ok()
    };
    let answer = tokio::time::timeout(std::time::Duration::from_secs(1), ask).await;
    answer.ok().flatten() == Some(PORTAL)
}

/// Whether another firewall holds sandboxes up.
fn host_firewall(found: Option<&Firewalls>) -> Check {
    let Some(found) = found else {
        let text = "The computer's other firewalls could not be looked at.".to_owned();
        return check("host-firewall", Some(("note", text)), "");
    };
    let closed = found.forward.iter().find(|one| !one.open);
    let problem = closed.map(|one| match one.step {
        Some(step) => {
            let word = step.as_str();
            format!("{word} drops what sandboxes send; `rcc setup {word}` opens it for them.")
        }
        None => format!(
            "Table {} of this computer drops what is forwarded, so sandboxes reach nothing. Its administrator can add: iifname \"rcc0\" accept; oifname \"rcc0\" ct state established,related accept.",
            one.table
        ),
    });
    let fine = if found.forward.is_empty() {
        "No other firewall of this computer holds sandboxes up."
    } else {
        "The computer's other firewall lets sandboxes through."
    };
    check("host-firewall", problem.map(|text| ("bad", text)), fine)
}

/// The change between two policies, for the password prompt: at most a few names.
pub fn describe_change<'a>(before: &'a Policy, after: &'a Policy) -> String {
    const MOST: usize = 5;
    // Lists may be long, and who asks may be anybody.
    let only_in = |one: &'a Policy, other: &Policy| -> Vec<&'a Entry> {
        let there: HashSet<&Entry> = other.entries.iter().collect();
        one.entries.iter().filter(|entry| !there.contains(entry)).collect()
    };
    let list = |entries: Vec<&Entry>| {
        let more = entries.len().saturating_sub(MOST);
        let names: Vec<String> = entries.into_iter().take(MOST).map(Entry::to_string).collect();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("{}{more}", names.join(", "))
    };
    let mut parts = Vec::new();
    let added = only_in(after, before);
    if !added.is_empty() {
        parts.push(format!("allow {}", list(added)));
    }
    let removed = only_in(before, after);
    if !removed.is_empty() {
        parts.push(format!("no longer allow {}", list(removed)));
    }
    if before.defaults != after.defaults {
        parts.extend(changed_defaults(&before.defaults, &after.defaults));
    }
    if parts.is_empty() { "comments only".to_owned() } else { parts.join("; ") }
}

fn changed_defaults(before: &Defaults, after: &Defaults) -> Vec<String> {
    let mut parts = Vec::new();
    if before.block_rfc1918 != after.block_rfc1918 {
        let word = if after.block_rfc1918 { "block" } else { "open, by entries," };
        parts.push(format!("{word} private ranges"));
    }
    if before.allow_public != after.allow_public {
        let word = if after.allow_public { "open" } else { "close" };
        parts.push(format!("{word} the whole public internet"));
    }
    if before.users_may_add != after.users_may_add {
        let may = match after.users_may_add {
            UsersMayAdd::None => "no hosts",
            UsersMayAdd::Public => "public hosts",
            UsersMayAdd::Private => "any hosts",
        };
        parts.push(format!("let users add {may}"));
    }
    if before.attach != after.attach {
        parts.push(match &after.attach {
            MayAttach::Persons => "let every person have sandboxes with a network".to_owned(),
            MayAttach::Group(group) => {
                format!("let only the group {group} have sandboxes with a network")
            }
            MayAttach::Nobody => "let nobody have sandboxes with a network".to_owned(),
        });
    }
    if before.uplink != after.uplink {
        let link = after.uplink.as_ref().map_or("any interface", Interface::as_str);
        parts.push(format!("have sandboxes leave by {link}"));
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_named() {
        let parse = |text: &str| Policy::parse(format!("version: 1\n{text}").as_bytes()).unwrap();
        let one = parse("whitelist:\n  - host: a.example\n    ports: [443]\n");
        assert_eq!(describe_change(&Policy::default(), &one), "allow a.example tcp/443");
        assert_eq!(describe_change(&one, &Policy::default()), "no longer allow a.example tcp/443");
        assert_eq!(describe_change(&one, &one), "comments only");
        let bound = parse("defaults:\n  uplink: wg0\n");
        assert!(describe_change(&Policy::default(), &bound).ends_with("leave by wg0"));
        assert!(describe_change(&bound, &Policy::default()).ends_with("leave by any interface"));
        let nobody = parse("defaults:\n  attach: nobody\n");
        let words = describe_change(&nobody, &Policy::default());
        assert_eq!(words, "let every person have sandboxes with a network");
        let open = parse("defaults:\n  allow_public: true\n  users_may_add: private\n");
        let words = describe_change(&Policy::default(), &open);
        assert_eq!(words, "open the whole public internet; let users add any hosts");
    }

    #[test]
    fn a_name_server_is_told_as_it_took_the_question() {
        let servers = [IpAddr::from([127, 0, 0, 53])];
        for (tried, state, words) in [
            (Some(Tried::Answers), "ok", "(127.0.0.53) answers"),
            (Some(Tried::Fails), "bad", "cannot look names up"),
            (Some(Tried::Silent), "bad", "within a second"),
            (None, "note", "could not be asked"),
        ] {
            let said = answers(&servers, tried);
            assert!(said.state == state && said.text.contains(words), "{said:?}");
        }
    }

    #[test]
    fn a_kill_switch_is_told_with_the_way_out() {
        let said = host_output("inet vpn", &Uplink::Any);
        assert_eq!(said.state, "note");
        assert!(said.text.contains("uplink: INTERFACE") && said.text.contains(POLICY_FILE));
        let said = host_output("inet vpn", &Uplink::Only("wg0".parse().unwrap()));
        assert!(said.state == "ok" && said.text.contains("wg0 alone"), "{}", said.text);
    }
}
