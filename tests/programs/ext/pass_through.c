/* What memray and other memory profilers do: hooks of their own before CPython's allocators (PyMem_SetAllocator), which count and
   pass everything on. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* One for each of CPython's three domains: raw, mem, object. */
static PyMemAllocatorEx original[3];
static Py_ssize_t calls;
static int installed;

static void *pass_malloc(void *ctx, size_t size)
{
    PyMemAllocatorEx *next = ctx;
    calls++;
    return next->malloc(next->ctx, size);
}

static void *pass_calloc(void *ctx, size_t count, size_t size)
{
    PyMemAllocatorEx *next = ctx;
    calls++;
    return next->calloc(next->ctx, count, size);
}

static void *pass_realloc(void *ctx, void *block, size_t size)
{
    PyMemAllocatorEx *next = ctx;
    calls++;
    return next->realloc(next->ctx, block, size);
}

static void pass_free(void *ctx, void *block)
{
    PyMemAllocatorEx *next = ctx;
    next->free(next->ctx, block);
}

/* install(): puts the hooks before the allocators of all domains, unless they are there. */
static PyObject *install(PyObject *module, PyObject *nothing)
{
    (void)module;
    (void)nothing;
    for (int domain = 0; domain < 3 && !installed; domain++) {
        PyMem_GetAllocator(domain, &original[domain]);
        PyMemAllocatorEx hooks = {&original[domain], pass_malloc, pass_calloc, pass_realloc, pass_free};
        PyMem_SetAllocator(domain, &hooks);
    }
    installed = 1;
    Py_RETURN_NONE;
}

/* remove(): takes them away again. */
static PyObject *uninstall(PyObject *module, PyObject *nothing)
{
    (void)module;
    (void)nothing;
    for (int domain = 0; domain < 3 && installed; domain++) {
        PyMem_SetAllocator(domain, &original[domain]);
    }
    installed = 0;
    Py_RETURN_NONE;
}

/* calls(): how often memory was asked for through the hooks. */
static PyObject *count(PyObject *module, PyObject *nothing)
{
    (void)module;
    (void)nothing;
    return PyLong_FromSsize_t(calls);
}

static PyMethodDef methods[] = {
    {"install", install, METH_NOARGS, "Puts hooks before CPython's allocators."},
    {"remove", uninstall, METH_NOARGS, "Takes the hooks away."},
    {"calls", count, METH_NOARGS, "How often memory was asked for through the hooks."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "pass_through", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_pass_through(void)
{
    return PyModule_Create(&module);
}
