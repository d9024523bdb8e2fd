/* What only C++ has: mangled names, methods, and code that runs while an exception is thrown, which the compiler keeps apart from the rest of
   its function. The markers are those of leaks.c. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <cstring>

#define INLINED inline __attribute__((always_inline)) void
#define CALLED __attribute__((noipa)) void

namespace vault {

static void *volatile last;

struct Box {
    INLINED put(long value);
    CALLED lay(long value);
    CALLED puts(Py_ssize_t count);
    CALLED lays(Py_ssize_t count);
};

INLINED Box::put(long value)
{
    last = PyLong_FromLong(value); /* LEAK method inlined */
}
void Box::lay(long value)
{
    last = PyLong_FromLong(value); /* LEAK method called */
}
void Box::puts(Py_ssize_t count)
{
    while (count-- > 0) {
        put(1000000); /* CALL method inlined */
    }
}
void Box::lays(Py_ssize_t count)
{
    while (count-- > 0) {
        lay(1000000); /* CALL method called */
    }
}

CALLED array()
{
    last = new char[777]; /* LEAK new called */
}
CALLED arrays(Py_ssize_t count)
{
    while (count-- > 0) {
        array(); /* CALL new called */
    }
}

CALLED thrower()
{
    throw 1;
}

CALLED catches()
{
    try {
        thrower();
    } catch (int) {
        last = PyMem_Malloc(160); /* LEAK catch called */
    }
}
CALLED catchers(Py_ssize_t count)
{
    while (count-- > 0) {
        catches(); /* CALL catch called */
    }
}

struct Guard {
    __attribute__((noipa)) ~Guard();
};

Guard::~Guard()
{
    last = PyMem_RawMalloc(555); /* LEAK destructor called */
}
CALLED unwinds() { Guard guard; thrower(); } /* CALL destructor called */
CALLED unwinders(Py_ssize_t count)
{
    while (count-- > 0) {
        try {
            unwinds(); /* RUN unwinders */
        } catch (int) {
            continue;
        }
    }
}

static Box box;
CALLED inlined_methods(Py_ssize_t count) { box.puts(count); last = &box; } /* RUN inlined_methods */
CALLED called_methods(Py_ssize_t count) { box.lays(count); last = &box; } /* RUN called_methods */

static const struct {
    const char *name;
    void (*leak)(Py_ssize_t count);
} ways[] = {
    {"method inlined", inlined_methods}, {"method called", called_methods},
    {"new called", arrays}, {"catch called", catchers}, {"destructor called", unwinders},
};

/* leak(name, count): leaks in that way. */
PyObject *leak(PyObject *, PyObject *const *args, Py_ssize_t given)
{
    const char *name = given == 2 ? PyUnicode_AsUTF8(args[0]) : nullptr;
    if (name == nullptr) {
        PyErr_SetString(PyExc_TypeError, "a name and a count are wanted");
        return nullptr;
    }
    Py_ssize_t count = PyLong_AsSsize_t(args[1]);
    for (const auto &way : ways) {
        if (std::strcmp(way.name, name) == 0) {
            way.leak(count); /* RUN leak */
            Py_RETURN_NONE;
        }
    }
    PyErr_SetString(PyExc_KeyError, name);
    return nullptr;
}

}

static PyMethodDef methods[] = {
    {"leak", (PyCFunction)(void (*)(void))vault::leak, METH_FASTCALL, "Leaks."},
    {nullptr, nullptr, 0, nullptr},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "vault", nullptr, -1, methods, nullptr, nullptr, nullptr, nullptr};

PyMODINIT_FUNC PyInit_vault(void)
{
    return PyModule_Create(&module);
}
