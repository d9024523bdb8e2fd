"""Machine code that is made while the program runs, as just-in-time compilers make it, leaks ints: it is of no file."""

import ctypes
import gc
import mmap
import struct

import stage
from c_source import python_frame, row

COUNT = 333

make = ctypes.cast(ctypes.pythonapi.PyLong_FromLong, ctypes.c_void_p).value
LOOP = b"\xbf" + struct.pack("<i", 1_000_000)  # mov edi, 1000000
LOOP += b"\x48\xb8" + struct.pack("<Q", make)  # mov rax, PyLong_FromLong
LOOP += b"\xff\xd0\x48\xff\xcb"  # call rax; dec rbx
LOOP += b"\x75" + struct.pack("<b", -len(LOOP) - 2)  # jnz LOOP
CODE = b"\x53\x48\x89\xfb" + LOOP + b"\x5b\xc3"  # push rbx; mov rbx, rdi; …; pop rbx; ret

page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(CODE)
function = ctypes.PYFUNCTYPE(None, ctypes.c_ssize_t)(ctypes.addressof(ctypes.c_char.from_buffer(page)))


def leak(count):
    function(count)  # LEAK


def go():
    gc.collect()
    leak(COUNT)
    return stage.truth(stacks=[row("machine code", [python_frame(stage.mark(leak))], COUNT, 32, "PyLong_FromLong")])


gc.disable()
stage.serve(go=go)
