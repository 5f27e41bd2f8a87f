// The native engine: one pass of a ShortcutLM over some tokens, on a CPU. Python (engine.py) calls the functions at the
// end through ctypes; kernels.h has the arithmetic.
//
// Letters for shapes as in the Python code: D width, E head width, L sources, V vocabulary, C context. Every matrix is
// padded to multiples of sixteen, what pads it is 0 and stays 0. Attention heads stand in groups that fill a multiple
// of sixteen columns, so that a thread can own some.
//
// A pass runs in one of two ways. Few rows: each thread has a slice of every matrix (its groups of heads, its part of
// the hidden columns) and all rows; the residual stream is added up from the threads' parts, one barrier for each sum.
// Many rows: each thread has some rows and the whole of every matrix, one barrier for each block's keys and values.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <mutex>
#include <new>
#include <thread>
#include <type_traits>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

// Before a loop that must be unrolled, as its arrays are meant to be registers.
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif
#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

enum Precision { F32 = 0, BF16 = 1, INT8 = 2 };

// Memory of zeros that the system hands out when it is first touched.
template <class T>
class Array {
public:
    Array() = default;
    explicit Array(size_t count) {
        const size_t align = count * sizeof(T) < (size_t(4) << 20) ? 64 : size_t(2) << 20;
        raw_.reset(std::calloc(count * sizeof(T) + align, 1));
        if (!raw_) throw std::bad_alloc();
        data_ = (T*)(((uintptr_t)raw_.get() + align - 1) / align * align);
#if defined(MADV_HUGEPAGE)
        if (align > 64) madvise(data_, count * sizeof(T), MADV_HUGEPAGE);
#endif
    }
    T* get() const { return data_; }
    T& operator[](size_t i) const { return data_[i]; }

private:
    struct Free {
        void operator()(void* p) const { std::free(p); }
    };
    std::unique_ptr<void, Free> raw_;
    T* data_ = nullptr;
};

// A matrix in panels of sixteen columns, so that a product reads it once from front to end: f32 as [n/16][k][16],
// bf16 as [n/16][k/2][16][2], int8 as [n/16][k/4][16][4] with a scale for each column n.
struct Weight {
    int n = 0, k = 0;
    Precision precision = F32;
    Array<char> storage;
    const char* data = nullptr;
    Array<float> scales;
    const float* scale = nullptr;
    Array<int32_t> prefix;
    const int32_t* sums = nullptr;  // [k/16 + 1][n]: int8 weights added up over the terms before each sixteenth
    const float* bias = nullptr;
};

struct Kernels {
    void (*product)(const Weight&, const float*, long, int, int, int, int, int, const float*, bool, float*, long,
                    void*);
    void (*attend)(int, const float*, long, const int*, int, int, const void*, const void*, long, bool, float*, long,
                   float*, long);
    void (*norm)(const float*, const float*, const float*, int, int, float*);
    void (*sum)(const float*, const float*, const float*, long, int, int, float*);
    float (*temper)(const float*, const uint8_t*, int, float, float*);
    double (*exponentials)(const float*, float, int, double*);
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

int padded(int n) { return (n + 15) / 16 * 16; }

uint16_t to_bf16(float value) {  // rounded to the nearest, ties to even
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    return uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

void pack(Weight& w, const float* matrix, const float* bias, int n, int k, Precision precision) {
    w.n = n, w.k = k, w.precision = precision, w.bias = bias;
    const size_t size = precision == F32 ? 4 : precision == BF16 ? 2 : 1;
    w.storage = Array<char>(size * n * k + 4096);  // a little more: tiles prefetch past the end
    char* to = w.storage.get();
    w.data = to;
    if (precision == INT8) {
        w.scales = Array<float>(n);
        w.prefix = Array<int32_t>((size_t(k) / 16 + 1) * n);
        w.scale = w.scales.get(), w.sums = w.prefix.get();
    }
    for (int row = 0; row < n; row++) {
        const float* from = matrix + size_t(row) * k;
        float most = 0.0f;
        for (int i = 0; i < k; i++) most = std::max(most, std::fabs(from[i]));
        const float inverse = most > 1e-30f ? 127.0f / most : 0.0f;
        if (precision == INT8) w.scales[row] = most / 127.0f;
        int32_t sum = 0;
        for (int i = 0; i < k; i++) {
            const size_t panel = size_t(row / 16) * k * 16, lane = row % 16;
            if (precision == F32) {
                ((float*)to)[panel + size_t(i) * 16 + lane] = from[i];
            } else if (precision == BF16) {
                ((uint16_t*)to)[panel + size_t(i / 2) * 32 + lane * 2 + i % 2] = to_bf16(from[i]);
            } else {
                const int8_t q = int8_t(std::lrintf(from[i] * inverse));
                ((int8_t*)to)[panel + size_t(i / 4) * 64 + lane * 4 + i % 4] = q;
                sum += q;
                if (i % 16 == 15) w.prefix[(size_t(i) / 16 + 1) * n + row] = sum;
            }
        }
    }
}

// ------------------------------------------------------------------------------------------------------------ threads

void pause() {
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// Threads that run one function together, the caller among them. After a run they stay awake for a moment, as the next
// step follows soon, giving way to whoever wants the core; then they sleep.
class Pool {
public:
    explicit Pool(int size) : size(size), process(getpid()), arrived_(new Flag[size]) {
        for (int t = 1; t < size; t++) threads_.emplace_back(&Pool::work, this, t);
    }

    ~Pool() {
        {
            std::lock_guard<std::mutex> hold(lock_);
            stop_ = true;
            ticket_.fetch_add(1);
        }
        wake_.notify_all();
        for (std::thread& thread : threads_) thread.join();
    }

    void run(void (*job)(void*, int), void* with) {
        std::lock_guard<std::mutex> one_at_a_time(running_);
        job_ = job, with_ = with;
        bool asleep;
        {
            std::lock_guard<std::mutex> hold(lock_);
            ticket_.fetch_add(1, std::memory_order_release);
            asleep = sleeping_ > 0;
        }
        if (asleep) wake_.notify_all();
        job(with, 0);
        barrier(0);
    }

    // Waits until all threads have come here: each counts its own arrivals, on a cache line of its own.
    void barrier(int t) {
        const unsigned mine = arrived_[t].count.load(std::memory_order_relaxed) + 1;
        arrived_[t].count.store(mine, std::memory_order_release);
        for (int other = 0; other < size; other++)
            for (int spins = 0; int(arrived_[other].count.load(std::memory_order_acquire) - mine) < 0; spins++)
                spins < 100 ? pause() : (void)sched_yield();
    }

    const int size;
    const pid_t process;

private:
    struct alignas(128) Flag {
        std::atomic<unsigned> count{0};
    };

    void work(int t) {
        for (unsigned done = 0;;) {
            using Clock = std::chrono::steady_clock;
            const Clock::time_point until = Clock::now() + std::chrono::microseconds(300);
            for (int spins = 0; ticket_.load(std::memory_order_acquire) == done; spins++) {
                if (spins < 100) {
                    pause();
                } else if (Clock::now() < until) {
                    sched_yield();
                } else {
                    std::unique_lock<std::mutex> hold(lock_);
                    sleeping_++;
                    wake_.wait(hold, [&] { return ticket_.load() != done; });
                    sleeping_--;
                }
            }
            done++;
            if (stop_) return;
            job_(with_, t);
            barrier(t);
        }
    }

    std::unique_ptr<Flag[]> arrived_;
    std::vector<std::thread> threads_;
    std::mutex running_, lock_;
    std::condition_variable wake_;
    std::atomic<unsigned> ticket_{0};
    std::atomic<bool> stop_{false};
    int sleeping_ = 0;
    void (*job_)(void*, int) = nullptr;
    void* with_ = nullptr;
};

// -------------------------------------------------------------------------------------------------------------- model

struct Norm {
    const float *gain, *bias;
};

// How heads lie in the columns of queries, keys, values: `groups` of `columns` each, `per_group` heads in a group.
struct Heads {
    int count, width, per_group, groups, columns;
    const float* rotation = nullptr;  // [C][2][E/2], cosines and sines; null without rotary positions
    float scale = 1.0f;

    Heads(int d, int heads) : count(heads), width(d / heads) {
        per_group = std::max(1, 16 / width);
        groups = (count + per_group - 1) / per_group;
        columns = padded(per_group * width);
        scale = 1.0f / std::sqrt(float(width));
    }
    long all() const { return long(groups) * columns; }
};

struct Block {
    Norm before, middle;
    Weight inward, keys_values, out, up, down;  // inward: q, k and v of each group; the shortcut block's: q alone
};

struct Mlp {
    Norm norm;  // of a residual MLP
    Weight layers[3];
};

struct Model {
    int vocab, context, layers, width, feedforward, hidden, features, current, literal;
    std::vector<int> tapped, followed;  // [layers]: whether a block is tapped; whether a residual MLP stands behind it
    int d, taps = 0, sources = 0;       // d: the padded width
    Heads heads{16, 1}, shortcut_heads{16, 1};
    Precision precision;
    const Kernels* kernels;
    Array<float> floats;  // all that is not in a Weight
    const float *embedding, *positions;
    std::vector<Block> blocks;  // the shortcut block last, if there is one
    std::vector<Mlp> residual, feature;
    Norm features_norm, last;
    Weight head;
    std::unique_ptr<Pool> pool;
    int threads;

    bool half() const { return precision != F32; }
    int own_blocks() const { return layers - (taps > 0); }
};

// Takes the tensors in the order in which Python lists them (`_Tensors` in engine.py), which is that of `build`.
class Reader {
public:
    Reader(const float* const* tensors, const int64_t* sizes, int count) : tensors_(tensors), sizes_(sizes), left_(count) {}

    const float* vector(Model& m, int64_t size) {
        const float* from = take(size);
        float* to = m.floats.get() + used_;
        std::memcpy(to, from, size_t(size) * 4);
        used_ += (size + 15) / 16 * 16;
        return to;
    }
    Norm norm(Model& m) {
        const float* gain = vector(m, m.width);
        return {gain, vector(m, m.width)};
    }
    void weight(Model& m, Weight& w, long n, long k, bool bias = true) {
        const float* matrix = take(int64_t(n) * k);
        pack(w, matrix, bias ? vector(m, n) : nullptr, int(n), int(k), m.precision);
    }
    bool exact() const { return ok_ && left_ == 0; }

private:
    const float* take(int64_t size) {
        if (left_ == 0 || *sizes_ != size) {
            ok_ = false;
            throw std::bad_alloc();
        }
        left_--, sizes_++;
        return *tensors_++;
    }
    const float* const* tensors_;
    const int64_t* sizes_;
    int left_;
    int64_t used_ = 0;
    bool ok_ = true;
};

void read_block(Reader& in, Model& m, Block& b, const Heads& heads, bool shortcut) {
    b.before = in.norm(m);
    in.weight(m, b.inward, heads.all() * (shortcut ? 1 : 3), m.d);
    if (shortcut) in.weight(m, b.keys_values, heads.all() * 2, m.d);
    in.weight(m, b.out, m.d, heads.all());
    b.middle = in.norm(m);
    in.weight(m, b.up, padded(m.feedforward), m.d);
    in.weight(m, b.down, m.d, padded(m.feedforward));
}

void read_mlp(Reader& in, Model& m, Mlp& mlp) {
    in.weight(m, mlp.layers[0], padded(m.hidden), m.d);
    in.weight(m, mlp.layers[1], padded(m.hidden), padded(m.hidden));
    in.weight(m, mlp.layers[2], m.d, padded(m.hidden));
}

void build(Model& m, Reader& in, bool rotary) {
    m.embedding = in.vector(m, int64_t(m.vocab) * m.d);
    m.positions = rotary ? nullptr : in.vector(m, int64_t(m.context) * m.d);
    if (rotary) m.heads.rotation = in.vector(m, int64_t(m.context) * m.heads.width);
    if (rotary && m.taps) m.shortcut_heads.rotation = in.vector(m, int64_t(m.context) * m.shortcut_heads.width);
    m.blocks.resize(m.layers);
    for (int i = 0; i < m.own_blocks(); i++) read_block(in, m, m.blocks[i], m.heads, false);
    m.residual.resize(m.layers);
    for (int i = 0; i < m.layers; i++)
        if (m.followed[i]) {
            m.residual[i].norm = in.norm(m);
            read_mlp(in, m, m.residual[i]);
        }
    if (m.taps) {
        m.feature.resize(m.features ? m.taps : 0);
        for (Mlp& mlp : m.feature) read_mlp(in, m, mlp);
        m.features_norm = in.norm(m);
        read_block(in, m, m.blocks.back(), m.shortcut_heads, true);
    }
    m.last = in.norm(m);
    in.weight(m, m.head, padded(m.vocab), m.d, false);
}

// -------------------------------------------------------------------------------------------------------------- state

// What one thread works on. Rows are padded as the matrices are.
struct Worker {
    Array<float> x, h, taps, inward, query;  // for every row of a pass
    Array<float> norm, feature, keys_values, attended, attended_last, hidden, hidden2, part;  // for a chunk of rows
    Array<float> scores;
    Array<char> room;
    std::vector<const float*> inputs;  // of each source; here, as a pass allocates nothing
};

// The caches of some streams (slots) and the memory of a pass. Keys and values of a block:
// [slot][head][position / 16][source][E][position % 16], floats, or bf16 where the weights are narrow.
struct State {
    Model* m;
    int slots, rows, chunk;
    std::vector<Array<char>> keys, values;
    std::vector<size_t> slot_bytes;
    std::vector<Worker> workers;
    Array<float> shared_hidden, parts;
};

constexpr int ROWS_A_THREAD = 24;  // from so many rows a thread on, rows are shared out instead of matrices
constexpr int CHUNK = 72;          // rows that pass through a block together

State* new_state(Model* m, int slots) {
    auto s = std::make_unique<State>();
    s->m = m, s->slots = slots, s->rows = std::max(m->context, slots);
    s->chunk = std::max(CHUNK, m->threads > 1 ? ROWS_A_THREAD * m->threads : 0);
    const size_t rows = s->rows, chunk = std::min(s->chunk, s->rows), d = m->d, hidden = padded(m->hidden);
    const size_t sources = std::max(1, m->sources), blocks = (m->context + 15) / 16;
    for (int i = 0; i < m->layers; i++) {
        const bool shortcut = i >= m->own_blocks();
        const Heads& heads = shortcut ? m->shortcut_heads : m->heads;
        const size_t bytes = heads.count * blocks * (shortcut ? sources : 1) * heads.width * 16 * (m->half() ? 2 : 4);
        s->slot_bytes.push_back(bytes);
        s->keys.emplace_back(bytes * slots);
        s->values.emplace_back(bytes * slots);
    }
    const bool mlps = !m->feature.empty() || std::count(m->followed.begin(), m->followed.end(), 1);
    const size_t widest = std::max({d, hidden, size_t(padded(m->feedforward)), size_t(m->heads.all()),
                                    m->taps ? size_t(m->shortcut_heads.all()) : 0});
    s->workers.resize(m->threads);
    for (Worker& w : s->workers) {
        w.x = Array<float>(rows * d), w.h = Array<float>(rows * d), w.taps = Array<float>(m->taps * rows * d);
        w.inward = Array<float>(rows * m->heads.all() * 3);
        w.norm = Array<float>(chunk * d);
        w.attended = Array<float>(chunk * m->heads.all());
        w.hidden = Array<float>(chunk * std::max(size_t(padded(m->feedforward)), mlps ? hidden : 0));
        w.part = Array<float>(sources * chunk * d);
        w.scores = Array<float>(4 * blocks * sources * 16 + 64);
        w.room = Array<char>((widest * 2 + 4) * chunk * sources + 64);
        w.inputs.resize(sources);
        if (mlps) w.hidden2 = Array<float>(chunk * hidden);
        if (m->taps) {
            w.query = Array<float>(rows * m->shortcut_heads.all());
            w.feature = Array<float>(chunk * sources * d);
            w.keys_values = Array<float>(chunk * sources * m->shortcut_heads.all() * 2);
            w.attended_last = Array<float>(chunk * m->shortcut_heads.all());
        }
    }
    if (m->threads > 1) {
        s->parts = Array<float>(2 * m->threads * sources * chunk * d);
        if (mlps) s->shared_hidden = Array<float>(sources * chunk * hidden);
    }
    return s.release();
}

// ----------------------------------------------------------------------------------------------------------- one pass

// Row r of a pass is token ids[r] of slot slots[r] at position positions[r]; a slot's rows stand together and rise.
struct Pass {
    State* s;
    int rows;
    const int32_t *ids, *slots, *positions;
    int wanted;  // the last rows, whose logits are wanted
    float* logits;
    bool by_rows;
    int chunk;
};

// One thread's part of a pass.
class Sweep {
public:
    Sweep(const Pass& pass, int t)
        : p(pass), s(*pass.s), m(*pass.s->m), k(*m.kernels), w(s.workers[t]), t(t), d(m.d),
          slice(pass.by_rows ? 0 : t), slices(pass.by_rows ? 1 : m.threads) {}

    void run() {
        each(&Sweep::embed);
        for (number = 0; number < m.layers; number++) {
            const bool shortcut = number >= m.own_blocks();
            block = &m.blocks[number];
            heads = shortcut ? &m.shortcut_heads : &m.heads;
            each(shortcut ? &Sweep::shortcut_keys : &Sweep::keys);
            if (p.by_rows && m.threads > 1) m.pool->barrier(t);  // a row attends to keys of others
            each(&Sweep::attention);
            if (m.tapped[number]) tap++;
        }
        if (p.by_rows && m.threads > 1) m.pool->barrier(t);  // the last rows may be another's
        logits();
    }

private:
    using Step = void (Sweep::*)(int, int);

    // Calls a step with this thread's rows, from and to, chunk by chunk.
    void each(Step step) {
        if (!p.by_rows) return (this->*step)(0, p.rows);
        for (int from = t * p.chunk; from < p.rows; from += m.threads * p.chunk)
            (this->*step)(from, std::min(from + p.chunk, p.rows));
    }

    // This thread's share of n things.
    int begin(int n) const { return int(long(n) * slice / slices); }
    int end(int n) const { return int(long(n) * (slice + 1) / slices); }

    void embed(int from, int to) {
        for (int r = from; r < to; r++) {
            float* x = w.x.get() + long(r) * d;
            std::memcpy(x, m.embedding + long(p.ids[r]) * d, size_t(d) * 4);
            if (m.positions)
                for (int i = 0; i < d; i++) x[i] += m.positions[long(p.positions[r]) * d + i];
        }
    }

    void normalise(const Norm& by, const float* x, int rows, float* y) {
        for (int r = 0; r < rows; r++) k.norm(x + long(r) * d, by.gain, by.bias, m.width, d, y + long(r) * d);
    }

    void product(const Weight& by, const float* x, long ldx, int rows, int n0, int n1, int k0, int k1, bool gelu,
                 float* y, long ldy, bool bias = true) {
        k.product(by, x, ldx, rows, n0, n1, k0, k1, bias ? by.bias : nullptr, gelu, y, ldy, w.room.get());
    }

    // Queries (and, but for the shortcut block, keys and values) of this thread's groups; keys and values are kept.
    void keys(int from, int to) {
        const int columns = 3 * heads->columns, rows = to - from;
        const long all = 3 * heads->all();
        float* y = w.inward.get() + from * all;
        normalise(block->before, w.x.get() + long(from) * d, rows, w.norm.get());
        product(block->inward, w.norm.get(), d, rows, begin(heads->groups) * columns, end(heads->groups) * columns, 0,
                d, false, y, all);
        for (int r = from; r < to; r++, y += all) {
            for (int g = begin(heads->groups); g < end(heads->groups); g++) {
                float* q = y + long(g) * columns;
                rotate(q, g, p.positions[r]);
                rotate(q + heads->columns, g, p.positions[r]);
                keep(q + heads->columns, q + 2 * heads->columns, g, r, 0, 1);
            }
            scale(y, columns);
        }
    }

    // The same for the shortcut block: queries from x, keys and values from the features of the taps.
    void shortcut_keys(int from, int to) {
        const int columns = heads->columns, rows = to - from, sources = m.sources;
        const int g0 = begin(heads->groups), g1 = end(heads->groups);
        const long all = heads->all();
        float* y = w.query.get() + from * all;
        normalise(block->before, w.x.get() + long(from) * d, rows, w.norm.get());
        product(block->inward, w.norm.get(), d, rows, g0 * columns, g1 * columns, 0, d, false, y, all);
        for (int r = from; r < to; r++, y += all) {
            for (int g = g0; g < g1; g++) rotate(y + long(g) * columns, g, p.positions[r]);
            scale(y, columns);
        }
        const float** inputs = w.inputs.data();
        for (int l = 0; l < sources; l++)
            inputs[l] = (l < m.taps ? w.taps.get() + long(l) * s.rows * d : w.x.get()) + long(from) * d;
        if (m.features) {
            mlps(m.feature.data(), m.taps, inputs, rows);
            for (int l = 0; l < m.taps; l++) {
                float* out = w.feature.get() + long(l) * rows * d;
                add_up(rows, l, m.feature[l].layers[2].bias, nullptr, out);
                inputs[l] = out;
            }
            done_adding();
        }
        for (int l = 0; l < sources; l++) {
            float* kv = w.keys_values.get();
            normalise(m.features_norm, inputs[l], rows, w.norm.get());
            product(block->keys_values, w.norm.get(), d, rows, 2 * g0 * columns, 2 * g1 * columns, 0, d, false, kv,
                    2 * all);
            for (int r = from; r < to; r++, kv += 2 * all)
                for (int g = g0; g < g1; g++) {
                    float* keys = kv + 2L * g * columns;
                    rotate(keys, g, p.positions[r]);
                    keep(keys, keys + columns, g, r, l, sources);
                }
        }
    }

    void rotate(float* x, int group, int position) {
        if (!heads->rotation) return;
        const int half = heads->width / 2;
        const float *cos = heads->rotation + long(position) * heads->width, *sin = cos + half;
        for (int head = group * heads->per_group; head < std::min((group + 1) * heads->per_group, heads->count);
             head++, x += heads->width)
            for (int i = 0; i < half; i++) {
                const float first = x[i], second = x[i + half];
                x[i] = first * cos[i] - second * sin[i];
                x[i + half] = second * cos[i] + first * sin[i];
            }
    }

    // The softmax's scale, on the queries of this thread's groups.
    void scale(float* y, int columns) {
        for (int g = begin(heads->groups); g < end(heads->groups); g++)
            for (int i = 0; i < heads->columns; i++) y[long(g) * columns + i] *= heads->scale;
    }

    size_t place(int row, int head, int sources) const {  // of a head's keys in its slot, in numbers
        const size_t blocks = size_t(m.context + 15) / 16;
        return (size_t(p.slots[row]) * heads->count + head) * blocks * sources * heads->width * 16;
    }

    // Write a group's keys and values of one row and source.
    void keep(const float* keys, const float* values, int group, int row, int source, int sources) {
        const int position = p.positions[row], width = heads->width;
        const int last = std::min((group + 1) * heads->per_group, heads->count);
        for (int head = group * heads->per_group; head < last; head++, keys += width, values += width) {
            const size_t at =
                place(row, head, sources) + (size_t(position / 16) * sources + source) * width * 16 + position % 16;
            if (m.half()) {
                uint16_t *k = (uint16_t*)s.keys[number].get() + at, *v = (uint16_t*)s.values[number].get() + at;
                for (int e = 0; e < width; e++) k[e * 16] = to_bf16(keys[e]), v[e * 16] = to_bf16(values[e]);
            } else {
                float *k = (float*)s.keys[number].get() + at, *v = (float*)s.values[number].get() + at;
                for (int e = 0; e < width; e++) k[e * 16] = keys[e], v[e * 16] = values[e];
            }
        }
    }

    // Attention of this thread's groups, then the block's MLP and what stands behind the block.
    void attention(int from, int to) {
        const bool shortcut = number >= m.own_blocks();
        const int rows = to - from, columns = heads->columns, width = heads->width, per_row = shortcut ? 1 : 3;
        const int sources = shortcut ? m.sources : 1;
        const long all = heads->all(), ldq = all * per_row;
        const long lds = long(m.context + 15) / 16 * sources * 16;
        float* out = shortcut ? w.attended_last.get() : w.attended.get();
        const float* query = (shortcut ? w.query : w.inward).get();
        const size_t size = m.half() ? 2 : 4, a_head = place(from, 1, sources) - place(from, 0, sources);
        for (int head = begin(heads->groups) * heads->per_group;
             head < std::min(end(heads->groups) * heads->per_group, heads->count); head++) {
            const int group = head / heads->per_group, inside = head % heads->per_group * width;
            for (int r = from, next; r < to; r = next) {
                for (next = r + 1; next < to && p.slots[next] == p.slots[r];) next++;
                const size_t at = place(r, head, sources) * size;
                k.attend(next - r, query + r * ldq + long(group) * columns * per_row + inside, ldq, p.positions + r,
                         width, sources, s.keys[number].get() + at, s.values[number].get() + at, a_head, m.half(),
                         w.scores.get(), lds, out + (r - from) * all + long(group) * columns + inside, all);
            }
        }
        float* x = w.x.get() + long(from) * d;
        float* h = (m.literal ? w.h : w.x).get() + long(from) * d;
        product(block->out, out, all, rows, 0, d, begin(heads->groups) * columns, end(heads->groups) * columns, false,
                parts(0, rows), d, false);
        add_up(rows, 0, block->out.bias, x, h);
        done_adding();

        const int hidden = padded(m.feedforward), h0 = begin(hidden / 16) * 16, h1 = end(hidden / 16) * 16;
        normalise(block->middle, h, rows, w.norm.get());
        product(block->up, w.norm.get(), d, rows, h0, h1, 0, d, true, w.hidden.get(), hidden);
        product(block->down, w.hidden.get(), hidden, rows, 0, d, h0, h1, false, parts(0, rows), d, false);
        add_up(rows, 0, block->down.bias, x, x);
        done_adding();

        if (m.followed[number]) {
            const Mlp& mlp = m.residual[number];
            const float* input = w.norm.get();
            normalise(mlp.norm, x, rows, w.norm.get());
            mlps(&mlp, 1, &input, rows);
            add_up(rows, 0, mlp.layers[2].bias, x, x);
            done_adding();
        }
        if (m.tapped[number]) std::memcpy(w.taps.get() + (long(tap) * s.rows + from) * d, x, size_t(rows) * d * 4);
    }

    // Some MLPs of two hidden layers, one input each; their parts are left for `add_up`.
    void mlps(const Mlp* some, int count, const float* const* inputs, int rows) {
        const int hidden = padded(m.hidden), h0 = begin(hidden / 16) * 16, h1 = end(hidden / 16) * 16;
        const bool together = slices > 1;  // every thread needs the whole first hidden layer
        const long size = long(rows) * hidden;
        auto first = [&](int l) { return together ? s.shared_hidden.get() + l * size : w.hidden.get(); };
        if (together) {
            for (int l = 0; l < count; l++)
                product(some[l].layers[0], inputs[l], d, rows, h0, h1, 0, d, true, first(l), hidden);
            m.pool->barrier(t);
        }
        for (int l = 0; l < count; l++) {
            if (!together) product(some[l].layers[0], inputs[l], d, rows, h0, h1, 0, d, true, first(l), hidden);
            product(some[l].layers[1], first(l), hidden, rows, h0, h1, 0, hidden, true, w.hidden2.get(), hidden);
            product(some[l].layers[2], w.hidden2.get(), hidden, rows, 0, d, h0, h1, false, parts(l, rows), d, false);
        }
    }

    // Where this thread's part of sum number `which` is, (rows, D).
    float* parts(int which, int rows) {
        if (slices == 1) return w.part.get() + long(which) * rows * d;
        return s.parts.get() + turn * stride() * slices + slice * stride() + long(which) * rows * d;
    }

    long stride() const { return long(std::max(1, m.sources)) * std::min(s.chunk, s.rows) * d; }

    // y = base + bias + all threads' parts, for this thread's own copy of the rows.
    void add_up(int rows, int which, const float* bias, const float* base, float* y) {
        if (slices > 1 && which == 0) m.pool->barrier(t);
        const float* first = slices == 1 ? w.part.get() : s.parts.get() + turn * stride() * slices;
        for (int r = 0; r < rows; r++, y += d)
            k.sum(base ? base + long(r) * d : nullptr, bias, first + (long(which) * rows + r) * d, stride(), slices, d,
                  y);
    }

    // The parts' memory alternates: who is early writes where nobody reads any more.
    void done_adding() { turn ^= 1; }

    void logits() {
        const int panels = m.head.n / 16, n0 = int(long(panels) * t / m.threads) * 16;
        const int n1 = int(long(panels) * (t + 1) / m.threads) * 16;
        const int most = std::min(s.chunk, s.rows);
        for (int from = 0; from < p.wanted; from += most) {
            const int rows = std::min(most, p.wanted - from);
            for (int i = 0; i < rows; i++) {
                const int r = p.rows - p.wanted + from + i;
                const Worker& owner = p.by_rows ? s.workers[r / p.chunk % m.threads] : w;
                normalise(m.last, owner.x.get() + long(r) * d, 1, w.norm.get() + long(i) * d);
            }
            product(m.head, w.norm.get(), d, rows, n0, n1, 0, d, false, p.logits + long(from) * m.head.n, m.head.n,
                    false);
        }
    }

    const Pass& p;
    State& s;
    Model& m;
    const Kernels& k;
    Worker& w;
    const int t, d, slice, slices;
    int number = 0, tap = 0, turn = 0;
    const Block* block = nullptr;
    const Heads* heads = nullptr;
};

void run_pass(Pass& pass) {
    Model& m = *pass.s->m;
    pass.by_rows = m.threads == 1 || pass.rows >= ROWS_A_THREAD * m.threads;
    // Several chunks a thread, as later rows attend to more.
    const int even = (pass.rows / (4 * m.threads) + 5) / 6 * 6;
    pass.chunk = m.threads == 1 ? CHUNK : std::clamp(even, 24, CHUNK);
    if (m.threads == 1) return Sweep(pass, 0).run();
    if (m.pool->process != getpid()) {  // a fork has no threads: let the old pool be, and start another
        (void)m.pool.release();
        m.pool = std::make_unique<Pool>(m.threads);
    }
    m.pool->run([](void* with, int t) { Sweep(*(const Pass*)with, t).run(); }, &pass);
}

// ----------------------------------------------------------------------------------------------------------- sampling

struct Choice {
    float temperature;
    int top_k;
    double top_p, min_p;
};

// Draws ids from rows of logits as shortcut_gen/sampling.py has it: temperature, top-k, top-p, min-p, then the first id
// whose cumulative probability exceeds a uniform number. Nothing is sorted but what shares a bucket, an eighth of an
// octave of probability, with the last id that is kept.
class Chooser {
public:
    int choose(const Kernels& kernels, const float* logits, int n, const uint8_t* allowed, const Choice& how,
               double uniform) {
        n_ = n;
        row_.resize(padded(n)), mass_.resize(padded(n));
        const bool greedy = how.temperature == 0.0f;
        const float top = kernels.temper(logits, allowed, n, greedy ? 1.0f : how.temperature, row_.data());
        if (!(top > -std::numeric_limits<float>::infinity())) return greedy ? 0 : n - 1;  // as torch
        if (greedy) return int(std::find(row_.begin(), row_.end(), top) - row_.begin());
        double all = kernels.exponentials(row_.data(), top, padded(n), mass_.data());
        if (how.top_k > 0 && how.top_k < n) all = keep_likeliest(how.top_k);
        if (how.top_p < 1.0) all = keep_share(how.top_p * all);
        if (how.min_p > 0.0) all = keep_above(top + float(std::log(how.min_p)));
        const double target = uniform * all;
        double sum = 0.0;
        int last = 0;
        for (int i = 0; i < n; i++) {
            sum += mass_[i];
            if (sum > target) return i;
        }
        for (int i = 0; i < n; i++)  // rounding in the sums put the number past the end
            if (mass_[i] > 0.0) last = i;
        return last;
    }

private:
    static constexpr int BUCKETS = 257;  // the lowest holds all below 2^-32 of the likeliest

    static int bucket(double mass) {  // rises with the mass, which is at most 1: exponent and three bits of it
        const float narrow = float(mass);
        int32_t bits;
        std::memcpy(&bits, &narrow, 4);
        return std::max((bits >> 20) - 1016 + BUCKETS - 1, 0);
    }

    // Sorts the ids of one bucket by mass, the likeliest first; those of lower ones lose their mass.
    void cut_below(int last) {
        order_.clear();
        for (int i = 0; i < n_; i++) {
            const int b = bucket(mass_[i]);
            if (b == last) order_.push_back(i);
            mass_[i] = b < last ? 0.0 : mass_[i];
        }
        std::stable_sort(order_.begin(), order_.end(), [&](int a, int b) { return mass_[a] > mass_[b]; });
    }

    double total() const {
        double all = 0.0;
        for (int i = 0; i < n_; i++) all += mass_[i];
        return all;
    }

    // Keeps the k ids of the largest logits, and all that equal the last of them.
    double keep_likeliest(int k) {
        int counts[BUCKETS] = {};
        for (int i = 0; i < n_; i++) counts[bucket(mass_[i])]++;
        int last = BUCKETS - 1, before = 0;
        for (; last > 0 && before + counts[last] < k; last--) before += counts[last];
        cut_below(last);
        std::stable_sort(order_.begin(), order_.end(), [&](int a, int b) { return row_[a] > row_[b]; });
        for (size_t i = size_t(k - before); i < order_.size(); i++)
            if (row_[order_[i]] < row_[order_[k - before - 1]]) mass_[order_[i]] = 0.0;
        return total();
    }

    // Keeps the fewest ids, the likeliest first, that reach so much mass.
    double keep_share(double share) {
        double masses[BUCKETS] = {};
        for (int i = 0; i < n_; i++) masses[bucket(mass_[i])] += mass_[i];
        int last = BUCKETS - 1;
        double before = 0.0;
        for (; last > 0 && before + masses[last] < share; last--) before += masses[last];
        cut_below(last);
        for (int id : order_) {
            if (before >= share) mass_[id] = 0.0;
            before += mass_[id];
        }
        return total();
    }

    double keep_above(float floor) {
        for (int i = 0; i < n_; i++) mass_[i] = row_[i] < floor ? 0.0 : mass_[i];
        return total();
    }

    int n_ = 0;
    std::vector<float> row_;
    std::vector<double> mass_;
    std::vector<int> order_;
};

}  // namespace

// -------------------------------------------------------------------------------------------------- what Python calls

EXPORT int shortcut_abi() { return 1; }

// The best instruction set of this machine: 0 plain, 1 AVX2, 2 AVX-512, 3 AVX-512 with bf16 and int8 products.
EXPORT int shortcut_level() { return best_level(); }

// shape: vocab, context, layers, width, heads, feedforward, hidden, shortcut heads, features (0 the taps themselves,
// 1 MLPs), attend current, literal, rotary; then for each block 1 where it is tapped, and 2 where an MLP stands behind
// it. Null where the tensors do not fit it, or memory is short.
EXPORT Model* shortcut_model(const int32_t* shape, const float* const* tensors, const int64_t* sizes, int count,
                             int precision, int level, int threads) try {
    auto m = std::make_unique<Model>();
    m->vocab = shape[0], m->context = shape[1], m->layers = shape[2], m->width = shape[3];
    m->feedforward = shape[5], m->hidden = shape[6], m->features = shape[8], m->current = shape[9];
    m->literal = shape[10], m->d = padded(m->width);
    m->heads = Heads(m->width, shape[4]);
    for (int i = 0; i < m->layers; i++) {
        m->tapped.push_back(shape[12 + i] & 1);
        m->followed.push_back(shape[12 + i] >> 1 & 1);
        m->taps += m->tapped.back();
    }
    if (m->taps) m->shortcut_heads = Heads(m->width, shape[7]);
    m->sources = m->taps ? m->taps + m->current : 0;
    m->precision = Precision(precision), m->threads = threads;
    m->kernels = LEVELS[std::min(level, best_level())];
    size_t floats = 0;
    for (int i = 0; i < count; i++) floats += size_t(sizes[i] + 15) / 16 * 16;
    m->floats = Array<float>(floats);
    Reader reader(tensors, sizes, count);
    build(*m, reader, shape[11] != 0);
    if (!reader.exact()) return nullptr;
    if (threads > 1) m->pool = std::make_unique<Pool>(threads);
    return m.release();
} catch (...) {
    return nullptr;
}

EXPORT void shortcut_free_model(Model* m) { delete m; }

// Caches for so many streams. Null where memory is short.
EXPORT State* shortcut_state(Model* m, int slots) try {
    return new_state(m, slots);
} catch (...) {
    return nullptr;
}

EXPORT void shortcut_free_state(State* s) { delete s; }

// One pass over some rows (see Pass); logits: (wanted, V padded to a multiple of sixteen).
EXPORT int shortcut_pass(State* s, int rows, const int32_t* ids, const int32_t* slots, const int32_t* positions,
                         int wanted, float* logits) try {
    Pass pass = {s, rows, ids, slots, positions, wanted, logits, true, 0};
    run_pass(pass);
    return 0;
} catch (...) {
    return 1;
}

// Make slot `to` hold the first `length` positions of slot `from`.
EXPORT void shortcut_copy(State* s, int to, int from, int length) {
    for (int i = 0; i < s->m->layers; i++) {
        const int heads = (i < s->m->own_blocks() ? s->m->heads : s->m->shortcut_heads).count;
        const size_t bytes = s->slot_bytes[i], a_head = bytes / heads, blocks = size_t(s->m->context + 15) / 16;
        const size_t used = a_head / blocks * (size_t(length + 15) / 16);
        for (int head = 0; head < heads; head++) {
            const size_t into = bytes * to + a_head * head, out = bytes * from + a_head * head;
            std::memcpy(s->keys[i].get() + into, s->keys[i].get() + out, used);
            std::memcpy(s->values[i].get() + into, s->values[i].get() + out, used);
        }
    }
}

// The next id of each row of logits (rows, V; `stride` floats apart). allowed: for each row V bytes, or null where all
// may come.
EXPORT void shortcut_choose(const float* logits, long stride, int rows, int vocab, const uint8_t* const* allowed,
                            const double* uniforms, double temperature, int top_k, double top_p, double min_p,
                            int32_t* ids) {
    const Kernels& kernels = *LEVELS[best_level()];
    const Choice how = {float(temperature), top_k, top_p, min_p};
    thread_local Chooser chooser;
    for (int r = 0; r < rows; r++)
        ids[r] = chooser.choose(kernels, logits + r * stride, vocab, allowed[r], how, uniforms[r]);
}
