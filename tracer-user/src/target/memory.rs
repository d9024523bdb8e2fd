//! The target's memory, read from outside with `process_vm_readv`: the target does not stop, and what is read may change
//! under us. The frame walk of `tracer-common` runs on it unchanged, as it does on [`crate::target::recorded::Recorded`].

use tracer_common::walk::{Fault, UserMemory};

/// `IOV_MAX` of Linux (`include/uapi/linux/uio.h`, `UIO_MAXIOV`): pieces that one call may name.
const PIECES: usize = 1024;

/// Bytes by address, whoever owns them.
pub trait Bytes {
    /// Fills `out` from `address` on.
    ///
    /// # Errors
    /// [`Fault`] when any of the bytes cannot be read.
    fn read(&self, address: u64, out: &mut [u8]) -> Result<(), Fault>;

    /// Fills `out`, `len` bytes for each address, and says for each whether it could be read.
    fn read_many(&self, addresses: &[u64], len: usize, out: &mut Vec<u8>) -> Vec<bool> {
        out.clear();
        out.resize(addresses.len().saturating_mul(len), 0);
        if len == 0 {
            return vec![true; addresses.len()];
        }
        addresses
            .iter()
            .zip(out.chunks_exact_mut(len))
            .map(|(address, piece)| self.read(*address, piece).is_ok())
            .collect()
    }

    /// One 64-bit word.
    ///
    /// # Errors
    /// [`Fault`] when it cannot be read.
    fn read_u64(&self, address: u64) -> Result<u64, Fault> {
        let mut word = [0; 8];
        self.read(address, &mut word)?;
        Ok(u64::from_le_bytes(word))
    }
}

/// The memory of one process.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    pid: libc::pid_t,
}

impl Memory {
    /// The memory of the process with this id. Nothing is opened: a process that ends gives [`Fault`]s.
    #[must_use]
    pub fn new(pid: u32) -> Self {
        // An id past i32 is no process; 0 is none either for process_vm_readv, and gives ESRCH.
        Self { pid: libc::pid_t::try_from(pid).unwrap_or(0) }
    }

    /// One call: `out` in pieces of `len` bytes from `addresses`, as many as one call may name; returns bytes read.
    fn call(&self, addresses: &[u64], len: usize, out: &mut [u8]) -> usize {
        let count = addresses.len().min(PIECES);
        let bytes = count.saturating_mul(len).min(out.len());
        let local = libc::iovec { iov_base: out.as_mut_ptr().cast(), iov_len: bytes };
        let remote: Vec<libc::iovec> = addresses[..count]
            .iter()
            .map(|address| libc::iovec {
                iov_base: std::ptr::without_provenance_mut(*address as usize),
                iov_len: len,
            })
            .collect();
        // SAFETY: `local` names `bytes` writable bytes of `out`, which lives through the call; the remote addresses are only
        // names in the other process, checked by the kernel.
        let read = unsafe {
            libc::process_vm_readv(self.pid, &raw const local, 1, remote.as_ptr(), count as libc::c_ulong, 0)
        };
        usize::try_from(read).unwrap_or(0)
    }
}

impl Bytes for Memory {
    fn read(&self, address: u64, out: &mut [u8]) -> Result<(), Fault> {
        let len = out.len();
        if len == 0 || self.call(&[address], len, out) == len { Ok(()) } else { Err(Fault) }
    }

    /// Batches of [`PIECES`]. A call stops at the first piece that it cannot read, so that one is given up and the call goes on behind it.
    fn read_many(&self, addresses: &[u64], len: usize, out: &mut Vec<u8>) -> Vec<bool> {
        out.clear();
        out.resize(addresses.len().saturating_mul(len), 0);
        let mut readable = vec![len == 0; addresses.len()];
        let mut at = 0;
        while len > 0 && at < addresses.len() {
            let batch = &addresses[at..addresses.len().min(at + PIECES)];
            let done = self.call(batch, len, &mut out[at * len..]) / len;
            readable[at..at + done].fill(true);
            at += if done == batch.len() { done } else { done + 1 };
        }
        readable
    }
}

impl UserMemory for Memory {
    fn word(&self, address: u64) -> Result<u64, Fault> {
        self.read_u64(address)
    }

    fn fill<const WORDS: usize>(&self, address: u64, len: u32, out: &mut [u64; WORDS]) -> Result<(), Fault> {
        fill_words(self, address, len, out)
    }

    fn text<const WORDS: usize>(&self, address: u64, out: &mut [u64; WORDS]) {
        text_words(self, address, out);
    }
}

/// [`UserMemory::text`] over any [`Bytes`]: the kernel reads up to the zero byte only, so a page that ends behind it does not matter.
pub(crate) fn text_words<const WORDS: usize>(memory: &impl Bytes, address: u64, out: &mut [u64; WORDS]) {
    *out = [0; WORDS];
    let mut bytes = vec![0u8; WORDS * 8];
    if memory.read(address, &mut bytes).is_err() {
        bytes.fill(0);
        for (at, byte) in (0u64..).zip(bytes.iter_mut()) {
            let mut one = [0];
            if memory.read(address.wrapping_add(at), &mut one).is_err() || one[0] == 0 {
                break;
            }
            *byte = one[0];
        }
    }
    // `bpf_probe_read_user_str` ends what it copies with a zero byte, inside the room that it was given.
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len() - 1);
    bytes[end..].fill(0);
    for (word, chunk) in out.iter_mut().zip(bytes.as_chunks().0) {
        *word = u64::from_le_bytes(*chunk);
    }
}

/// [`UserMemory::fill`] over any [`Bytes`].
pub(super) fn fill_words<const WORDS: usize>(
    memory: &impl Bytes,
    address: u64,
    len: u32,
    out: &mut [u64; WORDS],
) -> Result<(), Fault> {
    let len = (len as usize).min(WORDS * 8);
    let mut bytes = vec![0; len];
    memory.read(address, &mut bytes)?;
    for (word, chunk) in out.iter_mut().zip(bytes.chunks(8)) {
        let mut raw = word.to_le_bytes();
        raw[..chunk.len()].copy_from_slice(chunk);
        *word = u64::from_le_bytes(raw);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(bytes: &[u8]) -> u64 {
        bytes.as_ptr() as u64
    }

    #[test]
    fn we_can_read_ourselves() {
        let own = Memory::new(std::process::id());
        let data: Vec<u8> = (0..=255).collect();
        let mut read = [0; 256];
        own.read(address(&data), &mut read).unwrap();
        assert_eq!(read[..], data[..]);
        assert_eq!(own.word(address(&data)), Ok(0x0706_0504_0302_0100));
        let mut words = [u64::MAX; 2];
        own.fill(address(&data), 12, &mut words).unwrap();
        assert_eq!(words, [0x0706_0504_0302_0100, 0xffff_ffff_0b0a_0908]);
        assert_eq!((own.read(8, &mut read), own.read_u64(u64::MAX)), (Err(Fault), Err(Fault)));
    }

    #[test]
    fn holes_in_a_batch_hurt_only_themselves() {
        let own = Memory::new(std::process::id());
        let data: Vec<u8> = (0..5000).map(|index| index as u8).collect();
        let addresses: Vec<u64> =
            (0..2500).map(|index| if index % 7 == 3 { 16 } else { address(&data) + 2 * index }).collect();
        let mut out = Vec::new();
        let readable = own.read_many(&addresses, 2, &mut out);
        for index in 0..2500 {
            assert_eq!(readable[index], index % 7 != 3);
            if readable[index] {
                assert_eq!(out[2 * index..][..2], data[2 * index..][..2]);
            }
        }
    }

    #[test]
    fn no_process_is_all_faults() {
        let none = Memory::new(u32::MAX);
        assert_eq!(none.read_u64(4096), Err(Fault));
        assert_eq!(none.read_many(&[1, 2, 3], 8, &mut Vec::new()), [false; 3]);
    }
}
