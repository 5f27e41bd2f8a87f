// What PyTorch is slow at in training on a CPU, forward and backward: attention (attention.h; of bfloat16 where the
// processor has AMX tiles.h), GELU (gelu.h), SwiGLU's product (gated.h) and rotary positions (rotary.h). Python (library.py)
// calls the functions at the end through ctypes.
//
// Attention: query t of every head sees, of each of L sources, the positions up to t.
// Letters for shapes as in the Python code: B batch, H heads, T queries, L sources, E head width. Keys lie interleaved
// in time (index L*k + l), so that a query sees a prefix. Scores are never stored: the backward pass makes them again
// from each query's log-sum, as FlashAttention does (arXiv 2205.14135). All sums are in float32.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#if defined(__x86_64__) && defined(__linux__)
#define HAS_TILES
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

// Before a loop that must be unrolled, as its arrays are meant to be registers.
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 64")
#endif
#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

constexpr int KEYS = 8;     // keys whose scores stay in registers
constexpr int PANEL = 64;   // keys between two looks at the largest score
constexpr float LOG2E = 1.44269504f;
constexpr float LOWEST = -1e30f;

// One head of one sequence, packed: rows of E floats, T queries and T*L keys and values padded with zeros to PANEL.
struct Head {
    const float *queries, *keys, *values;
    int length, sources;
    float scale;
};

// What the backward pass has of the forward one: rows of E floats, and a number for each query.
struct Upstream {
    const float *grad, *out, *log_sum;
};

}  // namespace

#define LEVEL plain
#define TARGET
#define WIDTH 4
#include "level.h"

#if defined(__x86_64__)

#define LEVEL avx2
#define TARGET __attribute__((target("avx2,fma")))
#define WIDTH 8
#include "level.h"

#define LEVEL avx512
#define TARGET __attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")))
#define WIDTH 16
#include "level.h"

#endif

#if defined(HAS_TILES)
#define TARGET \
    __attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,amx-tile,amx-bf16")))
#define WIDTH 16
#define FN static inline __attribute__((always_inline)) TARGET
namespace amx {
#include "../../vectors.h"
#include "numbers.h"
#include "tiles.h"
}  // namespace amx
#undef FN
#undef TARGET
#undef WIDTH
#endif

namespace {

typedef void (*Forward)(const Head&, float*, float*);
typedef void (*Backward)(const Head&, const Upstream&, float*, float*, float*);

struct Kernels {
    Forward forward;
    Backward backward;
};

template <int E>
Kernels of_level(int level) {
#if defined(__x86_64__)
    if (level >= 2) return {avx512::forward<E>, avx512::backward<E>};
    if (level == 1) return {avx2::forward<E>, avx2::backward<E>};
#endif
    return {plain::forward<E>, plain::backward<E>};
}

Kernels kernels(int level, int width) {
    switch (width) {
        case 8: return of_level<8>(level);
        case 16: return of_level<16>(level);
        case 32: return of_level<32>(level);
        case 64: return of_level<64>(level);
    }
    return {nullptr, nullptr};
}

#if defined(HAS_TILES)

typedef void (*TileForward)(const amx::Rows16&, float*, float*);
typedef void (*TileBackward)(const amx::Rows16&, const amx::Upstream16&, float*, float*, float*);

struct TileKernels {
    TileForward forward;
    TileBackward backward;
};

TileKernels tile_kernels(int width) {
    switch (width) {
        case 16: return {amx::forward<16>, amx::backward<16>};
        case 32: return {amx::forward<32>, amx::backward<32>};
        case 64: return {amx::forward<64>, amx::backward<64>};
    }
    return {nullptr, nullptr};
}

#endif

// Whether the processor has tiles of bfloat16 and the system lets this process use them.
bool has_tiles() {
#if defined(HAS_TILES)
    constexpr unsigned BF16 = 1u << 22, TILE = 1u << 24;
    constexpr int REQUEST = 0x1023, TILE_DATA = 18;  // arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)
    unsigned a, b, c, d;
    if (!__builtin_cpu_supports("avx512bf16") || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
    return (d & BF16) && (d & TILE) && !syscall(SYS_arch_prctl, REQUEST, TILE_DATA);
#else
    return false;
#endif
}

int machine_level() {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return 0;
    for (bool has : {(bool)__builtin_cpu_supports("avx512f"), (bool)__builtin_cpu_supports("avx512bw"),
                     (bool)__builtin_cpu_supports("avx512dq"), (bool)__builtin_cpu_supports("avx512vl")})
        if (!has) return 1;
    return has_tiles() ? 3 : 2;
#else
    return 0;
#endif
}

// `call` of the namespace of a level.
#if defined(__x86_64__)
#define AT_LEVEL(level, call) \
    ((level) >= 2 ? avx512::call : (level) == 1 ? avx2::call : plain::call)
#else
#define AT_LEVEL(level, call) (plain::call)
#endif

// `work` for the parts [from, to) of `count`, each a multiple of `step` but the last, on some threads.
template <class Work>
void in_parts(int threads, int64_t count, int64_t step, const Work& work) {
    const int64_t part = std::max<int64_t>((count / std::max(threads, 1) + step - 1) / step * step, step);
    std::vector<std::thread> others;
    int64_t start = 0;
    try {
        for (; start + part < count; start += part) others.emplace_back(work, start, start + part);
    } catch (...) {  // this thread does the rest
    }
    work(start, count);
    for (std::thread& other : others) other.join();
}

template <class T>
void gelu_of(int level, const void* x, const void* grad, void* out, int64_t from, int64_t to) {
    const T *input = (const T*)x + from, *upstream = (const T*)grad + from;
    T* output = (T*)out + from;
    grad ? AT_LEVEL(level, gelu_backward(input, upstream, output, to - from))
         : AT_LEVEL(level, gelu(input, output, to - from));
}

template <class T>
void gated_of(int level, const void* x, const void* grad, void* out, int half, int64_t from, int64_t to) {
    for (int64_t row = from; row < to; row++) {
        const T* input = (const T*)x + row * 2 * half;
        grad ? AT_LEVEL(level, gated_backward(input, (const T*)grad + row * half, half, (T*)out + row * 2 * half))
             : AT_LEVEL(level, gated(input, half, (T*)out + row * half));
    }
}

#include "packing.h"

}  // namespace

EXPORT int kernels_level() { return machine_level(); }

// `shape`: B, H, T, L, E, and 1 if queries, keys and values are bfloat16. `tensors` and `strides`: queries, keys,
// values, four strides each. Writes `out`, float32 (B, H, T, E), and `log_sum`, (B, H, T). 0 if it could be done.
EXPORT int attention_forward(int level, int threads, const int* shape_, void* const* tensors, const int64_t* strides,
                             float* out, float* log_sum) {
    const Shape shape{shape_[0], shape_[1], shape_[2], shape_[3], shape_[4], shape_[5]};
    const Forward forward = kernels(level, shape.width).forward;
    if (!forward) return 1;
    Rows in[3];
    for (int i = 0; i < 3; i++) in[i] = {tensors[i], strides + 4 * i};
#if defined(HAS_TILES)
    if (const TileForward tiles = level == 3 && shape.half ? tile_kernels(shape.width).forward : nullptr)
        return !for_each_head<Scratch16>(shape, threads, false, [&](Scratch16& scratch, int batch, int head) {
            const size_t row = shape.row(batch, head);
            tiles(scratch.packed(shape, in, batch, head, false), out + row * shape.width, log_sum + row);
        });
#endif
    return !for_each_head<Scratch>(shape, threads, false, [&](Scratch& scratch, int batch, int head) {
        const size_t row = shape.row(batch, head);
        forward(packed(shape, in, batch, head, scratch), out + row * shape.width, log_sum + row);
    });
}

// As the forward pass, with its `out` and `log_sum` and the gradient of `out`: float32, with strides as the queries'.
// `tensors` and `strides`: queries, keys, values and their gradients to be written, in one type.
EXPORT int attention_backward(int level, int threads, const int* shape_, void* const* tensors, const int64_t* strides,
                              const float* out, const float* log_sum, float* grad, const int64_t* grad_strides) {
    const Shape shape{shape_[0], shape_[1], shape_[2], shape_[3], shape_[4], shape_[5]};
    const Backward backward = kernels(level, shape.width).backward;
    if (!backward) return 1;
    Rows in[6];
    for (int i = 0; i < 6; i++) in[i] = {tensors[i], strides + 4 * i};
    const Rows upstream{grad, grad_strides};
    Shape floats = shape;
    floats.half = 0;
#if defined(HAS_TILES)
    if (const TileBackward tiles = level == 3 && shape.half ? tile_kernels(shape.width).backward : nullptr)
        return !for_each_head<Scratch16>(shape, threads, true, [&](Scratch16& scratch, int batch, int head) {
            const size_t row = shape.row(batch, head);
            const amx::Rows16 values = scratch.packed(shape, in, batch, head, true);
            copy<true>(floats, upstream, batch, head, 1, scratch.grad_floats.data());
            amx::round(scratch.grad_floats.data(), scratch.grad_floats.size(), scratch.grad.data());
            scratch.gradients.clear();
            tiles(values, {scratch.grad.data(), scratch.grad_floats.data(), out + row * shape.width, log_sum + row},
                  scratch.gradients.queries.data(), scratch.gradients.keys.data(), scratch.gradients.values.data());
            scratch.gradients.write(shape, in + 3, batch, head);
        });
#endif
    return !for_each_head<Scratch>(shape, threads, true, [&](Scratch& scratch, int batch, int head) {
        const size_t row = shape.row(batch, head);
        const Head values = packed(shape, in, batch, head, scratch);
        copy<true>(floats, upstream, batch, head, 1, scratch.grad.data());
        scratch.gradients.clear();
        backward(values, {scratch.grad.data(), out + row * shape.width, log_sum + row}, scratch.gradients.queries.data(),
                 scratch.gradients.keys.data(), scratch.gradients.values.data());
        scratch.gradients.write(shape, in + 3, batch, head);
    });
}

// GELU of `count` numbers, float32 or (`half`) bfloat16; with `grad` its gradient times that.
EXPORT int gelu(int level, int threads, int half, int64_t count, const void* x, const void* grad, void* out) {
    in_parts(threads, count, 64, [=](int64_t from, int64_t to) {
        half ? gelu_of<uint16_t>(level, x, grad, out, from, to) : gelu_of<float>(level, x, grad, out, from, to);
    });
    return 0;
}

// SwiGLU's product of `rows` rows of two times `width`; with `grad` (rows of `width`) its gradient times that.
EXPORT int gated(int level, int threads, int half, int64_t rows, int width, const void* x, const void* grad, void* out) {
    in_parts(threads, rows, 1, [=](int64_t from, int64_t to) {
        half ? gated_of<uint16_t>(level, x, grad, out, width, from, to)
             : gated_of<float>(level, x, grad, out, width, from, to);
    });
    return 0;
}

// Rotary positions. `shape`: B, H, T, L, E, and 1 if bfloat16; `strides`: four of x, four of `out`, whose rows of E lie
// together; `cos` and `sin`: T rows of E/2; `turn`: 1, or -1 for the way back.
EXPORT int rotary(int level, int threads, const int* shape_, const int64_t* strides, const void* x, const float* cos,
                  const float* sin, float turn, void* out) {
    const Shape shape{shape_[0], shape_[1], shape_[2], shape_[3], shape_[4], shape_[5]};
    const int half = shape.width / 2;
    const int64_t *from = strides, *to = strides + 4;
    in_parts(threads, (int64_t)shape.batch * shape.length, 1, [=](int64_t first, int64_t last) {
        for (int64_t i = first; i < last; i++) {
            const int64_t b = i / shape.length, t = i % shape.length;
            for (int l = 0; l < shape.sources; l++)
                for (int h = 0; h < shape.heads; h++) {
                    const int64_t in_at = b * from[0] + h * from[1] + t * from[2] + l * from[3];
                    const int64_t out_at = b * to[0] + h * to[1] + t * to[2] + l * to[3];
                    const float *c = cos + t * half, *s = sin + t * half;
                    if (shape.half)
                        AT_LEVEL(level, rotate((const uint16_t*)x + in_at, c, s, turn, half, (uint16_t*)out + out_at));
                    else
                        AT_LEVEL(level, rotate((const float*)x + in_at, c, s, turn, half, (float*)out + out_at));
                }
        }
    });
    return 0;
}
