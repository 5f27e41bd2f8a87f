// Attention of one head in products of bfloat16 tiles (AMX): 16 rows by 16, of sums over 32. Weights and their gradients
// are rounded to bfloat16 before they are multiplied, as FlashAttention's are on a GPU; all sums are in float32.
//
// As in attention.h a register's lanes are queries, so scores are made with keys as rows: keys times queries. A product's
// right side lies in pairs of rows, number by number in turn ("pairs"), as the instruction wants it.

typedef uint16_t Half;

constexpr int SIDE = 16, DEPTH = 32;

// One head of one sequence: rows of E, T queries and T*L keys and values padded with zeros to PANEL; turned: E rows of as
// many numbers as there are keys, the values (forward) or the keys (backward).
struct Rows16 {
    const Half *queries, *keys, *values, *turned;
    int length, sources, padded;
    float scale;
};

struct Upstream16 {
    const Half* grad;
    const float *grad_floats, *out, *log_sum;
};

struct TileShapes {
    uint8_t palette = 1, start = 0, reserved[14] = {};
    uint16_t bytes[16] = {};
    uint8_t rows[16] = {};
};

// Tiles 0 to 3 hold sums; 4 and 5 are the sides of a product over a head's width, 6 and 7 of one over DEPTH rows.
template <int E>
FN void begin() {
    alignas(64) TileShapes shapes;
    constexpr int WIDE = E < DEPTH ? E : DEPTH;
    for (int i = 0; i < 8; i++) shapes.bytes[i] = 64, shapes.rows[i] = 16;
    shapes.bytes[4] = 2 * WIDE;
    shapes.rows[5] = WIDE / 2;
    _tile_loadconfig(&shapes);
}

// out[row][lane] for two times 16 rows of E: each row times each of 16 columns, which are E/2 pairs.
template <int E>
FN void scores(const Half* rows, const Half* columns, float* out) {
    _tile_zero(0);
    _tile_zero(1);
    for (int e = 0; e < E; e += DEPTH) {
        _tile_loadd(5, columns + e * SIDE, 64);
        _tile_loadd(4, rows + e, 2 * E);
        _tile_dpbf16ps(0, 4, 5);
        _tile_loadd(4, rows + SIDE * E + e, 2 * E);
        _tile_dpbf16ps(1, 4, 5);
    }
    _tile_stored(0, out, 64);
    _tile_stored(1, out + SIDE * WIDTH, 64);
}

// sums += left (16 rows of DEPTH) times right (16 pairs of rows of 16), `parts` times behind one another.
FN void add_product(float* sums, long sums_row, const Half* left, long left_row, const Half* right, long right_row,
                    int parts = 1) {
    _tile_loadd(2, sums, sums_row * sizeof(float));
    for (int i = 0; i < parts; i++) {
        _tile_loadd(6, left + i * DEPTH, left_row * sizeof(Half));
        _tile_loadd(7, right + i * SIDE * right_row, right_row * sizeof(Half));
        _tile_dpbf16ps(2, 6, 7);
    }
    _tile_stored(2, sums, sums_row * sizeof(float));
}

// To bfloat16, to the nearest; `count` is a multiple of WIDTH, as heads are as wide.
TARGET static void round(const float* from, size_t count, Half* to) {
    for (size_t i = 0; i < count; i += WIDTH) write(to + i, load<Floats>(from + i));
}

// Two registers as 32 numbers: those of `a`, then those of `b`.
FN __m512i both(Floats a, Floats b) { return (__m512i)_mm512_cvtne2ps_pbh((__m512)b, (__m512)a); }

// The same in turn: a pair of rows.
FN __m512i pair(__m512i both_of_them) {
    alignas(64) static const uint16_t TURN[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                                  8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    return _mm512_permutexvar_epi16(_mm512_load_si512(TURN), both_of_them);
}

// 16 rows of E as columns: E/2 pairs of 16; rows behind the last are 0.
template <int E>
FN void to_columns(const Half* rows, int count, Half* columns) {
    for (int lane = 0; lane < SIDE; lane++)
        for (int p = 0; p < E / 2; p++)
            for (int i = 0; i < 2; i++) columns[(p * SIDE + lane) * 2 + i] = lane < count ? rows[lane * E + 2 * p + i] : 0;
}

// 32 rows of E as 16 pairs of rows; rows behind the last are 0.
template <int E>
FN void to_pairs(const Half* rows, int count, Half* pairs) {
    for (int r = 0; r < DEPTH; r++)
        for (int e = 0; e < E; e++) pairs[(r / 2 * E + e) * 2 + r % 2] = r < count ? rows[r * E + e] : 0;
}

// Lanes whose query, the first at `start`, may not see a key of this position.
FN Floats hidden(Floats value, int position, int start, float instead) {
    Ints lane;
    for (int i = 0; i < WIDTH; i++) lane[i] = i;
    return lane < position - start ? all(instead) : value;
}

// As attention.h's.
template <int E>
TARGET static void forward(const Rows16& head, float* out, float* log_sum) {
    alignas(64) Half columns[E * SIDE], weights[PANEL * SIDE];
    alignas(64) float sums[E * WIDTH], held[PANEL * WIDTH];
    const Floats scale = all(head.scale * LOG2E);
    begin<E>();
    for (int start = 0; start < head.length; start += SIDE) {
        const int count = std::min(SIDE, head.length - start);
        const int seen_by_all = head.sources * (start + 1), seen = head.sources * (start + count);
        to_columns<E>(head.queries + (long)start * E, count, columns);
        for (float& sum : sums) sum = 0.0f;
        Floats top = all(LOWEST), total = Floats{};
        for (int panel = 0; panel < seen; panel += PANEL) {
            const int keys = std::min(PANEL, (seen - panel + DEPTH - 1) / DEPTH * DEPTH);
            for (int j = 0; j < keys; j += DEPTH)
                scores<E>(head.keys + (long)(panel + j) * E, columns, held + j * WIDTH);
            Floats before = top, other = top;  // two chains: a maximum waits for the one before
            for (int j = std::max(seen_by_all - panel, 0); j < keys; j++) {
                float* score = held + j * WIDTH;
                store(score, hidden(load<Floats>(score), (panel + j) / head.sources, start, LOWEST));
            }
            for (int j = 0; j < keys; j += 2) {
                top = larger(top, load<Floats>(held + j * WIDTH));
                other = larger(other, load<Floats>(held + (j + 1) * WIDTH));
            }
            top = larger(top, other);
            Floats shrink = power((before - top) * scale);
            total *= shrink;
            for (int e = 0; e < E; e++) store(sums + e * WIDTH, load<Floats>(sums + e * WIDTH) * shrink);
            for (int j = 0; j < keys; j += 2) {
                Floats even = power((load<Floats>(held + j * WIDTH) - top) * scale);
                Floats odd = power((load<Floats>(held + (j + 1) * WIDTH) - top) * scale);
                total += even + odd;
                _mm512_store_si512(weights + j * SIDE, pair(both(even, odd)));
            }
            for (int e = 0; e < E; e += SIDE)
                add_product(sums + e * WIDTH, WIDTH, head.turned + (long)e * head.padded + panel, head.padded, weights,
                            2 * SIDE, keys / DEPTH);
        }
        for (int lane = 0; lane < count; lane++) {
            for (int e = 0; e < E; e++) out[(long)(start + lane) * E + e] = sums[e * WIDTH + lane] / total[lane];
            log_sum[start + lane] = top[lane] * scale[0] + std::log2(total[lane]);
        }
    }
    _tile_release();
}

// As attention.h's: DEPTH queries (two registers of them) and DEPTH keys at a time.
template <int E>
TARGET static void backward(const Rows16& head, const Upstream16& up, float* queries, float* keys, float* values) {
    alignas(64) Half columns[2][E * SIDE], up_columns[2][E * SIDE], pairs[DEPTH * E], up_pairs[DEPTH * E];
    alignas(64) Half weights[DEPTH * DEPTH], slopes[DEPTH * DEPTH], slope_pairs[2][DEPTH * SIDE];
    alignas(64) float sums[2][E * WIDTH], score[2][DEPTH * WIDTH], slope[2][DEPTH * WIDTH];
    const Floats scale = all(head.scale * LOG2E);
    begin<E>();
    for (int start = 0; start < head.length; start += DEPTH) {
        const int count = std::min(DEPTH, head.length - start);
        const int seen_by_all = head.sources * (start + 1), seen = head.sources * (start + count);
        const Half *some = head.queries + (long)start * E, *some_up = up.grad + (long)start * E;
        Floats log_sum[2], mean[2];
        for (int q = 0; q < 2; q++) {
            const int first = start + q * SIDE;
            to_columns<E>(some + q * SIDE * E, count - q * SIDE, columns[q]);
            to_columns<E>(some_up + q * SIDE * E, count - q * SIDE, up_columns[q]);
            log_sum[q] = all(-LOWEST), mean[q] = Floats{};  // behind the last query every weight is 0
            for (int lane = 0; lane < std::min(SIDE, count - q * SIDE); lane++) {
                const long at = (long)(first + lane) * E;
                float sum = 0.0f;
                for (int e = 0; e < E; e++) sum += up.grad_floats[at + e] * up.out[at + e];
                mean[q][lane] = sum;
                log_sum[q][lane] = up.log_sum[first + lane];
            }
            for (float& each : sums[q]) each = 0.0f;
        }
        to_pairs<E>(some, count, pairs);
        to_pairs<E>(some_up, count, up_pairs);
        for (int j = 0; j < seen; j += DEPTH) {
            const long at = (long)j * E;
            for (int q = 0; q < 2; q++) {
                scores<E>(head.keys + at, columns[q], score[q]);
                scores<E>(head.values + at, up_columns[q], slope[q]);
            }
            for (int k = 0; k < DEPTH; k += 2) {
                Floats weight[2][2], of_score[2][2];  // of two keys, by the queries' register
                UNROLL
                for (int i = 0; i < 2; i++)
                    UNROLL
                    for (int q = 0; q < 2; q++) {
                        const int row = (k + i) * WIDTH;
                        weight[i][q] = power(load<Floats>(score[q] + row) * scale - log_sum[q]);
                        if (j + k + i >= seen_by_all)
                            weight[i][q] = hidden(weight[i][q], (j + k + i) / head.sources, start + q * SIDE, 0.0f);
                        of_score[i][q] = weight[i][q] * (load<Floats>(slope[q] + row) - mean[q]);
                    }
                UNROLL
                for (int i = 0; i < 2; i++) {
                    _mm512_store_si512(weights + (k + i) * DEPTH, both(weight[i][0], weight[i][1]));
                    _mm512_store_si512(slopes + (k + i) * DEPTH, both(of_score[i][0], of_score[i][1]));
                }
                UNROLL
                for (int q = 0; q < 2; q++)
                    _mm512_store_si512(slope_pairs[q] + k * SIDE, pair(both(of_score[0][q], of_score[1][q])));
            }
            for (int k = 0; k < DEPTH; k += SIDE)
                for (int e = 0; e < E; e += SIDE) {
                    const long to = at + k * E + e;
                    add_product(values + to, E, weights + k * DEPTH, DEPTH, up_pairs + 2 * e, 2 * E);
                    add_product(keys + to, E, slopes + k * DEPTH, DEPTH, pairs + 2 * e, 2 * E);
                }
            for (int q = 0; q < 2; q++)
                for (int e = 0; e < E; e += SIDE)
                    add_product(sums[q] + e * WIDTH, WIDTH, head.turned + (long)e * head.padded + j, head.padded,
                                slope_pairs[q], 2 * SIDE);
        }
        for (int r = 0; r < count; r++)
            for (int e = 0; e < E; e++)
                queries[(long)(start + r) * E + e] = sums[r / SIDE][e * WIDTH + r % SIDE] * head.scale;
    }
    for (long i = 0; i < (long)head.padded * E; i++) keys[i] *= head.scale;
    _tile_release();
}
