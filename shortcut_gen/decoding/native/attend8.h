// Keys and values in bytes, where there are dot products of them: what keeps them and attention over them, as in
// attend.h. kernels.h includes this file, inside its namespace.
//
// A block of sixteen positions and a source has keys as [E/4][16][4] bytes, 128 + round(key / scale), and values as
// [E][16], round(value / scale), E padded to a multiple of four. Each position has its scales. Queries and weights become
// whole numbers of sixteen bits, in two bytes each: their rounding is nothing beside that of keys and values, and the
// sums are exact, whatever their order.

// The next sixteen of n numbers, 0 behind the last.
FN __m512 sixteen(const float* x, int n) { return _mm512_maskz_loadu_ps(n < 16 ? __mmask16((1 << n) - 1) : 0xffff, x); }

// The scale of n numbers as bytes: bf16, rounded up, so that none passes 127; no number where one of them is none.
FN uint16_t scale_of(const float* x, int n) {
    __m512i most = _mm512_setzero_si512();  // as whole numbers, of which the bits of what is no number are the largest
    for (int i = 0; i < n; i += 16) most = _mm512_max_epi32(most, (__m512i)_mm512_abs_ps(sixteen(x + i, n - i)));
    int32_t bits = _mm512_reduce_max_epi32(most);
    float top;
    std::memcpy(&top, &bits, 4);
    if (!(top < INFINITY)) return 0x7fc0;
    top /= 127.0f;
    std::memcpy(&bits, &top, 4);
    return uint16_t((bits + 0xffff) >> 16);
}

FN __m512 inverse_of(uint16_t scale) {
    const uint32_t bits = uint32_t(scale) << 16;
    float value;
    std::memcpy(&value, &bits, 4);
    return _mm512_set1_ps(value > 1e-30f ? 1.0f / value : 0.0f);
}

// Write the keys and values of one position, of a block that begins at `keys_to` and `values_to`.
FN void keep8(const float* keys, const float* values, int width, uint16_t key_scale, uint16_t value_scale, int lane,
              char* keys_to, char* values_to) {
    const __m512 key_inverse = inverse_of(key_scale), value_inverse = inverse_of(value_scale);
    keys_to += lane * 4, values_to += lane;
    for (int i = 0; i < width; i += 16, keys_to += 256, values_to += 256) {
        const __m512i key = _mm512_cvtps_epi32(_mm512_mul_ps(sixteen(keys + i, width - i), key_inverse));
        const __m512i value = _mm512_cvtps_epi32(_mm512_mul_ps(sixteen(values + i, width - i), value_inverse));
        int32_t fours[4];
        char bytes[16];
        _mm_storeu_si128((__m128i*)fours, _mm512_cvtepi32_epi8(_mm512_add_epi32(key, _mm512_set1_epi32(128))));
        _mm_storeu_si128((__m128i*)bytes, _mm512_cvtepi32_epi8(value));
        const int left = width - i;
        if (left >= 16) {
            UNROLL
            for (int j = 0; j < 4; j++) std::memcpy(keys_to + j * 64, fours + j, 4);
            UNROLL
            for (int j = 0; j < 16; j++) values_to[j * 16] = bytes[j];
        } else {
            for (int j = 0; j * 4 < left; j++) std::memcpy(keys_to + j * 64, fours + j, 4);
            for (int j = 0; j < left; j++) values_to[j * 16] = bytes[j];
        }
    }
}

// A query as whole numbers of sixteen bits: bytes high and low, both with a sign, so that q = (256·high + low) · scale.
struct Query8 {
    const int8_t *high, *low;
    int32_t high_offset, low_offset;  // what the 128 of the keys adds, taken off
    float scale;
};

FN Query8 halve(const float* query, int width, int8_t* room) {
    const int space = (width + 15) / 16 * 16;
    __m512 most = _mm512_setzero_ps();
    for (int i = 0; i < width; i += 16) most = _mm512_max_ps(most, _mm512_abs_ps(sixteen(query + i, width - i)));
    const float top = _mm512_reduce_max_ps(most);
    const __m512 inverse = _mm512_set1_ps(top > 1e-30f ? 32639.0f / top : 0.0f);  // 127·256 + 127
    __m512i highs = _mm512_setzero_si512(), lows = highs;
    for (int i = 0; i < width; i += 16) {
        const __m512i n = _mm512_cvtps_epi32(_mm512_mul_ps(sixteen(query + i, width - i), inverse));
        const __m512i high = _mm512_srai_epi32(_mm512_add_epi32(n, _mm512_set1_epi32(128)), 8);
        const __m512i low = _mm512_sub_epi32(n, _mm512_slli_epi32(high, 8));
        highs = _mm512_add_epi32(highs, high), lows = _mm512_add_epi32(lows, low);
        _mm_storeu_si128((__m128i*)(room + i), _mm512_cvtepi32_epi8(high));
        _mm_storeu_si128((__m128i*)(room + space + i), _mm512_cvtepi32_epi8(low));
    }
    return {room, room + space, -128 * _mm512_reduce_add_epi32(highs), -128 * _mm512_reduce_add_epi32(lows),
            top / 32639.0f};
}

FN __m512i four(const int8_t* from) {
    int32_t bytes;
    std::memcpy(&bytes, from, 4);
    return _mm512_set1_epi32(bytes);
}

// As `score` of attend.h.
template <int R, int C>
FN void score8(const Query8* query, int rows, const char* keys, const uint16_t* scales, float* scores,
               long lds) {
    __m512i high[R][C], low[R][C];
    UNROLL
    for (int r = 0; r < R; r++)
        UNROLL
        for (int c = 0; c < C; c++) {
            high[r][c] = _mm512_set1_epi32(query[r].high_offset);
            low[r][c] = _mm512_set1_epi32(query[r].low_offset);
        }
    for (int e = 0; e < rows; e += 4) {
        __m512i key[C];
        UNROLL
        for (int c = 0; c < C; c++) {
            key[c] = _mm512_loadu_si512(keys + (long(c) * rows + e) * 16);
        }
        UNROLL
        for (int r = 0; r < R; r++) {
            const __m512i h = four(query[r].high + e), l = four(query[r].low + e);
            UNROLL
            for (int c = 0; c < C; c++) {
                high[r][c] = _mm512_dpbusd_epi32(high[r][c], key[c], h);
                low[r][c] = _mm512_dpbusd_epi32(low[r][c], key[c], l);
            }
        }
    }
    UNROLL
    for (int r = 0; r < R; r++)
        UNROLL
        for (int c = 0; c < C; c++) {
            Floats both = (Floats)_mm512_cvtepi32_ps(high[r][c]) * 256.0f + (Floats)_mm512_cvtepi32_ps(low[r][c]);
            store(scores + r * lds + c * 16, both * (widen(scales + c * 16) * query[r].scale));
        }
}

// The largest scale of the blocks `from` to `to`, of positions up to `position` alone: what stands behind may be anything.
FN __m256i largest_scale(const uint16_t* scales, int from, int to, int sources, int position) {
    __m256i most = _mm256_setzero_si256();
    const int whole = (position + 1) / 16 * sources;
    int i = from;
    for (; i < to && i < whole; i++)
        most = _mm256_max_epu16(most, _mm256_loadu_si256((const __m256i*)(scales + i * 16)));
    for (; i < to; i++) {
        const int seen = position + 1 - i / sources * 16;
        const __mmask16 these = seen <= 0 ? 0 : __mmask16((1 << seen) - 1);
        most = _mm256_max_epu16(most, _mm256_maskz_loadu_epi16(these, scales + i * 16));
    }
    return most;
}

// The probabilities of a row of scores times their values' scales as whole numbers of sixteen bits, in place: for each
// block sixteen bytes high, then sixteen low. `most`: the largest of the scales. Returns what a unit of a sum is worth.
// Nothing here waits for memory, so that the values can be asked for meanwhile: so many lines of them for each block.
FN float weights8(float* row, int blocks, float top, const uint16_t* scales, float most, const char* values,
                  int lines) {
    const float inverse = most > 1e-30f ? 65535.0f / most : 0.0f;
    char* to = (char*)row;
    Floats sum = {};
    // Of four numbers the second bytes, then the first; then all second bytes, then all first.
    const __m512i bytes = _mm512_broadcast_i32x4(_mm_setr_epi8(1, 5, 9, 13, 0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1));
    const __m512i fours = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 2, 2, 2, 2, 2, 2, 2);
    for (int i = 0; i < blocks; i++, to += 32) {
        for (int line = 0; line < lines; line++, values += 64) __builtin_prefetch(values);
        const Floats p = mass(load<Floats>(row + i * 16), top);
        sum += p;
        const __m512i n = _mm512_cvtps_epi32((__m512)(p * (widen(scales + i * 16) * inverse)));
        const __m512i apart = _mm512_permutexvar_epi32(fours, _mm512_shuffle_epi8(n, bytes));
        _mm256_storeu_si256((__m256i*)to, _mm512_castsi512_si256(apart));
    }
    return most / 65535.0f / total(sum);
}

// As `weigh` of attend.h, N times four of the values' rows.
template <int R, int N>
FN void weigh8(const float* weights, long ldw, int blocks, int rows, const char* values, const char* next,
               const float* by, float* out, long ldo, int width) {
    __m512i high[R][N] = {}, low[R][N] = {};
    for (int b = 0; b < blocks; b++, values += long(rows) * 16, next += 128) {
        __m512i some[N];
        UNROLL
        for (int n = 0; n < N; n++) {
            some[n] = _mm512_loadu_si512(values + n * 64);
            if (R == 1 && n < 2) __builtin_prefetch(next + n * 64);
        }
        UNROLL
        for (int r = 0; r < R; r++) {
            const char* bytes = (const char*)(weights + r * ldw) + b * 32;
            const __m512i h = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i*)bytes));
            const __m512i l = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i*)(bytes + 16)));
            UNROLL
            for (int n = 0; n < N; n++) {
                high[r][n] = _mm512_dpbusd_epi32(high[r][n], h, some[n]);
                low[r][n] = _mm512_dpbusd_epi32(low[r][n], l, some[n]);
            }
        }
    }
    UNROLL
    for (int r = 0; r < R; r++)
        UNROLL
        for (int n = 0; n < N; n++) {  // four rows, four sums each
            __m512 sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(high[r][n]), _mm512_set1_ps(256.0f),
                                         _mm512_cvtepi32_ps(low[r][n]));
            sum = _mm512_add_ps(sum, _mm512_permute_ps(sum, 0xb1));
            sum = _mm512_add_ps(sum, _mm512_permute_ps(sum, 0x4e));
            sum = _mm512_mul_ps(_mm512_maskz_compress_ps(0x1111, sum), _mm512_set1_ps(by[r]));
            const int left = width - 4 * n;
            _mm512_mask_storeu_ps(out + r * ldo + 4 * n, left < 4 ? __mmask16((1 << left) - 1) : __mmask16(15), sum);
        }
}

// As `attend_to` of attend.h. `room`: bytes for R queries, each padded to a multiple of sixteen twice.
template <int R>
TARGET static void attend8_to(const float* query, long ldq, const int* position, int width, int sources,
                              const Cached& cached, float* scores, long lds, float* out, long ldo, const Look& look,
                              int row0, void* room) {
    const int blocks = (position[R - 1] / 16 + 1) * sources, rows = kept_rows(width, INT8);
    const long size = long(rows) * 16;
    const char *keys = cached.keys, *values = cached.values, *next = keys + cached.ahead;
    const uint16_t *key_scales = cached.key_scales, *value_scales = cached.value_scales;
    Query8 halves[R];
    for (int r = 0; r < R; r++)
        halves[r] = halve(query + r * ldq, width, (int8_t*)room + r * 2L * ((width + 15) / 16 * 16));
    constexpr int C = R == 1 ? 4 : 2;
    int b = 0;
    for (; b + C <= blocks; b += C)
        score8<R, C>(halves, rows, keys + b * size, key_scales + b * 16, scores + b * 16, lds);
    for (; b < blocks; b++)
        score8<R, 1>(halves, rows, keys + b * size, key_scales + b * 16, scores + b * 16, lds);
    float by[R];
    const int common = (position[0] + 1) / 16 * sources;  // blocks that all see
    const __m256i shared = largest_scale(value_scales, 0, common, sources, position[0]);
    for (int r = 0; r < R; r++) {
        float* row = scores + r * lds;
        const float top = top_of(row, blocks, sources, position[r], look.bias);
        if (float* shares = shares_of(look, row0 + r)) share(row, blocks, sources, top, shares);
        const __m256i rest = largest_scale(value_scales, common, blocks, sources, position[r]);
        const uint32_t bits = _mm512_reduce_max_epu32(_mm512_cvtepu16_epi32(_mm256_max_epu16(shared, rest))) << 16;
        float most;
        std::memcpy(&most, &bits, 4);
        by[r] = weights8(row, blocks, top, value_scales, most, values, R == 1 ? rows * 3 / 16 : 0);
    }
    constexpr int N = R == 1 ? 8 : 2;
    int e = 0;
    for (; e + 4 * N <= rows; e += 4 * N)
        weigh8<R, N>(scores, lds, blocks, rows, values + e * 16, next + e * 16, by, out + e, ldo, width - e);
    for (; R == 1 && e + 16 <= rows; e += 16)
        weigh8<R, 4>(scores, lds, blocks, rows, values + e * 16, next + e * 16, by, out + e, ldo, width - e);
    for (; e < rows; e += 4)
        weigh8<R, 1>(scores, lds, blocks, rows, values + e * 16, next + e * 16, by, out + e, ldo, width - e);
}
