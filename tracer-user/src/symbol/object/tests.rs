//! Types and values of real objects, and of what is no object.

use super::*;
use crate::target::fixture::{Interpreter, Script, every, free_threaded};
use crate::target::layout;
use crate::target::memory::Memory;

/// Prints (block address, size of block) pairs: plain objects, objects behind a collector's head, instances behind a managed dict; then an
/// item array full of types, a key table, and ints.
const TEXT: &str = "
import sys, sysconfig, types, collections
V = sys.version_info
PRE_HEADER = 0 if V < (3, 11) else 1 << 4 if V < (3, 12) else 1 << 4 | 1 << 3
FREE_THREADED = bool(sysconfig.get_config_var('Py_GIL_DISABLED'))
MORE = 16 if FREE_THREADED else 0
class Plain:
    __slots__ = ()
class Slotted:
    __slots__ = ('x',)
def outer():
    class Inner: pass
    return Inner
Inner = outer()
objects = [1.5, 'x' * 20, b'y' * 20, 10 ** 9, [1], {1: 2}, (1, object()), Slotted(), Inner(), ValueError('x'), collections.OrderedDict(a=1), lambda: 0, Plain()]
for o in objects:
    flags = type(o).__flags__
    before = (16 if flags >> 14 & 1 and not FREE_THREADED else 0) + (16 if flags & PRE_HEADER else 0)
    print(id(o) - before, o.__sizeof__() + before, end=' ')
print()
array = [int, str, list, dict, tuple, float]
import ctypes
items = ctypes.c_void_p.from_address(id(array) + 24 + MORE).value
keys = ctypes.c_void_p.from_address(id({'a': 1, 'b': 2}) + 32 + MORE).value
print(items, keys, id(int))
ints = [1000, -1000, 0, 2 ** 30, -(2 ** 60) - 5, 2 ** 119 + 7, 2 ** 200]
print(*[id(i) for i in ints], id(array), id(1.5))
input()
";

const NAMES: [&str; 13] = [
    "float",
    "str",
    "bytes",
    "int",
    "list",
    "dict",
    "tuple",
    "Slotted",
    "outer.<locals>.Inner",
    "ValueError",
    "collections.OrderedDict",
    "function",
    "Plain",
];

#[test]
fn survivors_have_types_and_values() {
    for python in every() {
        of_one(&python, layout::of(3, python.minor).unwrap());
    }
    of_one(&free_threaded(), layout::of_free_threaded(3, 13).unwrap());
}

fn of_one(python: &Interpreter, layout: &Layout) {
    let mut script = Script::on(python, TEXT, &[]);
    let blocks: Vec<(u64, u64)> = script.numbers().chunks(2).map(|pair| (pair[0], pair[1])).collect();
    let mut types = TypeNames::new(Memory::new(script.pid()), layout);
    let found = types.types(&blocks);
    let named: Vec<&str> = found.iter().map(|id| id.map_or("-", |id| types.name(id))).collect();
    assert_eq!(named, NAMES, "{python}");
    let [items, keys, int] = script.numbers()[..] else { panic!() };
    // An executable at a fixed address has its own types where a small number would lead, and the first two words of this array could be those of a `str` with so many references.
    let items = if int < 1 << 32 { keys } else { items };
    assert_eq!(types.types(&[(items, 48), (keys, 64), (16, 32), (u64::MAX, 8)]), [None; 4], "{python}");
    assert_eq!(types.types(&[(blocks[0].0, 8), (blocks[0].0, layout.objects.ob_type + 8)])[1], found[0]);
    let addresses = script.numbers();
    let values: Vec<Option<i128>> = addresses.iter().map(|address| types.int_value(*address)).collect();
    let two = |power: u32| 1i128 << power;
    let ints = [1000, -1000, 0, two(30), -two(60) - 5, two(119) + 7].map(Some);
    assert_eq!(values[..6], ints, "{python}");
    assert_eq!(values[6..], [None; 3], "{python}");
}
