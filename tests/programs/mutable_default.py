"""A list that grows because it is a mutable default argument."""

import stage

COUNT = 20_000


def remember(number, seen=[]):
    seen.append("visit number %d of the day" % number)  # LEAK
    return len(seen)


def go():
    stage.amid_churn(COUNT, remember)
    return stage.truth(stage.leak(MARK, blocks=COUNT + 1, type="str"))  # The list's array is one block more.


MARK = stage.mark(remember)
stage.serve(go=go)
