//! What the loader is told of the family of a target: who was forked, and who became another program.

/// Where the running kernel keeps what a fork is told by, in bytes from the start of its `struct task_struct`; the one element of the `KIN` map.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KinConfig {
    /// To `tgid`, the process id.
    pub tgid_at: u32,
    /// To `mm`, the address space.
    pub mm_at: u32,
    /// Records that found no room in the ring. The probes add to it.
    pub lost: u64,
}

const _: () = assert!(size_of::<KinConfig>() == 16);

/// What happened. The discriminants cross the fence.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KinKind {
    /// A process of the family made another one.
    Forked = 1,
    /// A process of the family became another program.
    Execed = 2,
    /// A process of the family has ended, and is in it no more.
    Exited = 3,
}

/// One record of the family's ring.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kin {
    /// A [`KinKind`].
    pub kind: u32,
    /// A sum of [`Kin::BORROWS`] and [`Kin::UNKNOWN`].
    pub flags: u32,
    /// Who forked; of an exec or an end the process itself.
    pub parent: u32,
    /// Whom it is about, by its process id in the kernel's own namespace.
    pub child: u32,
    /// When, by `CLOCK_MONOTONIC`.
    pub at_ns: u64,
}

const _: () = assert!(size_of::<Kin>() == 24);

impl Kin {
    /// The child runs in its parent's memory until it execs (`vfork`).
    pub const BORROWS: u32 = 1;
    /// There was no room to remember the child: what it forks is not told.
    pub const UNKNOWN: u32 = 2;

    /// Reads a record from the ring; `None` for what no probe sends.
    #[must_use]
    pub fn parse(record: &[u8]) -> Option<(KinKind, Self)> {
        let word = |at: usize| Some(u32::from_ne_bytes(record.get(at..at + 4)?.try_into().ok()?));
        let at_ns = u64::from_ne_bytes(record.get(16..24)?.try_into().ok()?);
        let kin = Self { kind: word(0)?, flags: word(4)?, parent: word(8)?, child: word(12)?, at_ns };
        let kind = match kin.kind {
            1 => KinKind::Forked,
            2 => KinKind::Execed,
            3 => KinKind::Exited,
            _ => return None,
        };
        Some((kind, kin))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_record_comes_out_as_it_went_in(kind in 0..5_u32, words: [u32; 3], at_ns: u64, cut in 0..24_usize) {
            let [flags, parent, child] = words;
            let mut record: Vec<u8> = [kind, flags, parent, child].iter().flat_map(|word| word.to_ne_bytes()).collect();
            record.extend(at_ns.to_ne_bytes());
            let read = Kin::parse(&record);
            prop_assert_eq!(read.map(|(_, kin)| kin), matches!(kind, 1..=3).then_some(Kin { kind, flags, parent, child, at_ns }));
            prop_assert_eq!(Kin::parse(&record[..cut]), None);
        }
    }
}
