"""What `service.py` can leak, a class for each cause. The lines that allocate what is leaked are marked, and nothing honest runs on them.

A cause has `leak(number, count)`, which leaks so many items, `size()`, the bytes of the tables that hold them (they grow in steps, so that they are
counted apart from the items), and for C code `c_function`, the function that allocates.
"""

import asyncio
import functools
import gc
import json
import threading


class Cause:
    """What is common: nothing is leaked, and no table grows."""

    c_function = None
    # Bytes and blocks of an item that tracemalloc cannot see.
    unseen = (0, 0)
    # Functions outside in which the interpreter allocates for the leak, while no marked line runs.
    beside = ()

    def leak(self, number, count):
        pass

    def size(self):
        return 0


class Nothing(Cause):
    pass


class MutableDefault(Cause):
    """An audit trail that was meant to be fresh for each call."""

    def leak(self, number, count):
        for step in range(count):
            self.audit(number, step)

    def audit(self, number, step, trail=[]):
        trail.append({"request": f"request {number:08d}", "step": f"step {step}", "status": 200.5 + number, "size": number * 1000})  # LEAK

    def size(self):
        return self.audit.__defaults__[0].__sizeof__()


class GlobalCache(Cause):
    """Parsed profiles by user, without a bound: dicts of a decoder that makes thousands that die."""

    profiles = {}

    def leak(self, number, count):
        for step in range(count):
            text = '{"user": "user %08d", "seen": %d, "rights": ["read", "write"], "quota": {"used": %d.5}}' % (number, number * 1000, number)
            self.profiles[(number, step)] = json.loads(text)  # LEAK

    def size(self):
        return self.profiles.__sizeof__()


class Node:
    def __init__(self, name, parent):
        self.name = f"node {name} of a tree"  # LEAK
        self.parent = parent
        self.children = []  # LEAK
        if parent is not None:
            parent.children.append(self)  # LEAK


class CyclesGcOff(Cause):
    """Trees whose leaves know their parents, in a process that has switched the collector off."""

    def __init__(self):
        gc.disable()

    def leak(self, number, count):
        for _ in range(count):
            root = Node(number, None)  # LEAK
            Node(number + 1, root)  # LEAK


class StoredTracebacks(Cause):
    """Errors that are kept to be reported some day, and with them their tracebacks, frames and locals."""

    def __init__(self):
        self.errors = []

    def leak(self, number, count):
        for _ in range(count):
            self.guarded(number)  # LEAK

    def guarded(self, number):
        try:
            self.check(number)  # LEAK
        except ValueError as error:
            self.errors.append(error)  # LEAK
        return None  # LEAK

    def check(self, number):
        fields = [f"field {number}", f"value {number * 1000}"]  # LEAK
        raise ValueError(f"request {number} has an error in one of {len(fields)} fields")  # LEAK

    def size(self):
        return self.errors.__sizeof__()


class Event:
    seen = []

    def __init__(self, name, number):
        self.name = f"{name} {number}"  # LEAK
        self.place = (number * 1.5, number * 2.5)  # LEAK
        self.seen.append(self)  # LEAK


class ClassList(Cause):
    """Instances that register themselves with their class."""

    def leak(self, number, count):
        for _ in range(count):
            Event("event of a request", number)  # LEAK

    def size(self):
        return Event.seen.__sizeof__()


class Basket:
    def __init__(self, number):
        self.articles = [f"article {number}", f"article {number + 1}"]  # LEAK

    def on_change(self, price):
        return price * len(self.articles)


class Callbacks(Cause):
    """Listeners that nobody takes off the list: bound methods and closures keep what they belong to."""

    def __init__(self):
        self.listeners = []

    def leak(self, number, count):
        for _ in range(count):
            self.subscribe(Basket(number))  # LEAK

    def subscribe(self, basket):
        self.listeners.append(basket.on_change)  # LEAK
        self.listeners.append(lambda price: basket.on_change(price) + 1)  # LEAK

    def size(self):
        return self.listeners.__sizeof__()


class Page:
    def __init__(self, number):
        self.title = f"page {number}"  # LEAK

    @functools.lru_cache(maxsize=None)
    def render(self, width):
        return f"{self.title:*^{width}}"  # LEAK


class LruCacheMethod(Cause):
    """The cache of a method without a bound keeps every instance that was ever asked."""

    def leak(self, number, count):
        for _ in range(count):
            page = Page(number)  # LEAK
            page.render(120)  # LEAK

    def size(self):
        # Of 3.11's cache: a dict whose values are links. Its size is not told; that of a dict with as many keys is.
        return dict.fromkeys(range(Page.render.cache_info().currsize)).__sizeof__()


class ThreadLocals(Cause):
    """What each worker remembers for itself and never forgets."""

    threads = 3

    def __init__(self):
        self.local = threading.local()
        self.every = []

    def leak(self, number, count):
        if not hasattr(self.local, "history"):
            self.local.history = []
            self.every.append(self.local.history)
        for _ in range(count):
            self.local.history.append([f"visit {number} of this worker", {"at": number * 0.5, "by": f"user {number}"}])  # LEAK

    def size(self):
        return sum(history.__sizeof__() for history in self.every)


class AsyncioTasks(Cause):
    """Tasks that wait for a confirmation that never comes."""

    is_async = True
    # The method that wakes a task is made when its first step is over.
    beside = (asyncio.Handle._run,)

    def __init__(self):
        self.tasks = set()
        self.confirmed = asyncio.Event()

    def leak(self, number, count):
        for _ in range(count):
            self.tasks.add(asyncio.get_running_loop().create_task(self.notify(number)))  # LEAK

    async def notify(self, number):
        message = f"request {number} was handled"  # LEAK
        await self.confirmed.wait()  # LEAK
        return message

    def size(self):
        # asyncio's own table of all tasks grows in steps, as the others do (its name is another from 3.12 on; 3.14 has a list instead).
        everyone = getattr(asyncio.tasks, "_scheduled_tasks", getattr(asyncio.tasks, "_all_tasks", None))
        tables = [self.tasks, self.confirmed._waiters] + ([everyone.data] if everyone is not None else [])
        return sum(table.__sizeof__() for table in tables)


PYTHON = {
    "none": Nothing,
    "mutable_default": MutableDefault,
    "global_cache": GlobalCache,
    "cycles_gc_off": CyclesGcOff,
    "stored_tracebacks": StoredTracebacks,
    "class_list": ClassList,
    "callbacks": Callbacks,
    "lru_cache_method": LruCacheMethod,
    "thread_locals": ThreadLocals,
    "asyncio_tasks": AsyncioTasks,
}
