//! How the thread that runs finds its own `PyThreadState`.

use crate::walk::{Fault, UserMemory};

/// What names the current thread state. It is the same for all threads of a process, and known before the process runs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Current {
    /// A [`Way`].
    pub way: u32,
    /// Padding, spelt out.
    pub reserved: u32,
    /// [`Way::Holder`]: bytes from `_PyRuntime` to the word; [`Way::Thread`]: from the thread pointer to the variable; [`Way::Module`]: from `_PyRuntime` to the pair.
    pub distance: i64,
    /// [`Way::Module`]: bytes from the place that the pair means to the variable.
    pub inside: i64,
}

const _: () = assert!(size_of::<Current>() == 24);

/// Where that is. The discriminants cross the fence.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// It is not known.
    Unknown = 0,
    /// A word of the process names the holder of the GIL: `_PyRuntime.gilstate.tstate_current` up to 3.11.
    Holder = 1,
    /// A thread-local variable at a fixed distance from the thread pointer: `_Py_tss_tstate` from 3.12 on, in an executable or in a library that was there from the beginning.
    Thread = 2,
    /// The same in a library whose place is asked of the thread's table of modules (Drepper, "ELF Handling For Thread-Local Storage", 3.4.2; glibc, sysdeps/x86_64/nptl/tls.h): a pair of words that
    /// the dynamic linker fills names the module, and the offset in it.
    Module = 3,
}

/// Bytes of an entry of glibc's table of modules: a pointer, and what is to be freed (sysdeps/generic/dl-dtv.h).
const DTV_ENTRY: u64 = 16;

impl Current {
    /// Where the word is that names the thread state of the thread with this thread pointer; 0 if that is not known. `runtime` is the address of `_PyRuntime`, or 0.
    ///
    /// # Errors
    /// [`Fault`] when a word on the way cannot be read.
    #[inline(always)]
    pub fn place<M: UserMemory>(&self, memory: &M, runtime: u64, thread_pointer: u64) -> Result<u64, Fault> {
        let mut place = runtime.wrapping_add(self.distance as u64);
        if self.way == Way::Thread as u32 {
            place = thread_pointer.wrapping_add(self.distance as u64);
        }
        let is_known = self.way != Way::Unknown as u32
            && (runtime != 0 || self.way == Way::Thread as u32)
            && (thread_pointer != 0 || self.way == Way::Holder as u32);
        if !is_known {
            return Ok(0);
        }
        if self.way == Way::Module as u32 {
            let module = memory.word(place)?;
            let offset = memory.word(place.wrapping_add(8))?;
            let table = memory.word(thread_pointer.wrapping_add(8))?;
            let block = memory.word(table.wrapping_add(module.wrapping_mul(DTV_ENTRY)))?;
            place = block.wrapping_add(offset).wrapping_add(self.inside as u64);
        }
        Ok(place)
    }

    /// The thread state that is named; 0 if none is. A thread that has not begun to run Python has none.
    ///
    /// # Errors
    /// As [`Current::place`].
    #[inline(always)]
    pub fn named<M: UserMemory>(&self, memory: &M, runtime: u64, thread_pointer: u64) -> Result<u64, Fault> {
        let place = self.place(memory, runtime, thread_pointer)?;
        if place == 0 { Ok(0) } else { memory.word(place) }
    }
}
