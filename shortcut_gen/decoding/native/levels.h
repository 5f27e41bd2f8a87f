// The instruction sets: kernels.h compiled for each, and which of them this machine has.

#pragma once

#include "weights.h"

namespace {

// What `above` finds of some logits.
struct Above {
    int count;
    double mass;
};

// What the last block's attention is asked besides, of some rows of one stream. bias: added to each source's scores, null
// for none. shares: where each source's share of the attention goes, for the rows from `first` on, `stride` floats apart;
// null where nobody asks.
struct Look {
    const float* bias;
    float* shares;
    long stride;
    int first;
};

// One head's keys and values of a stream, from its first position on: blocks of sixteen positions, in each block as many
// times as there are sources E rows of sixteen numbers (attend8.h has the order of bytes). Bytes have a scale for each
// position and source, bf16.
struct Cached {
    Precision precision;
    char *keys, *values;
    uint16_t *key_scales, *value_scales;  // null but with bytes
    long ahead;                           // from these keys to those that are read next, in numbers
};

// Rows of a block: bytes stand in fours.
int kept_rows(int width, Precision precision) { return precision == INT8 ? (width + 3) / 4 * 4 : width; }

// Bytes of a number that is kept.
size_t kept_size(Precision precision) { return precision == F32 ? 4 : precision == BF16 ? 2 : 1; }

// One instruction set's functions; products.h, caches.h and rows.h say what each does.
struct Kernels {
    void (*product)(const Weight&, const float*, long, int, int, int, int, int, const float*, bool, float*, long,
                    void*);
    void (*rotate)(float*, const float*, int);
    void (*keep)(const float*, const float*, int, const Cached&, int, int, int);
    void (*attend)(int, const float*, long, const int*, int, int, const Cached&, float*, long, float*, long,
                   const Look&, void*);
    void (*norm)(const float*, const float*, const float*, int, int, float*);
    void (*sum)(const float*, const float*, const float*, long, int, int, float*);
    void (*gate)(const float*, int, int, int, int, float*);
    bool (*usable)(const float*, int);
    float (*temper)(const float*, const uint8_t*, int, float, float*);
    double (*exponentials)(const float*, float, int, float*);
    Above (*above)(const float*, const float*, int, float);
    int (*between)(const float*, int, float, float, int32_t*);
    int (*reach)(const float*, int, double);
    bool dots;  // of bytes: without them keys and values are bf16 where the weights are bytes
};

}  // namespace

#pragma GCC diagnostic ignored "-Wpsabi"  // vectors are passed between inlined functions alone
namespace {

#define LEVEL plain
#define TARGET
#define WIDTH 4
#if defined(__aarch64__)
#define TILE_ROWS 4  // NEON has 32 registers, SSE 16
#else
#define TILE_ROWS 2
#endif
#define TILE_PANELS 1
#define DOT 0
#include "kernels.h"

#if defined(__x86_64__)

#define LEVEL avx2
#define TARGET __attribute__((target("avx2,fma,f16c")))
#define WIDTH 8
#define TILE_ROWS 6
#define TILE_PANELS 1
#define DOT 0
#include "kernels.h"

#define AVX512 "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl"
#define LEVEL avx512
#define TARGET __attribute__((target(AVX512)))
#define WIDTH 16
#define TILE_ROWS 6
#define TILE_PANELS 4
#define DOT 0
#include "kernels.h"

#define LEVEL avx512_dot
#define TARGET __attribute__((target(AVX512 ",avx512vnni,avx512bf16")))
#define WIDTH 16
#define TILE_ROWS 6
#define TILE_PANELS 4
#define DOT 1
#include "kernels.h"

#endif

// The instruction sets, by number: a machine has those up to some number.
const Kernels* const LEVELS[] = {
    &plain::KERNELS,
#if defined(__x86_64__)
    &avx2::KERNELS,
    &avx512::KERNELS,
    &avx512_dot::KERNELS,
#endif
};

int best_level() {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (!(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))) return 0;
    if (!(__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
          __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")))
        return 1;
    return __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16") ? 3 : 2;
#else
    return 0;
#endif
}

}  // namespace
