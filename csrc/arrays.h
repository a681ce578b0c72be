// NumPy arrays as rows and back, and what every binding needs besides: kernels by name, and polling
// for Ctrl-C.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "base/float_environment.h"
#include "row_passes.h"

namespace entroselect {

namespace py = pybind11;
using namespace py::literals;

inline Dtype dtype_of(const std::string& name) {
  if (name == "float64") return Dtype::f64;
  if (name == "float32") return Dtype::f32;
  if (name == "float16") return Dtype::f16;
  if (name == "bfloat16") return Dtype::bf16;
  if (name == "uint8") return Dtype::u8;
  throw std::invalid_argument("unknown dtype " + name);
}

inline Rows rows_of(const py::array& values, const std::string& dtype) {
  if (values.ndim() != 2) throw std::invalid_argument("rows must be 2-D");
  Rows rows;
  rows.data = static_cast<const char*>(values.data());
  rows.stride = values.strides(0);
  rows.n = values.shape(0);
  rows.d = values.shape(1);
  rows.dtype = dtype_of(dtype);
  return rows;
}

inline const Kernels& kernels_named(const std::string& name) {
  const Kernels* kernels = find_kernels(name.c_str());
  if (!kernels) throw std::invalid_argument("instruction set " + name + " cannot run here");
  return *kernels;
}

inline void check_signals() {
  const FloatEnvironment environment;  // a signal handler may have changed it
  py::gil_scoped_acquire gil;
  if (PyErr_CheckSignals() != 0) throw py::error_already_set();
}

// Rows whose array is kept alive, with their lengths if the metric is cosine.
struct OwnedRows {
  OwnedRows(py::array values, const std::string& dtype, bool cosine, const Kernels& kernels,
            int threads)
      : values_(std::move(values)), rows(rows_of(values_, dtype)) {
    if (!cosine) return;
    py::gil_scoped_release release;
    lengths_ = lengths_of(rows, kernels, threads, check_signals);
    rows.lengths = lengths_.data();
  }

 private:
  py::array values_;
  std::vector<double> lengths_;

 public:
  Rows rows;
};

template <class T>
py::array_t<T> to_array(const std::vector<T>& values) {
  return py::array_t<T>(py::ssize_t(values.size()), values.data());
}

using Indices = py::array_t<int64_t, py::array::c_style>;
using Groups = py::array_t<int32_t, py::array::c_style>;
using Doubles = py::array_t<double, py::array::c_style>;

inline std::vector<int64_t> to_vector(const Indices& rows) {
  return std::vector<int64_t>(rows.data(), rows.data() + rows.size());
}

}  // namespace entroselect
