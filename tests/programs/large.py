"""Blocks over 512 bytes, which pymalloc passes on to `malloc`: as many and as long as the program says, by every way that makes them.

What holds the blocks exists before `go`, so that the marked lines make the blocks and nothing else. Two sorts of bytes are at the
border: the longest that pymalloc keeps for itself (512 bytes with their header) and the shortest that it passes on (513).
"""

import stage

SIZES = [513, 600, 4096, 100_000]
BORDER = [479, 480]
COUNT = 100
NUMBERS = list(range(COUNT))
STEPS = [None] * 10
TEXT = b"x" * SIZES[-1]
ITEMS = [None] * (SIZES[-1] // 8)
ONE_BYTE, ONE_LETTER, NOTHING = b"x", "x", [None]


def bytes_by_malloc(kept, size):
    for number in NUMBERS:
        kept[number] = ONE_BYTE * size  # LEAK


def bytes_by_calloc(kept, size):
    for number in NUMBERS:
        kept[number] = bytes(size)  # LEAK


def str_by_malloc(kept, size):
    for number in NUMBERS:
        kept[number] = ONE_LETTER * size  # LEAK


def bytearray_at_once(kept, size):
    text = TEXT[:size]
    for number in NUMBERS:
        kept[number].extend(text)  # LEAK


def bytearray_by_growth(kept, size):
    text = TEXT[: size // len(STEPS)]
    for number in NUMBERS:
        for _ in STEPS:
            kept[number].extend(text)  # LEAK


def list_at_once(kept, size):
    items = ITEMS[: size // 8]
    for number in NUMBERS:
        kept[number].extend(items)  # LEAK


def list_by_growth(kept, size):
    items = ITEMS[: size // 8]
    for number in NUMBERS:
        for item in items:
            kept[number].append(item)  # LEAK


def asked(thing):
    """The bytes of the one block that a marked line has made for it."""
    if isinstance(thing, bytearray):
        return thing.__alloc__()
    header = [].__sizeof__() if isinstance(thing, list) else 0
    return thing.__sizeof__() - header


def room(sizes, empty):
    """A holder for every block of every size."""
    return {size: [empty() for _ in NUMBERS] for size in sizes}


MAKERS = {
    bytes_by_malloc: ("bytes", room(BORDER + SIZES, lambda: None)),
    bytes_by_calloc: ("bytes", room(BORDER + SIZES, lambda: None)),
    str_by_malloc: ("str", room(SIZES, lambda: None)),
    bytearray_at_once: (None, room(SIZES, bytearray)),
    bytearray_by_growth: (None, room(SIZES, bytearray)),
    list_at_once: (None, room(SIZES, list)),
    list_by_growth: (None, room(SIZES, list)),
}
MARKS = {maker: stage.mark(maker) for maker in MAKERS}


def row(maker):
    type, rooms = MAKERS[maker]
    sizes = {}
    for kept in rooms.values():
        for thing in kept:
            sizes[asked(thing)] = sizes.get(asked(thing), 0) + 1
    return stage.leak(MARKS[maker], sizes=sizes, type=type)


def go():
    for maker, (_, rooms) in MAKERS.items():
        for size, kept in rooms.items():
            maker(kept, size)
    return stage.truth(*map(row, MAKERS))


stage.serve(go=go)
