"""The classic leaked new reference: a C extension makes ints and never gives the references back."""
# builds: ext/cPyRefs.c

import gc

import cPyRefs
import stage

CALLS = 1000 // stage.SHARE


def handler(value, count):
    return cPyRefs.leak_new_reference(value, count)  # LEAK


def go(value=1000, total=1_000_000):
    stage.churn(1)  # Leaves an argument tuple in the freelist, so that none becomes a block of the leaking line.
    for _ in range(CALLS):
        handler(value, total // CALLS)
        stage.churn(1)
    return stage.truth(stage.leak(MARK, sizes={stage.INT_BYTES: total}, type="int"))


MARK = stage.mark(handler)
gc.disable()  # A full collection would empty the freelists again.
stage.serve(go=go)
