// Threads that pass through the model together.

#pragma once

#include "memory.h"

namespace {

void pause() {
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// Threads that run one function together, the caller among them. After a run they stay awake for a moment, as the next
// step follows soon, giving way to whoever wants the core; then they sleep.
class Pool {
public:
    explicit Pool(int size) : size(size), process(getpid()), arrived_(new Flag[size]) {
        for (int t = 1; t < size; t++) threads_.emplace_back(&Pool::work, this, t);
    }

    ~Pool() {
        {
            std::lock_guard<std::mutex> hold(lock_);
            stop_ = true;
            ticket_.fetch_add(1);
        }
        wake_.notify_all();
        for (std::thread& thread : threads_) thread.join();
    }

    void run(void (*job)(void*, int), void* with) {
        std::lock_guard<std::mutex> one_at_a_time(running_);
        job_ = job, with_ = with;
        bool asleep;
        {
            std::lock_guard<std::mutex> hold(lock_);
            ticket_.fetch_add(1, std::memory_order_release);
            asleep = sleeping_ > 0;
        }
        if (asleep) wake_.notify_all();
        job(with, 0);
        barrier(0);
    }

    // Waits until all threads have come here: each counts its own arrivals, on a cache line of its own.
    void barrier(int t) {
        const unsigned mine = arrived_[t].count.load(std::memory_order_relaxed) + 1;
        arrived_[t].count.store(mine, std::memory_order_release);
        for (int other = 0; other < size; other++)
            for (int spins = 0; int(arrived_[other].count.load(std::memory_order_acquire) - mine) < 0; spins++)
                spins < 100 ? pause() : (void)sched_yield();
    }

    const int size;
    const pid_t process;

private:
    struct alignas(128) Flag {
        std::atomic<unsigned> count{0};
    };

    void work(int t) {
        for (unsigned done = 0;;) {
            using Clock = std::chrono::steady_clock;
            const Clock::time_point until = Clock::now() + std::chrono::microseconds(300);
            for (int spins = 0; ticket_.load(std::memory_order_acquire) == done; spins++) {
                if (spins < 100) {
                    pause();
                } else if (Clock::now() < until) {
                    sched_yield();
                } else {
                    std::unique_lock<std::mutex> hold(lock_);
                    sleeping_++;
                    wake_.wait(hold, [&] { return ticket_.load() != done; });
                    sleeping_--;
                }
            }
            done++;
            if (stop_) return;
            job_(with_, t);
            barrier(t);
        }
    }

    std::unique_ptr<Flag[]> arrived_;
    std::vector<std::thread> threads_;
    std::mutex running_, lock_;
    std::condition_variable wake_;
    std::atomic<unsigned> ticket_{0};
    std::atomic<bool> stop_{false};
    int sleeping_ = 0;
    void (*job_)(void*, int) = nullptr;
    void* with_ = nullptr;
};

}  // namespace
