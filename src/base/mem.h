#pragma once
/**
 * Ownership that the compiler keeps: `cleanup(freep) char *s = NULL;` frees s when its scope ends, `return take(s);`
 * moves it out. Also the checked arithmetic that every size from outside goes through. Usable from any thread.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define cleanup(fn) __attribute__((cleanup(fn)))

/** The value of the variable, which is NULL afterwards: ownership leaves the scope. */
#define take(p)                                                                                                        \
        ({                                                                                                             \
                __typeof__(p) take_value_ = (p);                                                                       \
                (p) = NULL;                                                                                            \
                take_value_;                                                                                           \
        })

/** The same for a file descriptor; what stays behind is -1. */
static inline int take_fd(int *fd)
{
        int value = *fd;
        *fd = -1;
        return value;
}

static inline void freep(void *p)
{
        void **pp = p;
        free(*pp);
        *pp = NULL;
}

static inline void closep(int *fd)
{
        if (*fd >= 0)
                close(*fd);
        *fd = -1;
}

/** For a destructor `void thing_free(struct thing *)`: defines thing_freep() for use with cleanup(). */
#define DEFINE_CLEANUP(type, destructor)                                                                               \
        static inline void destructor##p(type **p)                                                                     \
        {                                                                                                              \
                destructor(*p);                                                                                        \
                *p = NULL;                                                                                             \
        }                                                                                                              \
        _Static_assert(1, "")

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b)                                                                                                      \
        ({                                                                                                             \
                __typeof__(a) min_a_ = (a);                                                                            \
                __typeof__(b) min_b_ = (b);                                                                            \
                min_a_ < min_b_ ? min_a_ : min_b_;                                                                     \
        })
#define MAX(a, b)                                                                                                      \
        ({                                                                                                             \
                __typeof__(a) max_a_ = (a);                                                                            \
                __typeof__(b) max_b_ = (b);                                                                            \
                max_a_ > max_b_ ? max_a_ : max_b_;                                                                     \
        })

/** true when the sum or product fits; *ret is written only then. */
#define add_ok(a, b, ret) (!__builtin_add_overflow(a, b, ret))
#define mul_ok(a, b, ret) (!__builtin_mul_overflow(a, b, ret))

/** The upper half of a product. */
static inline uint64_t mul_high(uint64_t a, uint64_t b)
{
#ifdef __SIZEOF_INT128__
        return (uint64_t)((unsigned __int128)a * b >> 64);
#else
        uint64_t a_low = (uint32_t)a, a_high = a >> 32, b_low = (uint32_t)b, b_high = b >> 32;
        uint64_t middle = a_high * b_low + (a_low * b_low >> 32), other = a_low * b_high + (uint32_t)middle;
        return a_high * b_high + (middle >> 32) + (other >> 32);
#endif
}

/** Both halves of a product mixed: each bit of the result depends on all of a and b, near enough for a hash table. */
static inline uint64_t mul_fold(uint64_t a, uint64_t b)
{
        return a * b ^ mul_high(a, b);
}

/** Is [off, off + len) inside [0, size)? Never overflows. */
static inline bool range_ok(uint64_t off, uint64_t len, uint64_t size)
{
        return off <= size && len <= size - off;
}
