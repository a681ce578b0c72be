// The class entroselect._core.Exchange: thin bindings, no decisions.

#include <pybind11/functional.h>
#include <pybind11/stl.h>

#include <memory>
#include <optional>

#include "arrays.h"
#include "bindings.h"
#include "exchange/exchange.h"

namespace entroselect {
namespace {

using Numbers = py::array_t<int32_t, py::array::c_style>;

class PyExchange {
 public:
  PyExchange(py::array values, const std::string& dtype, bool cosine, const std::string& isa,
             int threads, Indices attraction, int64_t k, double per, double weight,
             double scale_squared, double floor, Doubles graph_squared, Numbers graph_rows,
             py::object progress)
      : held_(std::move(values), dtype, cosine, kernels_named(isa), threads),
        attraction_(std::move(attraction)),
        graph_squared_(std::move(graph_squared)),
        graph_rows_(std::move(graph_rows)),
        progress_(std::move(progress)) {
    const int64_t n = held_.rows.n,
                  length = graph_squared_.ndim() == 2 ? graph_squared_.shape(1) : 0;
    if (attraction_.size() != n || graph_squared_.size() != n * length ||
        graph_rows_.size() != n * length)
      throw std::invalid_argument("one attraction and one list of neighbours per row");
    const auto poll = [this](int64_t done) {
      const FloatEnvironment environment;
      py::gil_scoped_acquire gil;
      if (PyErr_CheckSignals() != 0) throw py::error_already_set();
      if (!progress_.is_none()) progress_(done);
    };
    exchange_ = std::make_unique<Exchange>(
        held_.rows, kernels_named(isa), threads, Objective{k, per, weight, scale_squared, floor},
        attraction_.data(), Graph{length, graph_squared_.data(), graph_rows_.data()}, poll);
    k_ = k;
  }

  void begin(const std::optional<Indices>& rows) {
    if (rows && rows->size() != k_) throw std::invalid_argument("k rows");
    const int64_t* first = rows ? rows->data() : nullptr;
    py::gil_scoped_release release;
    exchange_->begin(first);
  }

  int64_t run(int64_t most) {
    py::gil_scoped_release release;
    return exchange_->run(most);
  }

  // (members, sum of D to the members, of each).
  py::tuple members() const {
    const std::vector<int64_t>& rows = exchange_->members();
    py::array_t<int64_t> sums(py::ssize_t(rows.size()));
    for (size_t j = 0; j < rows.size(); ++j) sums.mutable_data()[j] = exchange_->distances(rows[j]);
    return py::make_tuple(to_array(rows), sums);
  }

  // Squared distance of every row to the nearest other member.
  py::array_t<double> nearest() const {
    py::array_t<double> found(held_.rows.n);
    for (int64_t i = 0; i < held_.rows.n; ++i) found.mutable_data()[i] = exchange_->nearest(i);
    return found;
  }

 private:
  const OwnedRows held_;
  const Indices attraction_;
  const Doubles graph_squared_;
  const Numbers graph_rows_;
  const py::object progress_;
  int64_t k_ = 0;
  std::unique_ptr<Exchange> exchange_;
};

py::array_t<double> py_canonical_log(const Doubles& values) {
  py::array_t<double> found(values.size());
  for (py::ssize_t i = 0; i < values.size(); ++i)
    found.mutable_data()[i] = canonical_log(values.data()[i]);
  return found;
}

}  // namespace

void bind_exchange(py::module_& m) {
  Guarded(py::class_<PyExchange>(m, "Exchange"))
      .def(py::init<py::array, const std::string&, bool, const std::string&, int, Indices, int64_t,
                    double, double, double, double, Doubles, Numbers, py::object>(),
           "values"_a, "dtype"_a, "cosine"_a, "isa"_a, "threads"_a, "attraction"_a, "k"_a, "per"_a,
           "weight"_a, "scale_squared"_a, "floor"_a, "graph_squared"_a, "graph_rows"_a,
           "progress"_a)
      .def("begin", &PyExchange::begin, "rows"_a)
      .def("run", &PyExchange::run, "most"_a)
      .def("members", &PyExchange::members)
      .def("nearest", &PyExchange::nearest);
  Guarded(m).def("canonical_log", &py_canonical_log, "values"_a);
  m.def("exchange_bytes_per_row", [] { return Exchange::kBytesPerRow; });
}

}  // namespace entroselect
