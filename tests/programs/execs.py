"""Leaks, and on `exec` becomes another process image under the same pid."""

import os
import sys

import stage

COUNT = 5_000
KEPT = []


def leak(number):
    KEPT.append("kept %d" % number)  # LEAK


def go():
    stage.amid_churn(COUNT, leak)
    return stage.truth(stage.leak(MARK, blocks=COUNT + 1, type="str"))


def exec():
    os.execv(sys.executable, [sys.executable, os.path.abspath(__file__)])


MARK = stage.mark(leak)
stage.serve(go=go, exec=exec)
