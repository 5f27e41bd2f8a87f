// Attention over floats and bf16; kernels.h includes this file, inside its namespace.

FN Floats widen(const float* from) { return load<Floats>(from); }

FN Floats widen(const uint16_t* from) {
#if WIDTH == 16  // GCC makes halves of the conversion below
    return (Floats)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)from)), 16);
#elif WIDTH == 8
    return (Floats)_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)from)), 16);
#else
    return (Floats)(__builtin_convertvector(load<Halves>(from), Words) << 16);
#endif
}

// Scores of R queries with C blocks of keys: sixteen positions each, `width` rows of sixteen. A lone query, of a step,
// waits for memory: what is read next (the values at the same place) is asked for meanwhile.
template <int R, int C, class T>
FN void score(const float* query, long ldq, int width, const T* keys, const T* next, float* scores, long lds) {
    Floats sum[R][C * PARTS] = {};
    for (int e = 0; e < width; e++) {
        Floats key[C * PARTS];
        if (R == 1 && e * int(sizeof(T)) % 4 == 0)
            UNROLL
            for (int c = 0; c < C; c++) __builtin_prefetch(next + (long(c) * width + e) * 16);
        UNROLL
        for (int i = 0; i < C * PARTS; i++)
            key[i] = widen(keys + (long(i / PARTS) * width + e) * 16 + i % PARTS * WIDTH);
        UNROLL
        for (int r = 0; r < R; r++)
            UNROLL
            for (int i = 0; i < C * PARTS; i++) sum[r][i] += key[i] * query[r * ldq + e];
    }
    leave<R>(sum, scores, lds);
}

// The values' rows e to e + N, weighted by R queries' probabilities, over all blocks. Next come another head's keys.
template <int R, int N, class T>
FN void weigh(const float* p, long ldp, int blocks, int width, const T* values, const T* next, const float* inverse,
              float* out, long ldo) {
    Floats sum[R][N] = {};
    for (int b = 0; b < blocks; b++, values += long(width) * 16, next += long(width) * 16) {
        if (R == 1)
            UNROLL
            for (int e = 0; e < N; e += 4 / int(sizeof(T))) __builtin_prefetch(next + e * 16);
        UNROLL
        for (int part = 0; part < PARTS; part++) {
            Floats row[N];
            UNROLL
            for (int e = 0; e < N; e++) row[e] = widen(values + e * 16 + part * WIDTH);
            UNROLL
            for (int r = 0; r < R; r++) {
                Floats some = load<Floats>(p + r * ldp + b * 16 + part * WIDTH);
                UNROLL
                for (int e = 0; e < N; e++) sum[r][e] += row[e] * some;
            }
        }
    }
    UNROLL
    for (int r = 0; r < R; r++)
        UNROLL
        for (int e = 0; e < N; e++) out[r * ldo + e] = total(sum[r][e]) * inverse[r];
}

constexpr int32_t LANES[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

// Adds the sources' biases, if any, to a row of scores, and gives what lies behind `position` none. Returns the largest.
FN float top_of(float* row, int blocks, int sources, int position, const float* bias) {
    if (bias)
        for (int i = 0; i < blocks * PARTS; i++)
            store(row + i * WIDTH, load<Floats>(row + i * WIDTH) + bias[i / PARTS % sources]);
    const int whole = (position + 1) / 16;  // blocks of positions that are all seen
    for (int i = whole * sources; i < blocks; i++)
        for (int part = 0; part < PARTS; part++) {
            float* some = row + i * 16 + part * WIDTH;
            const int seen = position + 1 - (i / sources * 16 + part * WIDTH);  // of these, the first so many
            store(some, load<Ints>(LANES) < seen ? load<Floats>(some) : all(-1e30f));
        }
    Floats most = load<Floats>(row);
    for (int i = WIDTH; i < blocks * 16; i += WIDTH) most = upper(most, load<Floats>(row + i));
    return largest(most);
}

// A probability, but for the sum of all.
FN Floats mass(Floats score, float top) { return score > -1e29f ? exponential(score - top) : Floats{}; }

// Each source's share of a row of scores, blocks of sixteen whose sources take turns.
FN void share(const float* row, int blocks, int sources, float top, float* out) {
    float whole = 0.0f;
    for (int l = 0; l < sources; l++) {
        Floats sum = {};
        for (int b = l; b < blocks; b += sources)
            UNROLL
            for (int part = 0; part < PARTS; part++) sum += mass(load<Floats>(row + b * 16 + part * WIDTH), top);
        whole += out[l] = total(sum);
    }
    for (int l = 0; l < sources; l++) out[l] /= whole;
}

// The probabilities of a row of scores, not yet divided by their sum. Returns one over the sum.
FN float soften(float* row, int blocks, float top) {
    Floats sum = {};
    for (int i = 0; i < blocks * 16; i += WIDTH) {
        Floats p = mass(load<Floats>(row + i), top);
        sum += p;
        store(row + i, p);
    }
    return 1.0f / total(sum);
}

// Where the shares of row r of a stream's rows go; null where nobody asks.
FN float* shares_of(const Look& look, int r) {
    return look.shares && r >= look.first ? look.shares + (r - look.first) * look.stride : nullptr;
}

// R queries of one head, at rising positions, over a stream's keys and values. Query r sees the positions up to
// position[r]. `row0` is the first query's number among those that are looked at.
template <int R, class T>
TARGET static void attend_to(const float* query, long ldq, const int* position, int width, int sources,
                             const Cached& cached, float* scores, long lds, float* out, long ldo, const Look& look,
                             int row0) {
    const int blocks = (position[R - 1] / 16 + 1) * sources;
    const long size = long(width) * 16;
    const T *keys = (const T*)cached.keys, *values = (const T*)cached.values, *next = keys + cached.ahead;
    constexpr int C = R == 1 ? 4 : WIDTH == 16 ? 2 : 1;
    int b = 0;
    for (; b + C <= blocks; b += C) score<R, C>(query, ldq, width, keys + b * size, values + b * size, scores + b * 16, lds);
    for (; b < blocks; b++) score<R, 1>(query, ldq, width, keys + b * size, values + b * size, scores + b * 16, lds);
    float inverse[R];
    for (int r = 0; r < R; r++) {
        float* row = scores + r * lds;
        const float top = top_of(row, blocks, sources, position[r], look.bias);
        if (float* shares = shares_of(look, row0 + r)) share(row, blocks, sources, top, shares);
        inverse[r] = soften(row, blocks, top);
    }
    constexpr int N = R == 1 ? 8 : 4;
    int e = 0;
    for (; e + N <= width; e += N)
        weigh<R, N>(scores, lds, blocks, width, values + e * 16, next + e * 16, inverse, out + e, ldo);
    for (; e < width; e++)
        weigh<R, 1>(scores, lds, blocks, width, values + e * 16, next + e * 16, inverse, out + e, ldo);
}
