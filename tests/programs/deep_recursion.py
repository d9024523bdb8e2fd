"""A leak at the bottom of a stack that is deeper than any walk goes."""

import stage

COUNT = 2_000
DEPTH = 250
KEPT = []


def descend(depth, number):
    if depth:
        return descend(depth - 1, number)
    KEPT.append("kept %d" % number)  # LEAK


def go():
    stage.amid_churn(COUNT, lambda number: descend(DEPTH, number))
    return stage.truth(stage.leak(MARK, blocks=COUNT + 1, type="str"), depth=DEPTH)


MARK = stage.mark(descend)
stage.serve(go=go)
