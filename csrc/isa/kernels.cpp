// Compiled once per instruction set (CMakeLists.txt sets ENTROSELECT_ISA and the flags), always
// with -ffp-contract=off: the canonical sums must not be fused; the score tiles fuse by intrinsics.
//
// No templates of the standard library here: the linker could keep a copy that was compiled for an
// instruction set that the machine lacks.

#include "isa/kernels.h"

#include <cmath>
#include <cstring>
#include <type_traits>

#include "isa/squares.h"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#define ENTROSELECT_JOIN2(a, b) a##b
#define ENTROSELECT_JOIN(a, b) ENTROSELECT_JOIN2(a, b)

namespace entroselect {
namespace {

// Each part uses what stands above it.
#include "isa/canonical.inc.h"
#include "isa/coding.inc.h"
#include "isa/score.inc.h"
#include "isa/shared_bits.inc.h"

}  // namespace

#define ENTROSELECT_STRING2(x) #x
#define ENTROSELECT_STRING(x) ENTROSELECT_STRING2(x)

const Kernels ENTROSELECT_JOIN(kernels_, ENTROSELECT_ISA) = {
    ENTROSELECT_STRING(ENTROSELECT_ISA),
    Halves::kWide,
    kRowLevels,
    kOffset,
    distance_to_row,
    distance,
    leaf_distances,
    lower_leaf,
    nearer_leaves,
    best_leaf,
    load_row,
    first_unusable,
    frame_row,
    frame_doubles,
    rotate_window,
    code_bytes,
    code_halves,
    bit_distances,
    widen_row,
    widen_panel,
    score_bytes,
    score_halves,
};

}  // namespace entroselect
