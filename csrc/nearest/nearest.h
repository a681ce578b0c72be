// k nearest points of every query.
#pragma once

#include <cstdint>
#include <functional>

#include "filter/frame.h"
#include "isa/kernels.h"

namespace entroselect {

// Compares queries with points and updates squared and indices (queries.n x k): the k nearest found
// so far of each query, sorted by (squared distance, index), with infinity and the largest int64 in
// empty places. Indices found before may be any numbers but those of these points. With `same`,
// queries and points are the same rows and no row is its own neighbour. `poll(done)` is called now
// and then with the number of queries finished; what it throws leaves the lists undefined.
void nearest(const Rows& queries, const Rows& points, bool same, int64_t k, const Kernels& kernels,
             Form form, int threads, const std::function<void(int64_t)>& poll, double* squared,
             int64_t* indices);

// The same from a list of `width` candidates for every query (queries.n x width): only they are
// compared. Candidates below 0 and repetitions are ignored; empty places get index -1 and an
// infinite distance.
void nearest_among(const Rows& queries, const Rows& points, bool same, const int64_t* candidates,
                   int64_t width, int64_t k, const Kernels& kernels, int threads,
                   const std::function<void()>& poll, double* squared, int64_t* indices);

// The most bytes that a search takes besides those per row: the sample that decides the frame, and
// for each thread a group of queries with their codes, lists and suspects.
int64_t search_bytes(int64_t d, int64_t k, int threads);

// The filter's bounds of the distance of every query to every point, in the units of the rows. Only
// the tests of the certificate call this.
void filter_intervals(const Rows& queries, const Rows& points, const Kernels& kernels, Form form,
                      double* lower, double* upper);

}  // namespace entroselect
