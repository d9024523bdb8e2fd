"""Functions made by `exec` that leak and die: their code objects are gone, their addresses taken again, when names are read."""

import stage

FUNCTIONS = 300
EACH = 50
SOURCE = """
def generated_%d(keep):
    for _ in range(%d):
        keep.append("kept %%d" %% len(keep))
"""
KEPT = []


def make(number):
    space = {}
    exec(compile(SOURCE % (number, EACH), "<generated %d>" % number, "exec"), space)
    space["generated_%d" % number](KEPT)


def go():
    stage.amid_churn(FUNCTIONS, make)
    return stage.truth(functions=FUNCTIONS, each=EACH)


make(FUNCTIONS)
stage.serve(go=go)
