//! `rcc-helper`: the root side of rcc. Started by the bus it is the service;
//! `apply` makes the gate at boot, `show` says what stands, `remove` undoes all.
//!
//! A library so that what parses hostile bytes can be fuzzed; nothing else links it.

mod attachments;
mod auth;
mod batch;
mod clock;
mod control;
mod diagnose;
mod elements;
mod fd;
mod firewalls;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod gate;
mod host;
mod ioctl;
mod layout;
mod monitor;
mod netlink;
mod netns;
mod nfnetlink;
mod nft;
mod policy_file;
mod privileges;
mod resolver;
mod rules;
mod seccomp;
mod seen;
mod service;
mod setup;
mod show;
mod state;
mod store;
mod uplink;
mod watchers;

use std::process::ExitCode;

use anyhow::Context;
use rcc_dbus::SetupStep;
use tracing_subscriber::EnvFilter;

const HELP: &str = "\
rcc-helper: the firewall service of rcc (run by systemd and D-Bus, as root)

  rcc-helper            serve dev.rcc.Helper1 on the system bus
  rcc-helper apply      make the firewall, or bring it up to date (at boot)
  rcc-helper show       say in words what stands in the kernel  [--json]
  rcc-helper remove     take everything away again, also what `setup` did
  rcc-helper setup STEP let sandboxes through firewalld, ufw or docker
  rcc-helper --version

Exit status: 0 done, 1 failed, 2 wrong arguments.
";

/// The whole program.
pub fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments.as_slice() {
        [] => serve(),
        ["apply"] => {
            setup::renew();
            gate::apply().map(drop).context("the firewall was not put up")
        }
        ["show"] => show::show(false),
        ["show", "--json"] => show::show(true),
        ["remove"] => gate::remove()
            .map_err(anyhow::Error::from)
            .and(setup::undo().map_err(anyhow::Error::from))
            .context("not everything could be removed"),
        ["setup", word] => match SetupStep::from_wire(word) {
            Some(step) => setup::apply(step).context("the other firewall was not opened"),
            None => {
                eprint!("{HELP}");
                return ExitCode::from(2);
            }
        },
        ["resolver"] => resolver::child::run().context("the resolver ended"),
        ["--version"] => show::line(&format!(
            "rcc-helper {}, protocol {}",
            env!("CARGO_PKG_VERSION"),
            rcc_dbus::PROTOCOL
        )),
        ["--help"] => show::line(HELP.trim_end()),
        _ => {
            eprint!("{HELP}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rcc-helper: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> anyhow::Result<()> {
    // The journal adds time and unit.
    let filter = EnvFilter::try_from_env("RCC_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(false)
        .without_time()
        .init();
    let store = store::Store::receive();
    state::make_folder().context("cannot make the folder for the state")?;
    let whole = netlink::Rtnl::new().is_ok_and(|mut host| gate::is_whole(&mut host));
    if !whole {
        gate::apply().context("the firewall was not put up")?;
    }
    // Threads enter their namespaces while that is allowed, and stay.
    let gate = netns::Room::in_namespace("gate", netns::gate()?)?;
    let host = netns::Room::here("host")?;
    let empty = netns::Room::empty("empty")?;
    privileges::drop_to_service().context("cannot give up capabilities")?;

    // One thread: each hand-over to another one costs an answer some 0.1 ms.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(monitor::run(gate, host, empty, store))
}
