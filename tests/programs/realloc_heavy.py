"""Lists, bytearrays and dicts that grow and shrink; what they hold at the end is known to the byte.

The containers exist before `go`, empty, and everything put into them exists too: all that lives at the end are their buffers.
"""

import stage

LISTS = [[] for _ in range(200 // stage.SHARE)]
ARRAYS = [bytearray() for _ in range(200 // stage.SHARE)]
DICTS = [{} for _ in range(100 // stage.SHARE)]
KEYS = ["key %d" % number for number in range(3000)]
LIST_HEADER = [].__sizeof__()
DICT_HEADER = {}.__sizeof__()


def work_lists(round):
    for number, items in enumerate(LISTS):
        for _ in range(50 * (1 + (number + round) % 40)):
            items.append(None)
        del items[(number * 7 + round) % 300 :]
        items.extend(KEYS[: number % 90])


def work_arrays(round):
    for number, array in enumerate(ARRAYS):
        for _ in range(1 + (number + round) % 30):
            array.extend(b"0123456789" * 13)
        del array[(number * 31 + round) % 2500 :]
        array.append(7)


def work_dicts(round):
    for number, table in enumerate(DICTS):
        for key in KEYS[: 20 * (1 + (number + round) % 100)]:
            table[key] = None
        if (number + round) % 3 == 0:
            table.clear()
        table["first"] = table["second"] = None


def go():
    for round in range(6):
        work_lists(round)
        work_arrays(round)
        work_dicts(round)
        stage.churn(50)
    buffers = [items.__sizeof__() - LIST_HEADER for items in LISTS]
    buffers += [array.__alloc__() for array in ARRAYS]
    buffers += [table.__sizeof__() - DICT_HEADER for table in DICTS]
    asked, given = sum(buffers), sum(map(stage.size_class, buffers))
    return stage.truth(live_bytes=asked, given_bytes=given, functions=["work_lists", "work_arrays", "work_dicts"])


stage.serve(go=go)
