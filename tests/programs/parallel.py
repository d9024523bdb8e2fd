"""Threads that allocate at the same time, without a GIL where there is none, free each other's blocks, and end before these. Each block that lives at the end is known."""
# builds: ext/shelves.c

import sys
import threading

import shelves
import stage

THREADS = 8
COUNT = 6_000
FREED = 2_000
EVERY = 10
RAW, MEM, OBJECT, LIBC = DOMAINS = range(4)
NAMES = ["raw", "mem", "object", "libc"]
SIZES = [96, 160, 224, 352]
RESIZED = [112, 4_000, 288, 70_000]
HEAD = sys.getsizeof(b"")
SHELVES = [[shelves.Shelf(COUNT) for _ in DOMAINS] for _ in range(THREADS)]
KEPT = [[None] * COUNT for _ in range(THREADS)]


def fill(shelf, domain):
    shelf.fill(domain, COUNT, SIZES[domain])  # LEAK


def resize(shelf, domain):
    shelf.resize(EVERY, RESIZED[domain])  # LEAK


def objects(kept):
    for number in range(COUNT):
        kept[number] = bytes(320 + number % 8 * 16 - HEAD)  # LEAK


def work(start, mine, kept):
    start.wait()
    for domain, shelf in enumerate(mine):
        fill(shelf, domain)
    objects(kept)
    for domain, shelf in enumerate(mine):
        resize(shelf, domain)
    stage.churn(20)


def help_out(start, others, kept):
    """Frees what another thread has made, which has ended since."""
    start.wait()
    for shelf in others:
        shelf.free(0, FREED)
    kept[:FREED] = [None] * FREED


def at_once(function, parts):
    start = threading.Barrier(len(parts))
    threads = [threading.Thread(target=function, args=(start, *part)) for part in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def go():
    mine = list(zip(SHELVES, KEPT))
    at_once(work, mine)
    at_once(help_out, mine[1:] + mine[:1])
    left = THREADS * (COUNT - FREED)
    held = [sys.getsizeof(held) for kept in KEPT for held in kept if held is not None]
    sizes = {size: held.count(size) for size in set(held)}
    return stage.truth(
        stage.leak(stage.mark(objects), sizes=sizes, type="bytes"),
        fill={**stage.mark(fill), "blocks": left - left // EVERY, "sizes": dict(zip(NAMES, SIZES))},
        resize={**stage.mark(resize), "blocks": left // EVERY, "sizes": dict(zip(NAMES, RESIZED))},
        gil=getattr(sys, "_is_gil_enabled", lambda: True)(),
    )


stage.serve(go=go)
