// The functions entroselect._core.batch_*: thin bindings, no decisions.

#include "arrays.h"
#include "batch.h"
#include "bindings.h"

namespace entroselect {
namespace {

Clouds clouds_of(const py::array& values, const std::string& dtype, const Indices& lengths) {
  const Rows rows = rows_of(values, dtype);
  return {rows, lengths.size(), rows.n / lengths.size(), lengths.data()};
}

int64_t py_batch_first_unusable(const py::array& values, const std::string& dtype,
                                const Indices& lengths, double largest, int threads) {
  const Clouds clouds = clouds_of(values, dtype, lengths);
  py::gil_scoped_release release;
  return first_unusable_point(clouds, best_kernels(), largest, threads, check_signals);
}

Indices py_batch_centers(const py::array& values, const std::string& dtype, const Indices& lengths,
                         bool farthest, const std::string& isa, int threads) {
  const Clouds clouds = clouds_of(values, dtype, lengths);
  const Kernels& kernels = kernels_named(isa);
  Indices indices(clouds.count);
  int64_t* const out = indices.mutable_data();
  py::gil_scoped_release release;
  centers_of(clouds, farthest, kernels, threads, check_signals, out);
  return indices;
}

// (indices (B, k); squared distances (B, k); squared radius (B,)).
py::tuple py_batch_greedy(const py::array& values, const std::string& dtype, const Indices& lengths,
                          const Indices& starts, int64_t k, const std::string& isa, int threads) {
  const Clouds clouds = clouds_of(values, dtype, lengths);
  const Kernels& kernels = kernels_named(isa);
  Indices indices({clouds.count, k});
  Doubles squared({clouds.count, k}), radius(clouds.count);
  int64_t* const index = indices.mutable_data();
  double *const square = squared.mutable_data(), *const left = radius.mutable_data();
  {
    py::gil_scoped_release release;
    batch_greedy(clouds, k, starts.data(), kernels, threads, check_signals, index, square, left);
  }
  return py::make_tuple(indices, squared, radius);
}

}  // namespace

void bind_batch(py::module_& m) {
  Guarded(m)
      .def("batch_first_unusable", &py_batch_first_unusable)
      .def("batch_centers", &py_batch_centers)
      .def("batch_greedy", &py_batch_greedy);
}

}  // namespace entroselect
