// Attention of one head, forward and backward.
//
// A register holds one number for each of WIDTH queries where scores are made, and part of a row (of a key, a value, a
// query) where rows are summed. Sums run in one order, whatever the number of threads.

// KEYS scores for WIDTH queries: score[j][lane] = sum over e of columns[e][lane] * rows[j][e].
template <int E>
FN void scores(const float* columns, const float* rows, Floats (&score)[KEYS]) {
    UNROLL
    for (int j = 0; j < KEYS; j++) score[j] = Floats{};
    UNROLL
    for (int e = 0; e < E; e++) {
        Floats column = load<Floats>(columns + e * WIDTH);
        UNROLL
        for (int j = 0; j < KEYS; j++) score[j] += column * rows[j * E + e];
    }
}

// columns[e][lane] += sum over j of weight[j][lane] * rows[j][e]: what scores' queries collect.
template <int E>
FN void collect(float* columns, const float* rows, const Floats (&weight)[KEYS]) {
    UNROLL
    for (int e = 0; e < E; e++) {
        Floats even = load<Floats>(columns + e * WIDTH), odd = Floats{};  // two chains: a sum waits for the one before
        UNROLL
        for (int j = 0; j < KEYS; j += 2) {
            even += weight[j] * rows[j * E + e];
            odd += weight[j + 1] * rows[(j + 1) * E + e];
        }
        store(columns + e * WIDTH, even + odd);
    }
}

// sums[j][e] += sum over lanes of weight[j][lane] * rows[lane][e]: what scores' keys and values are given back.
template <int E>
FN void give_back(float* sums, const float* rows, const float* weight) {
    constexpr int LANES = E < WIDTH ? E : WIDTH, PARTS = E / LANES, GROUP = PARTS < KEYS ? KEYS / PARTS : 1;
    typedef typename Vector<LANES>::Floats Part;
    for (int j = 0; j < KEYS; j += GROUP) {
        Part sum[GROUP][PARTS];
        UNROLL
        for (int i = 0; i < GROUP; i++)
            UNROLL
            for (int part = 0; part < PARTS; part++) sum[i][part] = load<Part>(sums + (j + i) * E + part * LANES);
        for (int lane = 0; lane < WIDTH; lane++)
            UNROLL
            for (int part = 0; part < PARTS; part++) {
                Part row = load<Part>(rows + lane * E + part * LANES);
                UNROLL
                for (int i = 0; i < GROUP; i++) sum[i][part] += row * weight[(j + i) * WIDTH + lane];
            }
        UNROLL
        for (int i = 0; i < GROUP; i++)
            UNROLL
            for (int part = 0; part < PARTS; part++) store(sums + (j + i) * E + part * LANES, sum[i][part]);
    }
}

// Where key `first` + j is behind a query of the block that begins at `start`, `value` instead of its score.
FN void hide(Floats (&score)[KEYS], int first, int start, int sources, float value) {
    Ints lane;
    for (int i = 0; i < WIDTH; i++) lane[i] = i;
    for (int j = 0; j < KEYS; j++) {
        const int position = (first + j) / sources - start;
        score[j] = lane < position ? all(value) : score[j];
    }
}

// A block of rows, as columns times `scale`; rows behind the last are 0.
template <int E>
FN void to_columns(const float* rows, int count, float scale, float* columns) {
    for (int lane = 0; lane < WIDTH; lane++)
        for (int e = 0; e < E; e++) columns[e * WIDTH + lane] = lane < count ? rows[lane * E + e] * scale : 0.0f;
}

// Outputs of one head, rows of E, and each query's log2 of its sum of 2^score.
template <int E>
TARGET static void forward(const Head& head, float* out, float* log_sum) {
    alignas(64) float columns[E * WIDTH], sums[E * WIDTH], held[PANEL * WIDTH];
    for (int start = 0; start < head.length; start += WIDTH) {
        const int count = std::min(WIDTH, head.length - start);
        const int seen_by_all = head.sources * (start + 1), seen = head.sources * (start + count);
        to_columns<E>(head.queries + (long)start * E, count, head.scale * LOG2E, columns);
        for (float& sum : sums) sum = 0.0f;
        Floats top = all(LOWEST), total = Floats{};
        for (int panel = 0; panel < seen; panel += PANEL) {
            const int keys = std::min(PANEL, (seen - panel + KEYS - 1) / KEYS * KEYS);
            Floats before = top;
            for (int j = 0; j < keys; j += KEYS) {
                Floats score[KEYS];
                scores<E>(columns, head.keys + (long)(panel + j) * E, score);
                if (panel + j + KEYS > seen_by_all) hide(score, panel + j, start, head.sources, LOWEST);
                UNROLL
                for (int i = 0; i < KEYS; i++) {
                    top = larger(top, score[i]);
                    store(held + (j + i) * WIDTH, score[i]);
                }
            }
            Floats shrink = power(before - top);
            total *= shrink;
            for (int e = 0; e < E; e++) store(sums + e * WIDTH, load<Floats>(sums + e * WIDTH) * shrink);
            for (int j = 0; j < keys; j += KEYS) {
                Floats weight[KEYS];
                UNROLL
                for (int i = 0; i < KEYS; i++) weight[i] = power(load<Floats>(held + (j + i) * WIDTH) - top);
                total += ((weight[0] + weight[1]) + (weight[2] + weight[3])) +
                         ((weight[4] + weight[5]) + (weight[6] + weight[7]));
                collect<E>(sums, head.values + (long)(panel + j) * E, weight);
            }
        }
        for (int lane = 0; lane < count; lane++) {
            for (int e = 0; e < E; e++) out[(long)(start + lane) * E + e] = sums[e * WIDTH + lane] / total[lane];
            log_sum[start + lane] = top[lane] + std::log2(total[lane]);
        }
    }
}

// Gradients of one head: those of keys and values are added to, those of the queries are set.
template <int E>
TARGET static void backward(const Head& head, const Upstream& up, float* queries, float* keys, float* values) {
    alignas(64) float columns[E * WIDTH], up_columns[E * WIDTH], sums[E * WIDTH];
    alignas(64) float rows[WIDTH * E], up_rows[WIDTH * E], weights[KEYS * WIDTH], slopes[KEYS * WIDTH];
    for (int start = 0; start < head.length; start += WIDTH) {
        const int count = std::min(WIDTH, head.length - start);
        const int seen_by_all = head.sources * (start + 1), seen = head.sources * (start + count);
        to_columns<E>(head.queries + (long)start * E, count, head.scale * LOG2E, columns);
        to_columns<E>(up.grad + (long)start * E, count, 1.0f, up_columns);
        Floats log_sum = all(-LOWEST), mean = Floats{};  // behind the last query every weight is 0
        for (int lane = 0; lane < WIDTH; lane++) {
            for (int e = 0; e < E; e++) {
                const long at = (long)(start + lane) * E + e;
                rows[lane * E + e] = lane < count ? head.queries[at] * head.scale : 0.0f;
                up_rows[lane * E + e] = lane < count ? up.grad[at] : 0.0f;
                // Each query's mean of its keys' gradients is its output times its own: FlashAttention, arXiv 2205.14135.
                if (lane < count) mean[lane] += up.grad[at] * up.out[at];
            }
            if (lane < count) log_sum[lane] = up.log_sum[start + lane];
        }
        for (float& sum : sums) sum = 0.0f;
        for (int j = 0; j < seen; j += KEYS) {
            const long at = (long)j * E;
            Floats weight[KEYS], slope[KEYS];
            scores<E>(columns, head.keys + at, weight);
            UNROLL
            for (int i = 0; i < KEYS; i++) weight[i] = power(weight[i] - log_sum);
            if (j + KEYS > seen_by_all) hide(weight, j, start, head.sources, 0.0f);
            scores<E>(up_columns, head.values + at, slope);
            UNROLL
            for (int i = 0; i < KEYS; i++) {
                slope[i] = weight[i] * (slope[i] - mean);
                store(weights + i * WIDTH, weight[i]);
                store(slopes + i * WIDTH, slope[i]);
            }
            collect<E>(sums, head.keys + at, slope);
            give_back<E>(values + at, up_rows, weights);
            give_back<E>(keys + at, rows, slopes);
        }
        for (int lane = 0; lane < count; lane++)
            for (int e = 0; e < E; e++)
                queries[(long)(start + lane) * E + e] = sums[e * WIDTH + lane] * head.scale;
    }
}
