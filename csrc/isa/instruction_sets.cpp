// The instruction sets of this build, and which of them this machine can run.

#include <cstring>

#include "isa/kernels.h"

#if defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace entroselect {

#if defined(__aarch64__)
static bool has_dot() {
#if defined(__linux__)
  return getauxval(AT_HWCAP) & HWCAP_ASIMDDP;
#else
  return true;  // every Apple processor of this architecture
#endif
}
#endif

const InstructionSet* instruction_sets(int* count) {
#if defined(__x86_64__)
  static const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                               __builtin_cpu_supports("f16c");
  static const bool has_avx512 =
      has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  static const bool has_vnni = has_avx512 && __builtin_cpu_supports("avx512vnni");
  static const bool has_bf16 = has_vnni && __builtin_cpu_supports("avx512bf16");
  static const bool has_avxvnni = has_avx2 && __builtin_cpu_supports("avxvnni");
  static const InstructionSet list[] = {
      {"avx512bf16", &kernels_avx512bf16, has_bf16 ? "" : "the CPU has no AVX-512 VNNI and BF16"},
      {"avx512vnni", &kernels_avx512vnni, has_vnni ? "" : "the CPU has no AVX-512 VNNI"},
      {"avx512", &kernels_avx512, has_avx512 ? "" : "the CPU has no AVX-512 F, BW, VL and DQ"},
      {"avxvnni", &kernels_avxvnni, has_avxvnni ? "" : "the CPU has no AVX-VNNI"},
      {"avx2", &kernels_avx2, has_avx2 ? "" : "the CPU has no AVX2, FMA and F16C"},
      {"neondot", nullptr, "built for x86-64"},
      {"neon", nullptr, "built for x86-64"},
      {"portable", &kernels_portable, ""},
  };
#elif defined(__aarch64__)
  static const InstructionSet list[] = {
      {"avx512bf16", nullptr, "built for aarch64"},
      {"avx512vnni", nullptr, "built for aarch64"},
      {"avx512", nullptr, "built for aarch64"},
      {"avxvnni", nullptr, "built for aarch64"},
      {"avx2", nullptr, "built for aarch64"},
      {"neondot", &kernels_neondot, has_dot() ? "" : "the CPU has no dot products of bytes"},
      {"neon", &kernels_neon, ""},
      {"portable", &kernels_portable, ""},
  };
#else
  static const InstructionSet list[] = {{"portable", &kernels_portable, ""}};
#endif
  *count = int(sizeof list / sizeof list[0]);
  return list;
}

const Kernels* find_kernels(const char* name) {
  int count = 0;
  const InstructionSet* list = instruction_sets(&count);
  for (int i = 0; i < count; ++i)
    if (std::strcmp(list[i].name, name) == 0 && !*list[i].reason) return list[i].kernels;
  return nullptr;
}

const Kernels& best_kernels() {
  int count = 0;
  const InstructionSet* best = instruction_sets(&count);
  while (*best->reason) ++best;  // "portable" runs everywhere
  return *best->kernels;
}

}  // namespace entroselect
