// Binds CodePool: codes of rows that are not in memory.

#include <pybind11/stl.h>

#include <optional>

#include "arrays.h"
#include "bindings.h"
#include "select/code_pool.h"

namespace entroselect {

namespace {

class PyCodePool {
 public:
  PyCodePool(py::array sample, const std::string& dtype, bool cosine, const std::string& isa,
             int64_t n, int threads)
      : kernels_(kernels_named(isa)), cosine_(cosine), threads_(threads) {
    const OwnedRows rows(std::move(sample), dtype, cosine, kernels_, threads);
    py::gil_scoped_release release;
    pool_ = std::make_unique<CodePool>(rows.rows, kernels_, n, threads, check_signals);
  }

  CodePool& pool() { return *pool_; }

  void code(py::array values, const std::string& dtype) {
    const OwnedRows rows(std::move(values), dtype, cosine_, kernels_, threads_);
    py::gil_scoped_release release;
    pool_->code(rows.rows);
  }

  void add_picks(py::array values, const std::string& dtype) {
    const OwnedRows rows(std::move(values), dtype, cosine_, kernels_, threads_);
    py::gil_scoped_release release;
    pool_->add_picks(rows.rows);
  }

  void refresh(const Indices& rows, double enough, Doubles bounds,
               const std::optional<Doubles>& weights) {
    std::vector<int64_t> members = to_vector(rows);
    double* out = bounds.mutable_data();
    const Weights weighted(weights ? weights->data() : nullptr);
    py::gil_scoped_release release;
    pool_->refresh(std::move(members), enough, out, weighted);
  }

 private:
  const Kernels& kernels_;
  const bool cosine_;
  const int threads_;
  std::unique_ptr<CodePool> pool_;
};

}  // namespace

void bind_codes(py::module_& m) {
  py::class_<PyCodePool> codes(m, "CodePool");
  codes.def_property_readonly("coded", [](PyCodePool& p) { return p.pool().coded(); })
      .def_property_readonly("pairs", [](PyCodePool& p) { return p.pool().pairs(); });
  Guarded(codes)
      .def(py::init<py::array, const std::string&, bool, const std::string&, int64_t, int>())
      .def("code", &PyCodePool::code)
      .def("add_picks", &PyCodePool::add_picks)
      .def("restart", [](PyCodePool& p) { p.pool().restart(); })
      .def("refresh", &PyCodePool::refresh, "rows"_a, "enough"_a, "bounds"_a.noconvert(),
           "weights"_a = py::none())
      .def("meet", [](PyCodePool& p, const Indices& rows) { p.pool().meet(to_vector(rows)); });
  Guarded(m).def(
      "code_pool_bytes",
      [](int64_t d, const std::string& isa) {
        const Kernels& kernels = kernels_named(isa);
        return py::make_tuple(CodePool::row_bytes(kernels, d), CodePool::pick_bytes(kernels, d));
      },
      "d"_a, "isa"_a);
}

}  // namespace entroselect
