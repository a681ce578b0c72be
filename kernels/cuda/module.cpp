// The Python module entroselect._cuda: thin bindings over raw pointers, no framework, no decisions.
// entroselect/backends/cuda is the only caller and is responsible for shapes and lifetimes. Tests
// build the same file for the host under the name _cuda_host.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>

#include "kernels.h"

namespace py = pybind11;
using namespace py::literals;

namespace entroselect::cuda {
namespace {

template <class T>
T* pointer(uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

Dtype dtype_of(const std::string& name) {
  if (name == "float64") return Dtype::f64;
  if (name == "float32") return Dtype::f32;
  if (name == "float16") return Dtype::f16;
  if (name == "bfloat16") return Dtype::bf16;
  if (name == "uint8") return Dtype::u8;
  throw std::invalid_argument("unknown dtype " + name);
}

Rows rows_of(uintptr_t data, int64_t stride, int64_t d, const std::string& dtype,
             uintptr_t lengths) {
  return {pointer<const char>(data), stride, d, dtype_of(dtype), pointer<const double>(lengths)};
}

Coded coded_of(uintptr_t codes, uintptr_t norm2, uintptr_t norm, uintptr_t residual) {
  return {pointer<uint16_t>(codes), pointer<float>(norm2), pointer<float>(norm),
          pointer<float>(residual)};
}

Selection selection_of(const Rows& pool, const Rows& given, uintptr_t picks, uintptr_t bounds,
                       uintptr_t met) {
  return {pool, given, pointer<int64_t>(picks), pointer<double>(bounds), pointer<int32_t>(met)};
}

Scratch scratch_of(uintptr_t state, uintptr_t micro, uintptr_t between, uintptr_t keys,
                   uintptr_t squared) {
  return {pointer<State>(state), pointer<int64_t>(micro), pointer<double>(between),
          pointer<uint64_t>(keys), pointer<double>(squared)};
}

// `pairs`: CONFLICT_BYTES for each of `capacity`; `turns`: two numbers per candidate.
Conflicts conflicts_of(uintptr_t rows, int64_t n, double rival, int64_t rival_row,
                       uintptr_t outcome, uintptr_t pairs, int32_t capacity, uintptr_t value,
                       uintptr_t turns) {
  auto* found = pointer<Conflict>(pairs);
  auto* blocked = pointer<int32_t>(turns);
  return {pointer<const int64_t>(rows),
          n,
          {rival, rival_row},
          pointer<Outcome>(outcome),
          found,
          reinterpret_cast<int32_t*>(found + capacity),
          pointer<double>(value),
          blocked,
          blocked + n,
          capacity};
}

}  // namespace
}  // namespace entroselect::cuda

PYBIND11_MODULE(ENTROSELECT_MODULE, m) {
  using namespace entroselect::cuda;
  using Release = py::call_guard<py::gil_scoped_release>;
  m.doc() = "CUDA kernels of entroselect; use backend='cuda' of the package's functions instead.";
  m.attr("MICRO") = kMicro;
  m.attr("STATE_BYTES") = sizeof(State);
  m.attr("FRONTIER_BYTES") = kFrontierBytes;
  py::class_<Stream>(m, "Stream", py::module_local())
      .def(py::init(
          [](int device, uintptr_t handle) { return Stream{device, pointer<void>(handle)}; }));
  py::class_<Rows>(m, "Rows", py::module_local()).def(py::init(&rows_of));
  py::class_<Coded>(m, "Coded", py::module_local()).def(py::init(&coded_of));
  py::class_<Selection>(m, "Selection", py::module_local()).def(py::init(&selection_of));
  py::class_<Scratch>(m, "Scratch", py::module_local()).def(py::init(&scratch_of));
  m.attr("OUTCOME_WORDS") = sizeof(Outcome) / 8;
  m.attr("CONFLICT_BYTES") = sizeof(Conflict) + 2 * sizeof(int32_t);
  py::class_<Conflicts>(m, "Conflicts", py::module_local()).def(py::init(&conflicts_of));
  py::class_<Pairs>(m, "Pairs", py::module_local())
      .def(py::init(
               [](uintptr_t slot, uintptr_t column, uintptr_t score, int64_t n, uintptr_t listed) {
                 return Pairs{pointer<const int32_t>(slot), pointer<const int32_t>(column),
                              pointer<const float>(score), n, pointer<const int32_t>(listed)};
               }),
           "slot"_a, "column"_a, "score"_a, "n"_a, "listed"_a = 0);
  py::class_<Room>(m, "Room", py::module_local())
      .def(py::init([](uintptr_t listed, int64_t items, int64_t pairs) {
        return Room{pointer<const int64_t>(listed), items, pairs};
      }));
  py::class_<Sides>(m, "Sides", py::module_local())
      .def(py::init([](uintptr_t row, uintptr_t index, const Coded& rows, const Coded& columns,
                       uintptr_t reach, double gamma) {
        return Sides{pointer<const int64_t>(row),
                     pointer<const int64_t>(index),
                     rows,
                     columns,
                     pointer<const float>(reach),
                     gamma};
      }));
  py::class_<Tiles>(m, "Tiles", py::module_local())
      .def(py::init([](uintptr_t half, uintptr_t norm, uintptr_t residual, int64_t columns) {
        return Tiles{pointer<float>(half), pointer<float>(norm), pointer<float>(residual), columns};
      }));
  py::class_<Reach>(m, "Reach", py::module_local())
      .def(py::init([](double relative, double absolute, double scale) {
        return Reach{relative, absolute, scale};
      }));
  py::class_<PassRows>(m, "PassRows", py::module_local())
      .def(py::init([](uintptr_t row, int64_t n, int64_t each, uintptr_t squared, int64_t stride,
                       uintptr_t met, uintptr_t left, uintptr_t reach, uintptr_t skip,
                       int64_t shift, uintptr_t first, uintptr_t scanned, uintptr_t count) {
        return PassRows{pointer<const int64_t>(row),
                        n,
                        each,
                        pointer<const double>(squared),
                        stride,
                        pointer<const int32_t>(met),
                        pointer<const int32_t>(left),
                        pointer<float>(reach),
                        pointer<int64_t>(skip),
                        shift,
                        pointer<int32_t>(first),
                        pointer<int32_t>(scanned),
                        pointer<int64_t>(count)};
      }));
  py::class_<Scanned>(m, "Scanned", py::module_local())
      .def(py::init([](uintptr_t tile, int64_t each, uintptr_t left) {
        return Scanned{pointer<const int32_t>(tile), each, pointer<const int32_t>(left)};
      }));
  py::class_<Items>(m, "Items", py::module_local())
      .def(py::init([](uintptr_t slot, uintptr_t start, uintptr_t best, uintptr_t words,
                       uintptr_t count, uintptr_t skip, int64_t capacity, int64_t words_each) {
        return Items{pointer<const int32_t>(slot),
                     pointer<const int32_t>(start),
                     pointer<const float>(best),
                     pointer<const uint32_t>(words),
                     pointer<const uint32_t>(count),
                     pointer<const int64_t>(skip),
                     capacity,
                     words_each};
      }));
  py::class_<PairList>(m, "PairList", py::module_local())
      .def(py::init(
          [](uintptr_t slot, uintptr_t column, uintptr_t score, uintptr_t count, int64_t capacity) {
            return PairList{pointer<int32_t>(slot), pointer<int32_t>(column), pointer<float>(score),
                            pointer<uint64_t>(count), capacity};
          }));
  m.def("why_not", &why_not);
  m.def(
      "code",
      [](const Rows& rows, uintptr_t index, int64_t first, int64_t n, uintptr_t centre,
         double scale, int64_t width, const Coded& out, Stream stream) {
        code(rows, pointer<const int64_t>(index), first, n, pointer<const double>(centre), scale,
             width, out, stream);
      },
      Release());
  m.def(
      "begin_pass",
      [](const Coded& columns, int64_t begin, int64_t end, const Tiles& tiles, const PassRows& rows,
         const Reach& reach, const Room& before,
         Stream stream) { begin_pass(columns, begin, end, tiles, rows, reach, before, stream); },
      Release());
  m.def(
      "expand",
      [](const Items& items, const Sides& sides, const PairList& out, Stream stream) {
        expand(items, sides, out, stream);
      },
      Release());
  m.def(
      "distances_to",
      [](const Rows& rows, int64_t n, const Rows& vector, uintptr_t out, Stream stream) {
        distances_to(rows, n, vector, pointer<double>(out), stream);
      },
      Release());
  m.def(
      "lengths",
      [](const Rows& rows, int64_t n, uintptr_t out, Stream stream) {
        lengths(rows, n, pointer<double>(out), stream);
      },
      Release());
  m.def(
      "roots",
      [](uintptr_t values, int64_t n, Stream stream) { roots(pointer<double>(values), n, stream); },
      Release());
  m.def(
      "widen_rows",
      [](const Rows& rows, uintptr_t index, int64_t n, uintptr_t out, Stream stream) {
        widen_rows(rows, pointer<const int64_t>(index), n, pointer<double>(out), stream);
      },
      Release());
  m.def(
      "mean_row",
      [](const Rows& rows, int64_t n, uintptr_t out, Stream stream) {
        mean_row(rows, n, pointer<double>(out), stream);
      },
      Release());
  m.def("frontier", [](const Selection& selection, int64_t n, int64_t count, int64_t size,
                       uintptr_t rows, uintptr_t keys, uintptr_t memory, Stream stream) {
    Frontier found;
    {
      py::gil_scoped_release release;
      found = frontier(selection, n, count, size, pointer<int64_t>(rows), pointer<int32_t>(keys),
                       pointer<void>(memory), stream);
    }
    return py::make_tuple(found.count, found.rival.bound, found.rival.row, found.stale.rows,
                          found.stale.least);
  });
  m.def(
      "candidates",
      [](const Selection& selection, uintptr_t rows, int64_t n, double least, int64_t least_row,
         int64_t size, uintptr_t out, uintptr_t bounds, uintptr_t found, uintptr_t memory,
         Stream stream) {
        candidates(selection, pointer<const int64_t>(rows), n, {least, least_row}, size,
                   pointer<int64_t>(out), pointer<double>(bounds), pointer<Candidates>(found),
                   pointer<void>(memory), stream);
      },
      Release());
  m.def("find_stale", [](const Selection& selection, uintptr_t rows, int64_t n, int64_t count,
                         double enough, uintptr_t keys, uintptr_t memory, Stream stream) {
    Stale stale;
    {
      py::gil_scoped_release release;
      stale = find_stale(selection, pointer<const int64_t>(rows), n, count, enough,
                         pointer<int32_t>(keys), pointer<Stale>(memory), stream);
    }
    return py::make_tuple(stale.rows, stale.least);
  });
  m.def(
      "note_met",
      [](const Selection& selection, uintptr_t rows, const Scanned& scanned, const Room& room,
         int64_t n, int64_t count, uintptr_t tally, Stream stream) {
        note_met(selection, pointer<const int64_t>(rows), scanned, room, n, count,
                 pointer<int64_t>(tally), stream);
      },
      Release());
  m.def(
      "part_rows",
      [](const Selection& selection, uintptr_t rows, const Scanned& scanned, int64_t n, int64_t end,
         double enough, uintptr_t out, uintptr_t left, uintptr_t memory, Stream stream) {
        part_rows(selection, pointer<const int64_t>(rows), scanned, n, end, enough,
                  pointer<int64_t>(out), pointer<int32_t>(left), pointer<void>(memory), stream);
      },
      Release());
  m.def(
      "catch_up",
      [](const Selection& selection, uintptr_t state, uintptr_t rows, int64_t n, int64_t count,
         Stream stream) {
        catch_up(selection, pointer<State>(state), pointer<const int64_t>(rows), n, count, stream);
      },
      Release());
  m.def(
      "recheck",
      [](const Pairs& pairs, const Sides& sides, const Selection& selection, uintptr_t squared,
         Stream stream, uintptr_t tally) {
        recheck(pairs, sides, selection, pointer<double>(squared), stream, pointer<int64_t>(tally));
      },
      Release(), "pairs"_a, "sides"_a, "selection"_a, "squared"_a, "stream"_a, "tally"_a = 0);
  m.def(
      "rank",
      [](uintptr_t values, int64_t n, bool reverse, uintptr_t sorted, uintptr_t places,
         Stream stream) {
        rank(pointer<const double>(values), n, reverse, pointer<double>(sorted),
             pointer<int64_t>(places), stream);
      },
      Release());
  m.def(
      "gather_codes",
      [](const Coded& coded, uintptr_t rows, uintptr_t order, int64_t n, int64_t width,
         const Coded& out, Stream stream) {
        gather_codes(coded, pointer<const int64_t>(rows), pointer<const int64_t>(order), n, width,
                     out, stream);
      },
      Release());
  m.def(
      "begin_conflicts",
      [](const Selection& selection, const Conflicts& conflicts, int64_t count, Stream stream) {
        begin_conflicts(selection, conflicts, count, stream);
      },
      Release());
  m.def(
      "add_conflicts",
      [](const Selection& selection, const Conflicts& conflicts, uintptr_t order,
         const Pairs& pairs, const Sides& sides, Stream stream, const Room& room) {
        add_conflicts(selection, conflicts, pointer<const int64_t>(order), pairs, sides, stream,
                      room);
      },
      Release());
  m.def(
      "pick_by_conflicts",
      [](const Conflicts& conflicts, Stream stream) { pick_by_conflicts(conflicts, stream); },
      Release());
  m.def(
      "keep_picks",
      [](const Selection& selection, const Conflicts& conflicts, uintptr_t value, uintptr_t place,
         int64_t count, int64_t limit, double floor, uintptr_t picks, uintptr_t squared,
         Stream stream) {
        keep_picks(selection, conflicts, pointer<const double>(value),
                   pointer<const int64_t>(place), count, limit, floor, pointer<int64_t>(picks),
                   pointer<double>(squared), stream);
      },
      Release());
  // (picks, squared distance of the next) of a outcome copied to the host; None if nothing was
  // settled.
  m.def("settled", [](uintptr_t outcome, int32_t capacity) -> std::optional<py::tuple> {
    const Outcome& found = *pointer<const Outcome>(outcome);
    if (found.unfit || found.conflicts > capacity) return std::nullopt;
    return py::make_tuple(found.picked, found.next);
  });
  m.def("farthest_first", [](const Selection& selection, const Scratch& scratch, uintptr_t rows,
                             int64_t n, int64_t count, double rival, int64_t rival_row,
                             int64_t limit, double floor, Stream stream) {
    Settled settled;
    {
      py::gil_scoped_release release;
      settled = farthest_first(selection, scratch, pointer<const int64_t>(rows), n, count,
                               {rival, rival_row}, limit, floor, stream);
    }
    return py::make_tuple(settled.picked, settled.next);
  });
  m.def(
      "in_order",
      [](const Selection& selection, const Scratch& scratch, uintptr_t rows, int64_t n,
         int64_t count, int64_t limit, double floor, Stream stream) {
        return in_order(selection, scratch, pointer<const int64_t>(rows), n, count, limit, floor,
                        stream);
      },
      Release());
}
