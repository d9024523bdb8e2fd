"""A C++ extension that calls back into Python from frames of every shape, also from threads that Python did not create."""
# builds: shapes.cpp

import forever
import shapes


def answer(number):
    return number * 3 if number % 4 else sorted([number, 2], key=lambda one: -one)[0]


def own():
    shapes.shapes(answer)


def foreign():
    shapes.in_thread(answer)


forever.run(own, foreign)
