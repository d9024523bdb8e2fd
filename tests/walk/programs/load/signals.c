// A signal handler in C that takes its time, on the stack of whom it interrupts or on one of its own.
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

static volatile unsigned long spun;

static __attribute__((noinline)) void spin(int turns)
{
    char buffer[64];
    for (int turn = 0; turn < turns; ++turn) {
        memset(buffer, turn, sizeof buffer);
        spun = spun * 31 + strtoul("12345", NULL, 10) + (unsigned char)buffer[turn % 64];
    }
}

static void handler(int number)
{
    spin(8000 + number);
}

// interrupt(microseconds): from now on SIGALRM interrupts the process again and again; this thread then has the handler on a stack of its own.
static PyObject *interrupt(PyObject *self, PyObject *args)
{
    static char stack[65536];
    long every;
    if (!PyArg_ParseTuple(args, "l", &every))
        return NULL;
    stack_t other = {.ss_sp = stack, .ss_size = sizeof stack};
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART | SA_ONSTACK};
    struct itimerval timer = {{0, every}, {0, every}};
    if (sigaltstack(&other, NULL) || sigaction(SIGALRM, &action, NULL) || setitimer(ITIMER_REAL, &timer, NULL))
        return PyErr_SetFromErrno(PyExc_OSError);
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"interrupt", interrupt, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef module = {PyModuleDef_HEAD_INIT, .m_name = "signals", .m_size = -1, .m_methods = functions};

PyMODINIT_FUNC PyInit_signals(void)
{
    return PyModule_Create(&module);
}
