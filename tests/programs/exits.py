"""Leaks, says so, and ends by itself."""

import stage

COUNT = 5_000
KEPT = []


def leak(number):
    KEPT.append("kept %d" % number)  # LEAK


def go():
    stage.amid_churn(COUNT, leak)
    print(__import__("json").dumps(stage.truth(stage.leak(MARK, blocks=COUNT + 1, type="str"))), flush=True)
    raise SystemExit(3)


MARK = stage.mark(leak)
stage.serve(go=go)
