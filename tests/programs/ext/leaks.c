/* Memory taken in every way that C extensions know and never given back: once in a helper that the compiler puts into its caller, once in
   one that is called; reached from Python, from threads that Python did not make, and through callbacks.

   Markers (LEAK, CALL, RUN and a name) are read by programs/c_source.py: what the tests expect of functions and lines is what stands here. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* So many items that CPython asks for 96 bytes, which is one of its size classes. From 3.14 on a tuple also has room for its hash. */
#define ITEMS (PY_VERSION_HEX < 0x030E0000 ? 7 : 6)

#if PY_VERSION_HEX < 0x03090000
#define PyObject_CallOneArg(callable, argument) PyObject_CallFunctionObjArgs(callable, argument, NULL)
#endif
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define INLINED static inline __attribute__((always_inline)) void
/* Neither inlined nor cloned nor merged with one of the same code. */
#define CALLED static __attribute__((noipa)) void

/* Storing into it, the compiler can neither drop a block nor end a function with a jump. */
static void *volatile last;

INLINED int_in(void) { last = PyLong_FromLong(1000000); } /* LEAK int inlined */
CALLED int_out(void)
{
    last = PyLong_FromLong(1000000); /* LEAK int called */
}
CALLED ints_inlined(Py_ssize_t count)
{
    while (count-- > 0) {
        int_in(); /* CALL int inlined */
    }
}
CALLED ints_called(Py_ssize_t count)
{
    while (count-- > 0) {
        int_out(); /* CALL int called */
    }
}

/* A reference too many on an object that is otherwise given back as it should be. */
INLINED reference_in(void)
{
    PyObject *fresh = PyBytes_FromStringAndSize(NULL, 31); /* LEAK reference inlined */
    Py_INCREF(fresh);
    last = fresh;
    Py_DECREF(fresh);
}
CALLED reference_out(void)
{
    PyObject *fresh = PyBytes_FromStringAndSize(NULL, 31); /* LEAK reference called */
    Py_INCREF(fresh);
    last = fresh;
    Py_DECREF(fresh);
}
CALLED references_inlined(Py_ssize_t count)
{
    while (count-- > 0) {
        reference_in(); /* CALL reference inlined */
    }
}
CALLED references_called(Py_ssize_t count)
{
    while (count-- > 0) {
        reference_out(); /* CALL reference called */
    }
}

INLINED malloc_in(void) { last = malloc(777); } /* LEAK malloc inlined */
CALLED malloc_out(void)
{
    last = malloc(777); /* LEAK malloc called */
}
CALLED mallocs_inlined(Py_ssize_t count)
{
    while (count-- > 0) {
        malloc_in(); /* CALL malloc inlined */
    }
}
CALLED mallocs_called(Py_ssize_t count)
{
    while (count-- > 0) {
        malloc_out(); /* CALL malloc called */
    }
}

INLINED mem_in(void) { last = PyMem_Malloc(160); } /* LEAK mem inlined */
CALLED mem_out(void)
{
    last = PyMem_Malloc(160); /* LEAK mem called */
}
CALLED mems_inlined(Py_ssize_t count)
{
    while (count-- > 0) {
        mem_in(); /* CALL mem inlined */
    }
}
CALLED mems_called(Py_ssize_t count)
{
    while (count-- > 0) {
        mem_out(); /* CALL mem called */
    }
}

/* So large that CPython passes it on to malloc: two allocators more on the stack. */
INLINED large_in(void) { last = PyMem_Malloc(1600); } /* LEAK large inlined */
CALLED large_out(void)
{
    last = PyMem_Malloc(1600); /* LEAK large called */
}
CALLED larges_inlined(Py_ssize_t count)
{
    while (count-- > 0) {
        large_in(); /* CALL large inlined */
    }
}
CALLED larges_called(Py_ssize_t count)
{
    while (count-- > 0) {
        large_out(); /* CALL large called */
    }
}

INLINED raw_in(void) { last = PyMem_RawMalloc(555); } /* LEAK raw inlined */
CALLED raw_out(void)
{
    last = PyMem_RawMalloc(555); /* LEAK raw called */
}
CALLED raws_inlined(Py_ssize_t count)
{
    while (count-- > 0) {
        raw_in(); /* CALL raw inlined */
    }
}
CALLED raws_called(Py_ssize_t count)
{
    while (count-- > 0) {
        raw_out(); /* CALL raw called */
    }
}

INLINED dict_in(void) { last = PyDict_New(); } /* LEAK dict inlined */
CALLED dict_out(void)
{
    last = PyDict_New(); /* LEAK dict called */
}
CALLED dicts_inlined(Py_ssize_t count)
{
    while (count-- > 0) {
        dict_in(); /* CALL dict inlined */
    }
}
CALLED dicts_called(Py_ssize_t count)
{
    while (count-- > 0) {
        dict_out(); /* CALL dict called */
    }
}

INLINED tuple_in(void) { last = PyTuple_New(ITEMS); } /* LEAK tuple inlined */
CALLED tuple_out(void)
{
    last = PyTuple_New(ITEMS); /* LEAK tuple called */
}
CALLED tuples_inlined(Py_ssize_t count)
{
    while (count-- > 0) {
        tuple_in(); /* CALL tuple inlined */
    }
}
CALLED tuples_called(Py_ssize_t count)
{
    while (count-- > 0) {
        tuple_out(); /* CALL tuple called */
    }
}

typedef void (*leak_function)(Py_ssize_t count);

static const struct {
    const char *name;
    leak_function leak;
} ways[] = {
    {"int inlined", ints_inlined},       {"int called", ints_called},
    {"reference inlined", references_inlined}, {"reference called", references_called},
    {"malloc inlined", mallocs_inlined}, {"malloc called", mallocs_called},
    {"mem inlined", mems_inlined},       {"mem called", mems_called},
    {"large inlined", larges_inlined},   {"large called", larges_called},
    {"raw inlined", raws_inlined},       {"raw called", raws_called},
    {"dict inlined", dicts_inlined},     {"dict called", dicts_called},
    {"tuple inlined", tuples_inlined},   {"tuple called", tuples_called},
};

/* The function of a name and the count behind it, both from Python; NULL with an exception set if there is none. */
static leak_function wanted(PyObject *const *args, Py_ssize_t given, Py_ssize_t *count)
{
    const char *name = given == 2 ? PyUnicode_AsUTF8(args[0]) : NULL;
    if (name == NULL) {
        PyErr_SetString(PyExc_TypeError, "a name and a count are wanted");
        return NULL;
    }
    *count = PyLong_AsSsize_t(args[1]);
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        if (strcmp(ways[i].name, name) == 0) {
            return ways[i].leak;
        }
    }
    PyErr_SetString(PyExc_KeyError, name);
    return NULL;
}

/* leak(name, count): leaks here and now. */
static PyObject *leak(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
    Py_ssize_t count;
    leak_function function = wanted(args, given, &count);
    (void)module;
    if (function == NULL) {
        return NULL;
    }
    function(count); /* RUN leak */
    Py_RETURN_NONE;
}

/* through(function, argument): calls a Python function from C. */
static PyObject *through(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
    PyObject *result;
    (void)module;
    if (given != 2) {
        PyErr_SetString(PyExc_TypeError, "a function and its argument are wanted");
        return NULL;
    }
    result = PyObject_CallOneArg(args[0], args[1]); /* RUN through */
    if (result == NULL) {
        return NULL;
    }
    Py_DECREF(result);
    Py_RETURN_NONE;
}

static leak_function chosen;
static Py_ssize_t comparisons;

static int compare(const void *one, const void *other)
{
    int difference = *(const int *)one - *(const int *)other;
    chosen(1); /* RUN compare */
    comparisons++;
    return difference;
}

/* sort(name, count): leaks in a function that the C library calls back, once per comparison of so many numbers. */
static PyObject *sort(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
    static int numbers[512];
    Py_ssize_t count;
    (void)module;
    chosen = wanted(args, given, &count);
    if (chosen == NULL) {
        return NULL;
    }
    count = count > 512 ? 512 : count;
    for (Py_ssize_t i = 0; i < count; i++) {
        numbers[i] = (int)(i * 37 % 509);
    }
    comparisons = 0;
    qsort(numbers, (size_t)count, sizeof numbers[0], compare); /* RUN sort */
    Py_RETURN_NONE;
}

/* compared(): how often the last sort compared. */
static PyObject *compared(PyObject *module, PyObject *nothing)
{
    (void)module;
    (void)nothing;
    return PyLong_FromSsize_t(comparisons);
}

struct job {
    leak_function leak;
    Py_ssize_t count;
    PyObject *callback;
};

static void *with_python(void *argument)
{
    struct job *job = argument;
    PyGILState_STATE state = PyGILState_Ensure();
    job->leak(job->count); /* RUN with_python */
    PyGILState_Release(state);
    return NULL;
}

static void *without_python(void *argument)
{
    struct job *job = argument;
    job->leak(job->count); /* RUN without_python */
    job->count = 0;
    return NULL;
}

static void *back_to_python(void *argument)
{
    struct job *job = argument;
    PyGILState_STATE state = PyGILState_Ensure();
    PyObject *result = PyObject_CallOneArg(job->callback, Py_None); /* RUN back_to_python */
    Py_XDECREF(result);
    PyGILState_Release(state);
    return NULL;
}

/* Runs a thread that Python knows nothing of, and waits for its end. */
static PyObject *run_thread(void *(*body)(void *), struct job *job)
{
    pthread_t thread;
    int failed = pthread_create(&thread, NULL, body, job);
    if (failed) {
        errno = failed;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    Py_BEGIN_ALLOW_THREADS
    pthread_join(thread, NULL);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *run_leak(void *(*body)(void *), PyObject *const *args, Py_ssize_t given)
{
    struct job job = {0};
    job.leak = wanted(args, given, &job.count);
    return job.leak == NULL ? NULL : run_thread(body, &job);
}

/* in_thread(name, count): leaks in a thread of C's own that takes the GIL. */
static PyObject *in_thread(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
    (void)module;
    return run_leak(with_python, args, given);
}

/* in_bare_thread(name, count): the same without the GIL, for the allocators that allow it. */
static PyObject *in_bare_thread(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
    (void)module;
    return run_leak(without_python, args, given);
}

/* call_in_thread(function): calls a Python function with None in a thread of C's own. */
static PyObject *call_in_thread(PyObject *module, PyObject *function)
{
    struct job job = {.callback = function};
    (void)module;
    return run_thread(back_to_python, &job);
}

#define METHOD(name, function, words) {name, (PyCFunction)(void (*)(void))(function), METH_FASTCALL, words}

static PyMethodDef methods[] = {
    METHOD("leak", leak, "Leaks."),
    METHOD("through", through, "Calls back."),
    METHOD("sort", sort, "Leaks in a comparison."),
    {"compared", compared, METH_NOARGS, "How often a sort compared."},
    METHOD("in_thread", in_thread, "Leaks in a thread with the GIL."),
    METHOD("in_bare_thread", in_bare_thread, "Leaks in a thread without the GIL."),
    {"call_in_thread", call_in_thread, METH_O, "Calls back in a thread."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "leaks", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_leaks(void)
{
    return PyModule_Create(&module);
}
