//! What a question is answered: whether the policy allows it, what the kernel was told
//! before, and what is told on.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::time::Instant;

use hickory_proto::rr::RecordType;
use rcc_policy::{Name, Protocol};

use super::{Heard, Resolver};
use crate::resolver::dns::{Found, MAX_ADDRESSES, Question, Reply, Upstream, is_looked_up};
use crate::resolver::services::Service;
use crate::resolver::wire::FromResolver;
use crate::rules::answer_may_open;

/// Firefox asks for this name; "no such name" keeps it from DNS over HTTPS.
const DOH_CANARY: &str = "use-application-dns.net";

/// By what right a name is looked up.
struct Right {
    revision: u64,
    administrators: Vec<u32>,
    users: Vec<u32>,
    private: bool,
    /// Any public name is allowed.
    public: bool,
}

/// What the policy says of a question.
enum Decision {
    Look(Right),
    Answer(Reply),
    Refuse {
        limit: bool,
    },
    /// More names by a wildcard than a minute has.
    TooWild,
    Silent,
}

/// Why addresses were not opened.
enum Unopened {
    /// The rules are others by now: the question is looked at anew.
    Changed,
    Failed,
}
impl Resolver {
    pub(super) async fn reply(self: &Rc<Self>, id: u32, question: &Question) -> Option<Reply> {
        // A rule that was allowed before this question was asked holds for it:
        // whatever the helper has said is heard first.
        if !self.catch_up() {
            return None;
        }
        // Twice: the rules may change while a name server thinks.
        for _ in 0..2 {
            let right = match self.decide(id, question) {
                Decision::Look(right) => right,
                Decision::Answer(reply) => return Some(reply),
                Decision::Refuse { limit } => {
                    self.report(id, &question.name, limit).await;
                    return (!limit).then_some(Reply::NotAllowed);
                }
                Decision::TooWild => {
                    self.report(id, &question.name, true).await;
                    return Some(Reply::Failed);
                }
                Decision::Silent => return None,
            };
            self.count(id, 1);
            let reply = match self.look_up(&question.name, question.kind).await {
                Upstream::Found(Found::Addresses(addresses), ttl) => {
                    self.give_addresses(id, &right, addresses, ttl).await
                }
                Upstream::Found(Found::Services(services), ttl) => {
                    self.give_services(id, &right, services, ttl).await
                }
                Upstream::NoData => Some(Reply::NoData),
                Upstream::NoName => Some(Reply::NoName),
                // A name server that does not know the newer kinds of records must not
                // take the name itself away: without them clients go by its addresses.
                Upstream::Failed | Upstream::Truncated if question.kind != RecordType::A => {
                    Some(Reply::NoData)
                }
                Upstream::Failed | Upstream::Truncated => Some(Reply::Failed),
            };
            self.count(id, -1);
            let given = match &reply {
                Some(Reply::Addresses(addresses, _)) => addresses.clone(),
                Some(Reply::Services(services, _)) => hints(services),
                _ => Vec::new(),
            };
            if !given.is_empty() {
                let name = question.name.as_str().to_owned();
                let addresses = given.into_iter().map(IpAddr::V4).collect();
                let _ = self.tell(&FromResolver::Answered { id, name, addresses }).await;
            }
            if reply.is_some() {
                return reply;
            }
        }
        Some(Reply::Failed)
    }

    /// `None` when the rules changed meanwhile.
    async fn give_addresses(
        &self,
        id: u32,
        right: &Right,
        addresses: Vec<IpAddr>,
        ttl: u32,
    ) -> Option<Reply> {
        match self.open(id, right, addresses, ttl).await {
            Ok(open) if open.is_empty() => Some(Reply::NoData),
            Ok(open) => Some(Reply::Addresses(only_v4(open), ttl)),
            Err(Unopened::Changed) => None,
            Err(Unopened::Failed) => Some(Reply::Failed),
        }
    }

    /// As [`Self::give_addresses`]: a hint is an address like any other.
    async fn give_services(
        &self,
        id: u32,
        right: &Right,
        services: Vec<Service>,
        ttl: u32,
    ) -> Option<Reply> {
        let mut services = self.within(id, right, services)?;
        let mut asked = hints(&services);
        asked.truncate(MAX_ADDRESSES);
        let asked = asked.into_iter().map(IpAddr::V4).collect();
        match self.open(id, right, asked, ttl).await {
            Ok(open) => services.iter_mut().for_each(|one| one.keep_hints(&open)),
            Err(Unopened::Changed) => return None,
            Err(Unopened::Failed) => return Some(Reply::Failed),
        }
        services.retain(|one| one.data(RecordType::HTTPS).is_some());
        Some(if services.is_empty() { Reply::NoData } else { Reply::Services(services, ttl) })
    }

    /// What of the records the rules let through; `None` when those are others by now.
    fn within(&self, id: u32, right: &Right, services: Vec<Service>) -> Option<Vec<Service>> {
        let sandboxes = self.sandboxes.borrow();
        let sandbox = sandboxes.get(&id).filter(|one| one.revision == right.revision)?;
        let policy = self.policy.borrow();
        let opens = |protocol: Protocol, port: u16| {
            right.public
                || policy.index.opens(&right.administrators, protocol, port)
                || sandbox.users.opens(&right.users, protocol, port)
        };
        Some(services.into_iter().filter_map(|one| one.within(opens)).collect())
    }

    /// Has the helper open these addresses as far as they may be, before anybody is told
    /// of them.
    async fn open(
        &self,
        id: u32,
        right: &Right,
        mut addresses: Vec<IpAddr>,
        ttl: u32,
    ) -> Result<Vec<IpAddr>, Unopened> {
        addresses.retain(|address| answer_may_open(*address, right.private));
        if addresses.is_empty() || (right.administrators.is_empty() && right.users.is_empty()) {
            // Open by `allow_public` or for a time: no set decides.
            return Ok(addresses);
        }
        let publish = |request| FromResolver::Publish {
            request,
            id,
            revision: right.revision,
            administrators: right.administrators.clone(),
            users: right.users.clone(),
            addresses,
            ttl,
        };
        match self.ask(publish).await {
            Some(Heard::Published(open, false)) => Ok(open),
            Some(Heard::Published(_, true)) => Err(Unopened::Changed),
            _ => Err(Unopened::Failed),
        }
    }

    fn count(&self, id: u32, change: isize) {
        if let Some(sandbox) = self.sandboxes.borrow_mut().get_mut(&id) {
            sandbox.waiting = sandbox.waiting.saturating_add_signed(change);
        }
    }

    fn decide(&self, id: u32, question: &Question) -> Decision {
        let mut sandboxes = self.sandboxes.borrow_mut();
        let Some(sandbox) = sandboxes.get_mut(&id) else { return Decision::Silent };
        let name = &question.name;
        if name.as_str() == DOH_CANARY {
            return Decision::Answer(Reply::NoName);
        }
        if !sandbox.may_ask() {
            return Decision::Refuse { limit: true };
        }
        if !sandbox.connected {
            return Decision::Answer(Reply::NotAllowed);
        }
        let policy = self.policy.borrow();
        let administrators = policy.index.matching(name);
        let users = sandbox.users.matching(name);
        let allowed = !administrators.is_empty() || !users.is_empty();
        if !allowed && !policy.allow_public && !sandbox.open {
            if policy.index.above(name) || sandbox.users.above(name) {
                // "No such name" would make clients give up on the names below.
                return Decision::Answer(Reply::NoData);
            }
            return Decision::Refuse { limit: false };
        }
        if !is_looked_up(question.kind) {
            return Decision::Answer(Reply::NoData);
        }
        let public = policy.allow_public || sandbox.open;
        if !public
            && !policy.index.names(name)
            && !sandbox.users.names(name)
            && !sandbox.may_ask_wildly(name, Instant::now())
        {
            return Decision::TooWild;
        }
        let private = policy.index.private(&administrators) || sandbox.users.private(&users);
        let revision = sandbox.revision;
        Decision::Look(Right { revision, administrators, users, private, public })
    }

    async fn report(&self, id: u32, name: &Name, limit: bool) {
        // Programs ask for the names of addresses all the time; nobody can allow those.
        if !name.as_str().ends_with(".arpa") {
            let name = name.as_str().to_owned();
            let _ = self.tell(&FromResolver::Refused { id, name, limit }).await;
        }
    }
}

fn hints(services: &[Service]) -> Vec<Ipv4Addr> {
    let mut hints: Vec<Ipv4Addr> = services.iter().flat_map(Service::hints).copied().collect();
    let mut seen = HashSet::new();
    hints.retain(|hint| seen.insert(*hint));
    hints
}

fn only_v4(addresses: Vec<IpAddr>) -> Vec<Ipv4Addr> {
    let v4 = |address| match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    };
    addresses.into_iter().filter_map(v4).collect()
}
