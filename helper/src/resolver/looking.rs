//! Carries packets between the kernel and [`Hellos`].

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Instant;

use nix::errno::Errno;
use tokio::io::unix::AsyncFd;
use tokio::task::{AbortHandle, spawn_local};

use super::child::Resolver;
use super::hellos::{Deed, Flow, Hellos};
use super::packet::Tcp;
use super::wire::FromResolver;
use crate::nfnetlink::logged_packets;

/// Longest packet of IPv4.
const MAX_PACKET: usize = 65_535;
/// A datagram of NFLOG with the head of one packet, and how many are read in one go.
const ACK: usize = 2_048;
const MOST_ACKS: usize = 1_024;

/// The tasks' view of it all.
pub struct Looking {
    resolver: Rc<Resolver>,
    device: AsyncFd<OwnedFd>,
    acks: AsyncFd<OwnedFd>,
    hellos: RefCell<Hellos>,
}

impl Looking {
    /// Starts to look at what comes by `device`. `acks` carries the heads of what
    /// servers answer.
    pub fn start(
        resolver: Rc<Resolver>,
        device: OwnedFd,
        acks: OwnedFd,
    ) -> io::Result<Vec<AbortHandle>> {
        let device = crate::fd::watch(device)?;
        let acks = crate::fd::watch(acks)?;
        let looking = Rc::new(Self { resolver, device, acks, hellos: RefCell::default() });
        Ok(vec![
            spawn_local(looking.clone().read_packets()).abort_handle(),
            spawn_local(looking.read_acks()).abort_handle(),
        ])
    }

    async fn read_packets(self: Rc<Self>) {
        let mut packet = vec![0; MAX_PACKET];
        loop {
            let Ok(length) = read(&self.device, &mut packet).await else { give_up() };
            // What the server said before the sandbox said this is heard before.
            self.clone().hear_acks();
            let deeds = self.hellos.borrow_mut().packet(&packet[..length], Instant::now());
            self.clone().perform(deeds);
            // A sandbox that never stops must not keep names and others waiting.
            tokio::task::yield_now().await;
        }
    }

    async fn read_acks(self: Rc<Self>) {
        loop {
            let Ok(mut ready) = self.acks.readable().await else { give_up() };
            ready.clear_ready();
            self.clone().hear_acks();
            tokio::task::yield_now().await;
        }
    }

    /// Takes in what there is of servers' answers.
    fn hear_acks(self: Rc<Self>) {
        let mut datagram = [0; ACK];
        for _ in 0..MOST_ACKS {
            let length = match nix::unistd::read(self.acks.get_ref(), &mut datagram) {
                Ok(length) => length,
                // Some were lost; the next one says the same.
                Err(Errno::ENOBUFS | Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => return,
                Err(_) => give_up(),
            };
            for head in logged_packets(&datagram[..length]) {
                let Some(tcp) = Tcp::read_head(head) else { continue };
                let deeds = self.hellos.borrow_mut().answered(&tcp, Instant::now());
                self.clone().perform(deeds);
            }
        }
    }

    fn perform(self: Rc<Self>, deeds: Vec<Deed>) {
        for deed in deeds {
            match deed {
                Deed::Send(packets) => {
                    for packet in packets {
                        // One that the device does not take is lost, as packets are.
                        let _ = nix::unistd::write(self.device.get_ref(), &packet);
                    }
                }
                Deed::Ask(flow, serial, name) => {
                    let looking = self.clone();
                    spawn_local(async move {
                        let found = looking.resolver.whose(flow.port, flow.server).await;
                        // A rule that was allowed before counts.
                        let up_to_date = looking.resolver.catch_up();
                        let may = |(id, _): &(u32, _)| looking.resolver.may_reach(*id, &name);
                        let refused = found.as_ref().is_some_and(|found| !may(found));
                        let allowed =
                            found.filter(may).filter(|_| up_to_date).map(|(_, known)| known);
                        let deeds = looking.hellos.borrow_mut().decided(
                            flow,
                            serial,
                            name.clone(),
                            allowed,
                        );
                        let Some(deeds) = deeds else { return };
                        // Nobody is told of one that is over, or that nobody answered for.
                        if refused {
                            looking.ended(flow, Some(name.as_str().to_owned())).await;
                        }
                        looking.perform(deeds);
                    });
                }
                Deed::Passed(flow, known, name) => {
                    let looking = self.clone();
                    spawn_local(async move {
                        // A helper that may still do it, and does not say when, must not
                        // find another connection there.
                        if !looking.resolver.passed(flow, known, &name).await {
                            give_up();
                        }
                        looking.hellos.borrow_mut().noted(flow);
                    });
                }
                Deed::Hidden(flow, _) => {
                    let looking = self.clone();
                    spawn_local(async move { looking.ended(flow, None).await });
                }
            }
        }
    }

    async fn ended(&self, Flow { port, server }: Flow, name: Option<String>) {
        let _ = self.resolver.tell(&FromResolver::Ended { port, server, name }).await;
    }
}

/// The helper starts another process, with the same device and socket.
fn give_up() -> ! {
    std::process::exit(70);
}

async fn read(from: &AsyncFd<OwnedFd>, buffer: &mut [u8]) -> Result<usize, Errno> {
    loop {
        let mut ready = from.readable().await.map_err(|_| Errno::EIO)?;
        match nix::unistd::read(from.get_ref(), buffer) {
            Err(Errno::EAGAIN) => ready.clear_ready(),
            Err(Errno::EINTR) => {}
            result => return result,
        }
    }
}
