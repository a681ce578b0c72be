// Reads a DLPack capsule into a NumPy view. NumPy's own reader knows no bfloat16, and tensors of
// that type must be readable without importing the library they come from.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <string>
#include <vector>

namespace entroselect {

namespace dlpack {
// The parts of the DLPack ABI (version 0.x, "dltensor" capsules) that are used here.
struct Device {
  int32_t type, id;
};
struct DataType {
  uint8_t code, bits;
  uint16_t lanes;
};
struct Tensor {
  void* data;
  Device device;
  int32_t ndim;
  DataType dtype;
  int64_t* shape;
  int64_t* strides;
  uint64_t byte_offset;
};
struct Managed {
  Tensor tensor;
  void* context;
  void (*deleter)(Managed*);
};
enum Code : uint8_t { kInt = 0, kUInt = 1, kFloat = 2, kBfloat = 4, kBool = 6 };
}  // namespace dlpack

// (array, dtype name); bfloat16 comes as a uint16 array. The array keeps the tensor alive.
inline std::pair<pybind11::array, std::string> from_dlpack(pybind11::capsule capsule,
                                                           const std::string& name) {
  namespace py = pybind11;
  auto* managed = static_cast<dlpack::Managed*>(PyCapsule_GetPointer(capsule.ptr(), "dltensor"));
  if (!managed) throw py::error_already_set();
  const dlpack::Tensor& tensor = managed->tensor;
  const std::string bits = std::to_string(tensor.dtype.bits);
  std::string dtype, view;
  switch (tensor.dtype.code) {
    case dlpack::kInt: dtype = view = "int" + bits; break;
    case dlpack::kUInt: dtype = view = "uint" + bits; break;
    case dlpack::kFloat: dtype = view = "float" + bits; break;
    case dlpack::kBfloat: dtype = "bfloat16", view = "uint16"; break;
    case dlpack::kBool: dtype = view = "bool"; break;
    default: break;
  }
  const int size = tensor.dtype.bits;
  const bool known = size == 8 || size == 16 || size == 32 || size == 64;
  if (dtype.empty() || !known || dtype == "float8" || tensor.dtype.lanes != 1)
    throw py::type_error(name + ": DLPack type code " + std::to_string(tensor.dtype.code) + ", " +
                         bits +
                         " bits, is not supported; use float16, bfloat16, float32, "
                         "float64, an integer type or bool");
  std::vector<py::ssize_t> shape(tensor.shape, tensor.shape + tensor.ndim), strides(shape.size());
  py::ssize_t step = size / 8;
  for (size_t axis = shape.size(); axis-- > 0;) {
    strides[axis] = tensor.strides ? tensor.strides[axis] * (size / 8) : step;
    step *= shape[axis];
  }
  PyCapsule_SetName(capsule.ptr(), "used_dltensor");
  py::capsule owner(managed, [](void* p) {
    auto* m = static_cast<dlpack::Managed*>(p);
    if (m->deleter) m->deleter(m);
  });
  return {py::array(py::dtype(view), shape, strides,
                    static_cast<char*>(tensor.data) + tensor.byte_offset, owner),
          dtype};
}

}  // namespace entroselect
