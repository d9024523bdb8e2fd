//! Types and values of real objects, and of what is no object.

use super::*;
use crate::target::fixture::{self, Script};
use crate::target::layout::v3_11::LAYOUT;
use crate::target::memory::Memory;

/// Prints (block address, size of block) pairs: plain objects, objects behind a collector's head, instances behind a managed dict; then an
/// item array full of types, a key table, and ints.
const TEXT: &str = "
import sys, types, collections
class Plain:
    __slots__ = ()
class Slotted:
    __slots__ = ('x',)
def outer():
    class Inner: pass
    return Inner
Inner = outer()
objects = [(1.5, 0), ('x' * 20, 0), (b'y' * 20, 0), (10 ** 9, 0), ([1], 16), ({1: 2}, 16), ((1, object()), 16), (Slotted(), 16),
    (Inner(), 32), (ValueError('x'), 16), (collections.OrderedDict(a=1), 16), (lambda: 0, 16), (Plain(), 0)]
for o, before in objects: print(id(o) - before, sys.getsizeof(o) + before, end=' ')
print()
array = [int, str, list, dict, tuple, float]
import ctypes
items = ctypes.c_void_p.from_address(id(array) + 24).value
keys = ctypes.c_void_p.from_address(id({'a': 1, 'b': 2}) + 32).value
print(items, keys)
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
    let Some(python) = fixture::shared() else { return eprintln!("skipped: no pyenv 3.11") };
    let mut script = Script::start(&python, TEXT, &[]);
    let blocks: Vec<(u64, u64)> = script.numbers().chunks(2).map(|pair| (pair[0], pair[1])).collect();
    let mut types = TypeNames::new(Memory::new(script.pid()), &LAYOUT);
    let found = types.types(&blocks);
    let named: Vec<&str> = found.iter().map(|id| id.map_or("-", |id| types.name(id))).collect();
    assert_eq!(named, NAMES);
    let [items, keys] = script.numbers()[..] else { panic!() };
    assert_eq!(types.types(&[(items, 48), (keys, 64), (16, 32), (u64::MAX, 8)]), [None; 4]);
    assert_eq!(types.types(&[(blocks[0].0, 8), (blocks[0].0, 16)])[1], found[0]);
    let addresses = script.numbers();
    let values: Vec<Option<i128>> = addresses.iter().map(|address| types.int_value(*address)).collect();
    let two = |power: u32| 1i128 << power;
    let ints = [1000, -1000, 0, two(30), -two(60) - 5, two(119) + 7].map(Some);
    assert_eq!(values[..6], ints);
    assert_eq!(values[6..], [None; 3]);
}
