// Frames of every shape that a C++ compiler makes: exceptions thrown through them, templates of libstdc++, stacks that are aligned or of unknown size,
// deep recursion, functions left by a jump, and threads that Python did not create; all of it calls back into Python.
#include <Python.h>

#include <alloca.h>
#include <algorithm>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

struct Failure : std::runtime_error {
    using std::runtime_error::runtime_error;
};

struct Held {
    explicit Held(PyObject *object) : object(object) {}
    ~Held() { Py_XDECREF(object); }
    PyObject *object;
};

long ask(PyObject *function, long number)
{
    Held answer(PyObject_CallFunction(function, "l", number));
    if (!answer.object)
        throw Failure("the function has failed");
    return PyLong_AsLong(answer.object);
}

// The compiler keeps the stack pointer of the caller elsewhere, because it moves its own.
__attribute__((noinline)) long aligned(PyObject *function, long number)
{
    alignas(64) volatile double wide[8];
    std::unique_ptr<char, void (*)(void *)> guard(nullptr, free);
    auto *some = static_cast<volatile char *>(alloca(static_cast<size_t>(16 + number % 100)));
    some[number % 16] = 1;
    wide[number & 7] = static_cast<double>(some[number % 16]);
    return ask(function, number) + static_cast<long>(wide[number & 7]);
}

__attribute__((noinline)) long jumped_to(PyObject *function, long number)
{
    return ask(function, number);
}

__attribute__((noinline)) long jumping(PyObject *function, long number)
{
    return jumped_to(function, number + 1);
}

long deep(PyObject *function, long depth, const std::function<long(long)> &step)
{
    if (depth == 0)
        return jumping(function, depth);
    if (depth % 7 == 3)
        return aligned(function, depth) + deep(function, depth - 1, step);
    return step(depth) + deep(function, depth - 1, step);
}

struct Thrower {
    virtual ~Thrower() = default;
    virtual long go(PyObject *function, int depth)
    {
        std::string text(static_cast<size_t>(20 + depth), 'x');
        if (depth == 0)
            throw Failure(text);
        return go(function, depth - 1) + static_cast<long>(text.size());
    }
};

long all(PyObject *function)
{
    std::map<std::string, std::vector<long>> table;
    for (long number = 0; number < 20; ++number) {
        std::ostringstream name;
        name << "name " << number % 5 << ' ' << number / 3.0;
        table[name.str()].push_back(number);
    }
    std::vector<long> order{5, 3, 9, 1, 7, 2, 8};
    std::sort(order.begin(), order.end(), [&](long one, long other) { return ask(function, one) < ask(function, other); });
    long sum = deep(function, 15, [&](long depth) { return ask(function, depth); });
    try {
        sum += std::make_unique<Thrower>()->go(function, 10);
    } catch (const Failure &failure) {
        sum += static_cast<long>(std::strlen(failure.what()));
    }
    for (auto &[name, numbers] : table)
        sum += numbers.front();
    return sum;
}

PyObject *shapes(PyObject *, PyObject *function)
{
    try {
        return PyLong_FromLong(all(function));
    } catch (const std::exception &error) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_RuntimeError, error.what());
        return nullptr;
    }
}

// The function is called by a thread that Python learns of only then.
PyObject *in_thread(PyObject *, PyObject *function)
{
    long sum = 0;
    Py_BEGIN_ALLOW_THREADS
    std::thread thread([&] {
        PyGILState_STATE state = PyGILState_Ensure();
        try {
            for (int turn = 0; turn < 2000; ++turn)
                sum += all(function);
        } catch (const std::exception &) {
            PyErr_Print();
        }
        PyGILState_Release(state);
    });
    thread.join();
    Py_END_ALLOW_THREADS
    return PyLong_FromLong(sum);
}

PyMethodDef functions[] = {
    {"shapes", shapes, METH_O, nullptr},
    {"in_thread", in_thread, METH_O, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef module = {PyModuleDef_HEAD_INIT, "shapes", nullptr, -1, functions, nullptr, nullptr, nullptr, nullptr};

} // namespace

PyMODINIT_FUNC PyInit_shapes()
{
    return PyModule_Create(&module);
}
