/* Blocks of every domain that threads make at the same time, give to each other, resize and free, each counted here: without the GIL nobody else could. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdlib.h>

enum domain { RAW, MEM, OBJECT, LIBC, DOMAINS };

/* One thread's blocks. */
typedef struct {
    PyObject_HEAD
    Py_ssize_t count;
    int domain;
    void **blocks;
} Shelf;

static void *allocate(int domain, size_t size) {
    switch (domain) {
    case RAW: return PyMem_RawMalloc(size);
    case MEM: return PyMem_Malloc(size);
    case OBJECT: return PyObject_Malloc(size);
    default: return malloc(size);
    }
}

static void *resize(int domain, void *block, size_t size) {
    switch (domain) {
    case RAW: return PyMem_RawRealloc(block, size);
    case MEM: return PyMem_Realloc(block, size);
    case OBJECT: return PyObject_Realloc(block, size);
    default: return realloc(block, size);
    }
}

static void release(int domain, void *block) {
    switch (domain) {
    case RAW: PyMem_RawFree(block); break;
    case MEM: PyMem_Free(block); break;
    case OBJECT: PyObject_Free(block); break;
    default: free(block); break;
    }
}

/* Shelf(room): an empty one. */
static PyObject *shelf_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(names)) {
    Py_ssize_t room;
    if (!PyArg_ParseTuple(args, "n", &room)) {
        return NULL;
    }
    Shelf *self = (Shelf *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->blocks = calloc((size_t)room, sizeof(void *));
    return self->blocks == NULL ? PyErr_NoMemory() : (PyObject *)self;
}

/* fill(domain, count, size): so many blocks of so many bytes. */
static PyObject *shelf_fill(Shelf *self, PyObject *args) {
    Py_ssize_t count, size;
    if (!PyArg_ParseTuple(args, "inn", &self->domain, &count, &size)) {
        return NULL;
    }
    self->count = count;
    for (Py_ssize_t at = 0; at < count; at++) {
        self->blocks[at] = allocate(self->domain, (size_t)size);
    }
    Py_RETURN_NONE;
}

/* resize(every, size): every so many-th block. */
static PyObject *shelf_resize(Shelf *self, PyObject *args) {
    Py_ssize_t every, size;
    if (!PyArg_ParseTuple(args, "nn", &every, &size)) {
        return NULL;
    }
    for (Py_ssize_t at = 0; at < self->count; at += every) {
        self->blocks[at] = resize(self->domain, self->blocks[at], (size_t)size);
    }
    Py_RETURN_NONE;
}

/* free(from, to): those from one number to before another, by whichever thread calls this. */
static PyObject *shelf_free(Shelf *self, PyObject *args) {
    Py_ssize_t from, to;
    if (!PyArg_ParseTuple(args, "nn", &from, &to)) {
        return NULL;
    }
    for (Py_ssize_t at = from; at < to && at < self->count; at++) {
        release(self->domain, self->blocks[at]);
        self->blocks[at] = NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef shelf_methods[] = {
    {"fill", (PyCFunction)shelf_fill, METH_VARARGS, NULL},
    {"resize", (PyCFunction)shelf_resize, METH_VARARGS, NULL},
    {"free", (PyCFunction)shelf_free, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject ShelfType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "shelves.Shelf",
    .tp_basicsize = sizeof(Shelf),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = shelf_new,
    .tp_methods = shelf_methods,
};

static int exec(PyObject *module) {
    return PyModule_AddObjectRef(module, "Shelf", (PyObject *)&ShelfType);
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, exec},
#ifdef Py_GIL_DISABLED
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "shelves", NULL, 0, NULL, slots, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_shelves(void) {
    if (PyType_Ready(&ShelfType) < 0) {
        return NULL;
    }
    return PyModuleDef_Init(&module);
}
