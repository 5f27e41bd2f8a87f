// Attention over keys and values in bytes, and what keeps them; kernels.h includes this file, inside its namespace, behind
// attend.h, whose forms for wider numbers it ends.
//
// A block of sixteen positions and a source has keys as [E/4][16][4] bytes, 128 + round(key / scale), and values as
// [E][16], round(value / scale), E padded to a multiple of four. Each position has its scales.
//
// With dot products of bytes (DOT), queries and weights become whole numbers of sixteen bits, in two bytes each: their
// rounding is nothing beside that of keys and values, and the sums are exact, whatever their order.

FN Floats size_of(Floats v) { return (Floats)((Words)v & 0x7fffffffu); }

// The scale of n numbers as bytes: bf16, rounded up, so that none passes 127.
FN uint16_t scale_of(const float* x, int n) {
    Floats most = {};
    int i = 0;
    for (; i + WIDTH <= n; i += WIDTH) most = upper(size_of(load<Floats>(x + i)), most);
    float top = largest(most);
    for (; i < n; i++) top = std::fabs(x[i]) > top ? std::fabs(x[i]) : top;
    top /= 127.0f;
    uint32_t bits;
    std::memcpy(&bits, &top, 4);
    return uint16_t((bits + 0xffff) >> 16);
}

// n numbers over their scale, rounded to the nearest, ties to even: adding 1.5·2^23 leaves a whole number in the last
// bits. Four go, with MORE added, into 64 bytes, APART from each other.
template <int MORE, int APART>
FN void bytes_of(const float* x, int n, uint16_t scale, char* to) {
    const uint32_t bits = uint32_t(scale) << 16;
    float inverse;
    std::memcpy(&inverse, &bits, 4);
    inverse = inverse > 1e-30f ? 1.0f / inverse : 0.0f;
    int32_t whole[WIDTH];
    for (; n >= WIDTH; n -= WIDTH, x += WIDTH, to += WIDTH * 16) {
        store(whole, (Ints)(load<Floats>(x) * inverse + 12582912.0f) + MORE);
        UNROLL
        for (int i = 0; i < WIDTH; i++) to[i / 4 * 64 + i % 4 * APART] = char(whole[i]);
    }
    if (!n) return;
    float some[WIDTH] = {};
    std::memcpy(some, x, size_t(n) * 4);
    store(whole, (Ints)(load<Floats>(some) * inverse + 12582912.0f) + MORE);
    for (int i = 0; i < n; i++) to[i / 4 * 64 + i % 4 * APART] = char(whole[i]);
}

// Write the keys and values of one head, position and source.
TARGET static void keep(const float* keys, const float* values, int width, const Cached& to, int position, int source,
                        int sources) {
    const int lane = position % 16;
    const size_t block = size_t(position / 16) * sources + source;
    const size_t at = block * kept_rows(width, to.precision) * 16;
    if (to.precision == F32) {
        float *k = (float*)to.keys + at + lane, *v = (float*)to.values + at + lane;
        for (int e = 0; e < width; e++) k[e * 16] = keys[e], v[e * 16] = values[e];
    } else if (to.precision == BF16) {
        uint16_t *k = (uint16_t*)to.keys + at + lane, *v = (uint16_t*)to.values + at + lane;
        for (int e = 0; e < width; e++) k[e * 16] = to_bf16(keys[e]), v[e * 16] = to_bf16(values[e]);
    } else {
        for (int row = 0; row < width; row += 4)  // what is written lies far apart, and was last read a step ago
            __builtin_prefetch(to.keys + at + row * 16, 1), __builtin_prefetch(to.values + at + row * 16, 1);
        const uint16_t key_scale = scale_of(keys, width), value_scale = scale_of(values, width);
        to.key_scales[block * 16 + lane] = key_scale, to.value_scales[block * 16 + lane] = value_scale;
        bytes_of<128, 1>(keys, width, key_scale, to.keys + at + lane * 4);
        bytes_of<0, 16>(values, width, value_scale, to.values + at + lane);
    }
}

#if DOT

// A query as whole numbers of sixteen bits: bytes high and low, both with a sign, so that q = (256·high + low) · scale.
struct Query8 {
    const int8_t *high, *low;
    int32_t high_offset, low_offset;  // what the 128 of the keys adds, taken off
    float scale;
};

FN Query8 halve(const float* query, int width, int8_t* room) {
    const int space = (width + 15) / 16 * 16;
    __m512 most = _mm512_setzero_ps();
    for (int i = 0; i < width; i += 16) {
        const __mmask16 there = width - i < 16 ? __mmask16((1 << (width - i)) - 1) : __mmask16(0xffff);
        most = _mm512_max_ps(most, _mm512_abs_ps(_mm512_maskz_loadu_ps(there, query + i)));
    }
    const float top = _mm512_reduce_max_ps(most);
    const __m512 inverse = _mm512_set1_ps(top > 1e-30f ? 32639.0f / top : 0.0f);  // 127·256 + 127
    __m512i highs = _mm512_setzero_si512(), lows = highs;
    for (int i = 0; i < width; i += 16) {
        const __mmask16 there = width - i < 16 ? __mmask16((1 << (width - i)) - 1) : __mmask16(0xffff);
        const __m512i n = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_maskz_loadu_ps(there, query + i), inverse));
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
FN void score8(const Query8* query, int rows, const char* keys, const uint16_t* scales, const char* next,
               float* scores, long lds) {
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
// Nothing here waits for memory, so that the values can be asked for meanwhile: as much of them as comes in that time.
FN float weights8(float* row, int blocks, float top, const uint16_t* scales, float most, const char* values) {
    const float inverse = most > 1e-30f ? 65535.0f / most : 0.0f;
    char* to = (char*)row;
    Floats sum = {};
    for (int i = 0; i < blocks; i++, to += 32) {
        if (values)
            UNROLL
            for (int line = 0; line < 6; line++, values += 64) __builtin_prefetch(values);
        const Floats p = mass(load<Floats>(row + i * 16), top);
        sum += p;
        const __m512i n = _mm512_cvtps_epi32((__m512)(p * (widen(scales + i * 16) * inverse)));
        _mm_storeu_si128((__m128i*)to, _mm512_cvtepi32_epi8(_mm512_srli_epi32(n, 8)));
        _mm_storeu_si128((__m128i*)(to + 16), _mm512_cvtepi32_epi8(n));
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

#else

template <int R, int C>
FN void score8(const float* query, long ldq, int width, const char* keys, const uint16_t* scales, float* scores,
               long lds) {
    Floats sum[R][C * PARTS] = {};
    const int rows = kept_rows(width, INT8);
    for (int e = 0; e < width; e++) {
        Floats key[C * PARTS];
        UNROLL
        for (int i = 0; i < C * PARTS; i++) {
            Ints fours = load<Ints>(keys + (long(i / PARTS) * rows + e / 4 * 4) * 16 + i % PARTS * WIDTH * 4);
            key[i] = __builtin_convertvector(((fours >> (e % 4 * 8)) & 255) - 128, Floats);
        }
        UNROLL
        for (int r = 0; r < R; r++)
            UNROLL
            for (int i = 0; i < C * PARTS; i++) sum[r][i] += key[i] * query[r * ldq + e];
    }
    UNROLL
    for (int r = 0; r < R; r++)
        UNROLL
        for (int i = 0; i < C * PARTS; i++) sum[r][i] *= widen(scales + i * WIDTH);
    leave<R>(sum, scores, lds);
}

#endif

// As `attend_to` of attend.h. `room`: bytes for R queries, each padded to a multiple of sixteen twice.
template <int R>
TARGET static void attend8_to(const float* query, long ldq, const int* position, int width, int sources,
                              const Cached& cached, float* scores, long lds, float* out, long ldo, const Look& look,
                              int row0, void* room) {
    const int blocks = (position[R - 1] / 16 + 1) * sources, rows = kept_rows(width, INT8);
    const long size = long(rows) * 16;
    const char *keys = cached.keys, *values = cached.values;
    int b = 0;
#if DOT
    constexpr int C = R == 1 ? 4 : 2;
    Query8 halves[R];
    for (int r = 0; r < R; r++)
        halves[r] = halve(query + r * ldq, width, (int8_t*)room + r * 2L * ((width + 15) / 16 * 16));
    const uint16_t* scales = cached.key_scales;
    for (; b + C <= blocks; b += C)
        score8<R, C>(halves, rows, keys + b * size, scales + b * 16, values + b * size, scores + b * 16, lds);
    for (; b < blocks; b++)
        score8<R, 1>(halves, rows, keys + b * size, scales + b * 16, values + b * size, scores + b * 16, lds);
#else
    (void)room;
    for (; b < blocks; b++)
        score8<R, 1>(query, ldq, width, keys + b * size, cached.key_scales + b * 16, scores + b * 16, lds);
#endif
    float by[R];
#if DOT
    const int common = (position[0] + 1) / 16 * sources;
    const __m256i shared = largest_scale(cached.value_scales, 0, common, sources, position[0]);
#endif
    for (int r = 0; r < R; r++) {
        float* row = scores + r * lds;
        const float top = top_of(row, blocks, sources, position[r], look.bias);
        if (float* shares = shares_of(look, row0 + r)) share(row, blocks, sources, top, shares);
#if DOT
        const __m256i rest = largest_scale(cached.value_scales, common, blocks, sources, position[r]);
        uint16_t each[16];
        _mm256_storeu_si256((__m256i*)each, _mm256_max_epu16(shared, rest));
        const float most = largest(widen(each));
        by[r] = weights8(row, blocks, top, cached.value_scales, most, R == 1 ? values : nullptr);
#else
        by[r] = soften(row, blocks, top);
        for (int i = 0; i < blocks * 16; i += WIDTH)
            store(row + i, load<Floats>(row + i) * widen(cached.value_scales + i));
#endif
    }
    const char* next = keys + cached.ahead;
    int e = 0;
#if DOT
    constexpr int N = R == 1 ? 8 : 2;
    for (; e + 4 * N <= rows; e += 4 * N)
        weigh8<R, N>(scores, lds, blocks, rows, values + e * 16, next + e * 16, by, out + e, ldo, width - e);
    for (; e < rows; e += 4)
        weigh8<R, 1>(scores, lds, blocks, rows, values + e * 16, next + e * 16, by, out + e, ldo, width - e);
#else
    constexpr int N = R == 1 ? 8 : 4;
    const int8_t *from = (const int8_t*)values, *then = (const int8_t*)next;
    for (; e + N <= width; e += N)
        weigh<R, N>(scores, lds, blocks, rows, from + e * 16, then + e * 16, by, out + e, ldo);
    for (; e < width; e++)
        weigh<R, 1>(scores, lds, blocks, rows, from + e * 16, then + e * 16, by, out + e, ldo);
#endif
}

template <int R>
FN void attend_in(const float* query, long ldq, const int* position, int width, int sources, const Cached& cached,
                  float* scores, long lds, float* out, long ldo, const Look& look, int row0, void* room) {
    if (cached.precision == INT8)
        return attend8_to<R>(query, ldq, position, width, sources, cached, scores, lds, out, ldo, look, row0, room);
    if (cached.precision == BF16)
        return attend_to<R, uint16_t>(query, ldq, position, width, sources, cached, scores, lds, out, ldo, look, row0);
    attend_to<R, float>(query, ldq, position, width, sources, cached, scores, lds, out, ldo, look, row0);
}

// Some queries of one head, at rising positions, each over the positions of one stream up to its own.
TARGET static void attend(int rows, const float* query, long ldq, const int* position, int width, int sources,
                          const Cached& cached, float* scores, long lds, float* out, long ldo, const Look& look,
                          void* room) {
    int r = 0;
    for (; r + 4 <= rows; r += 4)
        attend_in<4>(query + r * ldq, ldq, position + r, width, sources, cached, scores, lds, out + r * ldo, ldo, look,
                     r, room);
    for (; r < rows; r++)
        attend_in<1>(query + r * ldq, ldq, position + r, width, sources, cached, scores, lds, out + r * ldo, ldo, look,
                     r, room);
}
