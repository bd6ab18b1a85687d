//! A fixed sequence of changes of stored inputs, the same in each run.

/// Marsaglia's xorshift: enough to choose places in a text.
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    /// The same seed gives the same sequence.
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Below `end`; 0 when that is 0.
    pub fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { (self.roll() % end as u64) as usize }
    }

    fn byte(&mut self) -> u8 {
        self.roll().to_le_bytes()[3]
    }
}

/// Longest input, in bytes.
const LONGEST: usize = 8 << 10;
/// Bytes at which many things end or begin.
const EDGES: [u8; 16] =
    [0, 1, 2, 0x0a, 0x18, 0x1b, b'"', b'#', b'-', b':', b'\\', 0x7f, 0x80, 0x9d, 0xc0, 0xff];

/// One of `stored`, changed in a few places.
pub fn changed(stored: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = stored.get(dice.below(stored.len())).cloned().unwrap_or_default();
    for _ in 0..=dice.below(5) {
        let at = dice.below(bytes.len() + 1);
        let length = 1 + dice.below(16);
        let end = bytes.len().min(at + length);
        match dice.below(8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << dice.below(8),
            1 if at < bytes.len() => bytes[at] = dice.byte(),
            2 if at < bytes.len() => bytes[at] = EDGES[dice.below(EDGES.len())],
            3 => bytes.insert(at, EDGES[dice.below(EDGES.len())]),
            4 => drop(bytes.drain(at..end)),
            5 => {
                let again = bytes[at..end].to_vec();
                let to = dice.below(bytes.len() + 1);
                bytes.splice(to..to, again);
            }
            6 => {
                let other = &stored[dice.below(stored.len())];
                let from = dice.below(other.len() + 1);
                let piece = &other[from..other.len().min(from + 8 * length)];
                bytes.splice(at..at, piece.iter().copied());
            }
            _ => bytes.truncate(at),
        }
    }
    bytes.truncate(LONGEST);
    bytes
}
