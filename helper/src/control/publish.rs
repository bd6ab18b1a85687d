//! Opening what the resolver found.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};

use rcc_policy::{Entry, Target};
use tracing::{error, warn};

use super::{Control, Publication, Published, State};
use crate::clock::now;
use crate::elements::Elements;
use crate::resolver::dns::MAX_ADDRESSES;
use crate::rules::{self, answer_may_open};

/// Bytes after which changes go to the kernel in another piece. With the ports of one
/// entry more a piece still fits the buffer of a socket (`net.core.wmem_default`, 208 KiB).
const MOST_AT_ONCE: usize = 64 << 10;
/// Entries that one name can reasonably match.
const MAX_ENTRIES: usize = 64;

/// Changes that hold all together or not at all.
#[derive(Default)]
struct Piece {
    changes: Elements,
    noted: Vec<Noted>,
    /// Which of the publications it is of.
    of: Vec<usize>,
}

/// An address that is opened.
struct Noted {
    id: u32,
    key: (Entry, Ipv4Addr),
    /// Until when it was open.
    before: Option<u64>,
}

impl Control {
    /// Opens what the resolver found, as far as the policy allows: first the set,
    /// then the answer. Many at once, in as few transactions as their size allows.
    pub async fn publish(&self, publications: &[Publication]) -> Vec<Published> {
        let mut state = self.state.lock().await;
        let now = now();
        let mut pieces = vec![Piece::default()];
        let mut results: Vec<Published> = publications
            .iter()
            .enumerate()
            .map(|one| open(&mut state, one, now, &mut pieces))
            .collect();
        let mut opened: BTreeMap<u32, Vec<(Entry, Ipv4Addr)>> = BTreeMap::new();
        for piece in pieces {
            if let Err(error) = self.commit_elements(piece.changes).await {
                warn!(%error, "could not open addresses");
                // What was noted last goes first, so that the oldest is what stays.
                for Noted { id, key, before } in piece.noted.into_iter().rev() {
                    if let Some(one) = state.attachments.all.get_mut(&id) {
                        one.unnote_answer(key, before);
                    }
                }
                piece.of.into_iter().for_each(|number| results[number] = Err(()));
                continue;
            }
            for Noted { id, key, .. } in piece.noted {
                opened.entry(id).or_default().push(key);
            }
        }
        // On a memory file system, so this costs microseconds; a helper that is
        // killed now knows afterwards what is open (N11).
        for (id, keys) in opened {
            if let Err(error) = state.attachments.write_opened(id, &keys) {
                error!(%error, "could not write the state");
            }
        }
        results
    }

    async fn commit_elements(&self, changes: Elements) -> io::Result<()> {
        // What is open for long enough already is the usual answer.
        if changes.is_empty() {
            return Ok(());
        }
        self.gate.run(move || changes.commit()).await.map_err(io::Error::other)?
    }
}

/// Opens one publication within the last piece, or more of them. The resolver is believed
/// in nothing: entries, addresses and their number are checked here.
fn open(
    state: &mut State,
    (number, publication): (usize, &Publication),
    now: u64,
    pieces: &mut Vec<Piece>,
) -> Published {
    let policy = &state.policy.policy;
    let one = state.attachments.all.get_mut(&publication.id).ok_or(())?;
    if one.revision != publication.revision
        || !one.connected
        || publication.addresses.len() > MAX_ADDRESSES
        || publication.administrators.len() + publication.users.len() > MAX_ENTRIES
    {
        return Err(());
    }
    let mut entries = Vec::new();
    for number in &publication.administrators {
        entries.push(policy.entries.get(*number as usize).ok_or(())?.clone());
    }
    for number in &publication.users {
        entries.push(one.held.get(*number as usize).ok_or(())?.entry.clone());
    }
    let mut opened = Vec::new();
    for address in &publication.addresses {
        let IpAddr::V4(v4) = *address else { continue };
        if state.host_networks.iter().any(|net| net.contains(address)) {
            continue;
        }
        for entry in &entries {
            let by_name = matches!(entry.target(), Target::Host(_));
            if !by_name || !answer_may_open(*address, entry.private()) {
                continue;
            }
            if let Some(opening) = one.note_answer(entry, v4, publication.ttl, now).map_err(drop)? {
                let piece = with_room(pieces);
                rules::answered(&mut piece.changes, one.id, entry, v4, &opening);
                let (key, before) = ((entry.clone(), v4), opening.before);
                piece.noted.push(Noted { id: one.id, key, before });
                piece.of.push(number);
            }
            if !opened.contains(address) {
                opened.push(*address);
            }
        }
    }
    Ok(opened)
}

/// The last piece, or a new one.
fn with_room(pieces: &mut Vec<Piece>) -> &mut Piece {
    if pieces.last().is_none_or(|last| last.changes.size() >= MOST_AT_ONCE) {
        pieces.push(Piece::default());
    }
    let last = pieces.len() - 1;
    &mut pieces[last]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attachments::Held;
    use crate::attachments::tests::attachment;
    use crate::control::tests::state;
    use rcc_policy::Protocol;

    /// What the kernel takes at once.
    const ROOM: usize = 208 << 10;

    #[test]
    fn h3_what_one_name_opens_goes_to_the_kernel_in_pieces_that_fit() {
        let ports: Vec<u16> = (1..=64).collect();
        let mut one = attachment(1, [198, 18, 0, 16].into());
        one.held = [Protocol::Tcp, Protocol::Udp]
            .map(|protocol| Entry::new("a.example", &ports, protocol, false).unwrap())
            .map(|entry| Held { entry, until: None })
            .to_vec();
        one.answers.clear();
        let publication = Publication {
            id: 1,
            revision: one.revision,
            administrators: Vec::new(),
            users: vec![0, 1],
            addresses: (0..32).map(|n| Ipv4Addr::from(0x0b00_0000 + n).into()).collect(),
            ttl: 60,
        };
        let mut state = state();
        state.attachments.all.insert(1, one);
        let mut pieces = vec![Piece::default()];
        let opened = open(&mut state, (0, &publication), 100, &mut pieces);
        assert_eq!(opened.map(|opened| opened.len()), Ok(32));
        assert!(pieces.len() > 1);
        assert!(pieces.iter().all(|piece| piece.changes.size() < ROOM - (16 << 10)));
        let noted = pieces.iter().flat_map(|piece| &piece.noted).count();
        assert_eq!(noted, 64);
        assert!(pieces.iter().all(|piece| !piece.of.is_empty()));
    }
}
