//! The one list of ways in which an event can be lost, or in which what was seen needs a word of caution. The kernel counts rows, every report prints them.

macro_rules! losses {
    ($($variant:ident = $index:literal, $code:literal, $meaning:literal;)+) => {
        /// A way to lose an event. The discriminant is the row of the kernel's counter.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Loss {
            $(#[doc = $meaning] $variant = $index,)+
        }

        impl Loss {
            /// All rows, in the order of their counters.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The row's name in the JSON report; never renamed, never reused.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code),+ }
            }

            /// What it means for the reader of a report.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning),+ }
            }
        }
    };
}

losses! {
    UnknownFree = 0, "unknown_free", "frees of blocks born before the trace began, or refused by a full map; no site is charged for them";
    UnknownRealloc = 1, "unknown_realloc", "blocks born before the trace that were resized in it; they count from then on, with their whole new size";
    BlockMapFull = 2, "block_map_full", "allocations not followed because the block map was full; raise --max-blocks";
    BlockMapMemory = 3, "block_map_memory", "allocations not followed because the kernel had no memory for them at that moment";
    SiteMapFull = 4, "site_map_full", "allocations charged to \"(other sites)\" because the site map was full; raise --max-sites";
    ThreadMapFull = 5, "thread_map_full", "calls not followed because too many threads were inside allocators";
    RingFull = 6, "ring_full", "stacks that found the ring full; they are sent again on the site's next hit";
    CallUnfinished = 7, "call_unfinished", "allocator calls whose return was never seen";
    NoThreadState = 8, "no_thread_state", "allocations by threads that ran no Python code, or had released the GIL and not been seen with it before; they have no Python frames";
    FrameFault = 9, "frame_fault", "stacks cut short because a frame's page could not be read";
    StackTruncated = 10, "stack_truncated", "stacks deeper than --max-depth; the innermost frames were kept";
    AddressReborn = 11, "address_reborn", "addresses allocated twice without a free in between; the older block was dropped";
    IntValuesFull = 12, "int_values_full", "ints whose value was not counted because the table of values was full";
    FailedAlloc = 13, "failed_alloc", "allocator calls that returned NULL; nothing was counted for them";
    CodeGone = 14, "code_gone", "frames whose code object had died before its names could be read";
    TypeUnread = 15, "type_unread", "survivors whose type could not be read because the target had ended or freed them";
    NativeNoModule = 16, "native_no_module", "C stacks that end in code of no file that is known: made at run time, or mapped a moment before; the outer C frames are missing";
    NativeNoRows = 17, "native_no_rows", "C stacks that end in a file whose unwind tables do not describe the code; the outer C frames are missing";
    NativeRule = 18, "native_rule", "C stacks that end at an unwind rule that unshed does not follow; the outer C frames are missing";
    NativeFault = 19, "native_fault", "C stacks cut short because a page of the stack could not be read";
    NativeDepth = 20, "native_depth", "C stacks deeper than --max-depth; the innermost frames were kept";
    NativeAstray = 21, "native_astray", "C stacks that ended because the next frame made no sense; the outer C frames are missing";
    HandOver = 22, "hand_over", "hits lost because one probe program could not call the next; a defect of unshed";
}

/// Rows of the kernel's counter map. Rows are only ever added.
pub const ROWS: u32 = Loss::ALL.len() as u32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_dense_and_codes_distinct() {
        for (row, loss) in Loss::ALL.iter().enumerate() {
            assert_eq!(*loss as usize, row);
            assert_eq!(Loss::ALL.iter().filter(|other| other.code() == loss.code()).count(), 1);
        }
    }
}
