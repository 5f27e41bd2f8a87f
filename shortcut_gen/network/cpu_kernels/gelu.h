// GELU by tanh, as x times a sigmoid: 0.5·(1 + tanh u) = 1 / (1 + e^(-2u)); and its gradient.

constexpr float CUBIC = 0.044715f;
constexpr float TWICE = 1.5957691216f;  // 2·sqrt(2 / pi)

FN Floats gate(Floats x) {
    Floats power_of_two = x * (x * x * CUBIC + 1.0f) * (-TWICE * LOG2E);
    return 1.0f / (power(power_of_two < 126.0f ? power_of_two : all(126.0f)) + 1.0f);
}

FN Floats slope(Floats x) {
    Floats s = gate(x);
    return s + x * s * (1.0f - s) * (x * x * (3.0f * CUBIC) + 1.0f) * TWICE;
}

template <class T>
TARGET static void gelu(const T* x, T* y, long count) {
    long i = 0;
    for (; i + WIDTH <= count; i += WIDTH) {
        Floats v = read(x + i);
        write(y + i, v * gate(v));
    }
    if (i == count) return;
    T last[WIDTH] = {};  // what does not fill a register
    std::memcpy(last, x + i, sizeof(T) * (count - i));
    Floats v = read(last);
    write(last, v * gate(v));
    std::memcpy(y + i, last, sizeof(T) * (count - i));
}

template <class T>
TARGET static void gelu_backward(const T* x, const T* grad, T* out, long count) {
    long i = 0;
    for (; i + WIDTH <= count; i += WIDTH) write(out + i, read(grad + i) * slope(read(x + i)));
    if (i == count) return;
    T last[2][WIDTH] = {};
    std::memcpy(last[0], x + i, sizeof(T) * (count - i));
    std::memcpy(last[1], grad + i, sizeof(T) * (count - i));
    write(last[1], read(last[1]) * slope(read(last[0])));
    std::memcpy(out + i, last[1], sizeof(T) * (count - i));
}
