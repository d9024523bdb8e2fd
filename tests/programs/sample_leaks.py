"""A server in small: a thread answers some 300 requests a second with honest work, sessions live about a second, and one line may leak.

The words on the command line say what else a request does: `line` keeps objects for ever at a marked line, `c` lets C code do so, nothing is an
honest server. `go N` waits until N more requests are done, so that a test waits for work and not for time. With `now N` it does N requests at
once, prints its truth and ends.
"""
# builds: ext/leaks.c

import collections
import json
import sys
import threading
import time

import stage
from c_source import Source
from small_server import ENTRIES, PADDING, PAUSE, Entry, honest, session_of

SESSIONS = 300
# What C code leaks in a request, and how many of them.
IN_C = ("reference called", "mem called")
BLOCKS_IN_C = 8

KEPT = []


class Server:
    """Answers requests until it is told to stop."""

    def __init__(self, *duties):
        self.sessions = collections.deque(maxlen=SESSIONS)
        self.duties = duties
        self.done = 0
        self.stopped = False

    def handle(self, number):
        session = session_of(number)
        self.sessions.append(session)
        honest(number, session)
        for duty in self.duties:
            duty(number)
        self.done += 1

    def run(self):
        while not self.stopped:
            self.handle(self.done)
            time.sleep(PAUSE)


def keep(number):
    for part in range(ENTRIES):
        KEPT.append(Entry("part %d of request %d: %s" % (part, number, PADDING), part))  # LEAK


def keep_in_c(number):
    for name in IN_C:
        leaks.leak(name, BLOCKS_IN_C)  # LEAK


def told(server):
    """Two blocks for each entry; what C code keeps has functions of its own."""
    rows, functions = [], []
    if keep in server.duties:
        rows.append(stage.leak(stage.mark(keep), 2 * len(KEPT), type="Entry"))
    if keep_in_c in server.duties:
        rows.append(stage.leak(stage.mark(keep_in_c), len(IN_C) * BLOCKS_IN_C * server.done))
        functions = [SOURCE.frame("LEAK", name)["function"] for name in IN_C]
    return stage.truth(*rows, functions=functions, requests=server.done)


def serve(server):
    thread = threading.Thread(target=server.run)

    def go(requests):
        goal = server.done + requests
        while server.done < goal:
            if not thread.is_alive():
                raise SystemExit("the server has died")
            time.sleep(0.01)
        return told(server)

    thread.start()
    stage.serve(go=go)
    server.stopped = True
    thread.join()


def work_and_end(server, requests):
    goal = server.done + requests
    while server.done < goal:
        server.handle(server.done)
        time.sleep(PAUSE)
    print(json.dumps(told(server)), flush=True)


WORDS = sys.argv[1:]
DUTIES = {"line": keep, "c": keep_in_c}
if "c" in WORDS:
    import leaks

    SOURCE = Source("leaks.c")
SERVER = Server(*[DUTIES[word] for word in WORDS if word in DUTIES])
if "now" in WORDS:
    work_and_end(SERVER, int(WORDS[-1]))
else:
    for _ in range(2 * SESSIONS):
        SERVER.handle(SERVER.done)
    serve(SERVER)
