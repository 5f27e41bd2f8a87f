// The arithmetic of the engine, compiled once for each instruction set: levels.h includes this file again and again,
// with LEVEL (the namespace), TARGET (the attribute that switches the instructions on), WIDTH (floats in a register),
// TILE_ROWS and TILE_PANELS (what of a product stays in registers) and DOT (whether there are bf16 and int8 products).
//
// Every sum runs over its terms in one order, whatever the tile: a row's result does not depend on its company.

namespace LEVEL {

#define FN static inline __attribute__((always_inline)) TARGET

#include "../../vectors.h"

// The larger and the smaller of each two, the second where either is no number: one instruction, which GCC does not see in
// a comparison.
FN Floats upper(Floats a, Floats b) {
#if WIDTH == 16
    return (Floats)_mm512_max_ps((__m512)a, (__m512)b);
#else
    return a > b ? a : b;
#endif
}

FN Floats lower(Floats a, Floats b) {
#if WIDTH == 16
    return (Floats)_mm512_min_ps((__m512)a, (__m512)b);
#else
    return a < b ? a : b;
#endif
}

typedef double Doubles __attribute__((vector_size(4 * WIDTH)));
typedef int64_t Longs __attribute__((vector_size(4 * WIDTH)));

constexpr int PARTS = 16 / WIDTH;  // registers that hold sixteen floats

// The sum of a register's floats.
FN float total(Floats v) {
#if WIDTH == 16
    return _mm512_reduce_add_ps((__m512)v);
#else
    float part[WIDTH];
    store(part, v);
    for (int half = WIDTH / 2; half; half /= 2)
        for (int i = 0; i < half; i++) part[i] += part[i + half];
    return part[0];
#endif
}

// The largest of a register's floats.
FN float largest(Floats v) {
#if WIDTH == 16
    return _mm512_reduce_max_ps((__m512)v);
#else
    float top = v[0];
    for (int i = 1; i < WIDTH; i++) top = v[i] > top ? v[i] : top;
    return top;
#endif
}

// e^x to 2 units in the last place: 2^n times a polynomial (Cephes' expf), n found by adding 1.5·2^23.
FN Floats exponential(Floats x) {
    const Floats magic = all(12582912.0f);
    x = lower(upper(x, all(-87.0f)), all(88.0f));
    Floats shifted = x * 1.44269504088896341f + magic;
    Ints n = (Ints)shifted - (Ints)magic;
    Floats whole = shifted - magic;
    Floats r = x - whole * 0.693359375f;
    r = r - whole * -2.12194440e-4f;
    Floats p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    return (Floats)((Ints)p + (n << 23));
}

// GELU by tanh, as x times a sigmoid: 0.5·(1 + tanh u) = 1 / (1 + e^(-2u)).
FN Floats gelu(Floats x) {
    Floats u = x * (x * x * 0.044715f + 1.0f) * -1.5957691216057308f;
    return x / (exponential(u) + 1.0f);
}

#include "products.h"
#include "attend.h"
#if DOT
#include "attend8.h"
#endif
#include "caches.h"
#include "rows.h"

#undef FN
}  // namespace LEVEL
#undef LEVEL
#undef TARGET
#undef WIDTH
#undef TILE_ROWS
#undef TILE_PANELS
#undef DOT
