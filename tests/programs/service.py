"""A server-like program for `cargo xtask bench accuracy`: `service.py --cause NAME [--rate BYTES_PER_SECOND] [--per-second REQUESTS]`.

It handles made-up requests at a fixed rate. Nearly all that they allocate dies with them; a bounded cache and sessions of two seconds keep something
for a while; and one cause leaks (`service_causes.py`, `service_c_causes.py`), or none does.

It prints `READY PID`, then obeys words on stdin, each with a line of JSON as the answer: `truth` (the true lines, bytes and blocks of an item),
`mark` (what has been leaked and done so far, and how long requests took since the last mark, from when they were due), `snapshot` and `compare` (with `-X tracemalloc`: what
tracemalloc makes of the time between them), `quit`. The end of stdin ends it, too.

What an item takes is measured, not reckoned: in another process, by tracemalloc.
"""

import argparse
import array
import asyncio
import collections
import gc
import json
import os
import queue
import random
import select
import subprocess
import sys
import threading
import time
import tracemalloc

import service_c_causes
import service_causes
from service_truth import measured_item, stated

CAUSES = {**service_causes.PYTHON, **service_c_causes.C}
CACHED = 2000
SESSION_SECONDS = 2.0
# How many requests may be made up for at once after the machine has had no time for us.
LATE = 50
# So that the texts with a number in them are all of the same length.
FIRST = 100_000


class Line:
    def __init__(self, name, count, price):
        self.name = name
        self.count = count
        self.price = price

    def total(self):
        return self.count * self.price


class Session:
    def __init__(self, user, now):
        self.user = user
        self.born = now
        self.token = f"{user}:{now:.6f}"
        self.seen = {"first": now, "pages": [self.token]}


def payload(number):
    """The text of a request, 300 to 800 bytes: with what is made of it a request allocates some 10 KB, of which a leak of 100 KB/s at 200 requests a second is 5 %."""
    lines = [
        {"name": f"article {number * 31 + step}", "count": step % 5 + 1, "price": 1.25 * step, "tags": ["new", f"tag {step}"]}
        for step in range(2 + number % 4)
    ]
    return json.dumps({"user": f"user {number:06d}", "lang": "en", "lines": lines, "note": "x" * (number * 7 % 300)})


class Service:
    def __init__(self, cause, rate, per_second, item_bytes):
        self.cause = cause
        self.quota = rate / per_second / item_bytes if item_bytes else 0.0
        self.owed = 0.0
        self.items = 0
        self.requests = 0
        self.took = array.array("q")
        self.payloads = [payload(number) for number in range(64)]
        self.random = random.Random(1)
        self.cache = collections.OrderedDict((f"page {-number}", self.page(-number)) for number in range(CACHED))
        self.sessions = {}
        self.by_age = collections.deque()

    def page(self, number):
        return f"<p>{number}</p>" * 20

    def honest(self, number):
        """What the program is for."""
        request = json.loads(self.payloads[number % 64])
        lines = [Line(line["name"], line["count"], line["price"]) for line in request["lines"]]
        rows = "".join(f"<tr><td>{line.name}</td><td>{line.count:>4}</td><td>{line.total():.2f}</td></tr>" for line in lines)
        answer = {"user": request["user"], "total": sum(line.total() for line in lines), "lines": [vars(line) for line in lines]}
        self.visit(request["user"], time.monotonic())
        return len(json.dumps(answer)) + len(rows.encode()) + len(self.cached(number))

    def cached(self, number):
        """One of the newest pages, or one that was never asked for: a bounded cache whose entries live some ten seconds."""
        wanted = number - int(self.random.expovariate(0.01)) if number % 3 else number
        key = f"page {wanted}"
        if key in self.cache:
            self.cache.move_to_end(key)
        else:
            self.cache[key] = self.page(wanted)
            if len(self.cache) > CACHED:
                self.cache.popitem(last=False)
        self.cache[f"fresh {number}"] = self.page(number)
        self.cache.popitem(last=False)
        return self.cache[key]

    def visit(self, user, now):
        session = Session(user, now)
        self.sessions[session.token] = session
        self.by_age.append(session)
        while now - self.by_age[0].born > SESSION_SECONDS:
            del self.sessions[self.by_age.popleft().token]

    def handle(self, number, due):
        self.honest(number)
        self.owed += self.quota
        count = int(self.owed)
        if count:
            self.owed -= count
            self.cause.leak(number, count)  # LEADS
            self.items += count
        self.requests += 1
        self.took.append(int((time.monotonic() - due) * 1e9))

    def mark(self):
        took, self.took = sorted(self.took) or [0], array.array("q")
        at = lambda share: took[min(len(took) - 1, int(share * len(took)))] / 1e6
        return {
            "at_seconds": time.monotonic(),
            "cpu_seconds": time.process_time(),
            "requests": self.requests,
            "items": self.items,
            "table_bytes": self.cause.size(),
            "request_ms": {"p50": at(0.5), "p99": at(0.99), "max": took[-1] / 1e6},
        }


class Orders:
    """What comes on stdin."""

    def __init__(self, service, truth):
        self.service = service
        self.truth = truth
        self.before = None
        self.buffer = b""

    def obey(self):
        """Reads what there is and answers it; whether to go on."""
        more = os.read(0, 4096)
        *lines, self.buffer = (self.buffer + more).split(b"\n")
        for line in lines:
            word = line.decode().strip()
            if word == "quit":
                return False
            answers = {"truth": lambda: self.truth, "mark": self.service.mark, "snapshot": self.snapshot, "compare": self.compare}
            print(json.dumps(answers[word]()), flush=True)
        return bool(more)

    def snapshot(self):
        self.before = tracemalloc.take_snapshot()
        return {"traces": len(self.before.traces)}

    def compare(self):
        """The growth by stack, as tracemalloc orders it: for each whether it is a true one."""
        after = tracemalloc.take_snapshot()
        true = {(line["file"], line["line"]) for line in self.truth["lines"]}
        rows = after.compare_to(self.before, "traceback")
        told = []
        for row in rows[:200]:
            last = row.traceback[-1]
            is_true = any((frame.filename, frame.lineno) in true for frame in row.traceback)
            told.append({"true": is_true, "bytes": row.size_diff, "file": last.filename, "line": last.lineno})
        return {"rows": told}


def paced(per_second):
    """The numbers of requests, when they are due, and how long to wait before each, so that there are so many a second."""
    began, number = time.monotonic(), 0
    while True:
        due = began + number / per_second
        wait = due - time.monotonic()
        if wait < -LATE / per_second:
            began -= wait  # What nobody waits for any more.
        yield FIRST + number, due, max(wait, 0.0)
        number += 1


def serve(per_second, handle, orders):
    """Requests one by one, orders in between."""
    for number, due, wait in paced(per_second):
        ready, _, _ = select.select([0], [], [], wait)
        if ready and not orders.obey():
            return
        handle(number, due)


def serve_by_threads(per_second, service, orders):
    """The same, handled by workers; a lock around each request keeps the counts right."""
    waiting, lock = queue.SimpleQueue(), threading.Lock()

    def work():
        while True:
            number, due = waiting.get()
            with lock:
                service.handle(number, due)

    for _ in range(service.cause.threads):
        threading.Thread(target=work, daemon=True).start()
    serve(per_second, lambda *request: waiting.put(request), orders)


async def serve_in_loop(per_second, service, orders):
    """The same in an event loop."""
    ended = asyncio.get_running_loop().create_future()

    def obey():
        if not orders.obey() and not ended.done():
            ended.set_result(None)

    asyncio.get_running_loop().add_reader(0, obey)
    for number, due, wait in paced(per_second):
        await asyncio.sleep(wait)
        if ended.done():
            return
        service.handle(number, due)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cause", choices=CAUSES, required=True)
    parser.add_argument("--rate", type=float, default=100_000)
    parser.add_argument("--per-second", type=float, default=200)
    parser.add_argument("--measure-item", action="store_true")
    given = parser.parse_args()
    cause = CAUSES[given.cause]
    if given.measure_item:
        return print(json.dumps(measured_item(cause)))
    command = [sys.executable, __file__, "--measure-item", "--cause", given.cause]
    item = json.loads(subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True).stdout)
    gc.collect()
    if hasattr(cause, "is_async"):
        asyncio.run(in_loop(cause, given, item))
    else:
        service, orders = begin(cause, given, item)
        threads = hasattr(cause, "threads")
        serve_by_threads(given.per_second, service, orders) if threads else serve(given.per_second, service.handle, orders)


def begin(cause, given, item):
    service = Service(cause(), given.rate, given.per_second, item["bytes"])
    orders = Orders(service, {"cause": given.cause, "item": item, **stated(cause, Service.handle)})
    print("READY", os.getpid(), flush=True)
    return service, orders


async def in_loop(cause, given, item):
    await serve_in_loop(given.per_second, *begin(cause, given, item))


if __name__ == "__main__":
    main()
