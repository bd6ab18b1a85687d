//! The process that joins the container's namespaces and sets up its interface.

use std::env;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;

use futures_util::TryStreamExt;
use nix::sched::{CloneFlags, setns};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use rcc_dbus::Attachment;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags};
use rtnetlink::packet_route::neighbour::NeighbourState;
use rtnetlink::packet_route::route::{RouteMessage, RouteScope};
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder};
use serde::{Deserialize, Serialize};

/// The hidden first argument. No command of any face has such a name.
pub(super) const ARGUMENT: &str = "--rcc-set-up-link";

/// The whole internet.
const ANY4: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
const ANY6: Ipv6Addr = Ipv6Addr::UNSPECIFIED;

/// What is set on the sandbox's end.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Plan {
    interface: String,
    address4: String,
    gateway4: String,
    address6: String,
    gateway6: String,
    gateway_mac: String,
}

impl From<&Attachment> for Plan {
    fn from(attachment: &Attachment) -> Self {
        Self {
            interface: attachment.interface.clone(),
            address4: attachment.address4.clone(),
            gateway4: attachment.gateway4.clone(),
            address6: attachment.address6.clone(),
            gateway6: attachment.gateway6.clone(),
            gateway_mac: attachment.gateway_mac.clone(),
        }
    }
}

/// Must be the first call in `main` of every program that opens sessions, before
/// any thread: when this process was started to set up a link, it does that and
/// exits; otherwise it returns at once.
pub fn run_if_asked() {
    let mut arguments = env::args_os().skip(1);
    if arguments.next().is_none_or(|first| first != ARGUMENT) {
        return;
    }
    let plan = arguments.next().and_then(|text| text.into_string().ok()).unwrap_or_default();
    let job = || match run(&plan) {
        Ok(()) => 0,
        Err(why) => {
            eprintln!("{why}");
            1
        }
    };
    std::process::exit(if threads() == 1 { job() } else { alone(job) });
}

/// How many threads this process has. Some libraries start one before `main`:
/// the window's web view does, for its memory.
fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count)
}

/// Does the job in a child, which has one thread, and answers its exit code.
#[allow(unsafe_code)]
fn alone(job: impl FnOnce() -> i32) -> i32 {
    // SAFETY: no thread of this program's own is running yet, so no lock of its
    // own is held; glibc makes its allocator usable in the child.
    match unsafe { fork() } {
        Ok(ForkResult::Child) => std::process::exit(job()),
        Ok(ForkResult::Parent { child }) => match waitpid(child, None) {
            Ok(WaitStatus::Exited(_, code)) => code,
            other => {
                eprintln!("the process that sets up the link ended with {other:?}");
                1
            }
        },
        Err(e) => {
            eprintln!("a process for setting up the link cannot be started: {e}");
            1
        }
    }
}

fn run(plan: &str) -> Result<(), String> {
    let plan: Plan =
        serde_json::from_str(plan).map_err(|e| format!("the plan cannot be read: {e}"))?;
    // The user namespace first: it gives the right to enter the other one.
    setns(std::io::stdin().as_fd(), CloneFlags::CLONE_NEWUSER)
        .map_err(|e| format!("joining the user namespace: {e}"))?;
    setns(std::io::stdout().as_fd(), CloneFlags::CLONE_NEWNET)
        .map_err(|e| format!("joining the network namespace: {e}"))?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| format!("starting the runtime: {e}"))?
        .block_on(set_up(&plan))
}

async fn set_up(plan: &Plan) -> Result<(), String> {
    let (connection, handle, _) =
        rtnetlink::new_connection().map_err(|e| format!("opening netlink: {e}"))?;
    tokio::spawn(connection);
    up(&handle, index(&handle, "lo").await?).await?;
    let link = index(&handle, &plan.interface).await?;
    let address4: Ipv4Addr = parse(&plan.address4)?;
    let gateway4: Ipv4Addr = parse(&plan.gateway4)?;
    handle
        .address()
        .add(link, IpAddr::V4(address4), 32)
        .execute()
        .await
        .map_err(|e| format!("setting the address {address4}: {e}"))?;
    if !plan.address6.is_empty() {
        address6(&handle, link, parse(&plan.address6)?).await?;
    }
    up(&handle, link).await?;
    let hardware = mac(&plan.gateway_mac);
    neighbour(&handle, link, IpAddr::V4(gateway4), hardware).await?;
    let on_link = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(gateway4, 32)
        .output_interface(link)
        .scope(RouteScope::Link)
        .build();
    route(&handle, on_link, "to the gateway").await?;
    let default = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(ANY4, 0)
        .gateway(gateway4)
        .output_interface(link)
        .build();
    route(&handle, default, "by default").await?;
    if !plan.address6.is_empty() && !plan.gateway6.is_empty() {
        let gateway6: Ipv6Addr = parse(&plan.gateway6)?;
        neighbour(&handle, link, IpAddr::V6(gateway6), hardware).await?;
        let default = RouteMessageBuilder::<Ipv6Addr>::new()
            .destination_prefix(ANY6, 0)
            .gateway(gateway6)
            .output_interface(link)
            .build();
        route(&handle, default, "by default (IPv6)").await?;
    }
    Ok(())
}

async fn index(handle: &Handle, name: &str) -> Result<u32, String> {
    let link = handle.link().get().match_name(name.to_string()).execute().try_next().await;
    match link {
        Ok(Some(link)) => Ok(link.header.index),
        Ok(None) => Err(format!("there is no interface {name}")),
        Err(e) => Err(format!("looking for the interface {name}: {e}")),
    }
}

async fn up(handle: &Handle, link: u32) -> Result<(), String> {
    let message = LinkUnspec::new_with_index(link).up().build();
    handle
        .link()
        .set(message)
        .execute()
        .await
        .map_err(|e| format!("switching the interface on: {e}"))
}

/// Without duplicate address detection: it delays the first packet by two
/// seconds, and nobody else is on the link.
async fn address6(handle: &Handle, link: u32, address: Ipv6Addr) -> Result<(), String> {
    let mut request = handle.address().add(link, IpAddr::V6(address), 128);
    request.message_mut().attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
    request.execute().await.map_err(|e| format!("setting the address {address}: {e}"))
}

async fn route(handle: &Handle, message: RouteMessage, what: &str) -> Result<(), String> {
    handle
        .route()
        .add(message)
        .execute()
        .await
        .map_err(|e| format!("setting the route {what}: {e}"))
}

/// The gate answers no neighbour questions that a hostile sandbox could race.
async fn neighbour(
    handle: &Handle,
    link: u32,
    gateway: IpAddr,
    mac: Option<[u8; 6]>,
) -> Result<(), String> {
    let Some(mac) = mac else {
        return Ok(());
    };
    handle
        .neighbours()
        .add(link, gateway)
        .link_layer_address(&mac)
        .state(NeighbourState::Permanent)
        .replace()
        .execute()
        .await
        .map_err(|e| format!("setting the gateway's hardware address: {e}"))
}

fn parse<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("`{}` is not an address", text.escape_default()))
}

fn mac(text: &str) -> Option<[u8; 6]> {
    let bytes: Vec<u8> =
        text.split(':').map(|part| u8::from_str_radix(part, 16)).collect::<Result<_, _>>().ok()?;
    bytes.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_addresses_are_read_or_left_out() {
        assert_eq!(mac("02:00:0a:ff:00:01"), Some([2, 0, 10, 255, 0, 1]));
        for bad in ["", "02:00", "02:00:0a:ff:00:01:02", "zz:00:00:00:00:00"] {
            assert_eq!(mac(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_plan_that_is_not_one_is_an_error_before_anything_is_joined() {
        assert!(run("{}").unwrap_err().contains("plan"));
    }
}
