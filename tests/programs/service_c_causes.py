"""What `service.py` can leak in C code: the kinds of `ext/leaks.c`, and a reference too many by ctypes."""
# builds: ext/leaks.c

import ctypes

from service_causes import Cause


class Extension(Cause):
    """A kind of `ext/leaks.c`, leaked by the function that its other functions call."""

    kind = ""

    def __init__(self):
        import leaks

        self.run = leaks.leak

    def leak(self, number, count):
        self.run(self.kind, count)  # LEAK


class Int(Extension):
    """A new reference that nobody gives back."""

    kind, c_function = "int called", "int_out"


class Reference(Extension):
    """A reference too many on bytes."""

    kind, c_function = "reference called", "reference_out"


class Malloc(Extension):
    """Of the C library: CPython, and so tracemalloc, knows nothing of it."""

    kind, c_function, unseen = "malloc called", "malloc_out", (777, 1)


class Mem(Extension):
    """PyMem_Malloc, small."""

    kind, c_function = "mem called", "mem_out"


class Large(Extension):
    """PyMem_Malloc, so large that CPython passes it on to the C library."""

    kind, c_function = "large called", "large_out"


class Raw(Extension):
    """PyMem_RawMalloc."""

    kind, c_function = "raw called", "raw_out"


class Dict(Extension):
    """Empty dicts, among the thousands that the decoder makes and drops."""

    kind, c_function = "dict called", "dict_out"


class Tuple(Extension):
    kind, c_function = "tuple called", "tuple_out"


class Ctypes(Cause):
    """A reference taken by ctypes for a callback that never came. The memory is Python's own, so no C function of ours is on the stack."""

    def leak(self, number, count):
        for _ in range(count):
            self.lend(number)  # LEAK

    def lend(self, number):
        buffer = b"%0900d" % number  # LEAK
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(buffer))


C = {
    "c_int": Int,
    "c_reference": Reference,
    "c_malloc": Malloc,
    "c_mem": Mem,
    "c_large": Large,
    "c_raw": Raw,
    "c_dict": Dict,
    "c_tuple": Tuple,
    "c_ctypes": Ctypes,
}
