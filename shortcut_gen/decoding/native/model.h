// A model in the engine: its sizes and weights, read from Python's tensors.

#pragma once

#include "levels.h"
#include "threads.h"

namespace {

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

// A model's sizes and options, as Python has them (`Shape` in library.py).
struct Shape {
    int32_t vocab, context, layers, width, heads, feedforward, feature_hidden, shortcut_heads;
    int32_t feature_mlps;   // 0: the taps themselves
    int32_t attend_current, literal, rotary, value_residual;
    int32_t swiglu;         // 0: GELU
    const int32_t* blocks;  // of each block 1 where it is tapped, and 2 where an MLP stands behind it
};

struct Block {
    Norm before, middle;
    Weight inward, keys_values, out, down;  // inward: q, k and v of each group; the shortcut block's: q alone
    Weight up;                              // with SwiGLU, sixteen columns of the gate, then sixteen that it multiplies
    const float* shares = nullptr;  // of the first block's values and of its own; null where it keeps its own alone
};

struct Mlp {
    Norm norm;  // of a residual MLP
    Weight layers[3];
};

struct Model {
    int vocab, context, layers, width, feedforward, hidden, features, current, literal, value_residual, swiglu;
    std::vector<int> tapped, followed;  // [layers]: whether a block is tapped; whether a residual MLP stands behind it
    int d, taps = 0, sources = 0;       // d: the padded width
    Heads heads{16, 1}, shortcut_heads{16, 1};
    Precision precision;
    const Kernels* kernels;
    Room panels;          // of all Weights
    Array<float> floats;  // all that is not in a Weight
    const float *embedding, *positions;
    std::vector<Block> blocks;  // the shortcut block last, if there is one
    std::vector<Mlp> residual, feature;
    Norm features_norm, last;
    Weight head;
    std::unique_ptr<Pool> pool;
    int threads;

    Precision kept() const { return precision == INT8 && !kernels->dots ? BF16 : precision; }  // keys and values
    int own_blocks() const { return layers - (taps > 0); }
};

// Takes the tensors in the order in which Python lists them (packing.py), which is that of `build`.
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
        pack(w, m.panels, matrix, bias ? vector(m, n) : nullptr, int(n), int(k), m.precision);
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
    in.weight(m, b.up, padded(m.feedforward) * (m.swiglu ? 2 : 1), m.d);
    in.weight(m, b.down, m.d, padded(m.feedforward));
    if (m.value_residual && &b != &m.blocks[0]) b.shares = in.vector(m, 2);
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

}  // namespace
