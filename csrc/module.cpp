// The Python module entroselect._core: thin bindings, no decisions. Arguments have been checked by
// entroselect/_checks.py; an assertion that fails here is a bug of the package.

#include <pybind11/functional.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <limits>
#include <optional>

#include "arrays.h"
#include "base/dlpack.h"
#include "bindings.h"
#include "isa/lengths.h"
#include "nearest/all_pairs.h"
#include "nearest/nearest.h"
#include "select/filter_pool.h"
#include "tree/tree.h"
#include "tree_or_filter.h"

namespace entroselect {
namespace {

class PyPool {
 public:
  PyPool(py::array values, const std::string& dtype, bool cosine, const std::string& isa,
         const std::string& filter, const std::string& cells, int threads)
      : kernels_(kernels_named(isa)), cosine_(cosine), threads_(threads) {
    held_.push_back(
        std::make_unique<OwnedRows>(std::move(values), dtype, cosine, kernels_, threads));
    const Grouping grouping = cells == "always"  ? Grouping::always
                              : cells == "never" ? Grouping::never
                                                 : Grouping::automatic;
    py::gil_scoped_release release;
    pool_ = build_pool(held_[0]->rows, kernels_, filter, grouping, threads, check_signals);
    block_ = dynamic_cast<SubPool*>(pool_.get());
  }

  Pool& pool() { return *pool_; }

  SubPool& block() {
    if (!block_) throw std::logic_error("a tree is no block of a larger pool");
    return *block_;
  }

  py::array_t<double> bounds(const Indices& rows) {
    py::array_t<double> found(rows.size());
    for (py::ssize_t j = 0; j < rows.size(); ++j)
      found.mutable_data()[j] = pool().bound(rows.data()[j]);
    return found;
  }

  void put_back(const Indices& rows, const Doubles& bounds) {
    const int64_t* data = rows.data();
    const double* known = bounds.data();
    const int64_t count = rows.size();
    py::gil_scoped_release release;
    pool_->put_back(data, known, count);
  }

  void limit_groups(const Groups& groups, const Indices& left) {
    groups_ = groups;
    pool_->limit_groups(Quotas(groups_.data(), to_vector(left)));
  }

  void weigh(const Doubles& weights) {
    weights_ = weights;
    dynamic_cast<FilterPool&>(*pool_).weigh(Weights(weights_.data()));
  }

  py::tuple state() {
    const int64_t n = block().n();
    py::array_t<double> bounds(n);
    py::array_t<int64_t> met(n);
    for (int64_t i = 0; i < n; ++i) {
      bounds.mutable_data()[i] = block().bound(i);
      met.mutable_data()[i] = block().met(i);
    }
    return py::make_tuple(bounds, met);
  }

  void restart(const Doubles& bounds, const Indices& met) {
    block().restart(bounds.data(), met.data());
    held_.resize(1);
  }

  void add_picks(const Indices& rows) {
    const int64_t* data = rows.data();
    const int64_t count = rows.size();
    py::gil_scoped_release release;
    pool_->add_picks(data, count);
  }

  void add_vectors(py::array values, const std::string& dtype) {
    held_.push_back(
        std::make_unique<OwnedRows>(std::move(values), dtype, cosine_, kernels_, threads_));
    py::gil_scoped_release release;
    pool_->add_vectors(held_.back()->rows);
  }

  void refresh(const std::optional<Indices>& rows, double enough) {
    std::vector<int64_t> members;
    if (rows) members = to_vector(*rows);
    py::gil_scoped_release release;
    rows ? pool_->refresh(std::move(members), enough) : pool_->refresh_all(enough);
  }

  py::tuple frontier(int64_t size) {
    std::pair<std::vector<int64_t>, Key> found;
    {
      py::gil_scoped_release release;
      found = pool_->frontier(size);
    }
    return py::make_tuple(to_array(found.first), found.second.bound, found.second.row);
  }

  py::tuple settle(const Indices& rows, double rival, int64_t rival_row, int64_t limit,
                   double floor) {
    const auto members = to_vector(rows);
    std::pair<Picks, double> found;
    {
      py::gil_scoped_release release;
      found = pool_->settle(members, Key{rival, rival_row}, limit, floor);
    }
    return py::make_tuple(to_array(found.first.rows), to_array(found.first.squared), found.second);
  }

  py::tuple next_in_order(const Indices& order, int64_t start, int64_t size, double floor) {
    std::pair<std::vector<int64_t>, int64_t> found;
    {
      py::gil_scoped_release release;
      found = pool_->next_in_order(order.data(), order.size(), start, size, floor);
    }
    return py::make_tuple(to_array(found.first), found.second);
  }

  py::tuple settle_in_order(const Indices& rows, int64_t limit, double floor) {
    const auto members = to_vector(rows);
    Picks picks;
    {
      py::gil_scoped_release release;
      picks = pool_->settle_in_order(members, limit, floor);
    }
    return py::make_tuple(to_array(picks.rows), to_array(picks.squared));
  }

  py::dict profile() {
    const Profile p = pool_->profile();
    return py::dict("pairs"_a = p.pairs, "rechecks"_a = p.rechecks, "settled"_a = p.settled,
                    "refreshed"_a = p.refreshed, "cells"_a = p.cells,
                    "refresh_seconds"_a = p.refresh_seconds, "resolve_seconds"_a = p.settle_seconds,
                    "frontier_seconds"_a = p.frontier_seconds, "threads"_a = threads_);
  }

 private:
  const Kernels& kernels_;
  const bool cosine_;
  const int threads_;
  std::vector<std::unique_ptr<OwnedRows>> held_;
  Groups groups_;    // of every row; empty without groups
  Doubles weights_;  // of every row; empty without weights
  std::unique_ptr<Pool> pool_;
  SubPool* block_ = nullptr;  // the same pool; null if it is a tree
};

py::tuple py_frontier(const Doubles& bounds, int64_t size, int threads) {
  std::pair<std::vector<int64_t>, Key> found;
  {
    py::gil_scoped_release release;
    found = frontier_of(bounds.data(), bounds.size(), size, threads, check_signals);
  }
  return py::make_tuple(to_array(found.first), found.second.bound, found.second.row);
}

py::tuple py_nearest(py::array queries, const std::string& query_dtype, py::array points,
                     const std::string& point_dtype, bool same, int64_t k, bool cosine,
                     const std::string& isa, const std::string& filter, int threads,
                     const py::object& progress, std::optional<Doubles> known_squared,
                     std::optional<Indices> known_indices, int64_t offset) {
  const Kernels& kernels = kernels_named(isa);
  const OwnedRows q(std::move(queries), query_dtype, cosine, kernels, threads);
  std::unique_ptr<OwnedRows> p;
  if (!same)
    p = std::make_unique<OwnedRows>(std::move(points), point_dtype, cosine, kernels, threads);
  const Rows& targets = same ? q.rows : p->rows;
  const int64_t listed = q.rows.n * k;
  if (bool(known_squared) != bool(known_indices) ||
      (known_squared && (known_squared->size() != listed || known_indices->size() != listed)))
    throw std::invalid_argument("what is known must be two arrays of (queries, k)");
  const auto lists = [&](auto& known, auto nothing) {
    if (known) return std::move(*known);
    std::decay_t<decltype(*known)> fresh({q.rows.n, k});
    std::fill(fresh.mutable_data(), fresh.mutable_data() + listed, nothing);
    return fresh;
  };
  Doubles squared = lists(known_squared, std::numeric_limits<double>::infinity());
  Indices indices = lists(known_indices, std::numeric_limits<int64_t>::max());
  const auto poll = [&](int64_t done) {
    const FloatEnvironment environment;
    py::gil_scoped_acquire gil;
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
    if (!progress.is_none()) progress(done, q.rows.n);
  };
  double* squared_data = squared.mutable_data();
  int64_t* indices_data = indices.mutable_data();
  // Inside, the points are numbered from 0; the order of all numbers stays the same.
  for (int64_t i = 0; i < listed; ++i) indices_data[i] -= offset;
  {
    py::gil_scoped_release release;
    find_nearest(q.rows, targets, same, k, kernels, filter, threads, poll, squared_data,
                 indices_data);
  }
  for (int64_t i = 0; i < listed; ++i) indices_data[i] += offset;
  poll(q.rows.n);
  return py::make_tuple(squared, indices);
}

py::tuple py_nearest_among(py::array queries, const std::string& query_dtype, py::array points,
                           const std::string& point_dtype, bool same, const Indices& candidates,
                           int64_t k, bool cosine, int threads) {
  const Kernels& kernels = best_kernels();
  const OwnedRows q(std::move(queries), query_dtype, cosine, kernels, threads);
  std::unique_ptr<OwnedRows> p;
  if (!same)
    p = std::make_unique<OwnedRows>(std::move(points), point_dtype, cosine, kernels, threads);
  py::array_t<double> squared({q.rows.n, k});
  py::array_t<int64_t> indices({q.rows.n, k});
  double* squared_data = squared.mutable_data();
  int64_t* indices_data = indices.mutable_data();
  const int64_t* listed = candidates.data();
  const int64_t width = candidates.shape(1);
  {
    py::gil_scoped_release release;
    nearest_among(q.rows, same ? q.rows : p->rows, same, listed, width, k, kernels, threads,
                  check_signals, squared_data, indices_data);
  }
  return py::make_tuple(squared, indices);
}

py::tuple py_filter_intervals(py::array queries, const std::string& query_dtype, py::array points,
                              const std::string& point_dtype, const std::string& isa,
                              const std::string& filter) {
  const Rows q = rows_of(queries, query_dtype), p = rows_of(points, point_dtype);
  py::array_t<double> lower({q.n, p.n}), upper({q.n, p.n});
  const Kernels& kernels = kernels_named(isa);
  filter_intervals(q, p, kernels, form_named(filter, kernels, q.d), lower.mutable_data(),
                   upper.mutable_data());
  return py::make_tuple(lower, upper);
}

int64_t py_first_unusable_row(const py::array& values, const std::string& dtype, double largest,
                              int threads) {
  const Rows rows = rows_of(values, dtype);
  py::gil_scoped_release release;
  return first_unusable_row(rows, best_kernels(), largest, threads, check_signals);
}

int64_t py_first_zero_row(const py::array& values, const std::string& dtype, int threads) {
  const Rows rows = rows_of(values, dtype);
  py::gil_scoped_release release;
  return first_zero_row(rows, best_kernels(), threads, check_signals);
}

void py_add_rows(py::array values, const std::string& dtype, bool cosine, Doubles sum,
                 int threads) {
  const OwnedRows held(std::move(values), dtype, cosine, best_kernels(), threads);
  double* out = sum.mutable_data();
  py::gil_scoped_release release;
  add_rows(held.rows, best_kernels(), check_signals, out);
}

py::array_t<double> py_distances_to(py::array values, const std::string& dtype,
                                    const Doubles& vector, bool cosine, int threads) {
  const OwnedRows held(std::move(values), dtype, cosine, best_kernels(), threads);
  py::array_t<double> squared(held.rows.n);
  double* out = squared.mutable_data();
  const double* x = vector.data();
  py::gil_scoped_release release;
  distances_to(held.rows, x, best_kernels(), threads, check_signals, out);
  return squared;
}

void py_add_distances(py::array values, const std::string& dtype, py::array points,
                      const std::string& point_dtype, bool cosine, const std::string& isa,
                      int threads, Doubles totals) {
  const Kernels& kernels = kernels_named(isa);
  const OwnedRows x(std::move(values), dtype, cosine, kernels, threads);
  const OwnedRows y(std::move(points), point_dtype, cosine, kernels, threads);
  if (totals.size() != x.rows.n || x.rows.d != y.rows.d)
    throw std::invalid_argument("one total per row, rows and points of one width");
  double* out = totals.mutable_data();
  py::gil_scoped_release release;
  add_distances(x.rows, y.rows, kernels, threads, check_signals, out);
}

std::vector<std::pair<std::string, std::string>> py_instruction_sets() {
  int count = 0;
  const InstructionSet* list = instruction_sets(&count);
  std::vector<std::pair<std::string, std::string>> result;
  for (int i = 0; i < count; ++i) result.emplace_back(list[i].name, list[i].reason);
  return result;
}

// The same environment for NumPy code: `with FloatEnvironment(): ...`.
class PyFloatEnvironment {
 public:
  void enter() {
    if (environment_) throw std::logic_error("entered twice");
    environment_.emplace();
  }
  void exit(const py::args&) { environment_.reset(); }

 private:
  std::optional<FloatEnvironment> environment_;
};

void bind_pool(py::module_& m) {
  py::class_<PyPool> pool(m, "Pool");
  pool.def_property_readonly("n", [](PyPool& p) { return p.pool().n(); })
      .def_property_readonly("d", [](PyPool& p) { return p.pool().d(); })
      .def_property_readonly("count", [](PyPool& p) { return p.pool().count(); })
      .def_property_readonly("available", [](PyPool& p) { return p.pool().available(); });
  Guarded(pool)
      .def(py::init<py::array, const std::string&, bool, const std::string&, const std::string&,
                    const std::string&, int>())
      .def("add_picks", &PyPool::add_picks)
      .def("add_vectors", &PyPool::add_vectors)
      .def("exclude",
           [](PyPool& p, const Indices& rows) { p.pool().exclude(rows.data(), rows.size()); })
      .def("put_back", &PyPool::put_back)
      .def("limit_groups", &PyPool::limit_groups)
      .def("weigh", &PyPool::weigh)
      .def("bounds", &PyPool::bounds)
      .def("state", &PyPool::state)
      .def("restart", &PyPool::restart)
      .def("refresh", &PyPool::refresh, "rows"_a = py::none(), "enough"_a = 0.0)
      .def("frontier", &PyPool::frontier)
      .def("settle", &PyPool::settle)
      .def("next_in_order", &PyPool::next_in_order)
      .def("settle_in_order", &PyPool::settle_in_order)
      .def("widest", [](PyPool& p) { return p.pool().widest(); })
      .def("profile", &PyPool::profile);
}

void bind_functions(py::module_& m) {
  Guarded(m)
      .def("frontier", &py_frontier)
      .def("nearest", &py_nearest, "queries"_a, "query_dtype"_a, "points"_a, "point_dtype"_a,
           "same"_a, "k"_a, "cosine"_a, "isa"_a, "filter"_a, "threads"_a, "progress"_a,
           "squared"_a.noconvert() = py::none(), "indices"_a.noconvert() = py::none(),
           "offset"_a = 0)
      .def("nearest_among", &py_nearest_among)
      .def("filter_intervals", &py_filter_intervals)
      .def("first_unusable_row", &py_first_unusable_row)
      .def("first_zero_row", &py_first_zero_row)
      .def("add_rows", &py_add_rows, "values"_a, "dtype"_a, "cosine"_a, "sum"_a.noconvert(),
           "threads"_a)
      .def("distances_to", &py_distances_to)
      .def("add_distances", &py_add_distances, "values"_a, "dtype"_a, "points"_a, "point_dtype"_a,
           "cosine"_a, "isa"_a, "threads"_a, "totals"_a.noconvert())
      .def("instruction_sets", &py_instruction_sets)
      // The most bytes that rows take besides their values.
      .def("pool_bytes_per_row", &FilterPool::bytes_per_row, "d"_a)
      .def("whole_pool_bytes_per_row", &whole_pool_bytes_per_row, "d"_a)
      .def("point_bytes_per_row", &point_bytes_per_row, "d"_a, "cosine"_a)
      .def(
          "query_bytes_per_row", [](bool cosine) { return cosine ? kLengthBytes : 0; }, "cosine"_a)
      .def("pair_bytes_per_row", &all_pairs_bytes_per_row, "d"_a)
      .def("search_bytes", &search_bytes, "d"_a, "k"_a, "threads"_a)
      .def("from_dlpack", &from_dlpack);
}

}  // namespace
}  // namespace entroselect

PYBIND11_MODULE(_core, m) {
  using namespace entroselect;
  m.doc() = "C++ core of entroselect; use the functions of the package instead.";
  py::class_<PyFloatEnvironment>(m, "FloatEnvironment")
      .def(py::init<>())
      .def("__enter__", &PyFloatEnvironment::enter)
      .def("__exit__", &PyFloatEnvironment::exit);
  m.attr("TREE_WIDTH") = kTreeWidth;
  bind_pool(m);
  bind_functions(m);
  bind_batch(m);
  bind_codes(m);
  bind_exchange(m);
  bind_within(m);
}
