"""References to a cached small int that are never given back: nothing is allocated, and yet it is a bug (`--ints`)."""
# builds: ext/cPyRefs.c

import cPyRefs
import stage

COUNT = 100_000


def handler(count):
    return cPyRefs.leak_new_reference(7, count)  # LEAK


def go():
    for _ in range(100):
        handler(COUNT // 100)
        stage.churn(1)
    return stage.truth(stage.leak(MARK, blocks=0, type="int"), calls=COUNT, value=7)


MARK = stage.mark(handler)
handler(0)
stage.serve(go=go)
