// Powers of two, and numbers from and to memory; level.h includes this file, inside its namespace.

// 2^x to 2 units in the last place, for x up to 126: 2^n by the exponent's bits, 2^r for |r| <= 1/2 by its Taylor
// polynomial in r·ln 2, of degree 6. n is found by adding 1.5·2^23.
FN Floats power(Floats x) {
    const Floats magic = all(12582912.0f);
    x = larger(x, all(-126.0f));
    Floats shifted = x + magic;
    Floats r = x - (shifted - magic);
    Floats p = r * 1.54035304e-4f + 1.33335581e-3f;
    p = p * r + 9.61812911e-3f;
    p = p * r + 5.55041087e-2f;
    p = p * r + 2.40226507e-1f;
    p = p * r + 6.93147181e-1f;
    p = p * r + 1.0f;
    return (Floats)((Ints)p + (((Ints)shifted - (Ints)magic) << 23));
}

// Floats from and to float32 or bfloat16 in memory; bfloat16 is rounded to the nearest, ties to even.
FN Floats read(const float* from) { return load<Floats>(from); }

FN Floats read(const uint16_t* from) {
    Halves halves;
    std::memcpy(&halves, from, sizeof halves);
    return (Floats)(__builtin_convertvector(halves, Words) << 16);
}

FN void write(float* to, Floats v) { store(to, v); }

FN void write(uint16_t* to, Floats v) {
    Words bits = (Words)v;
    Halves halves = __builtin_convertvector((bits + 0x7FFF + (bits >> 16 & 1)) >> 16, Halves);
    std::memcpy(to, &halves, sizeof halves);
}
