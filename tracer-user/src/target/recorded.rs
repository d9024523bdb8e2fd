//! Memory that was recorded: regions of a process's bytes in a file, so that walks can be replayed where there is no process.
//!
//! The format: the eight bytes `unshedm1`, then for each region its address and its length in bytes, both little-endian
//! 64-bit words, and the bytes themselves.

use tracer_common::walk::{Fault, UserMemory};

use crate::error::{Error, Result};
use crate::target::memory::{Bytes, fill_words, text_words};

const MAGIC: &[u8; 8] = b"unshedm1";

/// Regions of bytes by address, sorted, none overlapping.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    regions: Vec<(u64, Vec<u8>)>,
}

impl Recorded {
    /// Memory of these regions. Where two overlap, the one that starts first is kept, and of two at the same address the first named.
    #[must_use]
    pub fn new(mut regions: Vec<(u64, Vec<u8>)>) -> Self {
        regions.sort_by_key(|(address, _)| *address);
        let mut end = 0u64;
        regions.retain(|(address, bytes)| {
            let next = address.checked_add(bytes.len() as u64);
            let keep = *address >= end && next.is_some() && !bytes.is_empty();
            end = if keep { next.unwrap_or(end) } else { end };
            keep
        });
        Self { regions }
    }

    /// The file's bytes.
    #[must_use]
    pub fn save(&self) -> Vec<u8> {
        let mut file = MAGIC.to_vec();
        for (address, bytes) in &self.regions {
            file.extend_from_slice(&address.to_le_bytes());
            file.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
            file.extend_from_slice(bytes);
        }
        file
    }

    /// Reads what [`Recorded::save`] wrote.
    ///
    /// # Errors
    /// When the bytes are no such file or are cut short.
    pub fn load(file: &[u8]) -> Result<Self> {
        let bad = || Error::failed("this is no whole recording of memory (unshedm1)");
        let mut rest = file.strip_prefix(MAGIC).ok_or_else(bad)?;
        let mut regions = Vec::new();
        while !rest.is_empty() {
            let (address, tail) = rest.split_first_chunk().ok_or_else(bad)?;
            let (len, tail) = tail.split_first_chunk().ok_or_else(bad)?;
            let len = usize::try_from(u64::from_le_bytes(*len)).map_err(|_| bad())?;
            let (bytes, tail) = tail.split_at_checked(len).ok_or_else(bad)?;
            regions.push((u64::from_le_bytes(*address), bytes.to_vec()));
            rest = tail;
        }
        Ok(Self::new(regions))
    }
}

impl Bytes for Recorded {
    fn read(&self, address: u64, out: &mut [u8]) -> std::result::Result<(), Fault> {
        let after = self.regions.partition_point(|(start, _)| *start <= address);
        let (start, bytes) = after.checked_sub(1).and_then(|index| self.regions.get(index)).ok_or(Fault)?;
        let from = usize::try_from(address - start).map_err(|_| Fault)?;
        let to = from.checked_add(out.len()).ok_or(Fault)?;
        out.copy_from_slice(bytes.get(from..to).ok_or(Fault)?);
        Ok(())
    }
}

impl UserMemory for Recorded {
    fn word(&self, address: u64) -> std::result::Result<u64, Fault> {
        self.read_u64(address)
    }

    fn fill<const WORDS: usize>(
        &self,
        address: u64,
        len: u32,
        out: &mut [u64; WORDS],
    ) -> std::result::Result<(), Fault> {
        fill_words(self, address, len, out)
    }

    fn text<const WORDS: usize>(&self, address: u64, out: &mut [u64; WORDS]) {
        text_words(self, address, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn hostile_recordings_never_panic(tail: Vec<u8>, address: u64) {
            let file = [MAGIC.as_slice(), &tail].concat();
            if let Ok(memory) = Recorded::load(&file) {
                let _ = memory.read_u64(address);
            }
        }

        #[test]
        fn what_was_saved_is_loaded(regions in prop::collection::vec((0u64..4096, prop::collection::vec(any::<u8>(), 0..64)), 0..8)) {
            let memory = Recorded::new(regions);
            prop_assert_eq!(Recorded::load(&memory.save()).unwrap(), memory);
        }
    }

    #[test]
    fn a_read_lies_in_one_region() {
        let memory =
            Recorded::new(vec![(100, vec![1, 2, 3, 4, 5, 6, 7, 8, 9]), (50, vec![7; 8]), (104, vec![0; 30])]);
        let mut two = [0; 2];
        assert_eq!(memory.read(107, &mut two), Ok(()));
        assert_eq!(two, [8, 9]);
        assert_eq!(memory.read(108, &mut two), Err(Fault));
        assert_eq!(memory.read(49, &mut two), Err(Fault));
        assert_eq!(memory.word(50), Ok(0x0707_0707_0707_0707));
        assert!(Recorded::load(b"unshedm0").is_err());
    }
}
