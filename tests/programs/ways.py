"""Every way on which Python and C call each other, each to one and the same leaf, which leaks.

`run N 1` takes way N, prints in the leaf what faulthandler says of the stack, and stands there until another line comes; `run N 0` takes it again and
leaks there. The truth of the order is in the names: a function that C code calls here is named `by_c_…`, or is called by an operator (`__…__`), or
is a module or a generator expression; all others are called by Python or, when an exception is thrown into a generator that waits for another, by nobody.
"""

import asyncio
import ctypes
import faulthandler
import functools
import json
import operator
import re
import sqlite3
import sys
import tempfile
import threading
import weakref

import stage

BLOCKS = 50
FIRST_SIZE, STEP = 2000, 100
KEPT = []
standing = False
LIBC = ctypes.CDLL(None, use_errno=True)


def leaf(size):
    if standing:
        stand_here()
    KEPT.append(bytes(size))  # LEAK
    return 1


def stand_here():
    """Prints the frames of the leaf and its callers, innermost first, as faulthandler has them: file, line and name, but not the name's own scope."""
    with tempfile.TemporaryFile() as book:
        faulthandler.dump_traceback(book, all_threads=False)
        book.seek(0)
        rows = re.findall(r'  File "(.*)", line (\d+) in (.*)\n', book.read().decode())
    frames = [{"file": file, "line": int(line), "function": name} for file, line, name in rows]
    print(json.dumps({"tid": threading.get_native_id(), "frames": frames[1:]}), flush=True)
    sys.stdin.readline()


def sort(size):
    def by_c_key(item):
        return leaf(size)

    sorted([1], key=by_c_key)


def map_and_reduce(size):
    def by_c_map(item):
        return functools.reduce(by_c_reduce, [item, item])

    def by_c_reduce(one, other):
        return sum(leaf(size) for _ in range(1))

    list(map(by_c_map, [1]))


def substitute(size):
    def by_c_replace(match):
        [leaf(size) for _ in range(1)]
        return ""

    re.sub("a", by_c_replace, "ba")


def compare_in_c(size):
    pointer = ctypes.POINTER(ctypes.c_int)

    @ctypes.CFUNCTYPE(ctypes.c_int, pointer, pointer)
    def by_c_compare(one, other):
        leaf(size)
        return 0

    LIBC.qsort((ctypes.c_int * 2)(2, 1), 2, 4, by_c_compare)


def decode(size):
    def by_c_hook(found):
        leaf(size)

    json.loads('[{"a": 1}]', object_hook=by_c_hook)


def query(size):
    def by_c_function(value):
        return leaf(size)

    books = sqlite3.connect(":memory:")
    books.create_function("leaf", 1, by_c_function)
    books.execute("select leaf(1)").fetchone()
    books.close()


class Finaliser:
    def __init__(self, size):
        self.size = size

    def __del__(self):
        leaf(self.size)


def finalise(size):
    kept = [Finaliser(size)]
    kept.clear()


def finalise_at_return(size):
    def holder():
        held = Finaliser(size)
        return len([held])

    holder()


def weak(size):
    def by_c_gone(reference):
        leaf(size)

    target = Finaliser.__class__("Dying", (), {})()
    reference = weakref.ref(target, by_c_gone)
    del target
    return reference


class Operators:
    def __init__(self, size):
        self.size = size

    def __lt__(self, other):
        return self.missing < other

    def __getattr__(self, name):
        return leaf(self.size)

    def __call__(self):
        return self + self

    def __add__(self, other):
        with self:
            return self.by_c_property

    def __enter__(self):
        return max([self], key=operator.methodcaller("__hash__"))

    def __hash__(self):
        return self < 1

    def __exit__(self, *_):
        return None

    @property
    def by_c_property(self):
        return 1


def operators(size):
    Operators(size)()


def properties(size):
    class Owner:
        @property
        def by_c_property(self):
            return by_c_cached(size)

        @classmethod
        def make(cls):
            return cls().by_c_property

    @functools.lru_cache(maxsize=0)
    def by_c_cached(value):
        return leaf(value)

    Owner.make()


def starred(size):
    def by_c_star(*values, **named):
        return leaf(values[0])

    by_c_star(*[size], **{"key": 1})


def generators(size):
    def by_c_inner():
        yield leaf(size)

    def by_c_outer():
        yield from by_c_inner()

    for _ in by_c_outer():
        pass


def throw(size):
    def by_c_inner():
        try:
            yield 1
        except KeyError:
            leaf(size)
        yield 2

    def suspended():
        yield from by_c_inner()

    generator = suspended()
    next(generator)
    generator.throw(KeyError)
    generator.close()


async def by_c_leaf(size):
    async with Context(size):
        pass


class Context:
    def __init__(self, size):
        self.size = size

    async def __aenter__(self):
        return leaf(self.size)

    async def __aexit__(self, *_):
        return None


async def by_c_parent(size):
    await asyncio.sleep(0)
    await by_c_leaf(size)


async def by_c_main(size):
    await asyncio.gather(by_c_parent(size))


def coroutines(size):
    asyncio.run(by_c_main(size))


def cancelled(size):
    async def by_c_waits():
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            leaf(size)

    async def suspended():
        await by_c_waits()

    async def by_c_cancels():
        task = asyncio.ensure_future(suspended())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(by_c_cancels())


FORMULA = compile("leaf(size)", "<a formula>", "eval")
BODY = compile("class by_c_Body:\n\n    found = eval(FORMULA)\n", "<made at run time>", "exec")


def made_at_run_time(size):
    exec(BODY, {"leaf": leaf, "size": size, "FORMULA": FORMULA})


def recursion(size, depth=4):
    def by_c_key(item):
        return recursion(size, depth - 1)

    if depth == 0:
        return leaf(size)
    return sorted([1], key=by_c_key) if depth % 2 else recursion(size, depth - 1)


def thread(size):
    def by_c_target(value):
        leaf(value)

    other = threading.Thread(target=by_c_target, args=(size,))
    other.start()
    other.join()


def foreign_thread(size):
    @ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
    def by_c_start(_):
        leaf(size)
        return None

    number = ctypes.c_ulong()
    LIBC.pthread_create(ctypes.byref(number), None, by_c_start, None)
    LIBC.pthread_join(number, None)


WAYS = (
    sort,
    map_and_reduce,
    substitute,
    compare_in_c,
    decode,
    query,
    finalise,
    finalise_at_return,
    weak,
    operators,
    properties,
    starred,
    generators,
    throw,
    coroutines,
    cancelled,
    made_at_run_time,
    recursion,
    thread,
    foreign_thread,
)


def size_of(number):
    return FIRST_SIZE + STEP * number


def take(number):
    WAYS[number](size_of(number))


def by_c_run(number, stands):
    """Both kinds of run have the same callers."""
    global standing
    standing = stands
    for _ in range(1 if stands else BLOCKS):
        take(number)


def facts():
    header = sys.getsizeof(b"")
    ways = [{"name": way.__name__, "bytes": size_of(number) + header} for number, way in enumerate(WAYS)]
    return {"ways": ways, "blocks": BLOCKS, "leaf": stage.mark(leaf)}


for warm in range(len(WAYS)):
    by_c_run(warm, 0)  # The interpreter has seen all of its code then, and calls it as it always will.
KEPT.clear()
stage.serve(run=by_c_run, facts=facts)
