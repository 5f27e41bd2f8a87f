// Everything once more for one instruction set: LEVEL is the namespace, TARGET the attribute that switches the
// instructions on, WIDTH the floats in a register.

#define FN static inline __attribute__((always_inline)) TARGET

namespace LEVEL {

#include "../../vectors.h"
#include "numbers.h"

#include "attention.h"
#include "gated.h"
#include "gelu.h"
#include "rotary.h"

}  // namespace LEVEL

#undef FN
#undef LEVEL
#undef TARGET
#undef WIDTH
