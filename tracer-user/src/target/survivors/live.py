# Makes objects, prints where they are and what will become of them, waits, and does it.
# A line: name, address of the block, its size, its domain, bytes that it owns besides, what becomes of it.
import asyncio, collections, ctypes, datetime, decimal, functools, gc, itertools, sys, sysconfig, weakref

gc.disable()
OBJECT, MEM, RAW, LIBC = range(4)
V = sys.version_info
# Flags of types whose instances have two more words before the collector's head.
PRE_HEADER = 0 if V < (3, 11) else 1 << 4 if V < (3, 12) else 1 << 4 | 1 << 3
# From 3.13 on the attributes are in the instance, so that it changes with them; from 3.14 on a dict has no version.
INLINE, WITHOUT_VERSION = V >= (3, 13), V >= (3, 14)
# Without the GIL nothing lies before an object for the collector's sake, and blocks are mimalloc's.
FREE_THREADED = bool(sysconfig.get_config_var('Py_GIL_DISABLED'))
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
word = lambda address: ctypes.c_uint64.from_address(address).value
kept, lines, later, held_back = {}, [], [], []
CONTAINERS = (dict, list, set, bytearray, collections.deque)


def before(o):
    flags = type(o).__flags__
    return (16 if flags >> 14 & 1 and not FREE_THREADED else 0) + (16 if flags & PRE_HEADER else 0)


def size_of(o):
    """Bytes of an object, without what lies before it; of one with inline values, which it does not tell, what its pool says."""
    if FREE_THREADED and type(o).__flags__ & 1 << 2:
        return type(o).__basicsize__
    if INLINE and type(o).__flags__ & 1 << 2:
        return ((word((id(o) & ~0x3fff) + 32) >> 32) + 1) * 16 - before(o)
    return type(o).__basicsize__ if isinstance(o, CONTAINERS) else type(o).__sizeof__(o)


def block(name, address, size, domain, truth, owned=0):
    lines.append(f'{name} {address} {size} {domain} {owned} {truth}')


def watch(name, o, truth, owned=0, size=0):
    kept[name] = o
    block(name, id(o) - before(o), (size or size_of(o)) + before(o), OBJECT, truth, owned)


def given(size):
    """How many bytes the allocator gives."""
    if FREE_THREADED:
        # `_mi_bin`, Objects/mimalloc/page-queue.c: four classes between two powers of two.
        words = (size + 7) // 8
        step = 2 if words <= 8 else 1 << (words - 1).bit_length() - 3
        return -(-words // step) * step * 8
    return (size + 15) // 16 * 16 if size <= 512 else (size + 8 + 15) // 16 * 16 - 8


class Plain:
    def __init__(self, a):
        self.a, self.b = a, [a]

    def method(self):
        return self.a


class Slotted:
    __slots__ = ('x', 'y')

    def __init__(self, x):
        self.x = x


class Weak:
    __slots__ = ('x', '__weakref__')


def closure(a):
    def inner():
        return a
    return inner


def local():
    a = 5000
    def set_it():
        nonlocal a
        a += 1
        return a
    return set_it


def numbers(a):
    for i in range(a):
        yield i


def no_argument():
    i = 0
    while True:
        yield i
        i += 1000


async def coroutine(a):
    await asyncio.sleep(a)


def raiser(e):
    try:
        raise e
    except ValueError:
        return e


def seventeen(a):
    return (a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a)


def text(letter, length):
    return letter * length


# Objects that are used in every way that changes nothing of theirs.
n = int('1000')
watch('int', int('123456789012'), 'same')
watch('long_int', 10 ** 2000, 'same')
watch('float', float('1.5'), 'same')
watch('complex', complex(n, 2), 'same')
watch('str', text('x', 30), 'same')
watch('str_latin', text('\u00e9', 30), 'same')
watch('str_wide', text('\u20ac', 400), 'same')
watch('bytes', bytes([n % 256]) * 60, 'same')
watch('tuple', (n, 'a', [n]), 'same')
watch('long_tuple', tuple(range(300)), 'same')
watch('frozenset', frozenset((n, 'a')), 'same')
watch('large_str', text('x', 5000), 'same')
watch('huge_str', text('x', 1 << 20), 'same')
watch('function', closure(n), 'same')
watch('code', compile('a = 1\nb = a\n' * 3, 'x', 'exec'), 'same')
watch('generator', numbers(n), 'same')
watch('generator_of_nothing', no_argument(), 'same')
watch('coroutine', coroutine(1), 'same')
plain = Plain(n)
watch('method', plain.method, 'same')
watch('c_method', [n].append, 'same')
watch('instance', Plain(n), 'changed' if INLINE else 'same')
watch('instance_with_dict', Plain(n), 'same')
watch('weakly_known', Weak(), 'same')
watch('cell', closure(n).__closure__[0], 'same')
watch('cell_that_changes', local().__closure__[0], 'same')
watch('exception', ValueError(n), 'same')
watch('traceback', raiser(ValueError(n)).__traceback__, 'same')
watch('frame', raiser(ValueError(n)).__traceback__.tb_frame, 'same')
watch('datetime', datetime.datetime(2020, 1, n % 12 + 1), 'same')
watch('timedelta', datetime.timedelta(n, 5), 'same')
watch('decimal', decimal.Decimal('1.25'), 'same')
watch('deque', collections.deque((n, 1)), 'same')
watch('partial', functools.partial(print, n), 'same')
watch('list_iterator', iter([n, 1, 2, 3]), 'same')
watch('tuple_iterator', iter((n, 1, 2, 3)), 'same')
watch('list', [n, 2, 3], 'same')
watch('set', {n, 2, 3}, 'same')
watch('bytearray', bytearray(50), 'same')
watch('class', type('Made', (), {}), 'same', size=type.__basicsize__)
loop = asyncio.new_event_loop()
watch('task', asyncio.Task(kept['coroutine'], loop=loop), 'same')
watch('future', asyncio.Future(loop=loop), 'same')
watch('subclass_of_int', type('MyInt', (int,), {})(n), 'same', size=40 if V < (3, 12) else 28)

# Dicts: what they own is their key table.
HEAD, ENTRY = (32, 16) if V >= (3, 11) else (40, 24)
KEYS = MEM if V >= (3, 13) else OBJECT
small = HEAD + 8 + 5 * ENTRY
with_hashes, many = HEAD + 8 + 5 * 24, HEAD + 512 + 170 * ENTRY
watch('dict', {'a': n, 'b': 2}, 'same', given(small))
watch('dict_of_ints', {n: 1, 2: 2}, 'same', given(with_hashes))
watch('dict_of_many', {str(i): i for i in range(100)}, 'same', given(many))
watch('dict_of_nothing', {}, 'same', 0)
watch('dict_of_instance', plain.__dict__, 'same', 0)
watch('dict_that_changes', {'a': n}, 'changed', given(small))
watch('list_that_grows', [n], 'changed')
watch('set_that_grows', {n}, 'changed')
watch('slots_that_change', Slotted(n), 'changed')
MORE = 16 if FREE_THREADED else 0
# How long a list's array is stands before its items then (`_PyListArray`, Objects/listobject.c).
BEFORE_ITEMS = 8 if FREE_THREADED else 0
keys = lambda name: word(id(kept[name]) + 32 + MORE)
block('small_keys', keys('dict'), small, KEYS, 'part')
block('keys_with_hashes', keys('dict_of_ints'), with_hashes, KEYS, 'part')
block('large_keys', keys('dict_of_many'), many, KEYS, 'part')

# Memory that is no object.
block('items', word(id(kept['list']) + 24 + MORE) - BEFORE_ITEMS, 24 + BEFORE_ITEMS, MEM, 'same')
kept['long_list'] = list(range(1000))
block('long_items', word(id(kept['long_list']) + 24 + MORE) - BEFORE_ITEMS, 8000 + BEFORE_ITEMS, MEM, 'same')
filled = libc.malloc(100)
ctypes.memset(filled, 7, 100)
block('malloc', filled, 100, LIBC, 'same')
block('malloc_raw', filled, 100, RAW, 'same')

# Objects that die, in sizes that nobody else here uses.
watch('float_that_dies', float('2.5'), 'dead')
watch('tuple_that_dies', seventeen(n), 'dead')
watch('bytes_that_die', bytes([n % 256]) * 450, 'dead')
watch('str_that_dies', text('x', 430), 'dead')
watch('dict_that_dies', {'a': n}, 'gone', given(small))
watch('list_that_dies', [n], 'gone')
watch('instance_that_dies', Plain(n), 'gone')
watch('str_for_the_cache', text('x', 700), 'dead')
watch('str_for_a_bin', text('x', 3000), 'dead')
watch('fence', text('y', 3000), 'same')
watch('str_with_a_mapping', text('x', 1 << 22), 'dead')
chunks = [libc.malloc(72) for _ in range(10)]
fence = libc.malloc(72)
for at, chunk in enumerate(chunks):
    ctypes.memset(chunk, 7, 72)
    block(f'malloc_{at}', chunk, 72, LIBC, 'dead')

# Objects in whose place another comes.
def replaced(name, make):
    watch(name, make(0), 'other', given(small) if name.startswith('dict') else 0)

    def replace():
        # Made before, so that it does not take the place itself.
        address, others, tries = id(kept[name]), [], itertools.repeat(None, 5000)
        kept[name] = None
        kept[name] = make(1)
        # What is made meanwhile, or lies in another pool, may come first.
        for _ in tries:
            if id(kept[name]) == address:
                break
            others.append(kept[name])
            kept[name] = make(1)
        assert id(kept[name]) == address, name
        held_back.append(others)
    later.append(replace)


replaced('float_after_float', lambda at: at + 3.25)
replaced('int_after_int', lambda at: n * (at + 2))
replaced('tuple_after_tuple', lambda at: (at, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12))
replaced('dict_after_dict', lambda at: {'a': at if WITHOUT_VERSION else n})
replaced('list_after_list', lambda at: [n, n] if at else [n])
replaced('str_after_str', lambda at: text('ab'[at], 470))
replaced('end_of_str', lambda at: 'a' * 400 + 'bc'[at])
replaced('bytes_after_bytes', lambda at: bytes([at + 1]) * 470)
replaced('slotted_after_slotted', lambda at: Slotted(at))
replaced('large_str_after_str', lambda at: text('ab'[at], 900))
replaced('exception_after_exception', lambda at: ValueError(at))

print('\n'.join(lines))
print('READY')
input()

held = [kept[name] for name in kept if name in ('int', 'str', 'list', 'dict', 'function', 'generator')]
for name in ('int', 'str', 'str_latin', 'tuple', 'frozenset', 'large_str', 'bytes', 'float', 'datetime', 'timedelta', 'decimal', 'method'):
    try:
        hash(kept[name])
    except TypeError:
        pass
sys.intern(kept['str'])
kept['str_latin'].encode()
ctypes.pythonapi.PyUnicode_AsUTF8(ctypes.py_object(kept['str_wide']))
for name in ('tuple', 'long_tuple', 'list', 'set', 'dict', 'frozenset', 'deque', 'dict_of_many', 'bytes', 'bytearray', 'str'):
    for _ in kept[name]:
        pass
for _ in range(100):
    kept['function']()
    kept['method']()
    exec(kept['code'], {})
    kept['instance'].method(), kept['dict']['a'], kept['list'][0], kept['class']()
next(kept['generator']), next(kept['generator'])
next(kept['generator_of_nothing']), next(kept['generator_of_nothing'])
next(kept['list_iterator']), next(kept['tuple_iterator'])
kept['instance'].a = 7
kept['instance_with_dict'].__dict__
held += [weakref.ref(kept[name]) for name in ('instance', 'weakly_known', 'function', 'set', 'class')]
try:
    raise kept['exception']
except ValueError:
    pass
kept['task'].add_done_callback(print)
kept['future'].add_done_callback(print)
kept['deque'].append(5)

kept['dict_that_changes']['b'] = 1
kept['list_that_grows'] += [1, 2, 3, 4, 5]
kept['set_that_grows'].add(5)
kept['slots_that_change'].y = 5
for replace in later:
    replace()
gc.collect()
del kept['float_that_dies'], kept['bytes_that_die'], kept['str_that_dies']
del kept['dict_that_dies'], kept['list_that_dies'], kept['instance_that_dies']
del kept['str_for_a_bin'], kept['str_with_a_mapping'], kept['str_for_the_cache'], kept['tuple_that_dies']
for chunk in chunks:
    libc.free(chunk)
sys.stdout.write('DONE\n')
input()
