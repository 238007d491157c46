// The build for processors with tiles for bytes (Intel's AMX), besides AVX-512 with VNNI.
#pragma once

#include "kernels.h"

namespace nextok {

// Whether processor and system have them. Linux lends them to a process that asks, as this does.
bool tiles_run_here();

const Kernels& with_tiles();

}  // namespace nextok
