"""A leak while others hook CPython's allocators: tracemalloc, or a library as memray does (ext/pass_through.c).

`start` and `stop` are tracemalloc's, `install` and `remove` the library's: as arguments they come before the program is ready, as commands
at any time. Each `go` leaks as much again as the one before, so that the leak can go on before, between and after such changes.
"""
# builds: ext/pass_through.c

import sys
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


HOOKS = {
    "start": tracemalloc.start,
    "stop": tracemalloc.stop,
    "install": pass_through.install,
    "remove": pass_through.remove,
}
MARK = stage.mark(leak)
for name in sys.argv[1:]:
    HOOKS[name]()
stage.serve(go=go, **HOOKS)
