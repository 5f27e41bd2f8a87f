// Registers of WIDTH floats, as the compiler's own vectors (GCC, Clang): the same lines become AVX-512, AVX2, SSE or
// NEON. Both libraries include this file once for each instruction set, inside its namespace, with FN defined.

template <int N>
struct Vector {
    typedef float Floats __attribute__((vector_size(4 * N)));
};
typedef Vector<WIDTH>::Floats Floats;
typedef int32_t Ints __attribute__((vector_size(4 * WIDTH)));
typedef uint32_t Words __attribute__((vector_size(4 * WIDTH)));
typedef uint16_t Halves __attribute__((vector_size(2 * WIDTH)));

template <class V, class T>
FN V load(const T* from) {
    V v;
    std::memcpy(&v, from, sizeof v);
    return v;
}

template <class V, class T>
FN void store(T* to, V v) {
    std::memcpy(to, &v, sizeof v);
}

FN Floats all(float value) { return value - Floats{}; }

FN Floats larger(Floats a, Floats b) { return a > b ? a : b; }
