"""Exceptions that are stored, each of which keeps its traceback and the frames with all their locals."""

import stage

COUNT = 20_000
ERRORS = []


def parse(number):
    raise ValueError("request %d cannot be parsed" % number)  # LEAK


def handle(number):
    try:
        parse(number)  # LEAK
    except ValueError as error:
        ERRORS.append(error)


def go():
    # Every round of churn hands one freed tuple to the next exception's args, which is then not a block of this line.
    stage.amid_churn(COUNT, handle, every=200)
    return stage.truth(
        # The exception, its message, its args, the traceback and the frame object.
        stage.leak(PARSE, blocks=5 * COUNT, type="ValueError"),
        # The traceback and the frame object of the caller.
        stage.leak(HANDLE, blocks=2 * COUNT, type="traceback"),
    )


PARSE = stage.mark(parse)
HANDLE = stage.mark(handle)
stage.serve(go=go)
