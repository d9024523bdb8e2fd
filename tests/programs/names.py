"""A C library, given by its path, that takes memory from malloc and forgets it; it can be unloaded again (`--domains libc`)."""

import _ctypes
import ctypes
import json
import sys

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


go(0)
json.dumps({})
stage.serve(go=go, close=close)
