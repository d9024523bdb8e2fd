"""Grows at its own pace and says by what, for the watch engine: small objects of one size, large ones, mappings, or nothing but honest work.

`small N`, `large N`, `mapped N` keep so many more; each answers with what it has kept since the start and how many bytes of memory that takes. `honest N` keeps nothing.
The work is done in small steps with pauses, so that no way of taking memory is so frequent that the engine turns away from it.
"""

import mmap
import time

import stage

KEPT = []
# CPython 3.11 gives 48 bytes for the object itself and 16 for the collector's header.
SMALL_BYTES = 64
LARGE_ASKED = 10_000
# What bytes(LARGE_ASKED) asks for: the header with the terminating zero comes first.
LARGE_BYTES = LARGE_ASKED + bytes(0).__sizeof__()
MAPPED_BYTES = 1 << 16
PAUSE = 0.01


class Small:
    __slots__ = ("a", "b", "c", "d")


def new_small():
    for _ in range(100):
        KEPT.append(Small())  # LEAK


def new_large():
    KEPT.append(bytes(LARGE_ASKED))  # LEAK


def new_mapping():
    KEPT.append(mmap.mmap(-1, MAPPED_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))  # LEAK


def map_and_unmap():
    mmap.mmap(-1, MAPPED_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()


def grow(step, steps):
    for _ in range(steps):
        step()
        map_and_unmap()
        stage.churn(1)
        time.sleep(PAUSE)


def small(count):
    grow(new_small, count // 100)
    return stage.truth(stage.leak(stage.mark(new_small), count // 100 * 100), bytes=count // 100 * 100 * SMALL_BYTES)


def large(count):
    grow(new_large, count)
    return stage.truth(stage.leak(stage.mark(new_large), count), bytes=count * LARGE_BYTES)


def mapped(count):
    grow(new_mapping, count)
    return stage.truth(stage.leak(stage.mark(new_mapping), count), bytes=count * MAPPED_BYTES)


def honest(count):
    grow(lambda: None, count)
    return stage.truth()


stage.serve(small=small, large=large, mapped=mapped, honest=honest)
