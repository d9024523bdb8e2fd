/* The data flow of CPython's Objects/obmalloc.c, as far as the fast paths go, inlined into several callers. */
typedef unsigned char block;
typedef unsigned int uint;
typedef unsigned long size_t;

struct pool_header {
    union { block *padding; uint count; } ref;
    block *freeblock;
    struct pool_header *nextpool, *prevpool;
    uint arenaindex, szidx, nextoffset, maxnextoffset;
};
typedef struct pool_header *poolp;

#define POOL 16384
#define HEADER 48
#if LIKELY == 1
#define LIKELY_(x) __builtin_expect(!!(x), 1)
#define UNLIKELY_(x) __builtin_expect(!!(x), 0)
#elif LIKELY == 2
#define LIKELY_(x) __builtin_expect(!!(x), 0)
#define UNLIKELY_(x) __builtin_expect(!!(x), 1)
#else
#define LIKELY_(x) (x)
#define UNLIKELY_(x) (x)
#endif
#define INLINE static inline __attribute__((always_inline))
#define APART __attribute__((noinline))

__attribute__((visibility("hidden"))) poolp usedpools[64];
__attribute__((visibility("hidden"))) poolp fresh;
__attribute__((visibility("hidden"))) char *raw_next;
__attribute__((visibility("hidden"))) long raw_blocks;
__attribute__((visibility("hidden"))) void **radix[64];

APART void *raw(size_t bytes) { char *p = raw_next; raw_next += bytes; return p; }
APART void raw_free(void *p) { raw_next = p; }
APART void insert_to_usedpool(poolp pool)
{
    poolp next = usedpools[pool->szidx + pool->szidx];
    poolp prev = next->prevpool;
    pool->nextpool = next; pool->prevpool = prev; next->prevpool = pool; prev->nextpool = pool;
}
APART void insert_to_freepool(poolp pool)
{
    poolp next = pool->nextpool, prev = pool->prevpool;
    next->prevpool = prev; prev->nextpool = next; pool->nextpool = fresh; fresh = pool;
}
static APART void *allocate_from_new_pool(uint class)
{
    poolp pool = fresh;
    if (!pool) return 0;
    fresh = pool->nextpool;
    poolp next = usedpools[class + class];
    pool->nextpool = next; pool->prevpool = next; next->nextpool = pool; next->prevpool = pool;
    pool->ref.count = 1;
    block *bp;
    if (pool->szidx == class) {
        bp = pool->freeblock;
        pool->freeblock = *(block **)bp;
        return bp;
    }
    uint size = (class + 1) << 4;
    pool->szidx = class;
    bp = (block *)pool + HEADER;
    pool->nextoffset = HEADER + (size << 1);
    pool->maxnextoffset = POOL - size;
    pool->freeblock = bp + size;
    *(block **)pool->freeblock = 0;
    return bp;
}
INLINE void pool_extend(poolp pool, uint class)
{
    if (UNLIKELY_(pool->nextoffset <= pool->maxnextoffset)) {
        pool->freeblock = (block *)pool + pool->nextoffset;
        pool->nextoffset += (class + 1) << 4;
        *(block **)pool->freeblock = 0;
        return;
    }
    poolp next = pool->nextpool;
    pool = pool->prevpool;
    next->prevpool = pool;
    pool->nextpool = next;
}
INLINE void *pymalloc_alloc(size_t bytes)
{
    if (UNLIKELY_(bytes == 0)) return 0;
    if (UNLIKELY_(bytes > 512)) return 0;
    uint class = (uint)(bytes - 1) >> 4;
    poolp pool = usedpools[class + class];
    block *bp;
    if (LIKELY_(pool != pool->nextpool)) {
        ++pool->ref.count;
        bp = pool->freeblock;
        if (UNLIKELY_((pool->freeblock = *(block **)bp) == 0)) pool_extend(pool, class);
    } else {
        bp = allocate_from_new_pool(class);
    }
    return bp;
}
INLINE void *object_malloc(size_t bytes)
{
    void *p = pymalloc_alloc(bytes);
    if (LIKELY_(p != 0)) return p;
    p = raw(bytes);
    if (p) raw_blocks++;
    return p;
}
INLINE int address_in_range(void *p)
{
    void **leaf = radix[(size_t)p >> 58];
    return leaf && leaf[((size_t)p >> 20) & 1023];
}
INLINE void object_free(void *p)
{
    if (UNLIKELY_(p == 0)) return;
    poolp pool = (poolp)((size_t)p & ~(size_t)(POOL - 1));
    if (UNLIKELY_(!address_in_range(p))) { raw_free(p); raw_blocks--; return; }
    block *lastfree = pool->freeblock;
    *(block **)p = lastfree;
    pool->freeblock = (block *)p;
    pool->ref.count--;
    if (UNLIKELY_(lastfree == 0)) { insert_to_usedpool(pool); return; }
    if (LIKELY_(pool->ref.count != 0)) return;
    insert_to_freepool(pool);
}

struct node { struct node *next; long value; long more[60]; };
struct node *volatile head;
long volatile failures;
APART void failed(void) { failures++; }

APART void *any_size(size_t bytes) { return object_malloc(bytes); }
APART struct node *known_size(long value)
{
    struct node *n = object_malloc(24);
    if (!n) { failed(); return 0; }
    n->value = value; n->next = head;
    return n;
}
APART char *largest(int fill)
{
    char *p = object_malloc(512);
    if (p) p[511] = fill;
    return p;
}
APART int linked(long value)
{
    struct node *n = object_malloc(sizeof(struct node *) * 2);
    if (!n) return -1;
    n->value = value; n->next = head; head = n;
    return 0;
}
APART long *array(int count, long first, long last)
{
    long *items = object_malloc(24 + (size_t)count * 8);
    if (!items) { failed(); return 0; }
    items[0] = count; items[1] = first; items[2] = last; items[2 + count] = first + last;
    return items;
}
APART void *chosen(int wide, long value)
{
    size_t bytes = wide ? 160 : 128;
    long *p = object_malloc(bytes);
    if (p) { p[0] = value; p[1] = (long)bytes; }
    return p;
}
APART void *zeroed(size_t count, size_t each)
{
    if (each && count > (~0UL >> 1) / each) return 0;
    size_t bytes = count * each;
    char *p = object_malloc(bytes);
    if (p) for (size_t at = 0; at < bytes; at++) { p[at] = 0; __asm__ volatile(""); }
    return p;
}
APART void *replaced(long *old, size_t bytes)
{
    long *p = object_malloc(bytes);
    if (!p) return 0;
    p[0] = old[0]; p[1] = old[1];
    object_free(old);
    return p;
}
APART int refused(size_t bytes, int sure)
{
    if (!sure && bytes > 100) { failed(); return -2; }
    void **p = object_malloc(bytes + 16);
    if (!p) { failed(); return -1; }
    p[0] = p; p[1] = 0; head = (struct node *)p;
    return sure;
}
APART void released(void *p) { object_free(p); }
APART void unlinked(void) { struct node *n = head; head = n->next; object_free(n); failed(); }
APART int counted_down(long *object)
{
    if (--object[0] != 0) return 0;
    failed();
    object_free(object);
    return 1;
}
APART long both(struct node *n)
{
    long value = n->value;
    if (value < 0) value = -value;
    else failed();
    object_free(n);
    return value;
}
APART long all(struct node *n)
{
    long count = 0;
    while (n) { struct node *next = n->next; object_free(n); n = next; count++; __asm__ volatile(""); }
    return count;
}
