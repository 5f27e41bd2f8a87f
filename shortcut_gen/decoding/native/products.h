// The matrix products of one instruction set; kernels.h includes this file, inside its namespace.

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

// x: quadruples of bytes, 128 + round(x / scale of the row); what the 128 adds is taken off by the weights' sums. As the
// sums are whole numbers, S of them take turns, so that none waits for the one before.
template <int R, int P>
TARGET static void tile_int8(const Weight& w, const uint8_t* x, long ldx, int column, int k0, int k1,
                             const float* scales, const Finish& end) {
    constexpr int S = R * P >= 8 ? 1 : R * P >= 4 ? 2 : 4;
    __m512i sum[S][R][P];
    UNROLL
    for (int p = 0; p < P; p++) {
        const int32_t* sums = w.sums + column + 16 * p;
        __m512i before = _mm512_loadu_si512(sums + long(k0 / 16) * w.n);
        __m512i whole = _mm512_loadu_si512(sums + long(k1 / 16) * w.n);
        __m512i offset = _mm512_slli_epi32(_mm512_sub_epi32(before, whole), 7);
        UNROLL
        for (int r = 0; r < R; r++) {
            sum[0][r][p] = offset;
            UNROLL
            for (int s = 1; s < S; s++) sum[s][r][p] = _mm512_setzero_si512();
        }
    }
    const long panel = 16L * w.k;
    const int8_t* weights = (const int8_t*)w.data + column / 16 * panel + 16L * k0;
    for (int k = 0; k < k1 - k0; k += 4 * S, weights += 64 * S)
        UNROLL
        for (int s = 0; s < S; s++) {
            __m512i row[P];
            UNROLL
            for (int p = 0; p < P; p++) row[p] = _mm512_loadu_si512(weights + p * panel + 64 * s);
            if (R > 1)
                UNROLL
                for (int p = 0; p < P; p++) __builtin_prefetch(weights + (P + p) * panel + 64 * s);
            UNROLL
            for (int r = 0; r < R; r++) {
                int32_t four;
                std::memcpy(&four, x + r * ldx + k + 4 * s, 4);
                __m512i bytes = _mm512_set1_epi32(four);
                UNROLL
                for (int p = 0; p < P; p++) sum[s][r][p] = _mm512_dpbusd_epi32(sum[s][r][p], bytes, row[p]);
            }
        }
    UNROLL
    for (int r = 0; r < R; r++)
        UNROLL
        for (int p = 0; p < P; p++) {
            __m512i all = sum[0][r][p];
            UNROLL
            for (int s = 1; s < S; s++) all = _mm512_add_epi32(all, sum[s][r][p]);
            _mm512_storeu_si512(end.y + r * end.ldy + column + 16 * p, all);
        }
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
        __m512i most = _mm512_setzero_si512();  // as whole numbers, of which the bits of what is no number are the largest
        for (int i = 0; i < k; i += 16)
            most = _mm512_max_epi32(most, (__m512i)_mm512_abs_ps(_mm512_loadu_ps(row + i)));
        const int32_t bits = _mm512_reduce_max_epi32(most);
        float top;
        std::memcpy(&top, &bits, 4);
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

// Panel by panel, each for all rows before the next, so that memory is read once and from front to end.
template <class X>
TARGET static void tiles(const Weight& w, const X* x, long ldx, int rows, int n0, int n1, int k0, int k1,
                         const float* scales, const Finish& end) {
    constexpr bool bytes = std::is_same_v<X, uint8_t>;
    constexpr int ROWS = bytes ? 12 : TILE_ROWS, PANELS = bytes ? 2 : TILE_PANELS, LONE = bytes ? 1 : 4;
    for (int column = n0; column < n1;) {
        const int panels = (n1 - column) / 16;
        const int wide = rows == 1 ? LONE : PANELS;
        const int step = rows == 1 ? 1 : ROWS;
        for (int r = 0; r < rows; r += step) {
            const int some = rows - r < step ? rows - r : step;
            Finish part = {end.bias, end.gelu, end.y + r * end.ldy, end.ldy};
            const float* scale = scales ? scales + r : nullptr;
            if (panels < wide)
                tile<1, ROWS>(w, some, x + r * ldx, ldx, column, k0, k1, scale, part);
            else if (rows == 1)
                tile<LONE, 1>(w, some, x, ldx, column, k0, k1, scale, part);
            else
                tile<PANELS, ROWS>(w, some, x + r * ldx, ldx, column, k0, k1, scale, part);
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
