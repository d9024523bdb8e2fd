"""A leak while others hook CPython's allocators: tracemalloc, or a library as memray does (ext/pass_through.c).

`start` and `stop` are tracemalloc's, `install` and `remove` the library's, `memray` (which hooks C's allocators), `memray-python` (and CPython's too) and `memray-end` memray's, if the variable PACKAGES has the folder that it is in: as
arguments they come before the program is ready, as commands at any time. Each `go` leaks as much again as the one before, so that the leak can go on before, between and after such changes.
"""
# builds: ext/pass_through.c

import os
import sys
import tempfile
import tracemalloc

import pass_through
import stage

COUNT = 5_000
KEPT = []
NUMBERS = list(range(COUNT))


def leak(number):
    KEPT.append(b"block number %06d" % number)  # LEAK


def go():
    stage.amid_churn(COUNT, leak)
    array = KEPT.__sizeof__() - [].__sizeof__()
    return stage.truth(
        stage.leak(MARK, sizes={KEPT[0].__sizeof__(): len(KEPT), array: 1}, type="bytes"),
        calls=pass_through.calls(),
        traced=int(tracemalloc.is_tracing()),
    )


class Memray:
    """What `memray attach` starts in a process."""

    def __init__(self):
        sys.path.append(os.environ["PACKAGES"])
        import memray

        self.module = memray
        self.folder = tempfile.TemporaryDirectory()
        self.tracker = None

    def start(self, of_python):
        path = os.path.join(self.folder.name, "allocations")
        self.tracker = self.module.Tracker(path, trace_python_allocators=of_python)
        self.tracker.__enter__()

    def end(self):
        self.tracker.__exit__(None, None, None)


HOOKS = {
    "start": tracemalloc.start,
    "stop": tracemalloc.stop,
    "install": pass_through.install,
    "remove": pass_through.remove,
}
if "PACKAGES" in os.environ:
    MEMRAY = Memray()
    HOOKS["memray"] = lambda: MEMRAY.start(False)
    HOOKS["memray-python"] = lambda: MEMRAY.start(True)
    HOOKS["memray-end"] = MEMRAY.end
MARK = stage.mark(leak)
for name in sys.argv[1:]:
    HOOKS[name]()
stage.serve(go=go, **HOOKS)
