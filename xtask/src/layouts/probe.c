/* Names what the tables of unshed are about, so that the compiler describes it. Each version has some of these headers. */
#include "Python.h"
#if PY_VERSION_HEX < 0x030b0000
#include "frameobject.h"
#include "longintrepr.h"
#endif
#include "opcode.h"
#if __has_include("internal/pycore_runtime.h")
#include "internal/pycore_runtime.h"
#endif
#if __has_include("internal/pycore_interp.h")
#include "internal/pycore_interp.h"
#endif
#if __has_include("internal/pycore_pystate.h")
#include "internal/pycore_pystate.h"
#endif
#if __has_include("internal/pycore_frame.h")
#include "internal/pycore_frame.h"
#endif
#if __has_include("internal/pycore_interpframe_structs.h")
#include "internal/pycore_interpframe_structs.h"
#endif
#if __has_include("internal/pycore_debug_offsets.h")
#include "internal/pycore_debug_offsets.h"
#endif
#if __has_include("internal/pycore_obmalloc.h")
#include "internal/pycore_obmalloc.h"
#endif
#if __has_include("internal/pycore_dict.h")
#include "internal/pycore_dict.h"
#endif
#if __has_include("internal/pycore_genobject.h")
#include "internal/pycore_genobject.h"
#endif
#if __has_include("internal/pycore_gc.h")
#include "internal/pycore_gc.h"
#endif

_PyRuntimeState *runtime;
PyInterpreterState *interpreter;
PyThreadState *thread;
PyFrameObject *frame;
PyCodeObject *code;
PyLongObject *number;
PyTypeObject *type;
PyHeapTypeObject *heap_type;
PyCompactUnicodeObject *text;
PyASCIIObject *ascii;
PyBytesObject *bytes;
PyDictObject *dict;
PyListObject *list;
PyTupleObject *tuple;
PyGenObject *generator;
PyBaseExceptionObject *exception;
PyVarObject *sized;
PyGC_Head *collected;

/* Macros are in no debug information; the values of an enumeration are. */
enum unshed {
    UNSHED_DIGIT_BITS = PyLong_SHIFT,
    UNSHED_YIELD_VALUE = YIELD_VALUE,
#ifdef POOL_SIZE
    UNSHED_POOL_SIZE = POOL_SIZE,
    UNSHED_POOL_OVERHEAD = POOL_OVERHEAD,
    UNSHED_ARENA_SIZE = ARENA_SIZE,
    UNSHED_ALIGNMENT = ALIGNMENT,
    UNSHED_SIZE_CLASSES = NB_SMALL_SIZE_CLASSES,
    UNSHED_INITIAL_ARENA_OBJECTS = INITIAL_ARENA_OBJECTS,
#endif
} unshed;
