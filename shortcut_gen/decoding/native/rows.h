// Layer norm, sums and what draws an id, of one instruction set; kernels.h includes this file, inside its namespace.

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

// Rotary positions, on one head's 2·half numbers: cosines, then sines.
TARGET static void rotate(float* x, const float* by, int half) {
    int i = 0;
    for (; i + WIDTH <= half; i += WIDTH) {
        const Floats first = load<Floats>(x + i), second = load<Floats>(x + i + half);
        const Floats cos = load<Floats>(by + i), sin = load<Floats>(by + i + half);
        store(x + i, first * cos - second * sin);
        store(x + i + half, second * cos + first * sin);
    }
    for (; i < half; i++) {
        const float first = x[i], second = x[i + half];
        x[i] = first * by[i] - second * by[i + half];
        x[i + half] = second * by[i] + first * by[i + half];
    }
}

// SwiGLU of rows of gates and values in turn, sixteen columns each, (rows, 2·hidden): y = gate · sigmoid(gate) · value
// for the columns n0 to n1, multiples of sixteen.
TARGET static void gate(const float* x, int rows, int hidden, int n0, int n1, float* y) {
    for (int r = 0; r < rows; r++, x += 2 * hidden, y += hidden)
        for (int column = n0; column < n1; column += 16)
            for (int i = column; i < column + 16; i += WIDTH) {
                Floats g = load<Floats>(x + column + i), value = load<Floats>(x + column + i + 16);
                store(y + i, g / (exponential(-g) + 1.0f) * value);
            }
}

// Whether all of n logits are numbers of less than 1e30, so that no temperature makes them infinite.
TARGET static bool usable(const float* x, int n) {
    constexpr int32_t LARGEST = 0x7149f2ca;  // the bits of 1e30f: those of larger numbers, of infinity and NaN are larger
    int32_t bad = 0;
    for (int i = 0; i < n; i++) {
        int32_t bits;
        std::memcpy(&bits, x + i, 4);
        bad |= (bits & 0x7fffffff) >= LARGEST;
    }
    return !bad;
}

// Logits over a temperature, -inf where they are not allowed (null: all are) and past n, to the next 64.
// Returns the largest.
TARGET static float temper(const float* x, const uint8_t* allowed, int n, float temperature, float* y) {
    const int end = (n + 63) / 64 * 64;
    if (allowed)
        for (int i = 0; i < n; i++) {
            const float warm = x[i] / temperature;
            y[i] = allowed[i] ? warm : -INFINITY;
        }
    else
        for (int i = 0; i < n; i++) y[i] = x[i] / temperature;
    for (int i = n; i < end; i++) y[i] = -INFINITY;
    Floats most = load<Floats>(y);
    for (int i = WIDTH; i < end; i += WIDTH) most = upper(most, load<Floats>(y + i));
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

FN double sum_of(Doubles v) {
    double all = 0.0;
    for (int i = 0; i < WIDTH / 2; i++) all += v[i];
    return all;
}

// e^(x - top) for n logits, a multiple of 64; 0 for what lies 87 below. Returns their sum.
TARGET static double exponentials(const float* x, float top, int n, float* y) {
    Doubles sum = {};
    for (int i = 0; i < n; i += WIDTH) {
        Floats d = load<Floats>(x + i) - top;
        store(y + i, d > -87.0f ? exponential(d) : Floats{});
        sum += doubles(y + i) + doubles(y + i + WIDTH / 2);
    }
    return sum_of(sum);
}

// How many of n logits, a multiple of 64, are `least` or more, and the sum of their masses.
TARGET static Above above(const float* x, const float* mass, int n, float least) {
    Floats sums[4] = {};  // four, as an addition waits for the one before
    Ints counts = {};
    for (int i = 0; i < n; i += 4 * WIDTH)
        UNROLL
        for (int j = 0; j < 4; j++) {
            Ints there = load<Floats>(x + i + j * WIDTH) >= least;
            counts -= there;
            sums[j] += there ? load<Floats>(mass + i + j * WIDTH) : Floats{};
        }
    int count = 0;
    for (int i = 0; i < WIDTH; i++) count += counts[i];
    return {count, total((sums[0] + sums[1]) + (sums[2] + sums[3]))};
}

// The places of those of n logits, a multiple of 64, that are `low` or more but less than `high`. Returns how many.
TARGET static int between(const float* x, int n, float low, float high, int32_t* places) {
    int count = 0;
#if WIDTH == 16
    __m512i place = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    for (int i = 0; i < n; i += 16, place = _mm512_add_epi32(place, _mm512_set1_epi32(16))) {
        const __m512 v = _mm512_loadu_ps(x + i);
        const __mmask16 there = _mm512_cmp_ps_mask(v, _mm512_set1_ps(low), _CMP_GE_OQ) &
                                _mm512_cmp_ps_mask(v, _mm512_set1_ps(high), _CMP_LT_OQ);
        if (!there) continue;
        _mm512_storeu_si512(places + count, _mm512_maskz_compress_epi32(there, place));
        count += __builtin_popcount(there);
    }
#else
    for (int i = 0; i < n; i++) {
        places[count] = i;
        count += (x[i] >= low) & (x[i] < high);
    }
#endif
    return count;
}

// The first of n masses, a multiple of 64, at which their sum exceeds `target`; the last that is not 0 where
// rounding has put that past the end.
TARGET static int reach(const float* mass, int n, double target) {
    double sum = 0.0;
    for (int i = 0; i < n; i += 16) {
        Doubles some = {};
        for (int j = 0; j < 16; j += WIDTH / 2) some += doubles(mass + i + j);
        const double with = sum + sum_of(some);
        if (with > target)
            for (int j = i; j < i + 16; j++) {
                if (mass[j] > 0.0f && (sum += mass[j]) > target) return j;
            }
        sum = with;
    }
    int last = n - 1;
    while (last > 0 && !(mass[last] > 0.0f)) last--;
    return last;
}

constexpr Kernels KERNELS = {product, rotate, keep, attend, norm, sum, gate, usable, temper, exponentials, above, between, reach, DOT};
