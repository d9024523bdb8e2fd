"""Grows at its own pace and says by what, for the watch engine: small objects of one size, large ones, mappings, or nothing but honest work.

`small N`, `large N`, `mapped N` keep so many more and answer with what they have kept and how many bytes of memory that takes; `written N` keeps mappings of a megabyte, three a second, and writes to them. `honest N` keeps nothing.
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
WRITTEN = bytes(1 << 20)


class Small:
    __slots__ = ("a", "b", "c", "d")


def new_small():
    for _ in range(100):
        KEPT.append(Small())  # LEAK


def new_large():
    KEPT.append(bytes(LARGE_ASKED))  # LEAK


def new_mapping():
    KEPT.append(mmap.mmap(-1, MAPPED_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))  # LEAK


def new_written():
    mapping = mmap.mmap(-1, len(WRITTEN), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    mapping.write(WRITTEN)
    KEPT.append(mapping)


def map_and_unmap():
    mmap.mmap(-1, MAPPED_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()


def grow(step, steps, pause):
    for _ in range(steps):
        step()
        map_and_unmap()
        time.sleep(pause)


def new_small_amid_churn():
    new_small()
    stage.churn(1)


def small(count):
    grow(new_small_amid_churn, count // 100, 0.01)
    return stage.truth(stage.leak(stage.mark(new_small), count), bytes=count * SMALL_BYTES)


def large(count):
    grow(new_large, count, 0.05)
    return stage.truth(stage.leak(stage.mark(new_large), count), bytes=count * LARGE_BYTES)


def mapped(count):
    grow(new_mapping, count, 0.02)
    return stage.truth(stage.leak(stage.mark(new_mapping), count), bytes=count * MAPPED_BYTES)


def written(count):
    grow(new_written, count, 0.3)
    return {"bytes": count * len(WRITTEN)}


def honest(count):
    grow(lambda: stage.churn(1), count, 0.01)
    return stage.truth()


stage.serve(small=small, large=large, mapped=mapped, written=written, honest=honest)
