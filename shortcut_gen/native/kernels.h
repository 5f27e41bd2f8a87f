// The arithmetic of the engine, compiled once for each instruction set: engine.cpp includes this file again and again,
// with LEVEL (the namespace), TARGET (the attribute that switches the instructions on), WIDTH (floats in a register),
// TILE_ROWS and TILE_PANELS (what of a product stays in registers) and DOT (whether there are bf16 and int8 products).
//
// Vectors are the compiler's own (GCC, Clang), so that the same lines become AVX-512, AVX2, SSE or NEON.
// Every sum runs over its terms in one order, whatever the tile: a row's result does not depend on its company.

namespace LEVEL {

#define FN static inline __attribute__((always_inline)) TARGET

typedef float Floats __attribute__((vector_size(4 * WIDTH)));
typedef int32_t Ints __attribute__((vector_size(4 * WIDTH)));
typedef uint32_t Words __attribute__((vector_size(4 * WIDTH)));
typedef uint16_t Halves __attribute__((vector_size(2 * WIDTH)));
typedef double Doubles __attribute__((vector_size(4 * WIDTH)));
typedef int64_t Longs __attribute__((vector_size(4 * WIDTH)));

constexpr int PARTS = 16 / WIDTH;  // registers that hold sixteen floats

template <class V, class T>
FN V load(const T* from) {
    V v;
    std::memcpy(&v, from, sizeof v);
    return v;
}

template <class V, class T>
FN void store(T* to, V v) {
    std::memcpy(to, &v, sizeof v);
}

FN Floats all(float value) { return value - Floats{}; }

FN Floats larger(Floats a, Floats b) { return a > b ? a : b; }

// The sum of a register's floats.
FN float total(Floats v) {
#if WIDTH == 16
    return _mm512_reduce_add_ps((__m512)v);
#else
    float part[WIDTH];
    store(part, v);
    for (int half = WIDTH / 2; half; half /= 2)
        for (int i = 0; i < half; i++) part[i] += part[i + half];
    return part[0];
#endif
}

// e^x to 2 units in the last place: 2^n times a polynomial (Cephes' expf), n found by adding 1.5·2^23.
FN Floats exponential(Floats x) {
    const Floats magic = all(12582912.0f);
    x = x > -87.0f ? x : all(-87.0f);
    x = x < 88.0f ? x : all(88.0f);
    Floats shifted = x * 1.44269504088896341f + magic;
    Ints n = (Ints)shifted - (Ints)magic;
    Floats whole = shifted - magic;
    Floats r = x - whole * 0.693359375f;
    r = r - whole * -2.12194440e-4f;
    Floats p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    return (Floats)((Ints)p + (n << 23));
}

// GELU by tanh, as x times a sigmoid: 0.5·(1 + tanh u) = 1 / (1 + e^(-2u)).
FN Floats gelu(Floats x) {
    Floats u = x * (x * x * 0.044715f + 1.0f) * -1.5957691216057308f;
    return x / (exponential(u) + 1.0f);
}

// ---------------------------------------------------------------------------------------------------- matrix products

// What becomes of a tile's sums: (sum [* scale] + bias), through GELU if asked, at y[row * ldy + column].
struct Finish {
    const float* bias;
    bool gelu;
    float* y;
    long ldy;
};

// The loops over a tile's registers are all unrolled: one that is not would keep the tile in memory.
template <int R, int N>
FN void leave(const Floats (&sum)[R][N], float* y, long ldy) {
    UNROLL
    for (int r = 0; r < R; r++)
        UNROLL
        for (int i = 0; i < N; i++) store(y + r * ldy + i * WIDTH, sum[r][i]);
}

// Sums that `leave` left in y, made what they should be. `rows`: the rows' scales, where the sums are whole numbers.
template <int R, int P>
FN void finish(const Weight& w, const Finish& end, int column, const float* rows) {
    if (!end.bias && !end.gelu && !w.scale) return;
    for (int r = 0; r < R; r++)
        for (int i = column; i < column + 16 * P; i += WIDTH) {
            float* y = end.y + r * end.ldy + i;
            Floats v = rows ? __builtin_convertvector(load<Ints>(y), Floats) * rows[r] : load<Floats>(y);
            if (w.scale) v *= load<Floats>(w.scale + i);
            if (end.bias) v += load<Floats>(end.bias + i);
            if (end.gelu) v = gelu(v);
            store(y, v);
        }
}

// R rows of x against P panels of sixteen columns, the terms k0 to k1. x begins at term k0.
template <int R, int P>
TARGET static void tile_f32(const Weight& w, const float* x, long ldx, int column, int k0, int k1, const Finish& end) {
    Floats sum[R][P * PARTS] = {};
    const long panel = 16L * w.k;
    const float* weights = (const float*)w.data + column / 16 * panel + 16L * k0;
    for (int k = 0; k < k1 - k0; k++, weights += 16) {
        Floats row[P * PARTS];
        UNROLL
        for (int i = 0; i < P * PARTS; i++) row[i] = load<Floats>(weights + i / PARTS * panel + i % PARTS * WIDTH);
        if (R == 1)
            UNROLL
            for (int p = 0; p < P; p++) __builtin_prefetch(weights + (P + p) * panel);
        UNROLL
        for (int r = 0; r < R; r++)
            UNROLL
            for (int i = 0; i < P * PARTS; i++) sum[r][i] += row[i] * x[r * ldx + k];
    }
    leave<R>(sum, end.y + column, end.ldy);
    finish<R, P>(w, end, column, nullptr);
}

#if DOT

// x: pairs of bf16, as `round_rows` leaves them.
template <int R, int P>
TARGET static void tile_bf16(const Weight& w, const uint16_t* x, long ldx, int column, int k0, int k1, const float*,
                             const Finish& end) {
    Floats sum[R][P] = {};
    const long panel = 16L * w.k;
    const uint16_t* weights = (const uint16_t*)w.data + column / 16 * panel + 16L * k0;
    for (int k = 0; k < k1 - k0; k += 2, weights += 32) {
        __m512bh row[P];
        UNROLL
        for (int p = 0; p < P; p++) row[p] = (__m512bh)_mm512_loadu_si512(weights + p * panel);
        if (R == 1)
            UNROLL
            for (int p = 0; p < P; p++) __builtin_prefetch(weights + (P + p) * panel);
        UNROLL
        for (int r = 0; r < R; r++) {
            int32_t pair;
            std::memcpy(&pair, x + r * ldx + k, 4);
            __m512bh both = (__m512bh)_mm512_set1_epi32(pair);
            UNROLL
            for (int p = 0; p < P; p++) sum[r][p] = (Floats)_mm512_dpbf16_ps((__m512)sum[r][p], row[p], both);
        }
    }
    leave<R>(sum, end.y + column, end.ldy);
    finish<R, P>(w, end, column, nullptr);
}

// x: quadruples of bytes, 128 + round(x / scale of the row); what the 128 adds is taken off by the weights' sums.
template <int R, int P>
TARGET static void tile_int8(const Weight& w, const uint8_t* x, long ldx, int column, int k0, int k1,
                             const float* scales, const Finish& end) {
    __m512i sum[R][P];
    UNROLL
    for (int p = 0; p < P; p++) {
        const int32_t* sums = w.sums + column + 16 * p;
        __m512i before = _mm512_loadu_si512(sums + long(k0 / 16) * w.n);
        __m512i whole = _mm512_loadu_si512(sums + long(k1 / 16) * w.n);
        __m512i offset = _mm512_slli_epi32(_mm512_sub_epi32(before, whole), 7);
        UNROLL
        for (int r = 0; r < R; r++) sum[r][p] = offset;
    }
    const long panel = 16L * w.k;
    const int8_t* weights = (const int8_t*)w.data + column / 16 * panel + 16L * k0;
    for (int k = 0; k < k1 - k0; k += 4, weights += 64) {
        __m512i row[P];
        UNROLL
        for (int p = 0; p < P; p++) row[p] = _mm512_loadu_si512(weights + p * panel);
        if (R == 1)
            UNROLL
            for (int p = 0; p < P; p++) __builtin_prefetch(weights + (P + p) * panel);
        UNROLL
        for (int r = 0; r < R; r++) {
            int32_t four;
            std::memcpy(&four, x + r * ldx + k, 4);
            __m512i bytes = _mm512_set1_epi32(four);
            UNROLL
            for (int p = 0; p < P; p++) sum[r][p] = _mm512_dpbusd_epi32(sum[r][p], bytes, row[p]);
        }
    }
    UNROLL
    for (int r = 0; r < R; r++)
        UNROLL
        for (int p = 0; p < P; p++) _mm512_storeu_si512(end.y + r * end.ldy + column + 16 * p, sum[r][p]);
    finish<R, P>(w, end, column, scales);
}

// Rows of floats as bf16, rounded to the nearest.
TARGET static void round_rows(const float* x, long ldx, int rows, int k, uint16_t* to) {
    for (int r = 0; r < rows; r++)
        for (int i = 0; i < k; i += 16)
            _mm256_storeu_si256((__m256i*)(to + long(r) * k + i),
                                (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(x + r * ldx + i)));
}

// Rows of floats as bytes about 128, with a scale for each row.
TARGET static void quantise_rows(const float* x, long ldx, int rows, int k, uint8_t* to, float* scales) {
    for (int r = 0; r < rows; r++) {
        const float* row = x + r * ldx;
        __m512 most = _mm512_setzero_ps();
        for (int i = 0; i < k; i += 16) most = _mm512_max_ps(most, _mm512_abs_ps(_mm512_loadu_ps(row + i)));
        float top = _mm512_reduce_max_ps(most);
        scales[r] = top / 127.0f;
        __m512 inverse = _mm512_set1_ps(top > 1e-30f ? 127.0f / top : 0.0f);
        for (int i = 0; i < k; i += 16) {
            __m512i q = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(row + i), inverse));
            _mm_storeu_si128((__m128i*)(to + long(r) * k + i),
                             _mm512_cvtepi32_epi8(_mm512_add_epi32(q, _mm512_set1_epi32(128))));
        }
    }
}

#else

// Without such products the weights become floats on their way, and x stays as it is.
template <int R, int P>
TARGET static void tile_bf16(const Weight& w, const float* x, long ldx, int column, int k0, int k1, const float*,
                             const Finish& end) {
    Floats sum[R][P * PARTS] = {};
    const long panel = 16L * w.k;
    const uint16_t* weights = (const uint16_t*)w.data + column / 16 * panel + 16L * k0;
    for (int k = 0; k < k1 - k0; k += 2, weights += 32)
        UNROLL
        for (int i = 0; i < P * PARTS; i++) {
            Words pairs = load<Words>(weights + i / PARTS * panel + i % PARTS * 2 * WIDTH);
            Floats even = (Floats)(pairs << 16), odd = (Floats)(pairs & 0xffff0000u);
            UNROLL
            for (int r = 0; r < R; r++) {
                sum[r][i] += even * x[r * ldx + k];
                sum[r][i] += odd * x[r * ldx + k + 1];
            }
        }
    leave<R>(sum, end.y + column, end.ldy);
    finish<R, P>(w, end, column, nullptr);
}

template <int R, int P>
TARGET static void tile_int8(const Weight& w, const float* x, long ldx, int column, int k0, int k1, const float*,
                             const Finish& end) {
    Floats sum[R][P * PARTS] = {};
    const long panel = 16L * w.k;
    const int8_t* weights = (const int8_t*)w.data + column / 16 * panel + 16L * k0;
    for (int k = 0; k < k1 - k0; k += 4, weights += 64)
        UNROLL
        for (int i = 0; i < P * PARTS; i++) {
            Ints four = load<Ints>(weights + i / PARTS * panel + i % PARTS * 4 * WIDTH);
            UNROLL
            for (int byte = 0; byte < 4; byte++) {
                Floats row = __builtin_convertvector((four << (24 - 8 * byte)) >> 24, Floats);
                UNROLL
                for (int r = 0; r < R; r++) sum[r][i] += row * x[r * ldx + k + byte];
            }
        }
    leave<R>(sum, end.y + column, end.ldy);
    finish<R, P>(w, end, column, nullptr);
}

#endif

// The tile of so many rows, at most R.
template <int P, int R, class X>
FN void tile(const Weight& w, int rows, const X* x, long ldx, int column, int k0, int k1, const float* scales,
             const Finish& end) {
    if constexpr (R > 1) {
        if (rows < R) {
            tile<P, R - 1>(w, rows, x, ldx, column, k0, k1, scales, end);
            return;
        }
    }
    if constexpr (std::is_same_v<X, float>) {
        if (w.precision == F32) return tile_f32<R, P>(w, x, ldx, column, k0, k1, end);
#if !DOT
        if (w.precision == BF16) return tile_bf16<R, P>(w, x, ldx, column, k0, k1, scales, end);
        return tile_int8<R, P>(w, x, ldx, column, k0, k1, scales, end);
#endif
    }
#if DOT
    if constexpr (std::is_same_v<X, uint16_t>) return tile_bf16<R, P>(w, x, ldx, column, k0, k1, scales, end);
    if constexpr (std::is_same_v<X, uint8_t>) return tile_int8<R, P>(w, x, ldx, column, k0, k1, scales, end);
#endif
}

template <class X>
TARGET static void tiles(const Weight& w, const X* x, long ldx, int rows, int n0, int n1, int k0, int k1,
                         const float* scales, const Finish& end) {
    for (int column = n0; column < n1;) {
        const int panels = (n1 - column) / 16;
        const int wide = rows == 1 ? 4 : TILE_PANELS;
        const int step = rows == 1 ? 1 : TILE_ROWS;
        for (int r = 0; r < rows; r += step) {
            const int some = rows - r < step ? rows - r : step;
            Finish part = {end.bias, end.gelu, end.y + r * end.ldy, end.ldy};
            const float* scale = scales ? scales + r : nullptr;
            if (panels < wide)
                tile<1, TILE_ROWS>(w, some, x + r * ldx, ldx, column, k0, k1, scale, part);
            else if (rows == 1)
                tile<4, 1>(w, some, x, ldx, column, k0, k1, scale, part);
            else
                tile<TILE_PANELS, TILE_ROWS>(w, some, x + r * ldx, ldx, column, k0, k1, scale, part);
        }
        column += panels < wide ? 16 : 16 * wide;
    }
}

// y[r, n] = sum over k of x[r, k] · w[n, k] for the columns n0 to n1 and the terms k0 to k1, multiples of sixteen.
// x and y begin at their row 0, term 0 and column 0. `room`: bytes for the rows as bf16 or int8.
TARGET static void product(const Weight& w, const float* x, long ldx, int rows, int n0, int n1, int k0, int k1,
                           const float* bias, bool through_gelu, float* y, long ldy, void* room) {
    if (n0 >= n1) return;
    const Finish end = {bias, through_gelu, y, ldy};
    x += k0;
#if DOT
    const int k = k1 - k0;
    if (w.precision == BF16) {
        round_rows(x, ldx, rows, k, (uint16_t*)room);
        return tiles(w, (const uint16_t*)room, k, rows, n0, n1, k0, k1, nullptr, end);
    }
    if (w.precision == INT8) {
        float* scales = (float*)room;
        uint8_t* bytes = (uint8_t*)(scales + rows);
        quantise_rows(x, ldx, rows, k, bytes, scales);
        return tiles(w, (const uint8_t*)bytes, k, rows, n0, n1, k0, k1, scales, end);
    }
#endif
    (void)room;
    tiles(w, x, ldx, rows, n0, n1, k0, k1, nullptr, end);
}

// ---------------------------------------------------------------------------------------------------------- attention

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

// R queries of one head, at rising positions, over a stream's keys and values: blocks of sixteen positions, in each
// block `sources` times `width` rows of sixteen; the next head's lie `a_head` numbers further on. Query r sees the
// positions up to position[r].
template <int R, class T>
TARGET static void attend_to(const float* query, long ldq, const int* position, int width, int sources, const T* keys,
                             const T* values, long a_head, float* scores, long lds, float* out, long ldo) {
    const int blocks = (position[R - 1] / 16 + 1) * sources;
    const long size = long(width) * 16;
    const T* next = keys + a_head;
    constexpr int C = R == 1 ? 4 : WIDTH == 16 ? 2 : 1;
    int b = 0;
    for (; b + C <= blocks; b += C) score<R, C>(query, ldq, width, keys + b * size, values + b * size, scores + b * 16, lds);
    for (; b < blocks; b++) score<R, 1>(query, ldq, width, keys + b * size, values + b * size, scores + b * 16, lds);
    float inverse[R];
    for (int r = 0; r < R; r++) {
        float* row = scores + r * lds;
        const int whole = (position[r] + 1) / 16;  // blocks of positions that are all seen
        for (int i = whole * sources; i < blocks; i++)
            for (int j = 0; j < 16; j++)
                if (i / sources * 16 + j > position[r]) row[i * 16 + j] = -1e30f;
        Floats most = load<Floats>(row);
        for (int i = WIDTH; i < blocks * 16; i += WIDTH) most = larger(most, load<Floats>(row + i));
        float top = most[0];
        for (int i = 1; i < WIDTH; i++) top = most[i] > top ? most[i] : top;
        Floats sum = {};
        for (int i = 0; i < blocks * 16; i += WIDTH) {
            Floats s = load<Floats>(row + i);
            Floats p = s > -1e29f ? exponential(s - top) : Floats{};
            sum += p;
            store(row + i, p);
        }
        inverse[r] = 1.0f / total(sum);
    }
    constexpr int N = R == 1 ? 8 : 4;
    int e = 0;
    for (; e + N <= width; e += N)
        weigh<R, N>(scores, lds, blocks, width, values + e * 16, next + e * 16, inverse, out + e, ldo);
    for (; e < width; e++)
        weigh<R, 1>(scores, lds, blocks, width, values + e * 16, next + e * 16, inverse, out + e, ldo);
}

TARGET static void attend(int rows, const float* query, long ldq, const int* position, int width, int sources,
                          const void* keys, const void* values, long a_head, bool half, float* scores, long lds,
                          float* out, long ldo) {
    for (int r = 0; r < rows;) {
        const float* q = query + r * ldq;
        float* to = out + r * ldo;
        const bool four = rows - r >= 4;
        if (half) {
            const uint16_t *k = (const uint16_t*)keys, *v = (const uint16_t*)values;
            if (four) attend_to<4>(q, ldq, position + r, width, sources, k, v, a_head, scores, lds, to, ldo);
            else attend_to<1>(q, ldq, position + r, width, sources, k, v, a_head, scores, lds, to, ldo);
        } else {
            const float *k = (const float*)keys, *v = (const float*)values;
            if (four) attend_to<4>(q, ldq, position + r, width, sources, k, v, a_head, scores, lds, to, ldo);
            else attend_to<1>(q, ldq, position + r, width, sources, k, v, a_head, scores, lds, to, ldo);
        }
        r += four ? 4 : 1;
    }
}

// --------------------------------------------------------------------------------------------------------------- rows

// Layer norm of one row of `width` floats; what pads it to `padded` becomes 0.
TARGET static void norm(const float* x, const float* gain, const float* bias, int width, int padded, float* y) {
    const int whole = width / WIDTH * WIDTH;
    Floats sum = {};
    for (int i = 0; i < whole; i += WIDTH) sum += load<Floats>(x + i);
    float mean = total(sum);
    for (int i = whole; i < width; i++) mean += x[i];
    mean /= float(width);
    Floats squares = {};
    for (int i = 0; i < whole; i += WIDTH) {
        Floats d = load<Floats>(x + i) - mean;
        squares += d * d;
    }
    float variance = total(squares);
    for (int i = whole; i < width; i++) variance += (x[i] - mean) * (x[i] - mean);
    const float inverse = 1.0f / std::sqrt(variance / float(width) + 1e-5f);
    for (int i = 0; i < whole; i += WIDTH)
        store(y + i, (load<Floats>(x + i) - mean) * inverse * load<Floats>(gain + i) + load<Floats>(bias + i));
    for (int i = whole; i < width; i++) y[i] = (x[i] - mean) * inverse * gain[i] + bias[i];
    for (int i = width; i < padded; i++) y[i] = 0.0f;
}

// y = base (if any) + bias + the parts, in their order; n is a multiple of sixteen.
TARGET static void sum(const float* base, const float* bias, const float* parts, long stride, int count, int n,
                       float* y) {
    for (int i = 0; i < n; i += WIDTH) {
        Floats v = load<Floats>(parts + i);
        for (int part = 1; part < count; part++) v += load<Floats>(parts + part * stride + i);
        v += load<Floats>(bias + i);
        if (base) v += load<Floats>(base + i);
        store(y + i, v);
    }
}

// Logits over a temperature, -inf where they are not allowed (null: all are) and past n, to the next sixteenth.
// Returns the largest.
TARGET static float temper(const float* x, const uint8_t* allowed, int n, float temperature, float* y) {
    const float never = -std::numeric_limits<float>::infinity();
    const int all16 = (n + 15) / 16 * 16;
    if (allowed)
        for (int i = 0; i < n; i++) y[i] = allowed[i] ? x[i] / temperature : never;
    else
        for (int i = 0; i < n; i++) y[i] = x[i] / temperature;
    for (int i = n; i < all16; i++) y[i] = never;
    Floats most = load<Floats>(y);
    for (int i = WIDTH; i < all16; i += WIDTH) most = larger(most, load<Floats>(y + i));
    float top = most[0];
    for (int i = 1; i < WIDTH; i++) top = most[i] > top ? most[i] : top;
    return top;
}

FN Doubles doubles(const float* from) {
#if WIDTH == 16
    return (Doubles)_mm512_cvtps_pd(_mm256_loadu_ps(from));
#elif WIDTH == 8
    return (Doubles)_mm256_cvtps_pd(_mm_loadu_ps(from));
#else
    return Doubles{from[0], from[1]};
#endif
}

// e^(x - top) in double, for n logits, a multiple of sixteen; 0 for what lies 700 below. Returns their sum.
TARGET static double exponentials(const float* x, float top, int n, double* y) {
    constexpr int HALF = WIDTH / 2;
    const double magic = 6755399441055744.0;  // 1.5·2^52
    Doubles sum = {};
    for (int i = 0; i < n; i += HALF) {
        Doubles d = doubles(x + i) - double(top);
        Longs lost = d < -700.0;
        d = lost ? Doubles{} - 700.0 : d;
        Doubles shifted = d * 1.4426950408889634074 + magic;
        Doubles whole = shifted - magic;
        Longs power = (Longs)shifted - (Longs)(Doubles{} + magic);
        Doubles r = d - whole * 6.93147180369123816490e-01;
        r = r - whole * 1.90821492927058770002e-10;
        Doubles p = Doubles{} + 1.0 / 6227020800.0;  // Taylor's series to r^13: |r| < 0.35
        const double terms[] = {1.0 / 479001600.0, 1.0 / 39916800.0, 1.0 / 3628800.0, 1.0 / 362880.0, 1.0 / 40320.0,
                                1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0};
        UNROLL
        for (int term = 0; term < 13; term++) p = p * r + terms[term];
        Doubles e = lost ? Doubles{} : (Doubles)((Longs)p + (power << 52));
        sum += e;
        store(y + i, e);
    }
    double all = 0.0;
    for (int i = 0; i < HALF; i++) all += sum[i];
    return all;
}

constexpr Kernels KERNELS = {product, attend, norm, sum, temper, exponentials};

#undef FN
}  // namespace LEVEL
#undef LEVEL
#undef TARGET
#undef WIDTH
#undef TILE_ROWS
#undef TILE_PANELS
#undef DOT
