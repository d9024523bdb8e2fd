"""A list that grows because it is a mutable default argument."""

import stage

COUNT = 20_000 // stage.SHARE


def remember(number, seen=[]):
    seen.append("visit number %05d of the day" % number)  # LEAK
    return len(seen)


def go():
    stage.amid_churn(COUNT, remember)
    (seen,) = remember.__defaults__
    array = seen.__sizeof__() - [].__sizeof__()
    return stage.truth(stage.leak(MARK, sizes={seen[0].__sizeof__(): COUNT, array: 1}, type="str"))


MARK = stage.mark(remember)
stage.serve(go=go)
