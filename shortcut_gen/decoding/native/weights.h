// A matrix as a product reads it, and how it is made from the model's own.

#pragma once

#include "memory.h"

namespace {

// A matrix in panels of sixteen columns, so that a product reads it once from front to end: f32 as [n/16][k][16],
// bf16 as [n/16][k/2][16][2], int8 as [n/16][k/4][16][4] with a scale for each column n.
struct Weight {
    int n = 0, k = 0;
    Precision precision = F32;
    const char* data = nullptr;
    Array<float> scales;
    const float* scale = nullptr;
    Array<int32_t> prefix;
    const int32_t* sums = nullptr;  // [k/16 + 1][n]: int8 weights added up over the terms before each sixteenth
    const float* bias = nullptr;
};

uint16_t to_bf16(float value) {  // rounded to the nearest, ties to even
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    return uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// Bytes of a matrix of so many numbers, and a little more: tiles prefetch past the end.
size_t packed(size_t numbers, Precision precision) {
    return Room::whole(numbers * (precision == F32 ? 4 : precision == BF16 ? 2 : 1) + 4096);
}

void pack(Weight& w, Room& room, const float* matrix, const float* bias, int n, int k, Precision precision) {
    w.n = n, w.k = k, w.precision = precision, w.bias = bias;
    char* to = room.take<char>(packed(size_t(n) * k, precision));
    w.data = to;
    if (precision == INT8) {
        w.scales = Array<float>(n);
        w.prefix = Array<int32_t>((size_t(k) / 16 + 1) * n);
        w.scale = w.scales.get(), w.sums = w.prefix.get();
    }
    for (int row = 0; row < n; row++) {
        const float* from = matrix + size_t(row) * k;
        float most = 0.0f;
        for (int i = 0; i < k; i++) most = std::max(most, std::fabs(from[i]));
        const float inverse = most > 1e-30f ? 127.0f / most : 0.0f;
        if (precision == INT8) w.scales[row] = most / 127.0f;
        int32_t sum = 0;
        for (int i = 0; i < k; i++) {
            const size_t panel = size_t(row / 16) * k * 16, lane = row % 16;
            if (precision == F32) {
                ((float*)to)[panel + size_t(i) * 16 + lane] = from[i];
            } else if (precision == BF16) {
                ((uint16_t*)to)[panel + size_t(i / 2) * 32 + lane * 2 + i % 2] = to_bf16(from[i]);
            } else {
                const int8_t q = int8_t(std::lrintf(from[i] * inverse));
                ((int8_t*)to)[panel + size_t(i / 4) * 64 + lane * 4 + i % 4] = q;
                sum += q;
                if (i % 16 == 15) w.prefix[(size_t(i) / 16 + 1) * n + row] = sum;
            }
        }
    }
}

}  // namespace
