/* Memory that only the C library knows of: malloc'ed by an extension and forgotten. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdlib.h>
#include <string.h>

/* Where the compiler cannot prove that a block is unused. */
static void *volatile last;

/* leak(size, count): takes `count` blocks of `size` bytes from malloc and forgets them. */
static PyObject *leak(PyObject *module, PyObject *args)
{
    Py_ssize_t size, count;
    (void)module;
    if (!PyArg_ParseTuple(args, "nn", &size, &count)) {
        return NULL;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        void *leaked = malloc((size_t)size); /* LEAK */
        if (leaked == NULL) {
            return PyErr_NoMemory();
        }
        memset(leaked, 1, (size_t)size);
        last = leaked;
    }
    Py_RETURN_NONE;
}

/* churn(size, count): takes and frees as many. */
static PyObject *churn(PyObject *module, PyObject *args)
{
    Py_ssize_t size, count;
    (void)module;
    if (!PyArg_ParseTuple(args, "nn", &size, &count)) {
        return NULL;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        last = malloc((size_t)size);
        free(last);
    }
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"leak", leak, METH_VARARGS, "Leaks malloc'ed blocks."},
    {"churn", churn, METH_VARARGS, "Takes and frees malloc'ed blocks."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "leak_malloc", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_leak_malloc(void)
{
    return PyModule_Create(&module);
}
