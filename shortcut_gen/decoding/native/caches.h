// What is kept of keys and values, and attention over that; kernels.h includes this file, inside its namespace, behind
// attend.h and attend8.h, which have the forms.

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
#if DOT
        const uint16_t key_scale = scale_of(keys, width), value_scale = scale_of(values, width);
        to.key_scales[block * 16 + lane] = key_scale, to.value_scales[block * 16 + lane] = value_scale;
        keep8(keys, values, width, key_scale, value_scale, lane, to.keys + at, to.values + at);
#endif
    }
}

template <int R>
FN void attend_in(const float* query, long ldq, const int* position, int width, int sources, const Cached& cached,
                  float* scores, long lds, float* out, long ldo, const Look& look, int row0, void* room) {
#if DOT
    if (cached.precision == INT8)
        return attend8_to<R>(query, ldq, position, width, sources, cached, scores, lds, out, ldo, look, row0, room);
#endif
    (void)room;
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
