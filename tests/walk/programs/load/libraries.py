"""Libraries of the system, and what they call back: SQLite's functions and orders, libffi, expat, the ciphers of OpenSSL, which are written by hand, and compressors."""

import bz2
import ctypes
import hashlib
import lzma
import sqlite3
import ssl
import xml.parsers.expat
import zlib

import forever

LIBC = ctypes.CDLL(None)
COMPARE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
NOISE = b"".join(hashlib.sha256(bytes([number])).digest() for number in range(200))


class Longest:
    def __init__(self):
        self.found = ""

    def step(self, text):
        self.found = max(self.found, text, key=len)

    def finalize(self):
        return self.found


def tables():
    books = sqlite3.connect(":memory:")
    books.create_function("twisted", 2, lambda text, number: text[::-1] * number)
    books.create_aggregate("longest", 1, Longest)
    books.create_collation("backwards", lambda one, other: (one < other) - (one > other))
    books.set_progress_handler(lambda: 0, 50)
    books.execute("create table books (number integer primary key, name text)")
    books.executemany("insert into books values (?, ?)", ((number, f"name {number * 7 % 50}") for number in range(80)))
    books.execute("create index by_name on books (name collate backwards)")
    books.execute("select longest(twisted(name, number % 3)) from books group by number % 5 order by name collate backwards").fetchall()
    books.execute("with recursive up(n) as (select 1 union all select n + 1 from up where n < 60) select count(twisted('x', n)) from up").fetchone()
    books.close()


def foreign():
    numbers = (ctypes.c_int * 60)(*(number * 37 % 101 for number in range(60)))
    LIBC.qsort(numbers, len(numbers), ctypes.sizeof(ctypes.c_int), COMPARE(lambda one, other: one[0] - other[0]))
    ctypes.pythonapi.PyObject_Repr.restype = ctypes.py_object
    ctypes.pythonapi.PyObject_Repr(ctypes.py_object([1.5] * 50))


def documents():
    parser = xml.parsers.expat.ParserCreate()
    depth = [0]

    def start(name, attributes):
        depth[0] += len(zlib.compress(name.encode() * 9))

    parser.StartElementHandler = start
    parser.CharacterDataHandler = lambda text: text.upper()
    parser.Parse("<root>" + "<a b='c'>text &lt; é</a>" * 60 + "</root>", True)


def squeeze():
    for module in (zlib, bz2, lzma):
        module.decompress(module.compress(NOISE))
    for name in ("md5", "sha1", "sha256", "sha512", "sha3_256", "blake2b"):
        hashlib.new(name, NOISE).hexdigest()
    hashlib.pbkdf2_hmac("sha256", b"password", b"salt", 300)


def handshake():
    """TLS with itself, without certificates: the anonymous key exchange."""
    buffers = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = []
    for protocol, server in ((ssl.PROTOCOL_TLS_CLIENT, False), (ssl.PROTOCOL_TLS_SERVER, True)):
        context = ssl.SSLContext(protocol)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("AECDH-AES256-SHA:@SECLEVEL=0")
        ends.append(context.wrap_bio(buffers[server], buffers[not server], server_side=server))
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                pass
    for _ in range(5):
        ends[0].write(NOISE)
        read = 0
        while read < len(NOISE):
            read += len(ends[1].read(4096))


def callbacks():
    tables()
    foreign()
    documents()


forever.run(callbacks, squeeze, handshake)
