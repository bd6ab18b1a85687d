//! The files of what is known, under /run/rcc: one of what all sandboxes share, and
//! one of each sandbox, so that an answer given to one does not write down all; and one
//! of what was opened since, so that it does not write down all of that sandbox either.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rcc_dbus::Rule;
use rcc_policy::Entry;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Attachment, Attachments, Held};
use crate::layout::STATE_FOLDER;
use crate::netlink::Mac;
use crate::netns::NetnsId;
use crate::state::write_atomically;

impl Attachments {
    /// Reads the files; without that of all there are no sandboxes. A sandbox whose own
    /// file does not read is left out, see [`Attachments::left_out`]: the caller takes its
    /// link away. When that of all does not read nobody knows which numbers were given
    /// out: then the caller begins with [`Attachments::anew`] in an empty gate.
    pub fn read() -> io::Result<Self> {
        read(Path::new(STATE_FOLDER))
    }

    /// Writes what all share, and what is known of one sandbox, or that it is gone.
    /// What all share first: a number once given must never be given again.
    pub fn write(&self, id: u32) -> io::Result<()> {
        write(self, Path::new(STATE_FOLDER), id)
    }

    /// Writes down which addresses were opened, when nothing else of a sandbox changed.
    pub fn write_opened(&self, id: u32, keys: &[(Entry, Ipv4Addr)]) -> io::Result<()> {
        write_opened(self, Path::new(STATE_FOLDER), id, keys)
    }

    /// Writes everything, and removes what is of no sandbox.
    pub fn write_all(&self) -> io::Result<()> {
        write_all(self, Path::new(STATE_FOLDER))
    }
}

/// What all sandboxes share. A field that comes later needs a default, here and below: else
/// an upgrade cuts everybody off.
#[derive(Serialize, Deserialize)]
struct Shared {
    policy: String,
    last_id: u32,
    last_generation: u32,
    last_revision: u64,
    last_offset: u32,
    resting: Vec<(Ipv4Addr, u64)>,
    #[serde(default)]
    locked: Vec<NetnsId>,
}

/// One sandbox. Rules stand in it as on the wire and are checked again when read.
#[derive(Serialize, Deserialize)]
struct Stored {
    id: u32,
    uid: u32,
    netns: NetnsId,
    link: u32,
    address: Ipv4Addr,
    macs: (Mac, Mac),
    connected: bool,
    locked: bool,
    open_until: Option<u64>,
    since: u64,
    held: Vec<(Rule, Option<u64>)>,
    generation: u32,
    revision: u64,
    answers: Vec<(Rule, Ipv4Addr, u64)>,
}

/// An address that was opened after the file of its sandbox was written: a line.
#[derive(Serialize, Deserialize)]
struct Opened {
    /// Of the rules that it was opened by: under others it may not be.
    revision: u64,
    rule: Rule,
    address: Ipv4Addr,
    until: u64,
}

/// Bytes of such lines, some four hundred, after which the sandbox is written anew.
const MOST_OPENED: u64 = 64 << 10;

fn shared_file(folder: &Path) -> PathBuf {
    folder.join("attachments.json")
}

fn sandboxes(folder: &Path) -> PathBuf {
    folder.join("sandboxes")
}

fn file_name(id: u32) -> String {
    format!("{id}.json")
}

/// No file of a sandbox to those who look for them.
fn opened_name(id: u32) -> String {
    format!(".{id}.opened")
}

fn parse<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    let named = |error: io::Error| {
        io::Error::new(error.kind(), format!("cannot read {}: {error}", path.display()))
    };
    let bytes = fs::read(path).map_err(named)?;
    serde_json::from_slice(&bytes).map_err(|error| named(error.into()))
}

/// Names of the files of sandboxes, those half written included.
fn names(folder: &Path) -> io::Result<Vec<String>> {
    match fs::read_dir(sandboxes(folder)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
        Ok(entries) => {
            entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
        }
    }
}

fn read(folder: &Path) -> io::Result<Attachments> {
    let path = shared_file(folder);
    if !path.try_exists()? {
        return Ok(Attachments::default());
    }
    let shared: Shared = parse(&path)?;
    let (mut all, mut left_out) = (BTreeMap::new(), Vec::new());
    for name in names(folder)? {
        // Another name is no file of ours, and goes with the next writing.
        let number = name.strip_suffix(".json").and_then(|number| number.parse().ok());
        let Some(id) = number.filter(|id| file_name(*id) == name) else { continue };
        match read_one(folder, id) {
            Ok(one) => drop(all.insert(id, one)),
            Err(error) => left_out.push((id, error.to_string())),
        }
    }
    Ok(Attachments {
        all,
        policy: shared.policy,
        left_out,
        last_id: shared.last_id,
        last_generation: shared.last_generation,
        last_revision: shared.last_revision,
        last_offset: shared.last_offset,
        resting: shared.resting,
        locked: shared.locked,
    })
}

fn read_one(folder: &Path, id: u32) -> io::Result<Attachment> {
    let one: Stored = parse(&sandboxes(folder).join(file_name(id)))?;
    if one.id != id {
        let text = format!("{} is the file of sandbox {}", file_name(id), one.id);
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    let mut one = one.into_attachment()?;
    read_opened(&mut one, folder)?;
    Ok(one)
}

fn write(attachments: &Attachments, folder: &Path, id: u32) -> io::Result<()> {
    write_shared(attachments, folder)?;
    match attachments.all.get(&id) {
        Some(one) => write_one(one, folder),
        None => {
            remove(folder, &file_name(id))?;
            remove(folder, &opened_name(id))
        }
    }
}

fn write_all(attachments: &Attachments, folder: &Path) -> io::Result<()> {
    write_shared(attachments, folder)?;
    for one in attachments.all.values() {
        write_one(one, folder)?;
    }
    let known: Vec<String> = attachments.all.keys().map(|id| file_name(*id)).collect();
    for name in names(folder)?.iter().filter(|name| !known.contains(name)) {
        remove(folder, name)?;
    }
    Ok(())
}

fn write_shared(attachments: &Attachments, folder: &Path) -> io::Result<()> {
    let shared = Shared {
        policy: attachments.policy.clone(),
        last_id: attachments.last_id,
        last_generation: attachments.last_generation,
        last_revision: attachments.last_revision,
        last_offset: attachments.last_offset,
        resting: attachments.resting.clone(),
        locked: attachments.locked.clone(),
    };
    write_atomically(&shared_file(folder), &serde_json::to_vec(&shared)?)
}

fn write_one(one: &Attachment, folder: &Path) -> io::Result<()> {
    let folder = sandboxes(folder);
    match fs::create_dir(&folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    write_atomically(&folder.join(file_name(one.id)), &serde_json::to_vec(&Stored::from(one))?)?;
    // Lines that stay are of other rules, or in what was just written.
    let _ = fs::remove_file(folder.join(opened_name(one.id)));
    Ok(())
}

fn write_opened(
    attachments: &Attachments,
    folder: &Path,
    id: u32,
    keys: &[(Entry, Ipv4Addr)],
) -> io::Result<()> {
    let Some(one) = attachments.all.get(&id) else { return Ok(()) };
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(sandboxes(folder).join(opened_name(id)))?;
    if file.metadata()?.len() > MOST_OPENED {
        return write_one(one, folder);
    }
    let mut lines = Vec::new();
    for key in keys {
        let Some(until) = one.answers.get(key) else { continue };
        let (entry, address) = key;
        let opened = Opened {
            revision: one.revision,
            rule: Rule::from(entry),
            address: *address,
            until: *until,
        };
        // First, so that a line that was cut off is one of its own.
        lines.push(b'\n');
        serde_json::to_writer(&mut lines, &opened)?;
    }
    file.write_all(&lines)
}

/// A line that was cut off, on a full disk, is left out: that address closes by itself.
fn read_opened(one: &mut Attachment, folder: &Path) -> io::Result<()> {
    let lines = match fs::read(sandboxes(folder).join(opened_name(one.id))) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        read => read?,
    };
    let opened = lines
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<Opened>(line).ok())
        .filter(|opened| opened.revision == one.revision);
    for opened in opened.collect::<Vec<_>>() {
        let entry = opened.rule.to_entry().map_err(io::Error::other)?;
        let until = one.answers.entry((entry, opened.address)).or_default();
        *until = opened.until.max(*until);
    }
    Ok(())
}

fn remove(folder: &Path, name: &str) -> io::Result<()> {
    match fs::remove_file(sandboxes(folder).join(name)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl From<&Attachment> for Stored {
    fn from(one: &Attachment) -> Self {
        Self {
            id: one.id,
            uid: one.uid,
            netns: one.netns,
            link: one.link,
            address: one.address,
            macs: one.macs,
            connected: one.connected,
            locked: one.locked,
            open_until: one.open_until,
            since: one.since,
            held: one.held.iter().map(|held| (Rule::from(&held.entry), held.until)).collect(),
            generation: one.generation,
            revision: one.revision,
            answers: one
                .answers
                .iter()
                .map(|((entry, address), until)| (Rule::from(entry), *address, *until))
                .collect(),
        }
    }
}

impl Stored {
    fn into_attachment(self) -> io::Result<Attachment> {
        let entry = |rule: &Rule| rule.to_entry().map_err(io::Error::other);
        let held =
            self.held.iter().map(|(rule, until)| Ok(Held { entry: entry(rule)?, until: *until }));
        let answers = self
            .answers
            .iter()
            .map(|(rule, address, until)| Ok(((entry(rule)?, *address), *until)));
        Ok(Attachment {
            id: self.id,
            uid: self.uid,
            netns: self.netns,
            link: self.link,
            address: self.address,
            macs: self.macs,
            connected: self.connected,
            locked: self.locked,
            open_until: self.open_until,
            since: self.since,
            held: held.collect::<io::Result<_>>()?,
            generation: self.generation,
            revision: self.revision,
            answers: answers.collect::<io::Result<_>>()?,
            // The administrator's list may have been another one.
            networks: usize::MAX,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attachments::tests::attachment;

    fn two() -> Attachments {
        let mut attachments = Attachments::default();
        for _ in 0..2 {
            let id = attachments.next_id();
            let address = attachments.next_address(0).unwrap();
            attachments.all.insert(id, attachment(id, address));
        }
        attachments
    }

    fn shown(attachments: &Attachments) -> String {
        format!("{attachments:?}")
    }

    #[test]
    fn the_files_keep_everything() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(shown(&read(folder.path()).unwrap()), shown(&Attachments::default()));
        let mut attachments = two();
        write_all(&attachments, folder.path()).unwrap();
        assert_eq!(shown(&read(folder.path()).unwrap()), shown(&attachments));
        attachments.all.get_mut(&2).unwrap().connected = false;
        write(&attachments, folder.path(), 2).unwrap();
        assert_eq!(shown(&read(folder.path()).unwrap()), shown(&attachments));
        attachments.remove(1, 0);
        write(&attachments, folder.path(), 1).unwrap();
        assert_eq!(shown(&read(folder.path()).unwrap()), shown(&attachments));
        assert!(attachments.resting.len() == 1 && attachments.all.len() == 1);
    }

    /// A number of an address that nobody else has.
    fn open(attachments: &mut Attachments, n: u32, until: u64) -> (Entry, Ipv4Addr) {
        let one = attachments.all.get_mut(&2).unwrap();
        let entry = Rule::tcp("opened.example", &[443]).to_entry().unwrap();
        let key = (entry, Ipv4Addr::from(0x0b00_0000 + n));
        one.answers.insert(key.clone(), until);
        key
    }

    #[test]
    fn n11_what_was_opened_is_known_without_writing_all() {
        let folder = tempfile::tempdir().unwrap();
        let mut attachments = two();
        write_all(&attachments, folder.path()).unwrap();
        let record = fs::read(sandboxes(folder.path()).join("2.json")).unwrap();
        let answers = |attachments: &Attachments| attachments.all[&2].answers.clone();
        for (n, until) in [(1, 100), (2, 100), (1, 200)] {
            let key = open(&mut attachments, n, until);
            write_opened(&attachments, folder.path(), 2, &[key]).unwrap();
            assert_eq!(answers(&read(folder.path()).unwrap()), answers(&attachments));
        }
        assert_eq!(fs::read(sandboxes(folder.path()).join("2.json")).unwrap(), record);
        // A line that a full disk cut off costs no other one.
        let lines = sandboxes(folder.path()).join(opened_name(2));
        let whole = fs::read(&lines).unwrap();
        fs::write(&lines, &whole[..whole.len() - 3]).unwrap();
        let key = open(&mut attachments, 3, 300);
        write_opened(&attachments, folder.path(), 2, &[key]).unwrap();
        let known = answers(&read(folder.path()).unwrap());
        assert_eq!(
            (known.len(), known.values().max()),
            (attachments.all[&2].answers.len(), Some(&300))
        );
        // It does not grow for ever, and what is written anew has all of it.
        for n in 0..2_000 {
            let key = open(&mut attachments, n, 400);
            write_opened(&attachments, folder.path(), 2, &[key]).unwrap();
        }
        assert!(fs::metadata(&lines).unwrap().len() <= MOST_OPENED + 512);
        assert_eq!(answers(&read(folder.path()).unwrap()), answers(&attachments));
        assert!(fs::read(sandboxes(folder.path()).join("2.json")).unwrap().len() > record.len());
        attachments.remove(2, 0);
        write(&attachments, folder.path(), 2).unwrap();
        assert_eq!(names(folder.path()).unwrap(), ["1.json"]);
    }

    #[test]
    fn n11_what_other_rules_opened_is_not_brought_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut attachments = two();
        write_all(&attachments, folder.path()).unwrap();
        let key = open(&mut attachments, 1, 100);
        write_opened(&attachments, folder.path(), 2, &[key]).unwrap();
        let lines = sandboxes(folder.path()).join(opened_name(2));
        let of_before = fs::read(&lines).unwrap();
        let one = attachments.all.get_mut(&2).unwrap();
        one.answers.clear();
        one.revision += 1;
        write(&attachments, folder.path(), 2).unwrap();
        assert!(!lines.exists());
        // Killed between the two: the lines of before are there still.
        fs::write(&lines, of_before).unwrap();
        assert!(read(folder.path()).unwrap().all[&2].answers.is_empty());
        write_all(&attachments, folder.path()).unwrap();
        assert!(!lines.exists());
    }

    #[test]
    fn a_change_of_one_leaves_the_file_of_another() {
        let folder = tempfile::tempdir().unwrap();
        let attachments = two();
        write_all(&attachments, folder.path()).unwrap();
        let other = sandboxes(folder.path()).join("1.json");
        fs::write(&other, "untouched").unwrap();
        write(&attachments, folder.path(), 2).unwrap();
        assert_eq!(fs::read(&other).unwrap(), b"untouched");
    }

    #[test]
    fn n9_a_sandbox_whose_file_does_not_read_is_left_out_alone() {
        let folder = tempfile::tempdir().unwrap();
        write_all(&two(), folder.path()).unwrap();
        let path = sandboxes(folder.path()).join("1.json");
        let whole = fs::read(&path).unwrap();
        fs::copy(&path, sandboxes(folder.path()).join("3.json")).unwrap();
        // Half of it, and one of a version that knew less.
        let older = String::from_utf8(whole.clone()).unwrap().replace("\"generation\":1,", "");
        for broken in [&whole[..whole.len() / 2], older.as_bytes()] {
            fs::write(&path, broken).unwrap();
            let mut found = read(folder.path()).unwrap();
            assert_eq!(found.ids(), [2]);
            let mut left_out = std::mem::take(&mut found.left_out);
            left_out.sort();
            assert_eq!(left_out.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [1, 3]);
            // Their numbers are not given out again.
            assert_eq!(found.next_id(), 3);
        }
        fs::write(&path, &whole).unwrap();
        let left_out = read(folder.path()).unwrap().left_out;
        assert_eq!(left_out, [(3, "3.json is the file of sandbox 1".to_owned())]);
    }

    #[test]
    fn n9_without_what_all_share_nothing_is_known() {
        let folder = tempfile::tempdir().unwrap();
        write_all(&two(), folder.path()).unwrap();
        let path = shared_file(folder.path());
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        assert!(read(folder.path()).is_err());
    }

    #[test]
    fn what_is_of_no_sandbox_goes() {
        let folder = tempfile::tempdir().unwrap();
        let attachments = two();
        write_all(&attachments, folder.path()).unwrap();
        for name in [".2.json.new", "7.json"] {
            fs::write(sandboxes(folder.path()).join(name), "left over").unwrap();
        }
        write_all(&attachments, folder.path()).unwrap();
        let mut left = names(folder.path()).unwrap();
        left.sort();
        assert_eq!(left, ["1.json", "2.json"]);
    }
}
