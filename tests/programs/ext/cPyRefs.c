/* The classic reference bugs: new references that nobody gives back. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* leak_new_reference(value, count): makes `count` ints and forgets them. */
static PyObject *leak_new_reference(PyObject *module, PyObject *args)
{
    long value;
    Py_ssize_t count;
    (void)module;
    if (!PyArg_ParseTuple(args, "ln", &value, &count)) {
        return NULL;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *leaked = PyLong_FromLong(value); /* LEAK */
        if (leaked == NULL) {
            return NULL;
        }
    }
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"leak_new_reference", leak_new_reference, METH_VARARGS, "Leaks new references to an int."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "cPyRefs", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_cPyRefs(void)
{
    return PyModule_Create(&module);
}
