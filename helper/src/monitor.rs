//! The service while it runs: the bus, the resolver's process, and what the
//! kernel tells. Every task ends the process when it fails: the walls stand in
//! the kernel, and the service is started anew.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures_util::StreamExt;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use rcc_dbus::{BUS_NAME, BlockedReason, OBJECT_PATH};
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc, oneshot};
use tracing::{error, info, warn};
use zbus::object_server::SignalEmitter;

use crate::clock::{self, Sleeps};
use crate::control::{Blocked, Control, Event, Publication, Published};
use crate::netlink::Removed;
use crate::netns::Room;
use crate::nfnetlink;
use crate::nft::TABLE;
use crate::policy_file::{Edits, InForce};
use crate::resolver::parent::{self, Bucket};
use crate::resolver::wire::{self, FromResolver, ToResolver};
use crate::rules::{ACKS_GROUP, LOG_GROUP, REACHED};
use crate::service::Helper;
use crate::setup;
use crate::store::Store;
use crate::uplink::Uplink;
use crate::watchers::Watchers;

/// Groups of rtnetlink (linux/rtnetlink.h).
const LINKS: u32 = 1;
const ADDRESSES_4: u32 = 5;
const ROUTES_4: u32 = 7;
const ADDRESSES_6: u32 = 9;
/// How long the service stays when nobody needs it.
const IDLE: Duration = Duration::from_secs(60);
/// How long the resolver may take to end when it is killed.
const ENDING: Duration = Duration::from_secs(5);
/// For how long refusals are gathered before they are told.
const GATHERED: Duration = Duration::from_millis(200);
/// Publications that wait for their transaction, and sockets made a second.
const WAITING: usize = 4_096;
const UPSTREAM_RATE: (f64, f64) = (5_000.0, 10_000.0);

/// Serves until told to end, or until nobody needs it.
pub async fn run(gate: Room, host: Room, empty: Room, store: Store) -> anyhow::Result<()> {
    // First: what is written between the two is heard of.
    let edits = Edits::listen().context("cannot listen for edits of the list")?;
    // Before the rules are taken over: a sleep after that is heard of.
    let sleeps = Sleeps::listen().context("cannot hear of sleeps")?;
    let file = InForce::read();
    let uplink = Uplink::at_start(file.as_ref());
    let policy = match file {
        Ok(policy) => {
            policy.record();
            policy
        }
        Err(error) => {
            error!(%error, "the list of allowed hosts does not read; the last one that did holds, or nothing");
            InForce::last_or_nothing()
        }
    };
    // Sockets belong to the namespace of the thread that makes them.
    let logged = gate.run(|| nfnetlink::nflog(LOG_GROUP)).await??;
    let hellos = Hellos {
        device: hello_device(&gate).await?,
        acks: gate.run(|| nfnetlink::nflog(ACKS_GROUP)).await??,
    };
    let gate_links = gate.run(|| listen(&[LINKS])).await??;
    let host_changes = host.run(|| listen(&[LINKS, ADDRESSES_4, ROUTES_4, ADDRESSES_6])).await??;
    let tables = host.run(nfnetlink::nftables_events).await??;

    let (control, events) = Control::start(gate, host, policy, uplink, store).await?;
    let watchers = Arc::new(Watchers::default());
    let (publish, publications) = mpsc::channel(WAITING);
    let helper = Helper::new(control.clone(), watchers.clone());
    let connection = zbus::connection::Builder::system()?
        .serve_at(OBJECT_PATH, helper)?
        .name(BUS_NAME)?
        .build()
        .await
        .context("cannot serve on the system bus")?;
    info!(event = "start", version = env!("CARGO_PKG_VERSION"), "serving");

    let routes = Notify::new();

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        result = supervise_resolver(control.clone(), empty, hellos, publish) => result?,
        result = publish_in_batches(control.clone(), publications) => result,
        result = read_log(control.clone(), logged) => result?,
        result = follow_links(&control, gate_links) => result?,
        result = follow(host_changes, || async {
            let mut taken = control.host_changed().await;
            control.resolver.tell(&ToResolver::Rerouted, &[]).await;
            routes.notify_one();
            let mut pause = Duration::from_secs(1);
            while let Err(error) = taken {
                warn!(%error, "the host's addresses could not be taken over; again in {pause:?}");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(60));
                taken = control.host_changed().await;
            }
        }) => result?,
        result = guard_host_table(control.clone(), tables) => result?,
        result = follow_list(&control, edits) => result?,
        result = tell(control.clone(), connection.clone(), watchers.clone(), events) => result?,
        result = forget_leavers(connection.clone(), watchers.clone()) => result?,
        () = tell_refusals(control.clone(), watchers.clone()) => {}
        () = control.gate_is_gone() => {
            // The next process takes the new gate, or makes one; sandboxes of the old
            // one are told that they are cut off.
            anyhow::bail!("the link to the gate was made anew or removed");
        }
        () = forward_everywhere(&control, &connection, &routes) => {}
        result = end_timed_rules(&control) => result.context("timed rules cannot end")?,
        result = follow_sleeps(&control, sleeps) => result.context("cannot hear of sleeps")?,
        () = idle(control.clone(), watchers) => info!(event = "idle", "nobody needs the service"),
        _ = terminate.recv() => info!(event = "stop", "told to end"),
        _ = interrupt.recv() => info!(event = "stop", "told to end"),
    }
    control.flush(|_| false).await;
    connection.release_name(BUS_NAME).await?;
    Ok(())
}

/// A link that came later needs forwarding, too. The service itself cannot write
/// such a setting: the regular check does, and is started early.
async fn forward_everywhere(control: &Control, connection: &zbus::Connection, routes: &Notify) {
    loop {
        if control.lacks_forwarding().await
            && let Err(error) = setup::check_now(connection).await
        {
            warn!(%error, "a new link has no forwarding until the next regular check");
        }
        routes.notified().await;
    }
}

/// The device belongs to one process at a time: the resolver of a helper that was
/// killed may have it for a moment more.
async fn hello_device(gate: &Room) -> anyhow::Result<std::os::fd::OwnedFd> {
    let mut tries = 0;
    loop {
        match gate.run(crate::gate::open_hello_device).await? {
            Err(error) if error.raw_os_error() == Some(nix::libc::EBUSY) && tries < 100 => {
                tries += 1;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            result => return result.context("cannot open the device for hellos"),
        }
    }
}

fn listen(groups: &[u32]) -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind(&SocketAddr::new(0, 0))?;
    for group in groups {
        socket.add_membership(*group)?;
    }
    socket.set_non_blocking(true)?;
    Ok(socket)
}

/// The next datagram. A socket that overflowed lost some: that counts as one too.
async fn datagram(socket: &AsyncFd<Socket>) -> io::Result<Vec<u8>> {
    loop {
        let mut ready = socket.readable().await?;
        match socket.get_ref().recv_from_full() {
            Ok((data, _)) => return Ok(data),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
            Err(error) if error.raw_os_error() == Some(nix::libc::ENOBUFS) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        }
    }
}

/// Hears the next burst of changes to its end.
async fn burst(socket: &AsyncFd<Socket>, mut hear: impl FnMut(&[u8])) -> io::Result<()> {
    hear(&datagram(socket).await?);
    tokio::time::sleep(Duration::from_millis(20)).await;
    while let Ok(result) = tokio::time::timeout(Duration::ZERO, datagram(socket)).await {
        hear(&result?);
    }
    Ok(())
}

/// Does something after each burst of changes.
async fn follow<F: Future<Output = ()>>(
    socket: Socket,
    mut act: impl FnMut() -> F,
) -> anyhow::Result<()> {
    let socket = crate::fd::watch(socket)?;
    loop {
        burst(&socket, |_| ()).await?;
        act().await;
    }
}

/// Clears what belongs to links that the kernel took away.
async fn follow_links(control: &Control, socket: Socket) -> anyhow::Result<()> {
    let socket = crate::fd::watch(socket)?;
    let mut removed = Removed::default();
    loop {
        burst(&socket, |datagram| removed.hear(datagram)).await?;
        if control.sweep(&removed).await {
            removed = Removed::default();
        }
    }
}

/// An administrator's edit by hand, or by what manages the computer. A list with a
/// mistake changes nothing; one that was removed allows nothing.
async fn follow_list(control: &Control, edits: Option<Edits>) -> anyhow::Result<()> {
    let Some(edits) = edits else { return std::future::pending().await };
    loop {
        edits.next().await.context("cannot listen for edits of the list")?;
        match tokio::task::spawn_blocking(InForce::read).await? {
            Ok(policy) => {
                if let Err(error) = control.use_policy(policy).await {
                    error!(%error, "the edited list of allowed hosts is not in force");
                }
            }
            Err(error) => {
                error!(%error, "the edited list does not read; the one before stays in force");
            }
        }
    }
}

async fn read_log(control: Arc<Control>, socket: Socket) -> anyhow::Result<()> {
    let socket = crate::fd::watch(socket)?;
    loop {
        for packet in nfnetlink::logged(&datagram(&socket).await?) {
            if packet.reason == REACHED {
                let nfnetlink::Logged { link, destination, port, protocol, .. } = packet;
                control.reached(link, destination, port, &protocol).await;
                continue;
            }
            let Some(reason) = BlockedReason::from_wire(&packet.reason) else { continue };
            let what = Blocked {
                id: 0,
                host: String::new(),
                address: packet.destination.to_string(),
                port: packet.port,
                protocol: packet.protocol,
                reason,
            };
            control.refused(what, Some(packet.link)).await;
        }
    }
}

/// `nft flush ruleset`, a reload of a firewall: our table comes back at once (N12).
async fn guard_host_table(control: Arc<Control>, socket: Socket) -> anyhow::Result<()> {
    let socket = crate::fd::watch(socket)?;
    loop {
        let data = datagram(&socket).await?;
        if data.is_empty() || nfnetlink::says_table_removed(&data, TABLE) {
            // It says itself why not, and the link is down then.
            let _ = control.restore_host().await;
        }
    }
}

/// Gathers what is refused for a moment, and tells it. Sleeps while nothing is.
async fn tell_refusals(control: Arc<Control>, watchers: Arc<Watchers>) {
    loop {
        control.refusals.notified().await;
        tokio::time::sleep(GATHERED).await;
        control.flush(|uid| !watchers.of(Some(uid)).is_empty()).await;
    }
}

/// Lets timed rules end, each at its time. Waits while there are none.
async fn end_timed_rules(control: &Control) -> io::Result<()> {
    loop {
        let changed = control.changes.notified();
        match control.next_end().await {
            None => changed.await,
            Some(end) => tokio::select! {
                over = clock::until(end) => {
                    over?;
                    control.expire().await;
                }
                () = changed => {}
            },
        }
    }
}

/// Takes the time of each sleep from what is open for a time.
async fn follow_sleeps(control: &Control, mut sleeps: Sleeps) -> io::Result<()> {
    loop {
        sleeps.next().await?;
        control.woke().await;
    }
}

/// Ends when nobody has called, watched, or had a sandbox for a while.
async fn idle(control: Arc<Control>, watchers: Arc<Watchers>) {
    loop {
        if control.in_use().await {
            watchers.note_activity();
        }
        let left = IDLE.saturating_sub(watchers.idle());
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.max(Duration::from_secs(1))).await;
    }
}

// The resolver.

/// What each resolver gets to look at hellos; kept here, so that packets wait while
/// one starts.
struct Hellos {
    device: std::os::fd::OwnedFd,
    acks: Socket,
}

struct Waiting {
    publication: Publication,
    done: oneshot::Sender<Published>,
}

async fn supervise_resolver(
    control: Arc<Control>,
    empty: Room,
    hellos: Hellos,
    publish: mpsc::Sender<Waiting>,
) -> anyhow::Result<()> {
    let mut pause = Duration::from_millis(50);
    loop {
        let started = std::time::Instant::now();
        match parent::start(&empty).await {
            Ok((mut child, socket)) => {
                control.resolver.set(Some(socket.clone()));
                let fds = [wire::number(&hellos.device), wire::number(&hellos.acks)];
                control.resolver.tell(&ToResolver::Hellos, &fds).await;
                match control.brief_resolver().await {
                    Ok(()) => serve_resolver(&control, &socket, &publish).await,
                    Err(error) => error!(%error, "the resolver could not be told the rules"),
                }
                control.resolver.set(None);
                let _ = child.kill();
                let waited = tokio::task::spawn_blocking(move || child.wait());
                let Ok(status) = tokio::time::timeout(ENDING, waited).await else {
                    anyhow::bail!("the resolver does not end");
                };
                warn!(event = "resolver-ended", ?status, "the resolver ended and is started anew");
            }
            Err(error) => error!(%error, "the resolver cannot be started"),
        }
        // One that keeps ending is not started in a loop.
        pause = if started.elapsed() > Duration::from_secs(10) {
            Duration::from_millis(50)
        } else {
            (pause * 2).min(Duration::from_secs(5))
        };
        tokio::time::sleep(pause).await;
    }
}

async fn serve_resolver(
    control: &Arc<Control>,
    socket: &Arc<AsyncFd<std::os::fd::OwnedFd>>,
    publish: &mpsc::Sender<Waiting>,
) {
    let (rate, burst) = UPSTREAM_RATE;
    let mut sockets = Bucket::new(rate, burst);
    let mut servers = Vec::new();
    while let Some(message) = parent::listen(socket).await {
        match message {
            FromResolver::Connect { request, server, tcp } => {
                // The host's table names the servers; it follows resolv.conf.
                let present = parent::servers().unwrap_or_default();
                if present != servers {
                    // Not tried again with each question, should it fail.
                    let _ = control.restore_host().await;
                    servers = present;
                }
                let made = sockets.take().then(|| parent::upstream(server, tcp));
                let made = match made {
                    Some(Ok(made)) => made,
                    Some(Err(error)) => {
                        warn!(%error, "no socket to a name server");
                        None
                    }
                    None => None,
                };
                let fds: Vec<_> = made.iter().map(wire::number).collect();
                let message = ToResolver::Upstream { request };
                control.resolver.tell_one(socket, &message, &fds).await;
            }
            FromResolver::Publish {
                request,
                id,
                revision,
                administrators,
                users,
                addresses,
                ttl,
            } => {
                let publication =
                    Publication { id, revision, administrators, users, addresses, ttl };
                let (done, published) = oneshot::channel();
                if publish.try_send(Waiting { publication, done }).is_err() {
                    // More than an honest resolver ever has under way.
                    warn!("the resolver asks for too much at once and is started anew");
                    return;
                }
                let (control, socket) = (control.clone(), socket.clone());
                tokio::spawn(async move {
                    let published = published.await.unwrap_or(Err(()));
                    let failed = published.is_err();
                    let addresses = published.unwrap_or_default();
                    let message = ToResolver::Published { request, addresses, failed };
                    control.resolver.tell_one(&socket, &message, &[]).await;
                });
            }
            FromResolver::Whose { request, port, server } => {
                let found = control.whose(port, server).await;
                let message = ToResolver::Whose { request, found };
                control.resolver.tell_one(socket, &message, &[]).await;
            }
            FromResolver::Passed { request, port, server, known, name } => {
                if let Ok(name) = name.parse::<rcc_policy::Name>()
                    && let Err(error) = control.hello_passed(port, server, known, &name).await
                {
                    warn!(%error, "a connection could not be passed on");
                }
                control.resolver.tell_one(socket, &ToResolver::Noted { request }, &[]).await;
            }
            FromResolver::Ended { port, server, name } => {
                // Canonical, or it is not repeated.
                let name = name.and_then(|name| name.parse::<rcc_policy::Name>().ok());
                control.hello_refused(port, server, name.as_ref()).await;
            }
            FromResolver::Tried { request, tried } => control.resolver.tried(request, tried),
            FromResolver::Answered { id, name, addresses } => {
                if let Ok(name) = name.parse::<rcc_policy::Name>() {
                    control.answered(id, &name, &addresses);
                }
            }
            FromResolver::Refused { id, name, limit } => {
                // Canonical, or it is not repeated.
                let Ok(name) = name.parse::<rcc_policy::Name>() else { continue };
                let reason = if limit { BlockedReason::Limit } else { BlockedReason::NotAllowed };
                let what = Blocked {
                    id,
                    host: if limit { String::new() } else { name.to_string() },
                    address: String::new(),
                    port: 0,
                    protocol: String::new(),
                    reason,
                };
                control.refused(what, None).await;
            }
        }
    }
}

/// Many answers, one transaction: what comes while one is under way waits for
/// the next.
async fn publish_in_batches(control: Arc<Control>, mut waiting: mpsc::Receiver<Waiting>) {
    let mut batch = Vec::new();
    while waiting.recv_many(&mut batch, 64).await > 0 {
        let (publications, done): (Vec<_>, Vec<_>) =
            batch.drain(..).map(|one| (one.publication, one.done)).unzip();
        let results = control.publish(&publications).await;
        for (done, result) in done.into_iter().zip(results) {
            let _ = done.send(result);
        }
    }
}

// The bus.

async fn tell(
    control: Arc<Control>,
    connection: zbus::Connection,
    watchers: Arc<Watchers>,
    mut events: mpsc::UnboundedReceiver<Event>,
) -> anyhow::Result<()> {
    let to = |uid| -> zbus::Result<Vec<SignalEmitter<'_>>> {
        let emitter =
            |name| Ok(SignalEmitter::new(&connection, OBJECT_PATH)?.set_destination(name));
        watchers.of(uid).into_iter().map(emitter).collect()
    };
    while let Some(event) = events.recv().await {
        match event {
            Event::Blocked { uid, what, count } => {
                let emitters = to(Some(uid))?;
                if emitters.is_empty() {
                    // Who watched when it was gathered does not any more.
                    control.untold(what, count).await;
                    continue;
                }
                let Blocked { id, host, address, port, protocol, reason } = &what;
                for one in emitters {
                    let reason = reason.as_str();
                    Helper::blocked(&one, *id, host, address, *port, protocol, reason, count)
                        .await?;
                }
            }
            Event::Detached { uid, id, reason } => {
                for one in to(Some(uid))? {
                    Helper::detached(&one, id, reason).await?;
                }
            }
            Event::PolicyChanged { version } => {
                for one in to(None)? {
                    Helper::policy_changed(&one, &version).await?;
                }
            }
            Event::Sent(done) => {
                let _ = done.send(());
            }
        }
    }
    Ok(())
}

async fn forget_leavers(
    connection: zbus::Connection,
    watchers: Arc<Watchers>,
) -> anyhow::Result<()> {
    let bus = zbus::fdo::DBusProxy::new(&connection).await?;
    let mut changes = bus.receive_name_owner_changed().await?;
    while let Some(change) = changes.next().await {
        let change = change.args()?;
        if change.new_owner().is_none() {
            watchers.remove(change.name().as_str());
        }
    }
    anyhow::bail!("the system bus is gone")
}
