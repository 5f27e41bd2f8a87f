// A head's rows, from and to the tensors that PyTorch has; kernels.cpp includes this file, inside its namespace.

// A tensor of float32 or bfloat16: rows of E lie together, the strides (in elements) are those of B, H, T and L.
struct Rows {
    void* data;
    const int64_t* strides;
};

struct Shape {
    int batch, heads, length, sources, width, half;
    int keys() const { return length * sources; }
    int padded() const { return (keys() + PANEL - 1) / PANEL * PANEL; }
    size_t row(int batch, int head) const { return ((size_t)batch * heads + head) * length; }  // the head's first
    float scale() const { return 1.0f / std::sqrt((float)width); }
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

// A thread's gradients of one head, as floats.
struct Gradients {
    Gradients(const Shape& shape, bool wanted) {
        if (!wanted) return;
        queries = std::vector<float>((size_t)shape.length * shape.width);
        keys = values = std::vector<float>((size_t)shape.padded() * shape.width);
    }
    // Those of keys and values are sums.
    void clear() {
        std::fill(keys.begin(), keys.end(), 0.0f);
        std::fill(values.begin(), values.end(), 0.0f);
    }
    void write(const Shape& shape, const Rows* to, int batch, int head) {
        copy<false>(shape, to[0], batch, head, 1, queries.data());
        copy<false>(shape, to[1], batch, head, shape.sources, keys.data());
        copy<false>(shape, to[2], batch, head, shape.sources, values.data());
    }
    std::vector<float> queries, keys, values;
};

// A thread's rows of one head.
struct Scratch {
    explicit Scratch(const Shape& shape, bool grads)
        : queries((size_t)shape.length * shape.width), keys((size_t)shape.padded() * shape.width), values(keys.size()),
          grad(grads ? queries.size() : 0), gradients(shape, grads) {}
    std::vector<float> queries, keys, values, grad;
    Gradients gradients;
};

// `work` for every head of every sequence, on some threads. False where no memory or no thread is available.
template <class Packed, class Work>
bool for_each_head(const Shape& shape, int threads, bool grads, const Work& work) {
    std::atomic<int> next{0};
    std::atomic<bool> good{true};
    auto run = [&] {
        try {
            Packed scratch(shape, grads);
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

#if defined(HAS_TILES)

// The rows of one head, as they are.
void copy_halves(const Shape& shape, const Rows& rows, int batch, int head, int sources, uint16_t* packed) {
    const int64_t* stride = rows.strides;
    const uint16_t* from = (const uint16_t*)rows.data + batch * stride[0] + head * stride[1];
    for (int t = 0; t < shape.length; t++)
        for (int l = 0; l < sources; l++, packed += shape.width)
            std::memcpy(packed, from + t * stride[2] + l * stride[3], sizeof(uint16_t) * shape.width);
}

// Rows of E as E rows.
void turn(const std::vector<uint16_t>& rows, int width, std::vector<uint16_t>& turned) {
    const size_t count = rows.size() / width;
    for (size_t i = 0; i < count; i++)
        for (int e = 0; e < width; e++) turned[e * count + i] = rows[i * width + e];
}

// A thread's rows of one head.
struct Scratch16 {
    Scratch16(const Shape& shape, bool grads)
        : queries((size_t)shape.length * shape.width), keys((size_t)shape.padded() * shape.width), values(keys.size()),
          turned(keys.size()), grad(grads ? queries.size() : 0), grad_floats(grad.size()), gradients(shape, grads) {}
    amx::Rows16 packed(const Shape& shape, const Rows* in, int batch, int head, bool grads) {
        copy_halves(shape, in[0], batch, head, 1, queries.data());
        copy_halves(shape, in[1], batch, head, shape.sources, keys.data());
        copy_halves(shape, in[2], batch, head, shape.sources, values.data());
        turn(grads ? keys : values, shape.width, turned);
        return {queries.data(), keys.data(), values.data(), turned.data(), shape.length, shape.sources,
                shape.padded(), shape.scale()};
    }
    std::vector<uint16_t> queries, keys, values, turned, grad;
    std::vector<float> grad_floats;
    Gradients gradients;
};

#endif

Head packed(const Shape& shape, const Rows* in, int batch, int head, Scratch& to) {
    copy<true>(shape, in[0], batch, head, 1, to.queries.data());
    copy<true>(shape, in[1], batch, head, shape.sources, to.keys.data());
    copy<true>(shape, in[2], batch, head, shape.sources, to.values.data());
    return {to.queries.data(), to.keys.data(), to.values.data(), shape.length, shape.sources,
            shape.scale()};
}
