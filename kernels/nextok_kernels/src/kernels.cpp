// One build of all computations. Compiled once for each family of processors.
#include "kernels.h"

#include <algorithm>
#include <functional>

#include "simd.h"

namespace NEXTOK_BUILD {

using namespace nextok;

#include "norm.inc"
#include "epilogue.inc"
#include "products.inc"
#include "attention.inc"
#include "distribution.inc"

extern const Kernels table;
const Kernels table = {
    NEXTOK_NAME,   norm,          round_unsigned, round_signed,    round_twofold,
    product_float, product_bytes, product_twofold, product_nibbles, remember_float,
    remember_bytes, attend_float, attend_bytes,   distribution,    row_float,
    row_bytes,
};

}  // namespace NEXTOK_BUILD
