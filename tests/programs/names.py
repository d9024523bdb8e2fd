"""A C library, given by its path, that takes memory from malloc and forgets it; it can be unloaded again (`--domains libc`), and another one, given too, be
loaded in its place."""

import _ctypes
import ctypes
import json
import sys
import time

import stage

# ctypes gives up the GIL when it calls a CDLL's function; a PyDLL's caller keeps it, and is seen.
library = ctypes.PyDLL(sys.argv[1])
hidden, inlined = library.leak_hidden, library.leak_inlined


def call_hidden(size, count):
    hidden(size, count)


def call_inlined(size, count):
    inlined(size, count)


def go(count=1000):
    call_hidden(777, count)
    call_inlined(1333, count)
    return {}


def close():
    global library, hidden, inlined
    handle, library, hidden, inlined = library._handle, None, None, None
    _ctypes.dlclose(handle)
    with open("/proc/self/maps") as maps:
        return {"mapped": sys.argv[1] in maps.read()}


def reopen():
    """Another library in the place of the one that was closed, which leaks for a while; says whether it is at the very same place."""
    global library, hidden
    library = ctypes.PyDLL(sys.argv[2])
    hidden, count, begin = library.leak_hidden, 0, time.monotonic()
    while time.monotonic() - begin < 1.5:
        call_hidden(777, 1)
        count += 1
        time.sleep(0.001)
    return {"count": count, "same": place(hidden) == FIRST}


def place(function):
    return ctypes.cast(function, ctypes.c_void_p).value


FIRST = place(hidden)
go(0)
json.dumps({})
stage.serve(go=go, close=close, reopen=reopen)
