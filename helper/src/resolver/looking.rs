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

/// The tasks' view of it all.
pub struct Looking {
    resolver: Rc<Resolver>,
    device: AsyncFd<OwnedFd>,
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
        let looking = Rc::new(Self { resolver, device, hellos: RefCell::default() });
        Ok(vec![
            spawn_local(looking.clone().read_packets()).abort_handle(),
            spawn_local(looking.read_acks(acks)).abort_handle(),
        ])
    }

    async fn read_packets(self: Rc<Self>) {
        let mut packet = vec![0; MAX_PACKET];
        loop {
            let Ok(length) = read(&self.device, &mut packet).await else { return };
            let deeds = self.hellos.borrow_mut().packet(&packet[..length], Instant::now());
            self.clone().perform(deeds);
        }
    }

    async fn read_acks(self: Rc<Self>, acks: AsyncFd<OwnedFd>) {
        let mut datagram = vec![0; MAX_PACKET];
        loop {
            let length = match read(&acks, &mut datagram).await {
                Ok(length) => length,
                // Some were lost; the next one says the same.
                Err(Errno::ENOBUFS) => continue,
                Err(_) => return,
            };
            for head in logged_packets(&datagram[..length]) {
                let Some(tcp) = Tcp::read_headers(head) else { continue };
                let flow = Flow { port: tcp.destination_port, server: tcp.source };
                let Some(number) = tcp.ack else { continue };
                let deed = self.hellos.borrow_mut().acknowledged(flow, number, Instant::now());
                self.clone().perform(deed.into_iter().collect());
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
                Deed::Ask(flow, name) => {
                    let looking = self.clone();
                    spawn_local(async move {
                        let id = looking.resolver.whose(flow.port, flow.server).await;
                        // A rule that was allowed before counts.
                        let allowed = looking.resolver.catch_up()
                            && id.is_some_and(|id| looking.resolver.may_reach(id, &name));
                        let deeds =
                            looking.hellos.borrow_mut().decided(flow, name.clone(), allowed);
                        if !allowed {
                            looking.ended(flow, Some(name.as_str().to_owned())).await;
                        }
                        looking.perform(deeds);
                    });
                }
                Deed::Passed(Flow { port, server }, name) => {
                    let looking = self.clone();
                    spawn_local(async move {
                        let name = name.as_str().to_owned();
                        let passed = FromResolver::Passed { port, server, name };
                        let _ = looking.resolver.tell(&passed).await;
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
