// Whether kernels can run on this machine.

#include "kernels.h"

namespace entroselect::cuda {

std::string why_not() {
#if defined(__CUDACC__)
  int driver = 0, devices = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) return "no NVIDIA driver";
  const cudaError_t error = cudaGetDeviceCount(&devices);
  if (error == cudaSuccess && devices > 0) return "";
  cudaGetLastError();  // forgets it
  return error == cudaSuccess ? "no GPU" : cudaGetErrorString(error);
#else
  return "";
#endif
}

}  // namespace entroselect::cuda
