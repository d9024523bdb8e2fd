/* A program that embeds CPython, as applications with a scripting language do: its arguments are those of `python3`. The interpreter is in a
   library, and what the process runs is called something else. */

#include <Python.h>

static int serve(int argc, char **argv)
{
    PyConfig config;
    PyConfig_InitPythonConfig(&config);
    PyStatus status = PyConfig_SetBytesArgv(&config, argc, argv);
    if (!PyStatus_Exception(status)) {
        status = Py_InitializeFromConfig(&config);
    }
    PyConfig_Clear(&config);
    if (PyStatus_Exception(status)) {
        Py_ExitStatusException(status);
    }
    return Py_RunMain();
}

int main(int argc, char **argv)
{
    return serve(argc, argv);
}
