"""Ints that one line keeps in memory that another has allocated: from 3.14 on a freed int of one digit waits in a freelist for the next one."""
# builds: ext/cPyRefs.c

import cPyRefs
import stage

FREELIST = 100  # Ints that it holds (Py_ints_MAXFREELIST, Include/internal/pycore_freelist_state.h).
ROUNDS = 30
COUNT = ROUNDS * FREELIST
BASE = 2_000_000
KEPT = []


def fill():
    return sum([BASE + number for number in range(FREELIST)])  # FILL


def in_c(value):
    cPyRefs.leak_new_reference(value, FREELIST)  # LEAK


def in_python(number):
    KEPT.append(BASE + number)  # LEAK


def long_in_c(value):
    cPyRefs.leak_new_reference(value, FREELIST)  # LEAK


def go():
    for _ in range(ROUNDS):
        fill()
        in_c(BASE)
        fill()
        for number in range(FREELIST):
            in_python(number)
        fill()
        long_in_c(1 << 40)
    leaks = [stage.leak(mark, blocks=COUNT, type="int") for mark in MARKS]
    return stage.truth(*leaks, fill=stage.mark(fill, "# FILL")["line"])


MARKS = [stage.mark(function) for function in (in_c, in_python, long_in_c)]
stage.serve(go=go)
