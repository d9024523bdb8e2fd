//! Where the running kernel keeps a field: its own description of its types (Documentation/bpf/btf.rst), as far as structures and their members go.
//!
//! aya reads it too, but keeps the members to itself.

use std::path::Path;

use tracer_common::kin::KinConfig;

/// Where a kernel built with `CONFIG_DEBUG_INFO_BTF` shows it.
const VMLINUX: &str = "/sys/kernel/btf/vmlinux";
/// The most that is read, in bytes; a distribution's kernel has 4 to 10 MiB.
const LIMIT: usize = 64 << 20;
const MAGIC: u16 = 0xeb9f;
/// Bytes of `struct btf_type`, and of a member.
const TYPE: usize = 12;
const STRUCT: u32 = 4;
const UNION: u32 = 5;

/// How deep unnamed structures inside each other are looked into.
const NESTING: usize = 4;

/// Bytes from the start of the kernel's `struct task_struct` to the thread pointer of user space; `None` where the kernel does not say.
#[must_use]
pub fn thread_pointer_at() -> Option<u32> {
    let bytes = kernel_types()?;
    let types = Types::parse(&bytes)?;
    let (thread, _) = types.member("task_struct", "thread")?;
    let base = types.thread_pointer(std::env::consts::ARCH)?;
    thread.checked_add(base)
}

/// Where the running kernel keeps the process id and the address space in its `struct task_struct`; `None` where it does not say.
#[must_use]
pub fn kin() -> Option<KinConfig> {
    let bytes = kernel_types()?;
    let types = Types::parse(&bytes)?;
    let (tgid_at, _) = types.member("task_struct", "tgid")?;
    let (mm_at, _) = types.member("task_struct", "mm")?;
    Some(KinConfig { tgid_at, mm_at, lost: 0 })
}

fn kernel_types() -> Option<Vec<u8>> {
    std::fs::read(Path::new(VMLINUX)).ok().filter(|bytes| bytes.len() <= LIMIT)
}

/// The types of a kernel.
struct Types<'b> {
    /// Each type's record and what belongs to it; number 0, which is `void`, is empty.
    types: Vec<&'b [u8]>,
    strings: &'b [u8],
}

impl<'b> Types<'b> {
    fn parse(bytes: &'b [u8]) -> Option<Self> {
        let number = |at: usize| word(bytes, at).map(|word| word as usize);
        let magic = u16::from_le_bytes(bytes.get(..2)?.try_into().ok()?);
        let header = number(4).filter(|_| magic == MAGIC)?;
        let part = |at: usize, len: usize| {
            let begin = header.checked_add(number(at)?)?;
            bytes.get(begin..begin.checked_add(number(len)?)?)
        };
        let (mut rest, strings) = (part(8, 12)?, part(16, 20)?);
        let mut types: Vec<&[u8]> = vec![&[]];
        while !rest.is_empty() {
            let (one, others) = rest.split_at_checked(length(rest)?)?;
            types.push(one);
            rest = others;
        }
        Some(Self { types, strings })
    }

    /// Where in `struct thread_struct` the thread pointer is, on a processor by rustc's name for it.
    fn thread_pointer(&self, processor: &str) -> Option<u32> {
        match processor {
            // arch/x86/include/asm/processor.h.
            "x86_64" => Some(self.member("thread_struct", "fsbase")?.0),
            // arch/arm64/include/asm/processor.h. The register is saved there when the thread leaves the processor: what a thread's first instructions have set
            // is not there before.
            "aarch64" => {
                let (user, of) = self.member("thread_struct", "uw")?;
                let (pointer, _) = self.inside(self.types.get(of as usize)?, "tp_value", NESTING)?;
                user.checked_add(pointer)
            }
            _ => None,
        }
    }

    /// Where a member of a structure is, in bytes, and of which type.
    fn member(&self, structure: &str, member: &str) -> Option<(u32, u32)> {
        let is_it =
            |one: &&&[u8]| kind(one) == Some(STRUCT) && self.name(one, 0) == Some(structure.as_bytes());
        self.types.iter().filter(is_it).find_map(|one| self.inside(one, member, NESTING))
    }

    /// The same of a structure, or of one without a name in it.
    fn inside(&self, one: &[u8], wanted: &str, nesting: usize) -> Option<(u32, u32)> {
        let is_packed = word(one, 4)? >> 31 == 1;
        one.get(TYPE..)?.as_chunks::<TYPE>().0.iter().find_map(|member| {
            let (of, bits) = (word(member, 4)?, word(member, 8)?);
            let at = if is_packed { bits & 0xff_ffff } else { bits } / 8;
            let name = self.name(member, 0)?;
            if name == wanted.as_bytes() {
                return Some((at, of));
            }
            let inner = self.types.get(of as usize).filter(|_| name.is_empty() && nesting > 0)?;
            if !matches!(kind(inner), Some(STRUCT | UNION)) {
                return None;
            }
            let (deeper, of) = self.inside(inner, wanted, nesting - 1)?;
            Some((at.checked_add(deeper)?, of))
        })
    }

    /// The name that the word at a place of a record means.
    fn name(&self, record: &[u8], at: usize) -> Option<&'b [u8]> {
        let text = self.strings.get(word(record, at)? as usize..)?;
        text.split(|byte| *byte == 0).next()
    }
}

/// Bytes of the first type and of what belongs to it (include/uapi/linux/btf.h).
fn length(types: &[u8]) -> Option<usize> {
    let count = (word(types, 4)? & 0xffff) as usize;
    let more = match kind(types)? {
        // Integers, variables and tags on declarations have a word more, arrays three.
        1 | 14 | 17 => 4,
        3 => 12,
        // Structures, unions, sections and enumerations of 64 bits.
        STRUCT | UNION | 15 | 19 => 12 * count,
        // Enumerations, and the parameters of functions.
        6 | 13 => 8 * count,
        _ => 0,
    };
    Some(TYPE + more)
}

fn kind(one: &[u8]) -> Option<u32> {
    Some(word(one, 4)? >> 24 & 0x1f)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `struct outer { int; struct { long inner; }; };` with the unnamed one at 8 bytes, and its member at 16.
    fn small() -> Vec<u8> {
        let strings = b"\0outer\0first\0inner\0";
        let record = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
        let int = record(&[0, 1 << 24, 4, 32]);
        let unnamed = record(&[0, STRUCT << 24 | 1, 24, 13, 1, 128]);
        let outer = record(&[1, STRUCT << 24 | 2, 40, 7, 1, 0, 0, 2, 64]);
        let types = [int, unnamed, outer].concat();
        let mut bytes = vec![0x9f, 0xeb, 1, 0];
        bytes.extend(record(&[24, 0, types.len() as u32, types.len() as u32, strings.len() as u32]));
        [bytes, types, strings.to_vec()].concat()
    }

    #[test]
    fn members_are_found_also_in_structures_without_a_name() {
        let bytes = small();
        let types = Types::parse(&bytes).unwrap();
        assert_eq!(types.member("outer", "first"), Some((0, 1)));
        assert_eq!(types.member("outer", "inner"), Some((24, 1)));
        assert_eq!((types.member("outer", "none"), types.member("other", "first")), (None, None));
    }

    #[test]
    fn each_processor_has_its_own_place() {
        // `struct thread_struct { struct { long; long tp_value; } uw; long fsbase; };` with `uw` at 16 bytes.
        let strings = b"\0thread_struct\0uw\0tp_value\0fsbase\0";
        let record = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
        let long = record(&[0, 1 << 24, 8, 64]);
        let user = record(&[0, STRUCT << 24 | 2, 16, 0, 1, 0, 18, 1, 64]);
        let thread = record(&[1, STRUCT << 24 | 2, 40, 15, 2, 128, 27, 1, 256]);
        let all = [long, user, thread].concat();
        let mut bytes = vec![0x9f, 0xeb, 1, 0];
        bytes.extend(record(&[24, 0, all.len() as u32, all.len() as u32, strings.len() as u32]));
        let bytes = [bytes, all, strings.to_vec()].concat();
        let types = Types::parse(&bytes).unwrap();
        let places = ["x86_64", "aarch64", "riscv64"].map(|processor| types.thread_pointer(processor));
        assert_eq!(places, [Some(32), Some(24), None]);
    }

    #[test]
    fn the_running_kernel_says_where_the_thread_pointer_is() {
        let at = thread_pointer_at().expect("the tests' kernel has BTF");
        assert!(at > 1000 && at < 65_536 && at.is_multiple_of(8), "{at}");
    }

    proptest! {
        #[test]
        fn broken_ones_end(at in 0usize..200, value: u8) {
            let mut bytes = small();
            let at = at % bytes.len();
            bytes[at] = value;
            if let Some(types) = Types::parse(&bytes) {
                types.member("outer", "inner");
            }
            if let Some(types) = Types::parse(&bytes[..at]) {
                types.member("outer", "inner");
            }
        }
    }
}
