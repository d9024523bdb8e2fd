"""100,000 live blocks from one line, for block maps that are too small for them."""

import stage

COUNT = 100_000 // stage.SHARE
KEPT = []


def fill(number):
    KEPT.append(b"block number %06d" % number)  # LEAK


def go():
    stage.amid_churn(COUNT, fill, every=200)
    array = KEPT.__sizeof__() - [].__sizeof__()
    return stage.truth(stage.leak(MARK, sizes={KEPT[0].__sizeof__(): COUNT, array: 1}, type="bytes"))


def free():
    KEPT.clear()


MARK = stage.mark(fill)
stage.serve(go=go, free=free)
