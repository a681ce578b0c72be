// What the files that bind C++ to Python share.
#pragma once

#include <pybind11/pybind11.h>

#include <utility>

#include "base/float_environment.h"

namespace entroselect {

namespace py = pybind11;

// A module or a class whose functions all run in the default floating-point environment, not in the
// caller's.
template <class Scope>
class Guarded {
 public:
  explicit Guarded(Scope scope) : scope_(std::move(scope)) {}

  template <class... Definition>
  Guarded& def(const Definition&... definition) {
    scope_.def(definition..., py::call_guard<FloatEnvironment>());
    return *this;
  }

 private:
  Scope scope_;
};

// bind_codes.cpp
void bind_codes(py::module_& m);

// bind_batch.cpp, bind_exchange.cpp and bind_within.cpp
void bind_batch(py::module_& m);
void bind_exchange(py::module_& m);
void bind_within(py::module_& m);

}  // namespace entroselect
