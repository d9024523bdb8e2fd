"""200 threads that come, leak a little, and go."""

import threading

import stage

THREADS = 200
AT_ONCE = 20
EACH = 100
KEPT = []


def work():
    mine = []
    for number in range(EACH):
        mine.append("kept %d" % number)  # LEAK
    stage.churn(2)
    KEPT.append(mine)


def go():
    for _ in range(THREADS // AT_ONCE):
        threads = [threading.Thread(target=work) for _ in range(AT_ONCE)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return stage.truth(stage.leak(MARK, blocks=THREADS * (EACH + 1), type="str"))


MARK = stage.mark(work)
stage.serve(go=go)
