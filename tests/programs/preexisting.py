"""200,000 blocks that existed before anybody looked are freed on `go`; a little is leaked at the same time."""

import stage

COUNT = 200_000 // stage.SHARE
LEAKED = 5_000 // stage.SHARE
OLD = [b"block number %d" % number for number in range(COUNT)]
KEPT = []


def leak(number):
    KEPT.append("kept %d" % number)  # LEAK


def forget():
    OLD.clear()


def go():
    forget()
    stage.amid_churn(LEAKED, leak)
    return stage.truth(stage.leak(MARK, blocks=LEAKED + 1, type="str"), freed=COUNT)


MARK = stage.mark(leak)
stage.serve(go=go)
