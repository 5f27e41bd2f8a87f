// What decoding some streams takes: their caches, and the memory that a pass works in.

#pragma once

#include "model.h"
#include "sampling.h"

namespace {

// What one thread works on. Rows are padded as the matrices are.
struct Worker {
    Array<float> x, h, taps, inward, query;  // for every row of a pass
    Array<float> norm, feature, keys_values, attended, attended_last, gated, hidden, hidden2, part;  // for a chunk of rows
    Array<float> scores, guided;
    Array<char> room;
    std::vector<const float*> inputs;  // of each source; here, as a pass allocates nothing
    Chooser chooser;
};

// A block's keys and values, [slot][head][position / 16][source][E][position % 16], as narrow as `Model::kept` (but for
// the order of bytes: attend8.h), and, of bytes, their scales, [slot][head][position / 16][source][position % 16].
struct Cache {
    const Heads* heads;
    Precision precision;
    int blocks, sources;  // blocks of sixteen positions
    char *keys = nullptr, *values = nullptr;
    uint16_t *key_scales = nullptr, *value_scales = nullptr;

    // Of so many slots: the bytes of keys or values, and the number of scales of either.
    size_t bytes(int slots) const { return size_t(slots) * heads->count * a_head() * kept_size(precision); }
    size_t scales(int slots) const { return precision == INT8 ? size_t(slots) * heads->count * places() : 0; }
    void lay(Room& room, int slots) {
        keys = room.take<char>(bytes(slots)), values = room.take<char>(bytes(slots));
        if (precision != INT8) return;
        key_scales = room.take<uint16_t>(scales(slots)), value_scales = room.take<uint16_t>(scales(slots));
    }
    // `blocks` is odd: or all heads' numbers would lie a power of two apart and drive each other out of the processor's
    // caches.
    size_t places() const { return size_t(blocks) * sources * 16; }  // of a head of a slot: a number for each
    size_t a_head() const { return places() * kept_rows(heads->width, precision); }

    // A head of a slot; `ahead` is for who calls to say.
    Cached of(int slot, int head) const {
        const size_t which = size_t(slot) * heads->count + head, at = which * a_head() * kept_size(precision);
        const size_t scale = precision == INT8 ? which * places() : 0;
        return {precision, keys + at, values + at, key_scales + scale, value_scales + scale, 0};
    }
};

// The caches of some streams (slots) and the memory of a pass.
struct State {
    Model* m;
    int slots, rows, chunk;
    std::vector<Cache> caches;  // of each block
    Room room;                  // theirs
    std::vector<Worker> workers;
    Array<float> shared_hidden, parts;
    std::vector<std::vector<float>> bias;  // of each slot: the logarithms of its taps' gains; empty where they are 1
    // What is looked at, where anything is: of the last rows whose logits are wanted, at most as many as there are slots,
    // [rows][heads][sources], the shares of the last block's attention, and [rows], the surprise of what is drawn.
    float *shares = nullptr, *surprise = nullptr;
    Array<float> first;  // for every row of a pass, the first block's values: [H][E]; with a value residual
};

constexpr int ROWS_A_THREAD = 24;  // from so many rows a thread on, rows are shared out instead of matrices
constexpr int CHUNK = 72;          // rows that pass through a block together

State* new_state(Model* m, int slots) {
    auto s = std::make_unique<State>();
    s->bias.resize(slots);
    s->m = m, s->slots = slots, s->rows = std::max(m->context, slots);
    s->chunk = std::max(CHUNK, m->threads > 1 ? ROWS_A_THREAD * m->threads : 0);
    const size_t rows = s->rows, chunk = std::min(s->chunk, s->rows), d = m->d, hidden = padded(m->hidden);
    const size_t sources = std::max(1, m->sources), blocks = (m->context + 15) / 16;
    size_t kept = 0;
    for (int i = 0; i < m->layers; i++) {
        const bool shortcut = i >= m->own_blocks();
        s->caches.push_back({shortcut ? &m->shortcut_heads : &m->heads, m->kept(), int(blocks | 1),
                             shortcut ? m->sources : 1});
        const Cache& cache = s->caches.back();
        kept += 2 * (Room::whole(cache.bytes(slots)) + Room::whole(cache.scales(slots) * 2));
    }
    s->room = Room(kept);
    for (Cache& cache : s->caches) cache.lay(s->room, slots);
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
        if (m->swiglu) w.gated = Array<float>(chunk * padded(m->feedforward) * 2);
        w.part = Array<float>(sources * chunk * d);
        w.scores = Array<float>(4 * blocks * sources * 16 + 64);
        w.room = Array<char>((widest * 2 + 4) * chunk * sources + 64);
        w.inputs.resize(sources);
        w.chooser = Chooser(m->vocab), w.guided = Array<float>(m->vocab);
        if (mlps) w.hidden2 = Array<float>(chunk * hidden);
        if (m->taps) {
            w.query = Array<float>(rows * m->shortcut_heads.all());
            w.feature = Array<float>(chunk * sources * d);
            w.keys_values = Array<float>(chunk * sources * m->shortcut_heads.all() * 2);
            w.attended_last = Array<float>(chunk * m->shortcut_heads.all());
        }
    }
    if (m->value_residual) s->first = Array<float>(rows * m->width);
    if (m->threads > 1) {
        s->parts = Array<float>(2 * m->threads * sources * chunk * d);
        if (mlps) s->shared_hidden = Array<float>(sources * chunk * hidden);
    }
    return s.release();
}

}  // namespace
