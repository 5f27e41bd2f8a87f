// What all rooms of the engine share: its includes, macros and memory.

#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <thread>
#include <type_traits>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

// Before a loop that must be unrolled, as its arrays are meant to be registers.
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif
#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

enum Precision { F32 = 0, BF16 = 1, INT8 = 2 };

int padded(int n) { return (n + 15) / 16 * 16; }

constexpr size_t LARGE = size_t(4) << 20;  // bytes from which on an array takes large pages

// Memory of zeros that the system hands out when it is first touched.
template <class T>
class Array {
public:
    Array() = default;
    explicit Array(size_t count, size_t large = LARGE) {
        const size_t align = count * sizeof(T) < large ? 64 : size_t(2) << 20;
        const size_t bytes = (count * sizeof(T) + align - 1) / align * align;
        raw_.reset(std::calloc(bytes + align, 1));
        if (!raw_) throw std::bad_alloc();
        data_ = (T*)(((uintptr_t)raw_.get() + align - 1) / align * align);
#if defined(MADV_HUGEPAGE)
        if (align > 64) madvise(data_, bytes, MADV_HUGEPAGE);
#endif
    }
    T* get() const { return data_; }
    T& operator[](size_t i) const { return data_[i]; }

private:
    struct Free {
        void operator()(void* p) const { std::free(p); }
    };
    std::unique_ptr<void, Free> raw_;
    T* data_ = nullptr;
};

// One array for many things, so that they share its large pages: a pass looks up few addresses then.
class Room {
public:
    static size_t whole(size_t bytes) { return (bytes + 63) / 64 * 64; }  // what taking so many takes

    Room() = default;
    explicit Room(size_t bytes) : all_(bytes, LARGE / 4), left_(bytes) {}

    template <class T>
    T* take(size_t count) {
        const size_t bytes = whole(count * sizeof(T));
        if (bytes > left_) throw std::bad_alloc();
        left_ -= bytes, used_ += bytes;
        return (T*)(all_.get() + used_ - bytes);
    }

private:
    Array<char> all_;
    size_t left_ = 0, used_ = 0;
};

}  // namespace
