// What PyTorch is slow at in training on a CPU, forward and backward: attention (attention.h) and GELU (gelu.h). Python
// (library.py) calls the functions at the end through ctypes.
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
    if (level == 2) return {avx512::forward<E>, avx512::backward<E>};
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

int machine_level() {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return 0;
    for (bool has : {(bool)__builtin_cpu_supports("avx512f"), (bool)__builtin_cpu_supports("avx512bw"),
                     (bool)__builtin_cpu_supports("avx512dq"), (bool)__builtin_cpu_supports("avx512vl")})
        if (!has) return 1;
    return 2;
#else
    return 0;
#endif
}

template <class T>
void gelu_of(int level, const void* x, const void* grad, void* out, int64_t from, int64_t to) {
    const T *input = (const T*)x + from, *upstream = (const T*)grad + from;
    T* output = (T*)out + from;
#if defined(__x86_64__)
    if (level == 2)
        return grad ? avx512::gelu_backward(input, upstream, output, to - from) : avx512::gelu(input, output, to - from);
    if (level == 1)
        return grad ? avx2::gelu_backward(input, upstream, output, to - from) : avx2::gelu(input, output, to - from);
#endif
    grad ? plain::gelu_backward(input, upstream, output, to - from) : plain::gelu(input, output, to - from);
}

// A tensor of float32 or bfloat16: rows of E lie together, the strides (in elements) are those of B, H, T and L.
struct Rows {
    void* data;
    const int64_t* strides;
};

struct Shape {
    int batch, heads, length, sources, width, half;
    int keys() const { return length * sources; }
    int padded() const { return (keys() + PANEL - 1) / PANEL * PANEL; }
};

// The rows of one head, in order of time and then of source, from or to floats.
template <bool IN>
void copy(const Shape& shape, const Rows& rows, int batch, int head, int sources, float* packed) {
    const int64_t* stride = rows.strides;
    const int64_t start = batch * stride[0] + head * stride[1];
    for (int t = 0; t < shape.length; t++)
        for (int l = 0; l < sources; l++, packed += shape.width) {
            const int64_t at = start + t * stride[2] + l * stride[3];
            if (!shape.half) {
                float* row = (float*)rows.data + at;
                std::memcpy(IN ? packed : row, IN ? row : packed, sizeof(float) * shape.width);
                continue;
            }
            uint16_t* row = (uint16_t*)rows.data + at;
            for (int e = 0; e < shape.width; e++) {
                uint32_t bits;
                if (IN) {
                    bits = (uint32_t)row[e] << 16;
                    std::memcpy(packed + e, &bits, sizeof bits);
                } else {
                    std::memcpy(&bits, packed + e, sizeof bits);
                    row[e] = (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);  // to the nearest, ties to even
                }
            }
        }
}

// A thread's rows of one head.
struct Scratch {
    explicit Scratch(const Shape& shape, bool grads)
        : queries((size_t)shape.length * shape.width), keys((size_t)shape.padded() * shape.width), values(keys.size()) {
        if (!grads) return;
        grad = std::vector<float>(queries.size());
        grad_queries = std::vector<float>(queries.size());
        grad_keys = std::vector<float>(keys.size());
        grad_values = std::vector<float>(keys.size());
    }
    std::vector<float> queries, keys, values, grad, grad_queries, grad_keys, grad_values;
};

// `work` for every head of every sequence, on some threads. False where no memory or no thread is available.
template <class Work>
bool for_each_head(const Shape& shape, int threads, bool grads, const Work& work) {
    std::atomic<int> next{0};
    std::atomic<bool> good{true};
    auto run = [&] {
        try {
            Scratch scratch(shape, grads);
            for (int i; good && (i = next++) < shape.batch * shape.heads;)
                work(scratch, i / shape.heads, i % shape.heads);
        } catch (const std::bad_alloc&) {
            good = false;
        }
    };
    std::vector<std::thread> others;
    try {
        for (int i = 1; i < std::min(threads, shape.batch * shape.heads); i++) others.emplace_back(run);
    } catch (...) {  // fewer threads do the same work
    }
    run();
    for (std::thread& other : others) other.join();
    return good;
}

Head packed(const Shape& shape, const Rows* in, int batch, int head, Scratch& to) {
    copy<true>(shape, in[0], batch, head, 1, to.queries.data());
    copy<true>(shape, in[1], batch, head, shape.sources, to.keys.data());
    copy<true>(shape, in[2], batch, head, shape.sources, to.values.data());
    return {to.queries.data(), to.keys.data(), to.values.data(), shape.length, shape.sources,
            1.0f / std::sqrt((float)shape.width)};
}

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
    return !for_each_head(shape, threads, false, [&](Scratch& scratch, int batch, int head) {
        const size_t row = ((size_t)batch * shape.heads + head) * shape.length;
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
    return !for_each_head(shape, threads, true, [&](Scratch& scratch, int batch, int head) {
        const size_t row = ((size_t)batch * shape.heads + head) * shape.length;
        const Head values = packed(shape, in, batch, head, scratch);
        copy<true>(floats, upstream, batch, head, 1, scratch.grad.data());
        std::fill(scratch.grad_keys.begin(), scratch.grad_keys.end(), 0.0f);
        std::fill(scratch.grad_values.begin(), scratch.grad_values.end(), 0.0f);
        backward(values, {scratch.grad.data(), out + row * shape.width, log_sum + row}, scratch.grad_queries.data(),
                 scratch.grad_keys.data(), scratch.grad_values.data());
        copy<false>(shape, in[3], batch, head, 1, scratch.grad_queries.data());
        copy<false>(shape, in[4], batch, head, shape.sources, scratch.grad_keys.data());
        copy<false>(shape, in[5], batch, head, shape.sources, scratch.grad_values.data());
    });
}

// GELU of `count` numbers, float32 or (`half`) bfloat16; with `grad` its gradient times that.
EXPORT int gelu(int level, int threads, int half, int64_t count, const void* x, const void* grad, void* out) {
    const int64_t part = std::max<int64_t>((count / std::max(threads, 1) + 63) / 64 * 64, 64);
    std::vector<std::thread> others;
    int64_t start = 0;
    auto run = [=](int64_t from, int64_t to) {
        half ? gelu_of<uint16_t>(level, x, grad, out, from, to) : gelu_of<float>(level, x, grad, out, from, to);
    };
    try {
        for (; start + part < count; start += part) others.emplace_back(run, start, start + part);
    } catch (...) {  // this thread does the rest
    }
    run(start, count);
    for (std::thread& other : others) other.join();
    return 0;
}
