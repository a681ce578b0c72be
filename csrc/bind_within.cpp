// The function entroselect._core.within: thin bindings, no decisions.

#include <pybind11/functional.h>
#include <pybind11/stl.h>

#include <memory>

#include "arrays.h"
#include "bindings.h"
#include "tree_or_filter.h"

namespace entroselect {
namespace {

// (begin of every query's points and, last, their number; indices; squared distances).
py::tuple py_within(py::array queries, const std::string& query_dtype, py::array points,
                    const std::string& point_dtype, bool same, double limit, bool cosine,
                    const std::string& isa, const std::string& filter, int threads,
                    const py::object& progress) {
  const Kernels& kernels = kernels_named(isa);
  const OwnedRows q(std::move(queries), query_dtype, cosine, kernels, threads);
  std::unique_ptr<OwnedRows> p;
  if (!same)
    p = std::make_unique<OwnedRows>(std::move(points), point_dtype, cosine, kernels, threads);
  const auto poll = [&](int64_t done) {
    const FloatEnvironment environment;
    py::gil_scoped_acquire gil;
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
    if (!progress.is_none()) progress(done, q.rows.n);
  };
  Lists lists;
  {
    py::gil_scoped_release release;
    find_within(q.rows, same ? q.rows : p->rows, limit, kernels, filter, threads, poll, lists);
  }
  poll(q.rows.n);
  py::array_t<int64_t> begin(q.rows.n + 1);
  begin.mutable_data()[0] = 0;
  for (int64_t i = 0; i < q.rows.n; ++i)
    begin.mutable_data()[i + 1] = begin.data()[i] + int64_t(lists[size_t(i)].size());
  const int64_t total = begin.data()[q.rows.n];
  py::array_t<int64_t> indices(total);
  py::array_t<double> squared(total);
  int64_t* index = indices.mutable_data();
  double* square = squared.mutable_data();
  for (auto& list : lists) {
    for (const Neighbour& found : list) {
      *index++ = found.index;
      *square++ = found.squared;
    }
    std::vector<Neighbour>().swap(list);  // its memory is free for what follows
  }
  return py::make_tuple(begin, indices, squared);
}

}  // namespace

void bind_within(py::module_& m) { Guarded(m).def("within", &py_within); }

}  // namespace entroselect
