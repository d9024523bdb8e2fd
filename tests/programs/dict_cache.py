"""A global cache that is never trimmed."""

import stage

COUNT = 20_000 // stage.SHARE
CACHE = {}


def lookup(number):
    CACHE["page number %d" % number] = bytes(300)  # LEAK


def go():
    stage.amid_churn(COUNT, lookup)
    return stage.truth(stage.leak(MARK, blocks=2 * COUNT + 1, type="bytes"))  # Key, value; and the dict's one table.


MARK = stage.mark(lookup)
stage.serve(go=go)
