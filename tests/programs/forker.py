"""Leaks, then forks children that free what they have inherited; one of them lives on as long as its parent."""

import os

import stage

COUNT = 20_000
KEPT = []


def leak(number):
    KEPT.append("kept %d" % number)  # LEAK


def child(done, parent_lives):
    """Frees all of the parent's blocks in its own copy of the memory, and takes others."""
    KEPT.clear()
    stage.churn(20)
    os.write(done, b"x")
    if parent_lives is not None:
        os.read(parent_lives, 1)
    os._exit(0)


def fork(parent_lives, writer):
    done, said = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writer)
        child(said, parent_lives)
    os.close(said)
    if os.read(done, 1) != b"x":
        raise SystemExit("a child died before it was done")
    os.close(done)
    return pid


def go():
    stage.amid_churn(COUNT, leak)
    reader, writer = os.pipe()
    for _ in range(3):
        os.waitpid(fork(None, writer), 0)
    alive = fork(reader, writer)
    return stage.truth(stage.leak(MARK, blocks=COUNT + 1, type="str"), child=alive)


MARK = stage.mark(leak)
stage.serve(go=go)
