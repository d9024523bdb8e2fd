"""Workers of `multiprocessing` and `concurrent.futures`, which leak when they are told to.

Commands: `start COUNT` starts so many workers, by the way that the first argument names (fork, spawn, forkserver, or executor), and answers when each has done some honest work. `work COUNT`
lets every worker leak COUNT blocks. `stop` ends them.
"""

import multiprocessing
import os
import sys

import stage

KEPT = []
WORKERS = []


def leak(number):
    KEPT.append("kept %d" % number)  # LEAK


def run(orders, answers):
    """A worker: leaks as it is told."""
    answers.put((os.getpid(), 0))
    for count in iter(orders.get, None):
        stage.amid_churn(count, leak)
        answers.put((os.getpid(), len(KEPT)))


def leak_so_many(count):
    """A task of an executor, which must be as long as it takes until all workers have one."""
    stage.amid_churn(count, leak)
    BARRIER.wait()
    return os.getpid(), len(KEPT)


def take(barrier):
    global BARRIER
    BARRIER = barrier


class Processes:
    """Workers by multiprocessing."""

    def __init__(self, how, count):
        context = multiprocessing.get_context(how)
        self.answers = context.Queue()
        self.workers = []
        for _ in range(count):
            orders = context.Queue()
            worker = context.Process(target=run, args=(orders, self.answers), daemon=True)
            worker.start()
            self.workers.append((worker, orders))
        self.pids = sorted(self.answers.get()[0] for _ in self.workers)

    def work(self, count):
        for _, orders in self.workers:
            orders.put(count)
        return dict(self.answers.get() for _ in self.workers)

    def stop(self):
        for worker, orders in self.workers:
            orders.put(None)
            worker.join()


class Executor:
    """Workers by concurrent.futures."""

    def __init__(self, count):
        from concurrent.futures import ProcessPoolExecutor

        self.count = count
        barrier = multiprocessing.Barrier(count)
        self.pool = ProcessPoolExecutor(count, initializer=take, initargs=(barrier,))
        self.pids = sorted(self.work(0))

    def work(self, count):
        tasks = [self.pool.submit(leak_so_many, count) for _ in range(self.count)]
        return dict(task.result() for task in tasks)

    def stop(self):
        self.pool.shutdown()


def start(count):
    how = sys.argv[1]
    WORKERS.append(Executor(count) if how == "executor" else Processes(how, count))
    return {"workers": WORKERS[0].pids}


def work(count):
    kept = WORKERS[0].work(count)
    return stage.truth(stage.leak(MARK, blocks=sum(kept.values()), type="str"), empty_bytes=sys.getsizeof(""), kept=kept)


def stop():
    WORKERS.pop().stop()
    return {}


if __name__ == "__main__":
    MARK = stage.mark(leak)
    stage.serve(start=start, work=work, stop=stop, go=lambda: work(500))
