/* The vector vocabulary of the kernels, in GCC/Clang vector extensions, so that one source serves every instruction
 * set.  setup.py compiles the engine once per instruction set and dtype with
 *   GRADCORE_REAL_BITS    32 or 64    the dtype of this copy
 *   GRADCORE_VECTOR_BYTES 16, 32, 64  the width of one register
 *   GRADCORE_TILE_ROWS                rows of a register tile: as many as the register file holds (matmul.pxd)
 */
#ifndef GRADCORE_SIMD_H
#define GRADCORE_SIMD_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#if GRADCORE_REAL_BITS == 32
typedef float real;
typedef int32_t word;    /* the integer that shares a real's bits */
#define REAL_MANTISSA_BITS 23
#define REAL_EXPONENT_BIAS 127
#define real_sqrt sqrtf
#else
typedef double real;
typedef int64_t word;
#define REAL_MANTISSA_BITS 52
#define REAL_EXPONENT_BIAS 1023
#define real_sqrt sqrt
#endif

#define LANES ((int)(GRADCORE_VECTOR_BYTES / sizeof(real)))
#define TILE (2 * LANES)    /* columns of a panel, units of a tile: two registers (plan.py calls it tile) */
#define TILE_ROWS GRADCORE_TILE_ROWS
#define REAL_IS_SINGLE (GRADCORE_REAL_BITS == 32)

typedef real vec __attribute__((vector_size(GRADCORE_VECTOR_BYTES)));
typedef word mask __attribute__((vector_size(GRADCORE_VECTOR_BYTES)));   /* integers, or all-ones / all-zeros per lane */
typedef real vec_unaligned __attribute__((vector_size(GRADCORE_VECTOR_BYTES), aligned(sizeof(real)), may_alias));
/* the same lanes in double: two halves of a float vector, or one double vector */
typedef double wide __attribute__((vector_size(GRADCORE_VECTOR_BYTES)));
typedef float half_float __attribute__((vector_size(GRADCORE_VECTOR_BYTES / 2)));

#define SIMD static inline __attribute__((always_inline))

SIMD vec vload(const real *p) { return *(const vec_unaligned *)p; }
SIMD void vstore(real *p, vec v) { *(vec_unaligned *)p = v; }
SIMD vec vsplat(real x) { return x - (vec){0}; }           /* x - 0 keeps -0.0 and NaN */
SIMD mask vbits(vec v) { return (mask)v; }
SIMD vec vreal(mask m) { return (vec)m; }
SIMD mask msplat(word x) { return x - (mask){0}; }
SIMD mask vless(vec a, vec b) { return a < b; }
SIMD mask vless_equal(vec a, vec b) { return a <= b; }
SIMD mask vequal(vec a, vec b) { return a == b; }          /* a == a is false where a is NaN */
SIMD mask mnot(mask m) { return ~m; }
SIMD vec vabs(vec v) { return (vec)((mask)v & ~msplat((word)1 << (GRADCORE_REAL_BITS - 1))); }
SIMD vec vcopysign(vec size, vec sign) {
    mask s = msplat((word)1 << (GRADCORE_REAL_BITS - 1));
    return (vec)(((mask)size & ~s) | ((mask)sign & s));
}
/* max and min return b where a or b is NaN: what the instructions of x86 do.  They are named because compilers do not
 * find them behind a comparison of vectors, and a select in their place costs four instructions. */
#if defined(__x86_64__)
#include <immintrin.h>
#if GRADCORE_VECTOR_BYTES == 16
#define X86(op) GLUE(_mm_, op)
#elif GRADCORE_VECTOR_BYTES == 32
#define X86(op) GLUE(_mm256_, op)
#else
#define X86(op) GLUE(_mm512_, op)
#endif
#define GLUE(a, b) GLUE_(a, b)
#define GLUE_(a, b) a##b
#if GRADCORE_REAL_BITS == 32
SIMD vec vmax(vec a, vec b) { return X86(max_ps)(a, b); }
SIMD vec vmin(vec a, vec b) { return X86(min_ps)(a, b); }
SIMD vec vsqrt(vec v) { return X86(sqrt_ps)(v); }
#else
SIMD vec vmax(vec a, vec b) { return X86(max_pd)(a, b); }
SIMD vec vmin(vec a, vec b) { return X86(min_pd)(a, b); }
SIMD vec vsqrt(vec v) { return X86(sqrt_pd)(v); }
#endif
#endif
/* `yes` where the mask is all ones, `no` where it is all zeros */
#if defined(__x86_64__) && GRADCORE_VECTOR_BYTES == 32
#if GRADCORE_REAL_BITS == 32
SIMD vec vselect(mask m, vec yes, vec no) { return X86(blendv_ps)(no, yes, (vec)m); }
#else
SIMD vec vselect(mask m, vec yes, vec no) { return X86(blendv_pd)(no, yes, (vec)m); }
#endif
#else
SIMD vec vselect(mask m, vec yes, vec no) { return (vec)((m & (mask)yes) | (~m & (mask)no)); }
#endif
#if !defined(__x86_64__)
SIMD vec vmax(vec a, vec b) { return vselect(a > b, a, b); }
SIMD vec vmin(vec a, vec b) { return vselect(a < b, a, b); }
SIMD vec vsqrt(vec v) { for (int i = 0; i < LANES; i++) v[i] = real_sqrt(v[i]); return v; }
#endif
/* ask for the cache line of p, which will be written */
SIMD void fetch_to_write(const real *p) { __builtin_prefetch(p, 1); }
/* one rounding where the machine has FMA, two elsewhere (-ffp-contract=fast) */
SIMD vec vfma(vec a, vec b, vec c) { return a * b + c; }
/* What rounding lost in p = a * b.  By name: a compiler would find a * b in p again, and the difference zero.  Without
 * FMA the halves of the factors are multiplied one by one, which is exact (Dekker, Numerische Mathematik 18, 1971). */
#if defined(__FMA__) && GRADCORE_REAL_BITS == 32
SIMD vec vproduct_low(vec a, vec b, vec p) { return X86(fmsub_ps)(a, b, p); }
#elif defined(__FMA__)
SIMD vec vproduct_low(vec a, vec b, vec p) { return X86(fmsub_pd)(a, b, p); }
#else
SIMD vec vproduct_low(vec a, vec b, vec p) {
    mask half = msplat(-((word)1 << (REAL_MANTISSA_BITS + 2) / 2));
    vec a_high = (vec)((mask)a & half), b_high = (vec)((mask)b & half), a_low = a - a_high, b_low = b - b_high;
    return ((a_high * b_high - p) + (a_high * b_low + a_low * b_high)) + a_low * b_low;
}
#endif
/* the number whose exponent field the low bits of v are */
SIMD vec vpower(vec v) { return (vec)((mask)v << REAL_MANTISSA_BITS); }
/* 2^n for integers n inside the normal range */
SIMD vec vpow2(mask n) { return (vec)((n + REAL_EXPONENT_BIAS) << REAL_MANTISSA_BITS); }
SIMD real vlargest(vec v) { real m = v[0]; for (int i = 1; i < LANES; i++) m = v[i] > m ? v[i] : m; return m; }
SIMD real vsmallest(vec v) { real m = v[0]; for (int i = 1; i < LANES; i++) m = v[i] < m ? v[i] : m; return m; }
SIMD real vlane(vec v, int i) { return v[i]; }
/* double lanes: for float the low and high half, for double the vector itself and zeros */
#if REAL_IS_SINGLE && (defined(__clang__) || __GNUC__ >= 12)
/* by way of one vector of twice the size: GCC takes the conversion of half a register apart */
typedef double wide_pair __attribute__((vector_size(2 * GRADCORE_VECTOR_BYTES)));
#if GRADCORE_VECTOR_BYTES == 16
#define FIRST_HALF 0, 1
#define SECOND_HALF 2, 3
#elif GRADCORE_VECTOR_BYTES == 32
#define FIRST_HALF 0, 1, 2, 3
#define SECOND_HALF 4, 5, 6, 7
#else
#define FIRST_HALF 0, 1, 2, 3, 4, 5, 6, 7
#define SECOND_HALF 8, 9, 10, 11, 12, 13, 14, 15
#endif
SIMD wide vwide_low(vec v) {
    wide_pair p = __builtin_convertvector(v, wide_pair);
    return __builtin_shufflevector(p, p, FIRST_HALF);
}
SIMD wide vwide_high(vec v) {
    wide_pair p = __builtin_convertvector(v, wide_pair);
    return __builtin_shufflevector(p, p, SECOND_HALF);
}
SIMD vec vnarrow(wide low, wide high) {
    wide_pair p = __builtin_shufflevector(low, high, FIRST_HALF, SECOND_HALF);
    return __builtin_convertvector(p, vec);
}
#elif REAL_IS_SINGLE
SIMD wide vwide_low(vec v) { half_float h; memcpy(&h, &v, sizeof h); return __builtin_convertvector(h, wide); }
SIMD wide vwide_high(vec v) { half_float h; memcpy(&h, (const char *)&v + sizeof h, sizeof h); return __builtin_convertvector(h, wide); }
SIMD vec vnarrow(wide low, wide high) {
    half_float l = __builtin_convertvector(low, half_float), h = __builtin_convertvector(high, half_float);
    vec v;
    memcpy(&v, &l, sizeof l);
    memcpy((char *)&v + sizeof l, &h, sizeof h);
    return v;
}
#else
SIMD wide vwide_low(vec v) { return v; }
SIMD wide vwide_high(vec v) { (void)v; return (wide){0}; }
SIMD vec vnarrow(wide low, wide high) { (void)high; return low; }
#endif
/* as many reals as a wide has lanes, straight from memory: the half of a register first taken apart costs twice as much */
#if REAL_IS_SINGLE && defined(__x86_64__)
#if GRADCORE_VECTOR_BYTES == 16
SIMD wide wload(const real *p) { return (wide)_mm_cvtps_pd(_mm_castsi128_ps(_mm_loadl_epi64((const __m128i *)p))); }
#elif GRADCORE_VECTOR_BYTES == 32
SIMD wide wload(const real *p) { return (wide)_mm256_cvtps_pd(_mm_loadu_ps(p)); }
#else
SIMD wide wload(const real *p) { return (wide)_mm512_cvtps_pd(_mm256_loadu_ps(p)); }
#endif
#elif REAL_IS_SINGLE
SIMD wide wload(const real *p) { half_float h; memcpy(&h, p, sizeof h); return __builtin_convertvector(h, wide); }
#else
SIMD wide wload(const real *p) { return vload(p); }
#endif
#define WIDE_LANES ((int)(GRADCORE_VECTOR_BYTES / sizeof(double)))
#define WIDES (TILE / WIDE_LANES)    /* wides in a row of a panel */
SIMD wide wsplat(double x) { return x - (wide){0}; }
SIMD wide wzero(void) { return (wide){0}; }
SIMD double wlane(wide v, int i) { return v[i]; }
typedef int64_t wide_mask __attribute__((vector_size(GRADCORE_VECTOR_BYTES)));
SIMD wide_mask wless(wide a, wide b) { return a < b; }
SIMD wide wselect(wide_mask m, wide yes, wide no) { return (wide)((m & (wide_mask)yes) | (~m & (wide_mask)no)); }
SIMD double wsum(wide v) {
    double s = v[0];
    for (int i = 1; i < (int)(sizeof(wide) / sizeof(double)); i++) s += v[i];
    return s;
}

/* 64-bit lanes with a 32-bit word in the lower half of each.  What is in the upper half after shifts and xors does not
 * matter: products take the lower halves only. */
typedef uint64_t pair __attribute__((vector_size(GRADCORE_VECTOR_BYTES)));
typedef uint64_t pair_unaligned __attribute__((vector_size(GRADCORE_VECTOR_BYTES), aligned(4), may_alias));
#define PAIRS (GRADCORE_VECTOR_BYTES / 8)
SIMD pair psplat(uint64_t x) { return x - (pair){0}; }
SIMD pair pload(const uint64_t *p) { return *(const pair_unaligned *)p; }
#if defined(__x86_64__)
#if GRADCORE_VECTOR_BYTES == 16
#define X86_INTEGERS __m128i
#elif GRADCORE_VECTOR_BYTES == 32
#define X86_INTEGERS __m256i
#else
#define X86_INTEGERS __m512i
#endif
SIMD pair pproduct(pair a, pair b) { return (pair)X86(mul_epu32)((X86_INTEGERS)a, (X86_INTEGERS)b); }
#else
SIMD pair pproduct(pair a, pair b) { return (a & 0xFFFFFFFF) * (b & 0xFFFFFFFF); }
#endif
/* the words of a, b, c and d side by side: a0 b0 c0 d0 a1 b1 … */
SIMD void pstore4(uint32_t *to, pair a, pair b, pair c, pair d) {
    pair ab = (a & 0xFFFFFFFF) | (b << 32), cd = (c & 0xFFFFFFFF) | (d << 32);
#if defined(__clang__) || __GNUC__ >= 12
#define PAIR_SHUFFLE(...) __builtin_shufflevector(ab, cd, __VA_ARGS__)
#else
#define PAIR_SHUFFLE(...) __builtin_shuffle(ab, cd, (pair){__VA_ARGS__})
#endif
#if GRADCORE_VECTOR_BYTES == 16
    pair low = PAIR_SHUFFLE(0, 2), high = PAIR_SHUFFLE(1, 3);
#elif GRADCORE_VECTOR_BYTES == 32
    pair low = PAIR_SHUFFLE(0, 4, 1, 5), high = PAIR_SHUFFLE(2, 6, 3, 7);
#else
    pair low = PAIR_SHUFFLE(0, 8, 1, 9, 2, 10, 3, 11), high = PAIR_SHUFFLE(4, 12, 5, 13, 6, 14, 7, 15);
#endif
    *(pair_unaligned *)to = low;
    *(pair_unaligned *)(to + 2 * PAIRS) = high;
}

/* Transpose of a LANES x LANES block.  Interleaving register i with register i + LANES/2 is a perfect shuffle of the
 * lanes' index bits; log2(LANES) of them exchange row and column (Stone, IEEE Trans. Computers C-20, 1971). */
#if defined(__clang__) || __GNUC__ >= 12
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (mask){__VA_ARGS__})
#endif
#if GRADCORE_VECTOR_BYTES * 8 / GRADCORE_REAL_BITS == 2
#define INTERLEAVE_LOW(a, b) SHUFFLE(a, b, 0, 2)
#define INTERLEAVE_HIGH(a, b) SHUFFLE(a, b, 1, 3)
#elif GRADCORE_VECTOR_BYTES * 8 / GRADCORE_REAL_BITS == 4
#define INTERLEAVE_LOW(a, b) SHUFFLE(a, b, 0, 4, 1, 5)
#define INTERLEAVE_HIGH(a, b) SHUFFLE(a, b, 2, 6, 3, 7)
#elif GRADCORE_VECTOR_BYTES * 8 / GRADCORE_REAL_BITS == 8
#define INTERLEAVE_LOW(a, b) SHUFFLE(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define INTERLEAVE_HIGH(a, b) SHUFFLE(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
#else
#define INTERLEAVE_LOW(a, b) SHUFFLE(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define INTERLEAVE_HIGH(a, b) SHUFFLE(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#endif
#if GRADCORE_VECTOR_BYTES == 32
/* AVX moves elements inside halves of a register twice as fast as across them: two stages inside, one across. */
#if REAL_IS_SINGLE
#define PAIR_LOW(a, b) SHUFFLE(a, b, 0, 8, 1, 9, 4, 12, 5, 13)
#define PAIR_HIGH(a, b) SHUFFLE(a, b, 2, 10, 3, 11, 6, 14, 7, 15)
#define QUAD_LOW(a, b) SHUFFLE(a, b, 0, 1, 8, 9, 4, 5, 12, 13)
#define QUAD_HIGH(a, b) SHUFFLE(a, b, 2, 3, 10, 11, 6, 7, 14, 15)
#define FIRST_HALVES(a, b) SHUFFLE(a, b, 0, 1, 2, 3, 8, 9, 10, 11)
#define SECOND_HALVES(a, b) SHUFFLE(a, b, 4, 5, 6, 7, 12, 13, 14, 15)
#else
#define PAIR_LOW(a, b) SHUFFLE(a, b, 0, 4, 2, 6)
#define PAIR_HIGH(a, b) SHUFFLE(a, b, 1, 5, 3, 7)
#define FIRST_HALVES(a, b) SHUFFLE(a, b, 0, 1, 4, 5)
#define SECOND_HALVES(a, b) SHUFFLE(a, b, 2, 3, 6, 7)
#endif
SIMD void vtranspose(real *to, int to_step, const real *from, int from_step) {
    vec a[LANES], b[LANES];
    for (int i = 0; i < LANES; i++) a[i] = vload(from + i * from_step);
    for (int i = 0; i < LANES; i += 2) {
        b[i] = PAIR_LOW(a[i], a[i + 1]);
        b[i + 1] = PAIR_HIGH(a[i], a[i + 1]);
    }
#if REAL_IS_SINGLE
    for (int i = 0; i < LANES; i += 4) {
        a[i] = QUAD_LOW(b[i], b[i + 2]);
        a[i + 1] = QUAD_HIGH(b[i], b[i + 2]);
        a[i + 2] = QUAD_LOW(b[i + 1], b[i + 3]);
        a[i + 3] = QUAD_HIGH(b[i + 1], b[i + 3]);
    }
    for (int i = 0; i < LANES; i++) b[i] = a[i];
#endif
    for (int i = 0; i < LANES / 2; i++) {
        vstore(to + i * to_step, FIRST_HALVES(b[i], b[i + LANES / 2]));
        vstore(to + (i + LANES / 2) * to_step, SECOND_HALVES(b[i], b[i + LANES / 2]));
    }
}
#else
SIMD void vtranspose(real *to, int to_step, const real *from, int from_step) {
    vec a[LANES], b[LANES];
    for (int i = 0; i < LANES; i++) a[i] = vload(from + i * from_step);
    for (int span = 1; span < LANES; span *= 2) {
        for (int i = 0; i < LANES / 2; i++) {
            b[2 * i] = INTERLEAVE_LOW(a[i], a[i + LANES / 2]);
            b[2 * i + 1] = INTERLEAVE_HIGH(a[i], a[i + LANES / 2]);
        }
        for (int i = 0; i < LANES; i++) a[i] = b[i];
    }
    for (int i = 0; i < LANES; i++) vstore(to + i * to_step, a[i]);
}
#endif

#endif
