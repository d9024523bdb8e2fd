"""Names of all widths in memory: ASCII, Latin-1, two bytes and four bytes a character; and one that is very long."""

import os

from blocked import tell


def été():
    return os.read(0, tell())


def функция():
    return été()


class 名前:
    def 方法(self):
        return функция()


def 𐎠():
    return 名前().方法()


long_name = "l" + "o" * 3000 + "ng"
space = {"f": 𐎠}
exec(compile(f"def {long_name}():\n    return f()\n", "/tmp/имя 𝄞 é.py", "exec"), space)
space[long_name]()
