"""The same leak in four threads at once."""

import threading

import stage

THREADS = 4
COUNT = 10_000 // stage.SHARE
KEPT = [[] for _ in range(THREADS)]


def work(mine):
    for number in range(COUNT):
        mine.append(b"%d bytes of a body" % number)  # LEAK
        if number % 20 == 0:
            stage.churn(1)


def go():
    threads = [threading.Thread(target=work, args=(mine,)) for mine in KEPT]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return stage.truth(stage.leak(MARK, blocks=THREADS * (COUNT + 1), type="bytes"))


MARK = stage.mark(work)
stage.serve(go=go)
