// The native engine: one pass of a ShortcutLM over some tokens, on a CPU, and the draw of the next ids. Python (engine.py)
// calls the functions here through ctypes. The rooms behind them, from the bottom up, all parts of this one source:
//
//   memory.h   arrays            levels.h   the instruction sets, for each of which kernels.h is compiled:
//   weights.h  packed matrices              products.h, attend*.h, caches.h, rows.h: the arithmetic
//   threads.h  the pool          model.h    sizes and weights
//   sampling.h the draw          state.h    caches and memory       pass.h  the pass itself
//
// Letters for shapes as in the Python code: D width, E head width, L sources, V vocabulary, C context. Every matrix is
// padded to multiples of sixteen, what pads it is 0 and stays 0. Attention heads stand in groups that fill a multiple
// of sixteen columns, so that a thread can own some.

#include "pass.h"

// -------------------------------------------------------------------------------------------------- what Python calls

EXPORT int shortcut_abi() { return 8; }

// The best instruction set of this machine: 0 plain, 1 AVX2, 2 AVX-512, 3 AVX-512 with bf16 and int8 products.
EXPORT int shortcut_level() { return best_level(); }

// Null where the tensors do not fit the shape, or memory is short.
EXPORT Model* shortcut_model(const Shape* shape, const float* const* tensors, const int64_t* sizes, int count,
                             int precision, int level, int threads) try {
    auto m = std::make_unique<Model>();
    m->vocab = shape->vocab, m->context = shape->context, m->layers = shape->layers, m->width = shape->width;
    m->feedforward = shape->feedforward, m->hidden = shape->feature_hidden, m->features = shape->feature_mlps;
    m->current = shape->attend_current, m->literal = shape->literal, m->value_residual = shape->value_residual;
    m->swiglu = shape->swiglu, m->d = padded(m->width);
    m->heads = Heads(m->width, shape->heads);
    for (int i = 0; i < m->layers; i++) {
        m->tapped.push_back(shape->blocks[i] & 1);
        m->followed.push_back(shape->blocks[i] >> 1 & 1);
        m->taps += m->tapped.back();
    }
    if (m->taps) m->shortcut_heads = Heads(m->width, shape->shortcut_heads);
    m->sources = m->taps ? m->taps + m->current : 0;
    m->precision = Precision(precision), m->threads = threads;
    m->kernels = LEVELS[std::min(level, best_level())];
    size_t floats = 0, panels = 0;  // what each would take if it had all: no more is touched than is used
    for (int i = 0; i < count; i++) {
        floats += size_t(sizes[i] + 15) / 16 * 16;
        panels += packed(size_t(sizes[i]), m->precision);
    }
    m->floats = Array<float>(floats), m->panels = Room(panels);
    Reader reader(tensors, sizes, count);
    build(*m, reader, shape->rotary != 0);
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

// One pass over some rows (see Pass) and, if `draw` is not null, the draw of the ids that follow them.
// logits: (wanted, V padded to a multiple of sixteen). Returns 0; 1 where memory is short, 2 where an id lies outside the
// vocabulary, 3 where a position lies outside the context, 4 where there are more rows or slots than the state has:
// nothing is done then.
EXPORT int shortcut_pass(State* s, int rows, const int32_t* ids, const int32_t* slots, const int32_t* positions,
                         int wanted, float* logits, const Draw* draw) try {
    if (rows < 1 || rows > s->rows || wanted < 0 || wanted > rows) return 4;
    for (int r = 0; r < rows; r++) {
        if (slots[r] < 0 || slots[r] >= s->slots) return 4;
        if (ids[r] < 0 || ids[r] >= s->m->vocab) return 2;
        if (positions[r] < 0 || positions[r] >= s->m->context) return 3;
    }
    Pass pass = {s, rows, ids, slots, positions, wanted, logits, draw, true, 0};
    run_pass(pass);
    return 0;
} catch (...) {
    return 1;
}

// Where later passes write what they see (see State): null for nothing.
EXPORT void shortcut_watch(State* s, float* shares, float* surprise) { s->shares = shares, s->surprise = surprise; }

// What is added to the scores of each of a slot's sources from now on; null for nothing. Returns 1 where memory is short.
EXPORT int shortcut_bias(State* s, int slot, const float* bias) try {
    s->bias[slot] = bias ? std::vector<float>(bias, bias + s->m->sources) : std::vector<float>();
    return 0;
} catch (...) {
    return 1;
}

// Make slot `to` hold the first `length` positions of slot `from`.
EXPORT void shortcut_copy(State* s, int to, int from, int length) {
    for (int i = 0; i < s->m->layers; i++) {
        const Cache& cache = s->caches[i];
        const size_t places = size_t(length + 15) / 16 * 16 * cache.sources, a_place = cache.a_head() / cache.places();
        const size_t bytes = places * a_place * kept_size(cache.precision);
        for (int head = 0; head < cache.heads->count; head++) {
            const Cached into = cache.of(to, head), out = cache.of(from, head);
            std::memcpy(into.keys, out.keys, bytes);
            std::memcpy(into.values, out.values, bytes);
            if (!out.key_scales) continue;
            std::memcpy(into.key_scales, out.key_scales, places * 2);
            std::memcpy(into.value_scales, out.value_scales, places * 2);
        }
    }
}

// The next id of each of some rows of logits, `stride` floats apart; see Draw.
EXPORT int shortcut_choose(const Model* m, const float* logits, long stride, int rows, int vocab,
                           const Draw* draw) try {
    thread_local Chooser chooser;
    for (int r = 0; r < rows; r++)
        draw->ids[r] = chooser.choose(*m->kernels, logits + r * stride, vocab, draw->allowed[r], draw->how[r],
                                      draw->uniforms[r]);
    return 0;
} catch (...) {
    return 1;
}
