"""A prefork server: workers are forked on demand, leak when they are told to, and say how much.

Commands: `fork N` forks so many workers; each waits for its work. `work COUNT` lets every worker leak COUNT blocks, and the parent twice as many. `end` lets the workers exit, each still
holding what it has leaked, and answers when they have been waited for. `become` lets one of them become `cat`; `brief N` forks so many that exit at once.
"""

import os
import sys

import stage

KEPT = []
WORKERS = {}


def leak(number):
    KEPT.append("kept %d" % number)  # LEAK


def worker(orders, said):
    """Frees what it has inherited, then works as it is told; its answers are lines."""
    KEPT.clear()
    orders, said = os.fdopen(orders), os.fdopen(said, "w")
    for order in orders:
        count = int(order)
        if count == 0:
            break
        if count < 0:
            os.dup2(orders.fileno(), 0)
            os.dup2(said.fileno(), 1)
            os.execv("/bin/sh", ["sh", "-c", "echo cat; exec cat"])
        stage.amid_churn(count, leak)
        print(len(KEPT), file=said, flush=True)
    os._exit(0)


def fork(count):
    for _ in range(count):
        (orders, order), (answer, said) = os.pipe(), os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(order)
            os.close(answer)
            for other_order, other_answer in WORKERS.values():
                other_order.close()
                other_answer.close()
            worker(orders, said)
        os.close(orders)
        os.close(said)
        WORKERS[pid] = (os.fdopen(order, "w"), os.fdopen(answer))
    return {"workers": sorted(WORKERS)}


def work(count):
    for order, _ in WORKERS.values():
        print(count, file=order, flush=True)
    stage.amid_churn(2 * count, leak)
    kept = {pid: int(answer.readline()) for pid, (_, answer) in WORKERS.items()}
    kept[os.getpid()] = len(KEPT)
    return stage.truth(stage.leak(MARK, blocks=sum(kept.values()), type="str"), empty_bytes=sys.getsizeof(""), kept=kept)


def become():
    """One worker becomes a program that is no Python, and ends when its orders do. It has, when it answers."""
    pid = max(WORKERS)
    order, answer = WORKERS[pid]
    print(-1, file=order, flush=True)
    if answer.readline() != "cat\n":
        raise SystemExit("the worker did not become what it should")
    return {"became": pid}


def brief(count):
    """Children that are gone before anybody could look at them."""
    for _ in range(count):
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
    return {}


def end():
    for order, _ in WORKERS.values():
        print(0, file=order, flush=True)
        order.close()
    for pid in WORKERS:
        os.waitpid(pid, 0)
    WORKERS.clear()
    return {}


MARK = stage.mark(leak)
stage.serve(fork=fork, work=work, become=become, brief=brief, end=end, go=lambda: work(1000))
