"""A prefork server: its workers answer requests with honest work, some 300 a second, and each keeps something of every one for ever, at a marked line.

The first argument says how workers come: `fork` (os.fork, as gunicorn does), or a way of multiprocessing (`mp-fork`, `mp-spawn`, `mp-forkserver`). Commands: `start N` starts so many; `go N`
waits until all of them together have done N more requests; `renew` lets the oldest exit, when it has done 200 requests at least, and starts another; `exec` lets the oldest become the same
program anew, as a worker, under the interpreter that the second argument names or its own; `brief N` forks so many that work for a moment and exit; `end` ends all. What a worker keeps it counts in memory that it shares with the server.
"""

import mmap
import multiprocessing
import os
import sys
import time

import stage
from small_server import ENTRIES, PADDING, PAUSE, Entry, honest, session_of

SLOTS = 64
KEPT = []


def keep(number):
    for part in range(ENTRIES):
        KEPT.append(Entry("part %d of request %d: %s" % (part, number, PADDING), part))  # LEAK


class Board:
    """Numbers that all processes see: of each worker the requests that it has done, and whether it is to go on (0), to end (1), or to become another program (2)."""

    def __init__(self, path):
        self.path = path
        with open(path, "r+b") as file:
            self.words = memoryview(mmap.mmap(file.fileno(), SLOTS * 16)).cast("Q")

    def done(self, slot):
        return self.words[2 * slot]

    def order(self, slot, order):
        self.words[2 * slot + 1] = order

    def work(self, slot):
        """A worker's life."""
        while self.words[2 * slot + 1] == 0:
            number = self.words[2 * slot]
            honest(number, session_of(number))
            keep(number)
            self.words[2 * slot] += 1
            time.sleep(PAUSE)
        if self.words[2 * slot + 1] == 2:
            self.order(slot, 0)
            python = sys.argv[2] if len(sys.argv) > 2 and sys.argv[1] != "worker" else sys.executable
            os.execv(python, [python, __file__, "worker", self.path, str(slot)])


def worker(path, slot):
    Board(path).work(slot)


class Server:
    """Starts workers and ends them."""

    def __init__(self, how, path):
        self.how = how
        self.board = Board(path)
        self.workers = {}
        self.slots = 0

    def one(self):
        slot, self.slots = self.slots, self.slots + 1
        if self.how == "fork":
            pid = os.fork()
            if pid == 0:
                self.board.work(slot)
                os._exit(0)
            self.workers[slot] = pid
        else:
            context = multiprocessing.get_context(self.how.split("-")[1])
            process = context.Process(target=worker, args=(self.board.path, slot))
            process.start()
            self.workers[slot] = process

    def pid(self, slot):
        member = self.workers[slot]
        return member if isinstance(member, int) else member.pid

    def wait(self, slot):
        member = self.workers.pop(slot)
        if isinstance(member, int):
            os.waitpid(member, 0)
        else:
            member.join()

    def until(self, is_so):
        while not is_so():
            time.sleep(0.01)

    def start(self, count):
        for _ in range(count):
            self.one()
        self.until(lambda: all(self.board.done(slot) > 0 for slot in self.workers))
        return {"workers": [self.pid(slot) for slot in self.workers]}

    def all_done(self):
        return sum(self.board.done(slot) for slot in range(self.slots))

    def go(self, requests):
        goal = self.all_done() + requests
        self.until(lambda: self.all_done() >= goal)
        done = {self.pid(slot): self.board.done(slot) for slot in self.workers}
        kept = 2 * ENTRIES * sum(done.values())
        return stage.truth(stage.leak(MARK, kept, type="Entry"), done=done)

    def renew(self):
        slot = min(self.workers)
        pid = self.pid(slot)
        self.until(lambda: self.board.done(slot) >= 200)
        self.board.order(slot, 1)
        self.wait(slot)
        self.one()
        self.until(lambda: self.board.done(self.slots - 1) > 0)
        return {"gone": pid, "new": self.pid(self.slots - 1)}

    def exec(self):
        slot = min(self.workers)
        before = self.board.done(slot)
        self.board.order(slot, 2)
        self.until(lambda: self.board.done(slot) > before + 10)
        return {"became": self.pid(slot)}

    def brief(self, count):
        for _ in range(count):
            pid = os.fork()
            if pid == 0:
                honest(1, session_of(1))
                os._exit(0)
            os.waitpid(pid, 0)
        return {}

    def end(self):
        for slot in list(self.workers):
            self.board.order(slot, 1)
            self.wait(slot)
        return {}


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        worker(sys.argv[2], int(sys.argv[3]))
        os._exit(0)
    MARK = stage.mark(keep)
    import tempfile

    with tempfile.NamedTemporaryFile() as FILE:
        FILE.truncate(SLOTS * 16)
        FILE.flush()
        SERVER = Server(sys.argv[1], FILE.name)
        stage.serve(start=SERVER.start, go=SERVER.go, renew=SERVER.renew, exec=SERVER.exec, brief=SERVER.brief, end=SERVER.end)
