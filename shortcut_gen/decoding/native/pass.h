// One pass over some rows, in one of two ways. Few rows: each thread has a slice of every matrix (its groups of heads, its
// part of the hidden columns) and all rows; the residual stream is added up from the threads' parts, one barrier for each
// sum. Many rows: each thread has some rows and the whole of every matrix, one barrier for each block's keys and values.

#pragma once

#include "state.h"

namespace {

// How to draw the next id of each row. how: each row's settings; allowed: for each row V bytes, or null where all may
// come; ids: what is drawn. twins: null where no row is guided, else for each row the logits of its twin, or null, from
// which its own are moved away by `guidance` times what they differ by; what is said of its surprise is by its own.
struct Draw {
    const Choice* how;
    const uint8_t* const* allowed;
    const double* uniforms;
    int32_t* ids;
    const float* const* twins;
    const float* guidance;
};

// Row r of a pass is token ids[r] of slot slots[r] at position positions[r]; a slot's rows stand together and rise.
struct Pass {
    State* s;
    int rows;
    const int32_t *ids, *slots, *positions;
    int wanted;  // the last rows, whose logits are wanted
    float* logits;
    const Draw* draw;  // null where the logits are all that is wanted
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
        if (p.draw) draw();
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
                keep(q + heads->columns, q + 2 * heads->columns, g, r, 0);
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
                    keep(keys, keys + columns, g, r, l);
                }
        }
    }

    void rotate(float* x, int group, int position) {
        if (!heads->rotation) return;
        const float* by = heads->rotation + long(position) * heads->width;
        for (int head = group * heads->per_group; head < std::min((group + 1) * heads->per_group, heads->count); head++)
            k.rotate(x, by, heads->width / 2), x += heads->width;
    }

    // The softmax's scale, on the queries of this thread's groups.
    void scale(float* y, int columns) {
        for (int g = begin(heads->groups); g < end(heads->groups); g++)
            for (int i = 0; i < heads->columns; i++) y[long(g) * columns + i] *= heads->scale;
    }

    // A group's values of one row with the first block's, which are kept when they come.
    void mix(float* values, int group, int row) {
        const int from = group * heads->per_group * heads->width;
        const int n = std::min((group + 1) * heads->per_group, heads->count) * heads->width - from;
        float* first = s.first.get() + long(row) * m.width + from;
        if (!block->shares) std::memcpy(first, values, size_t(n) * 4);
        else
            for (int i = 0; i < n; i++) values[i] = block->shares[0] * first[i] + block->shares[1] * values[i];
    }

    // Write a group's keys and values of one row and source.
    void keep(const float* keys, float* values, int group, int row, int source) {
        const Cache& cache = s.caches[number];
        const int width = heads->width, last = std::min((group + 1) * heads->per_group, heads->count);
        if (m.value_residual) mix(values, group, row);
        for (int head = group * heads->per_group; head < last; head++, keys += width, values += width)
            k.keep(keys, values, width, cache.of(p.slots[row], head), p.positions[row], source, cache.sources);
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
        const Cache& cache = s.caches[number];
        const int first = begin(heads->groups) * heads->per_group;
        const int last = std::min(end(heads->groups) * heads->per_group, heads->count) - 1;
        // Stream by stream, so that what a head asks for ahead of the next is still there when that comes.
        for (int r = from, next; r < to; r = next) {
            for (next = r + 1; next < to && p.slots[next] == p.slots[r];) next++;
            for (int head = first; head <= last; head++) {
                const int group = head / heads->per_group, inside = head % heads->per_group * width;
                Cached cached = cache.of(p.slots[r], head);
                const bool other = head == last && next < to;
                const long heads_on = other ? long(p.slots[next] - p.slots[r]) * heads->count + first - head : 1;
                cached.ahead = heads_on * long(cache.a_head());
                k.attend(next - r, query + r * ldq + long(group) * columns * per_row + inside, ldq, p.positions + r,
                         width, sources, cached, w.scores.get(), lds,
                         out + (r - from) * all + long(group) * columns + inside, all, look(r, head), w.room.get());
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
        if (m.swiglu) {
            product(block->up, w.norm.get(), d, rows, 2 * h0, 2 * h1, 0, d, false, w.gated.get(), 2 * hidden);
            k.gate(w.gated.get(), rows, hidden, h0, h1, w.hidden.get());
        } else {
            product(block->up, w.norm.get(), d, rows, h0, h1, 0, d, true, w.hidden.get(), hidden);
        }
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

    // What the attention of one head is asked besides, of a stream's rows from r on.
    Look look(int r, int head) const {
        Look look = {nullptr, nullptr, long(heads->count) * m.sources, 0};
        if (number < m.own_blocks()) return look;
        const std::vector<float>& bias = s.bias[p.slots[r]];
        if (!bias.empty()) look.bias = bias.data();
        const int first = p.rows - std::min(p.wanted, s.slots);
        look.first = std::max(0, first - r);
        if (s.shares) look.shares = s.shares + std::max(0, r - first) * look.stride + long(head) * m.sources;
        return look;
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

    void draw() {
        if (m.threads > 1) m.pool->barrier(t);  // each thread has made some columns of the logits
        const Draw& draw = *p.draw;
        for (int r = t; r < p.wanted; r += m.threads) {
            const float* logits = p.logits + long(r) * m.head.n;
            const float* twin = draw.twins ? draw.twins[r] : nullptr;
            const float* from = twin ? moved(logits, twin, draw.guidance[r]) : logits;
            draw.ids[r] = w.chooser.choose(k, from, m.vocab, draw.allowed[r], draw.how[r], draw.uniforms[r]);
            if (s.surprise && r < s.slots) s.surprise[r] = w.chooser.surprise(k, logits, m.vocab, draw.ids[r]);
        }
    }

    // In two passes, so that no compiler rounds once where PyTorch rounds twice.
    const float* moved(const float* logits, const float* twin, float guidance) {
        float* to = w.guided.get();
        for (int i = 0; i < m.vocab; i++) to[i] = (logits[i] - twin[i]) * guidance;
        for (int i = 0; i < m.vocab; i++) to[i] += logits[i];
        return to;
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

}  // namespace
