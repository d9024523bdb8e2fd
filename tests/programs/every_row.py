"""All programs of the truth table in one process, each doing less than it does alone, for the tests that run them on every CPython."""
# builds: ext/cPyRefs.c

import gc
import sys

import stage

stage.SHARE = 5

import callback_registry
import class_list
import dict_cache
import four_threads
import honest
import leak_new_reference
import many_blocks
import mutable_default
import preexisting
import realloc_heavy
import stored_exceptions

# From 3.14 on an int of one digit may come out of a freelist, which the churn between the calls fills.
VALUE = 1000 if sys.version_info < (3, 14) else 1 << 40
LEAKING = [mutable_default, dict_cache, callback_registry, stored_exceptions, class_list, four_threads, preexisting]


def go():
    rows = [lambda: leak_new_reference.go(VALUE, 20_000), *(program.go for program in LEAKING), honest.go, realloc_heavy.go]
    leaks, facts = [], {}
    for row in rows:
        gc.collect()  # No row leaks what another has left in a freelist.
        facts.update(row())
        leaks += facts.pop("leaks")
    return stage.truth(*leaks, **facts)


stage.serve(go=go, many=many_blocks.go)
