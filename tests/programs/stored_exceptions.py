"""Exceptions that are stored, each of which keeps its traceback and the frames with all their locals.

From 3.11 on a frame becomes an object when the traceback needs it, at the line where the exception is; before, when its function is called.
"""

import sys

import stage

COUNT = 20_000 // stage.SHARE
ERRORS = []


def parse(number):
    raise ValueError("request %d cannot be parsed" % number)  # LEAK


def handle(number):
    try:
        parse(number)  # LEAK
    except ValueError as error:
        ERRORS.append(error)


def go():
    # Every round of churn hands one freed tuple to the next exception's args (and from 3.14 on six ints to what the frames keep), which is then not a block of this line.
    stage.amid_churn(COUNT, handle, every=1000)
    return stage.truth(
        # The exception, its message, its args, the traceback, and the frame object of `parse` if it is made here.
        stage.leak(PARSE, blocks=(4 if CALLS_MAKE_FRAMES else 5) * COUNT, type="ValueError"),
        # The traceback, and the frame object of whom it calls or of its own.
        stage.leak(HANDLE, blocks=2 * COUNT, type="traceback"),
        # The frames keep their argument.
        stage.leak(NUMBER, sizes={stage.INT_BYTES: COUNT - stage.SMALL_INTS}, type="int"),
        *([stage.leak(STEP, blocks=COUNT, type="frame")] if CALLS_MAKE_FRAMES else []),
    )


CALLS_MAKE_FRAMES = sys.version_info < (3, 11)
NUMBER = stage.mark(stage.amid_churn, "# NUMBER")
STEP = stage.mark(stage.amid_churn, "# STEP")
PARSE = stage.mark(parse)
HANDLE = stage.mark(handle)
stage.serve(go=go)
