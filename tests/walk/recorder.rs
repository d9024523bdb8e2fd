//! Memory that remembers what was read of it: exactly those bytes, and not one of their neighbours.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use tracer_common::walk::{Fault, UserMemory};
use tracer_user::target::memory::Bytes;
use tracer_user::target::recorded::Recorded;

/// Regions of bytes, by address; none touch each other.
pub(crate) type Regions = BTreeMap<u64, Vec<u8>>;

/// Memory whose reads are kept. Clones share what they keep.
#[derive(Clone, Debug)]
pub(crate) struct Recorder<M> {
    memory: M,
    regions: Rc<RefCell<Regions>>,
}

impl<M: Bytes> Recorder<M> {
    /// Nothing has been read yet.
    pub(crate) fn new(memory: M) -> Self {
        Self { memory, regions: Rc::default() }
    }

    /// Everything that was read so far.
    pub(crate) fn recorded(&self) -> Recorded {
        Recorded::new(self.regions.borrow().clone().into_iter().collect())
    }
}

impl<M: Bytes> Bytes for Recorder<M> {
    fn read(&self, address: u64, out: &mut [u8]) -> Result<(), Fault> {
        self.memory.read(address, out)?;
        keep(&mut self.regions.borrow_mut(), address, out);
        Ok(())
    }
}

impl<M: Bytes> UserMemory for Recorder<M> {
    fn word(&self, address: u64) -> Result<u64, Fault> {
        self.read_u64(address)
    }

    fn fill<const WORDS: usize>(&self, address: u64, len: u32, out: &mut [u64; WORDS]) -> Result<(), Fault> {
        let mut bytes = vec![0; len as usize];
        self.read(address, &mut bytes)?;
        for (word, chunk) in out.iter_mut().zip(bytes.as_chunks().0) {
            *word = u64::from_le_bytes(*chunk);
        }
        assert!(len.is_multiple_of(8), "a layout reads whole words");
        Ok(())
    }

    fn text<const WORDS: usize>(&self, address: u64, out: &mut [u64; WORDS]) {
        // Piece by piece, up to the zero byte: what is behind it is not recorded, and not looked at.
        *out = [0; WORDS];
        let mut bytes = vec![0u8; WORDS * 8];
        for (at, byte) in (0u64..).zip(bytes.iter_mut()).take(WORDS * 8 - 1) {
            let mut one = [0];
            if self.read(address.wrapping_add(at), &mut one).is_err() || one[0] == 0 {
                break;
            }
            *byte = one[0];
        }
        for (word, chunk) in out.iter_mut().zip(bytes.as_chunks().0) {
            *word = u64::from_le_bytes(*chunk);
        }
    }
}

/// Adds bytes, joined with the regions that they overlap or touch.
fn keep(regions: &mut Regions, address: u64, bytes: &[u8]) {
    let (mut start, mut joined) = (address, bytes.to_vec());
    while let Some((before, old)) = regions.range(..=start + joined.len() as u64).next_back() {
        let (before, end) = (*before, before + old.len() as u64);
        if end < start {
            break;
        }
        let old = regions.remove(&before).expect("it was just found");
        (start, joined) = if before <= start {
            let apart = (start - before) as usize;
            let tail = old.get(apart + joined.len()..).unwrap_or_default().to_vec();
            (before, [&old[..apart], &joined, &tail].concat())
        } else {
            let tail =
                old.get((start + joined.len() as u64 - before) as usize..).unwrap_or_default().to_vec();
            (start, [joined, tail].concat())
        };
    }
    regions.insert(start, joined);
}

/// The regions of a recording's file (its format is told in `tracer_user::target::recorded`), and none that touch.
pub(crate) fn regions_of(file: &[u8]) -> Regions {
    let mut regions = Regions::new();
    let mut rest = file.strip_prefix(b"unshedm1").expect("a recording says what it is");
    while let Some((address, tail)) = rest.split_first_chunk() {
        let (len, tail) = tail.split_first_chunk().expect("a region has a length");
        let (bytes, tail) = tail.split_at(u64::from_le_bytes(*len) as usize);
        regions.insert(u64::from_le_bytes(*address), bytes.to_vec());
        rest = tail;
    }
    assert!(rest.is_empty(), "a recording is whole");
    regions
}

#[test]
fn what_was_read_is_kept_and_nothing_else() {
    let memory: Vec<u8> = (0..=255).collect();
    let recorder = Recorder::new(Recorded::new(vec![(1000, memory.clone())]));
    for (from, len) in [(10, 4), (30, 8), (12, 2), (14, 3), (8, 1), (5, 5), (100, 1), (28, 20), (40, 4)] {
        recorder.read(1000 + from, &mut vec![0; len]).expect("all of it is there");
    }
    assert_eq!(recorder.read(0, &mut [0; 8]), Err(Fault));
    let kept = regions_of(&recorder.recorded().save());
    let spans: Vec<_> = kept.iter().map(|(start, bytes)| (start - 1000, bytes.len())).collect();
    assert_eq!(spans, [(5, 12), (28, 20), (100, 1)]);
    for (start, bytes) in kept {
        assert_eq!(bytes, memory[(start - 1000) as usize..][..bytes.len()]);
    }
}
