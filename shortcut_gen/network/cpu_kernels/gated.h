// SwiGLU's product: rows of two halves, silu(first) times second; silu(x) = x / (1 + e^-x); and its gradient.

FN Floats sigmoid(Floats x) {
    Floats power_of_two = x * -LOG2E;
    return 1.0f / (power(power_of_two < 126.0f ? power_of_two : all(126.0f)) + 1.0f);
}

// One row of `half` products; `half` is a multiple of WIDTH (functions.py sees to it).
template <class T>
TARGET static void gated(const T* x, int half, T* y) {
    for (int i = 0; i < half; i += WIDTH) {
        Floats gate = read(x + i);
        write(y + i, gate * sigmoid(gate) * read(x + half + i));
    }
}

template <class T>
TARGET static void gated_backward(const T* x, const T* grad, int half, T* out) {
    for (int i = 0; i < half; i += WIDTH) {
        Floats gate = read(x + i), up = read(x + half + i), s = sigmoid(gate), g = read(grad + i);
        write(out + i, g * up * s * (1.0f + gate * (1.0f - s)));
        write(out + half + i, g * gate * s);
    }
}
