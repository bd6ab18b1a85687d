//! Frames between the host and the program inside a sandbox, without any I/O.
//!
//! ```text
//! frame   = length kind payload
//! length  = u32, big-endian: bytes of kind and payload together, 1 ..= 1 MiB
//! kind    = u8: 1 control (JSON), 2 input, 3 screen, 4 output (raw bytes)
//! ```
//!
//! Both sides take the other for hostile. [`Decoder`] is incremental, never holds more than one frame beside what was
//! just pushed, refuses a length before it buffers for it, and after the first error stays failed: a stream that is out
//! of step cannot be trusted to come back into step. [`Request`] goes to the sandbox, [`Reply`] comes from it.
//!
//! ```
//! use rcc_inside::frame::{Decoder, Reply, Request, PROTOCOL_VERSION};
//!
//! let bytes = Request::Hello { version: PROTOCOL_VERSION }.encode()?;
//! // … write `bytes` to the exec's stdin, then for what comes from its stdout:
//! let mut decoder = Decoder::new();
//! for frame in decoder.push(&[]) {
//!     match Reply::decode(&frame?)? {
//!         Reply::Output(bytes) => drop(bytes),
//!         other => drop(other),
//!     }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # A conversation
//!
//! A connection says [`Request::Hello`] first and hears [`Reply::Welcome`]. It may then start programs, list them,
//! subscribe to events, and be attached to at most one terminal at a time. An attached connection first gets
//! [`Reply::Screen`] (in one or more frames), then [`Reply::Output`]. Output is sent against credit: each connection
//! starts with [`INITIAL_CREDIT`] bytes, each byte of `Output` (not of `Screen`) uses one, and [`Request::Credit`] gives
//! new ones. While an attached connection has none, the terminal is not read, so the program inside waits; after two
//! seconds without any the connection is passed over, and when it grants again it gets a new `Screen`.

mod message;

pub use message::{
    ErrorCode, Exit, HookEvent, MAX_TERMINALS, MessageError, Reply, Request, TERMINAL_SIGNALS,
    TerminalInfo,
};

/// The version of this protocol. Versions that differ do not talk to each other.
pub const PROTOCOL_VERSION: u32 = 1;

/// The largest value of a frame's length field: kind and payload, in bytes.
pub const MAX_FRAME: usize = 1 << 20;

/// The most payload bytes that `inside` puts into one frame of terminal data.
pub const MAX_DATA: usize = 64 << 10;

/// The bytes of output that a connection may be sent before it granted any.
pub const INITIAL_CREDIT: u32 = 256 << 10;

/// Bytes of the length field.
const LENGTH_BYTES: usize = 4;

/// One frame. Its size is within [`MAX_FRAME`] by construction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    kind: u8,
    payload: Vec<u8>,
}

/// Why bytes are no frame, or a message does not fit in one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length field is 0, so not even the kind is there.
    #[error("a frame without a kind was received")]
    Empty,
    /// The length is above [`MAX_FRAME`].
    #[error("a frame of {length} bytes is larger than the {MAX_FRAME} bytes that are allowed")]
    TooLong {
        /// Kind and payload, in bytes.
        length: usize,
    },
}

impl Frame {
    /// Makes a frame.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] when kind and payload exceed [`MAX_FRAME`].
    pub fn new(kind: u8, payload: Vec<u8>) -> Result<Self, FrameError> {
        let length = payload.len() + 1;
        if length > MAX_FRAME {
            return Err(FrameError::TooLong { length });
        }
        Ok(Self { kind, payload })
    }

    /// What the payload is: see the module's grammar.
    #[must_use]
    pub fn kind(&self) -> u8 {
        self.kind
    }

    /// The bytes after the kind.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }
}

/// The bytes of a frame.
#[must_use]
pub fn encode(frame: &Frame) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(LENGTH_BYTES + 1 + frame.payload.len());
    encode_into(frame, &mut bytes);
    bytes
}

/// Appends the bytes of a frame to `buffer`.
pub fn encode_into(frame: &Frame, buffer: &mut impl Extend<u8>) {
    // `Frame::new` keeps the length within MAX_FRAME, far below u32::MAX.
    let length = u32::try_from(frame.payload.len() + 1).unwrap_or(u32::MAX);
    buffer.extend(length.to_be_bytes());
    buffer.extend([frame.kind]);
    buffer.extend(frame.payload.iter().copied());
}

/// Cuts a stream of bytes into frames.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    /// The bytes of `buffer` that were already handed out as frames.
    used: usize,
    failed: Option<FrameError>,
}

impl Decoder {
    /// A decoder at the start of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes of the stream and gives the frames that are now complete.
    ///
    /// Frames that are not taken from the iterator stay for the next call. After an error each call gives that error
    /// once more and nothing else; the bytes are thrown away.
    pub fn push(&mut self, bytes: &[u8]) -> Frames<'_> {
        if self.failed.is_none() {
            self.buffer.extend_from_slice(bytes);
        }
        Frames { decoder: self, done: false }
    }

    /// Whether the stream is out of step for good.
    #[must_use]
    pub fn is_failed(&self) -> bool {
        self.failed.is_some()
    }

    fn next_frame(&mut self) -> Option<Result<Frame, FrameError>> {
        if let Some(error) = &self.failed {
            return Some(Err(error.clone()));
        }
        let rest = self.buffer.get(self.used..).unwrap_or_default();
        let Some((length, body)) = rest.split_first_chunk::<LENGTH_BYTES>() else {
            self.forget_used();
            return None;
        };
        let length = u32::from_be_bytes(*length) as usize;
        let error = match length {
            0 => Some(FrameError::Empty),
            1..=MAX_FRAME => None,
            _ => Some(FrameError::TooLong { length }),
        };
        if let Some(error) = error {
            self.buffer = Vec::new();
            self.used = 0;
            self.failed = Some(error.clone());
            return Some(Err(error));
        }
        let Some((kind, payload)) = body.get(..length).and_then(|body| body.split_first()) else {
            self.forget_used();
            return None;
        };
        let frame = Frame { kind: *kind, payload: payload.to_vec() };
        self.used += LENGTH_BYTES + length;
        Some(Ok(frame))
    }

    fn forget_used(&mut self) {
        self.buffer.drain(..self.used);
        self.used = 0;
        // One large frame must not keep its memory for as long as the connection lives.
        if self.buffer.len() < MAX_DATA {
            self.buffer.shrink_to(2 * MAX_DATA);
        }
    }
}

/// The frames that are complete, in order; made by [`Decoder::push`].
#[derive(Debug)]
pub struct Frames<'a> {
    decoder: &'a mut Decoder,
    done: bool,
}

impl Iterator for Frames<'_> {
    type Item = Result<Frame, FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let next = self.decoder.next_frame();
        self.done = !matches!(next, Some(Ok(_)));
        next
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames(decoder: &mut Decoder, bytes: &[u8]) -> Vec<Result<Frame, FrameError>> {
        decoder.push(bytes).collect()
    }

    #[test]
    fn the_wire_format_is_fixed() {
        let frame = Frame::new(3, b"ab".to_vec()).unwrap();
        assert_eq!(encode(&frame), [0, 0, 0, 3, 3, b'a', b'b']);
    }

    #[test]
    fn the_largest_frame_passes_and_one_byte_more_does_not() {
        let frame = Frame::new(1, vec![7; MAX_FRAME - 1]).unwrap();
        assert_eq!(frames(&mut Decoder::new(), &encode(&frame)), [Ok(frame)]);
        assert_eq!(
            Frame::new(1, vec![7; MAX_FRAME]),
            Err(FrameError::TooLong { length: MAX_FRAME + 1 })
        );
    }

    #[test]
    fn a_length_above_the_cap_is_refused_before_its_bytes_come() {
        let mut decoder = Decoder::new();
        let error = FrameError::TooLong { length: MAX_FRAME + 1 };
        assert_eq!(frames(&mut decoder, &[0, 0x10, 0, 1]), [Err(error.clone())]);
        assert!(decoder.is_failed());
        assert_eq!(decoder.buffer.capacity(), 0);
        let good = encode(&Frame::new(1, vec![]).unwrap());
        assert_eq!(frames(&mut decoder, &good), [Err(error)]);
        assert_eq!(decoder.buffer.capacity(), 0);
    }

    #[test]
    fn an_empty_frame_is_refused() {
        assert_eq!(frames(&mut Decoder::new(), &[0, 0, 0, 0]), [Err(FrameError::Empty)]);
    }

    #[test]
    fn frames_left_in_the_iterator_are_not_lost() {
        let one = Frame::new(1, vec![1]).unwrap();
        let two = Frame::new(2, vec![2]).unwrap();
        let mut decoder = Decoder::new();
        let bytes = [encode(&one), encode(&two)].concat();
        assert_eq!(decoder.push(&bytes).next(), Some(Ok(one)));
        assert_eq!(decoder.push(&[]).next(), Some(Ok(two)));
        assert_eq!(decoder.push(&[]).next(), None);
        assert!(decoder.buffer.is_empty());
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_frames(
            input in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..300)), 0..8),
            cuts in prop::collection::vec(1_usize..64, 1..40),
        ) {
            let expected: Vec<_> =
                input.into_iter().map(|(kind, payload)| Frame::new(kind, payload).unwrap()).collect();
            let bytes: Vec<u8> = expected.iter().flat_map(encode).collect();
            let mut decoder = Decoder::new();
            let mut found = Vec::new();
            let mut rest = bytes.as_slice();
            for size in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, after) = rest.split_at((*size).min(rest.len()));
                rest = after;
                for frame in decoder.push(piece) {
                    found.push(frame.unwrap());
                }
            }
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn garbage_never_panics_and_never_grows(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 0..64),
        ) {
            let mut decoder = Decoder::new();
            for piece in &pieces {
                for frame in decoder.push(piece).flatten() {
                    drop((Request::decode(&frame), Reply::decode(&frame)));
                }
            }
            prop_assert!(decoder.buffer.len() <= 64 * 64);
        }

        #[test]
        fn any_payload_decodes_or_is_an_error(kind in 0_u8..6, payload in prop::collection::vec(any::<u8>(), 0..200)) {
            let frame = Frame::new(kind, payload).unwrap();
            drop((Request::decode(&frame), Reply::decode(&frame)));
        }
    }
}
