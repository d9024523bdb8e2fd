/* Stacks that are hard to walk: deep, aligned, grown in place, in cold code, in signal handlers, on stacks of their own. The markers are those
   of leaks.c. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <alloca.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#define CALLED static __attribute__((noipa)) void

static void *volatile last;
static char other_stack[1 << 16] __attribute__((aligned(4096)));

CALLED deep(Py_ssize_t levels)
{
    if (levels > 0) {
        deep(levels - 1); /* CALL deep */
        last = NULL;
    } else {
        last = malloc(777); /* LEAK deep */
    }
}

static __attribute__((noipa)) void use(void *buffer, Py_ssize_t size)
{
    memset(buffer, 1, (size_t)size);
}

/* The compiler aligns the frame by itself, so that only a word in it says where the caller's is. */
static __attribute__((noipa, force_align_arg_pointer)) void aligned(Py_ssize_t length)
{
    char buffer[256] __attribute__((aligned(128)));
    use(buffer, length);
    last = PyDict_New(); /* LEAK aligned */
    use(buffer, length);
}

/* The frame's size is known only when it runs. */
CALLED grown(Py_ssize_t length)
{
    char *buffer = alloca((size_t)length * 100);
    use(buffer, length);
    last = PyMem_Malloc(160); /* LEAK grown */
    use(buffer, length);
}

/* The GIL is given back, as numpy does before it allocates: the Python frames stay where they are. */
CALLED released(Py_ssize_t length)
{
    Py_BEGIN_ALLOW_THREADS
    last = malloc((size_t)length * 300); /* LEAK released */
    Py_END_ALLOW_THREADS
}

/* Code that is never expected to run lies apart from its function. */
static __attribute__((cold, noipa)) void never_mind(const char *why)
{
    last = (void *)why;
}
CALLED cold(Py_ssize_t length)
{
    if (__builtin_expect(length > 0, 0)) {
        never_mind("cold");
        last = PyMem_RawMalloc(555); /* LEAK cold */
        never_mind("code");
    }
    last = other_stack;
}

CALLED handle(int number)
{
    (void)number;
    last = malloc(777); /* LEAK handle */
}

CALLED raised(int flags)
{
    struct sigaction mine, theirs;
    memset(&mine, 0, sizeof mine);
    mine.sa_handler = handle;
    mine.sa_flags = flags;
    sigaction(SIGUSR1, &mine, &theirs);
    raise(SIGUSR1); /* CALL handle */
    sigaction(SIGUSR1, &theirs, NULL);
}

CALLED in_signal(Py_ssize_t length)
{
    (void)length;
    raised(0); /* RUN in_signal */
    last = NULL;
}

CALLED on_signal_stack(Py_ssize_t length)
{
    stack_t mine = {.ss_sp = other_stack, .ss_size = sizeof other_stack}, theirs;
    (void)length;
    sigaltstack(&mine, &theirs);
    raised(SA_ONSTACK); /* RUN on_signal_stack */
    sigaltstack(&theirs, NULL);
}

static ucontext_t here, there;

CALLED coroutine(void)
{
    last = PyLong_FromLong(1000000); /* LEAK coroutine */
    last = NULL;
}

/* As the coroutines of greenlet or of C++ are: there is no way from their stack to the one that resumed them. */
CALLED on_own_stack(Py_ssize_t length)
{
    (void)length;
    getcontext(&there);
    there.uc_stack.ss_sp = other_stack;
    there.uc_stack.ss_size = sizeof other_stack;
    there.uc_link = &here;
    makecontext(&there, coroutine, 0);
    swapcontext(&here, &there);
}

static const struct {
    const char *name;
    void (*leak)(Py_ssize_t length);
} ways[] = {
    {"deep", deep},           {"aligned", aligned},
    {"grown", grown},         {"cold", cold},
    {"in_signal", in_signal}, {"on_signal_stack", on_signal_stack},
    {"on_own_stack", on_own_stack}, {"released", released},
};

/* leak(name, count, length): leaks in that way so many times; `length` is whatever the way makes of it. */
static PyObject *leak(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
    const char *name = given == 3 ? PyUnicode_AsUTF8(args[0]) : NULL;
    (void)module;
    if (name == NULL) {
        PyErr_SetString(PyExc_TypeError, "a name, a count and a length are wanted");
        return NULL;
    }
    Py_ssize_t count = PyLong_AsSsize_t(args[1]), length = PyLong_AsSsize_t(args[2]);
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        if (strcmp(ways[i].name, name) == 0) {
            while (count-- > 0) {
                ways[i].leak(length); /* RUN leak */
            }
            Py_RETURN_NONE;
        }
    }
    PyErr_SetString(PyExc_KeyError, name);
    return NULL;
}

static PyMethodDef methods[] = {
    {"leak", (PyCFunction)(void (*)(void))leak, METH_FASTCALL, "Leaks."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "edges", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_edges(void)
{
    return PyModule_Create(&module);
}
