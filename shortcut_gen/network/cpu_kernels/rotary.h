// Rotary positions: of each row of E numbers, number e of the first half and number e of the second are turned by an angle.

// One row of two halves; `turn` is 1, or -1 for the way back.
template <class T>
TARGET static void rotate(const T* x, const float* cos, const float* sin, float turn, int half, T* y) {
    int e = 0;
    for (; e + WIDTH <= half; e += WIDTH) {
        Floats a = read(x + e), b = read(x + half + e), c = load<Floats>(cos + e), s = load<Floats>(sin + e) * turn;
        write(y + e, a * c - b * s);
        write(y + half + e, b * c + a * s);
    }
    if (e == half) return;
    T some[2][WIDTH] = {}, turned[2][WIDTH];  // what does not fill a register
    float angles[2][WIDTH] = {};
    std::memcpy(some[0], x + e, sizeof(T) * (half - e));
    std::memcpy(some[1], x + half + e, sizeof(T) * (half - e));
    std::memcpy(angles[0], cos + e, sizeof(float) * (half - e));
    std::memcpy(angles[1], sin + e, sizeof(float) * (half - e));
    Floats a = read(some[0]), b = read(some[1]), c = load<Floats>(angles[0]), s = load<Floats>(angles[1]) * turn;
    write(turned[0], a * c - b * s);
    write(turned[1], b * c + a * s);
    std::memcpy(y + e, turned[0], sizeof(T) * (half - e));
    std::memcpy(y + half + e, turned[1], sizeof(T) * (half - e));
}
