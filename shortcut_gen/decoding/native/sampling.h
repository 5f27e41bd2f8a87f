// The draw of an id from a row of logits, as shortcut_gen/decoding/sampling.py has it: temperature, top-k, top-p, min-p, then the
// first id whose cumulative probability exceeds a uniform number.
//
// Nothing is sorted but a few logits about the last that is kept. Each filter looks for the least logit it keeps: it
// halves the interval where that lies until few logits are in it, each time counting, or adding up, what lies above.

#pragma once

#include "levels.h"

namespace {

// As Python has it (`Choice` in library.py).
struct Choice {
    double temperature, top_p, min_p;
    int32_t top_k;
};

class Chooser {
public:
    Chooser() = default;
    explicit Chooser(int vocab) : room_(whole(vocab)), row_(room_), mass_(room_), ids_(room_), band_(room_) {}

    // logits: V numbers. allowed: V bytes, or null where all may come. Returns -1 where a logit is no usable number, or
    // none may come.
    int choose(const Kernels& kernels, const float* logits, int vocab, const uint8_t* allowed, const Choice& how,
               double uniform) {
        if (!kernels.usable(logits, vocab)) return -1;
        if (vocab > room_) *this = Chooser(vocab);
        kernels_ = &kernels;
        int first = 0, end = vocab;
        if (allowed) {  // a codebook of speech is one stretch of the ids: leave out what lies before and behind
            while (first + 64 < end && none(allowed + first)) first += 64;
            while (end - 64 > first && none(allowed + end - 64)) end -= 64;
            allowed += first;
        }
        count_ = end - first, fewer_ = false;
        const float temperature = how.temperature == 0.0 ? 1.0f : float(how.temperature);
        top_ = kernels.temper(logits + first, allowed, count_, temperature, row_.get());
        if (!(top_ > -INFINITY)) return -1;
        if (how.temperature == 0.0) {
            const int most = kernels.between(row_.get(), whole(count_), top_, INFINITY, ids_.get());
            return first + (most ? ids_[0] : 0);
        }
        double all = 0.0;
        if (how.top_k > 0 && how.top_k < count_)
            keep(least_of(top_ - FAR, [&](const Above& above) { return above.count >= how.top_k; }), 0);
        if (how.top_p < 1.0) {
            all = weigh();
            const double share = how.top_p * all;
            // Logits so low that even if all were, what top-p may cut would be more than they all hold.
            const float floor = top_ + float(std::log((1.0 - how.top_p) * all / count_)) - 1e-3f;
            int spare = 0;
            const float least =
                least_of(std::max(floor, top_ - FAR), [&](const Above& above) { return above.mass >= share; }, &spare);
            keep(least, spare);
        }
        if (how.min_p > 0.0) keep(top_ + float(std::log(how.min_p)), 0);
        if (fewer_ || how.top_p == 1.0) all = weigh();
        const int at = kernels.reach(mass_.get(), whole(count_), uniform * all);
        return first + (fewer_ ? ids_[at] : at);
    }

    // -ln of an id's probability by the logits as they are: at temperature 1, whatever is allowed.
    float surprise(const Kernels& kernels, const float* logits, int vocab, int id) {
        if (id < 0) return NAN;
        if (vocab > room_) *this = Chooser(vocab);
        const float top = kernels.temper(logits, nullptr, vocab, 1.0f, row_.get());
        return float(std::log(kernels.exponentials(row_.get(), top, whole(vocab), mass_.get())) - (logits[id] - top));
    }

private:
    static constexpr float FAR = 87.0f;  // so far below the largest, a logit's mass is none
    static constexpr int FEW = 16;

    static int whole(int n) { return (n + 63) / 64 * 64; }

    static bool none(const uint8_t* allowed) {
        uint64_t eight[8];
        std::memcpy(eight, allowed, 64);
        return !(eight[0] | eight[1] | eight[2] | eight[3] | eight[4] | eight[5] | eight[6] | eight[7]);
    }

    double weigh() { return kernels_->exponentials(row_.get(), top_, whole(count_), mass_.get()); }

    Above above(float least) { return kernels_->above(row_.get(), mass_.get(), whole(count_), least); }

    // The largest logit, at least `floor`, from which on they are enough; -inf where those from `floor` on are not.
    // spare: how many of those that equal it are not needed.
    template <class Enough>
    float least_of(float floor, const Enough& enough, int* spare = nullptr) {
        float low = top_, high = INFINITY;  // from `low` on they are enough, from `high` on they are not
        Above some = {0, 0.0}, most;
        for (float step = 1.0f;; step *= 2.0f) {
            low = std::max(top_ - step, floor);
            most = above(low);
            if (enough(most)) break;
            if (low == floor) return -INFINITY;
            high = low, some = most;
        }
        while (most.count - some.count > FEW) {
            const float end = std::min(high, top_), middle = low + (end - low) / 2;
            if (!(middle > low && middle < high)) break;  // all between are equal
            const Above now = above(middle);
            if (enough(now)) low = middle, most = now;
            else high = middle, some = now;
        }
        // Few lie between: there is one at least, as one bound suffices and the other does not.
        const int between = kernels_->between(row_.get(), whole(count_), low, high, band_.get());
        std::sort(band_.get(), band_.get() + between, [&](int a, int b) { return row_[a] > row_[b]; });
        int i = 0;
        for (; i < between; i++) {
            some.count++, some.mass += mass_[band_[i]];
            if (enough(some)) break;
        }
        i = std::min(i, between - 1);  // rounding: the sums in another order may fall short
        const float least = row_[band_[i]];
        if (spare)
            for (*spare = 0; i + 1 < between && row_[band_[i + 1]] == least; i++) ++*spare;
        return least;
    }

    // Leaves only the logits from `least` on, without the last `spare` of those that equal it.
    void keep(float least, int spare) {
        if (least == -INFINITY) return;
        int32_t* places = band_.get();
        int kept = kernels_->between(row_.get(), whole(count_), least, INFINITY, places);
        for (int i = kept - 1; spare > 0; i--)
            if (row_[places[i]] == least) std::copy(places + i + 1, places + kept, places + i), kept--, spare--;
        for (int i = 0; i < kept; i++) {
            row_[i] = row_[places[i]];
            ids_[i] = fewer_ ? ids_[places[i]] : places[i];
        }
        for (int i = kept; i < whole(kept); i++) row_[i] = -INFINITY;
        count_ = kept, fewer_ = true;
    }

    int room_ = 0, count_ = 0;
    bool fewer_ = false;  // whether a filter has left but some ids: `ids_` says which
    float top_ = 0.0f;
    Array<float> row_, mass_;
    Array<int32_t> ids_, band_;
    const Kernels* kernels_ = nullptr;
};

}  // namespace
