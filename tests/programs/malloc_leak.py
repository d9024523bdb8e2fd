"""An extension that takes memory from malloc and forgets it (`--domains … libc`)."""
# builds: ext/leak_malloc.c

import leak_malloc
import stage

SIZE = 777
COUNT = 10_000


def decode(count):
    leak_malloc.leak(SIZE, count)  # LEAK


def go():
    for _ in range(100):
        decode(COUNT // 100)
        leak_malloc.churn(4096, 100)
        stage.churn(1)
    return stage.truth(stage.leak(MARK, sizes={SIZE: COUNT}))


MARK = stage.mark(decode)
decode(0)
stage.serve(go=go)
