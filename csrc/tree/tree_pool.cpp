#include "tree/tree_pool.h"

#include <algorithm>
#include <limits>

#include "base/timer.h"

namespace entroselect {

namespace {
constexpr int64_t kPolled = 1024;  // picks between polls for Ctrl-C
}

TreePool::TreePool(const Rows& rows, const Kernels& kernels, int threads,
                   std::function<void()> poll)
    : kernels_(kernels),
      poll_(std::move(poll)),
      n_(rows.n),
      d_(rows.d),
      available_(rows.n),
      tree_(rows, kernels, threads, poll_),
      place_(rows.n),
      bounds_(tree_.leaves() * kLeaf),
      best_(size_t(tree_.nodes())) {
  for (int64_t leaf = 0; leaf < tree_.leaves(); ++leaf)
    for (int64_t j = 0; j < kLeaf; ++j) {
      const bool used = j < tree_.count(leaf);
      bounds_[leaf * kLeaf + j] = used ? std::numeric_limits<double>::infinity() : kPicked;
      if (used) place_[tree_.rows(leaf)[j]] = leaf * kLeaf + j;
    }
  for (int64_t at = 0; at < tree_.nodes(); ++at)
    best_[size_t(at)] = {std::numeric_limits<double>::infinity(), tree_.node(at).lowest};
}

template <int D>
void TreePool::lower(int64_t node, const double* x, int64_t leaf) {
  const Tree::Node& here = tree_.node(node);
  if (here.right == 0) {
    double* bounds = &bounds_[here.first * kLeaf];
    const int place = kernels_.lower_leaf(x, tree_.columns(here.first), D, bounds);
    best_[size_t(node)] = {bounds[place], tree_.rows(here.first)[place]};
    profile_.pairs += kLeaf;
    return;
  }
  const int64_t left = node + 1, right = here.right;
  for (const int64_t child : {left, right}) {
    const Tree::Node& below = tree_.node(child);
    if ((leaf >= below.first && leaf < below.last) ||
        box_distance<D>(x, x, tree_.box(child)) < best_[size_t(child)].bound)
      lower<D>(child, x, leaf);
  }
  const Key &a = best_[size_t(left)], &b = best_[size_t(right)];
  best_[size_t(node)] = a.beats(b) ? a : b;
}

void TreePool::lower_all(const double* x, int64_t leaf) {
  with_width(d_, [&](auto width) { lower<decltype(width)::value>(0, x, leaf); });
}

void TreePool::add(const double* x, int64_t leaf) {
  lower_all(x, leaf);
  if (aside_) {
    since_.emplace_back();
    std::copy(x, x + d_, since_.back().begin());
  }
  if (++count_ % kPolled == 0) poll_();
}

void TreePool::add_picks(const int64_t* rows, int64_t count) {
  for (int64_t m = 0; m < count; ++m) {
    const int64_t place = place_[rows[m]], leaf = place / kLeaf;
    double x[kTreeWidth];
    for (int64_t l = 0; l < d_; ++l) x[l] = tree_.columns(leaf)[l * kLeaf + place % kLeaf];
    bounds_[place] = kPicked;
    --available_;
    add(x, leaf);
  }
}

void TreePool::add_vectors(const Rows& vectors) {
  double x[kTreeWidth];
  for (int64_t i = 0; i < vectors.n; ++i) {
    kernels_.load_row(vectors, i, x);
    add(x, -1);
  }
}

void TreePool::renew(int64_t node, const int64_t* begin, const int64_t* end) {
  if (begin == end) return;
  const Tree::Node& here = tree_.node(node);
  Key& best = best_[size_t(node)];
  if (here.right == 0) {
    const int64_t* rows = tree_.rows(here.first);
    const double* bounds = &bounds_[here.first * kLeaf];
    const int64_t place = std::max_element(bounds, bounds + kLeaf) - bounds;  // the first of equals
    best = {bounds[place], rows[place]};
    return;
  }
  const int64_t left = node + 1, right = here.right;
  const int64_t* middle = std::lower_bound(begin, end, tree_.node(right).first * kLeaf);
  renew(left, begin, middle);
  renew(right, middle, end);
  const Key &a = best_[size_t(left)], &b = best_[size_t(right)];
  best = a.beats(b) ? a : b;
}

void TreePool::renew(const int64_t* rows, int64_t count) {
  std::vector<int64_t> places(static_cast<size_t>(count));
  for (int64_t m = 0; m < count; ++m) places[size_t(m)] = place_[rows[m]];
  std::sort(places.begin(), places.end());
  renew(0, places.data(), places.data() + count);
}

void TreePool::exclude(const int64_t* rows, int64_t count) {
  for (int64_t m = 0; m < count; ++m) bounds_[place_[rows[m]]] = kPicked;
  available_ -= count;
  aside_ = true;
  renew(rows, count);
}

void TreePool::put_back(const int64_t* rows, const double* bounds, int64_t count) {
  for (int64_t m = 0; m < count; ++m) bounds_[place_[rows[m]]] = bounds[m];
  available_ += count;
  renew(rows, count);
  for (size_t m = 0; m < since_.size(); ++m) {
    lower_all(since_[m].data(), -1);
    if ((m + 1) % size_t(kPolled) == 0) poll_();
  }
}

std::pair<std::vector<int64_t>, Key> TreePool::frontier(int64_t) const {
  return {{}, Key{kPicked, -1}};
}

std::pair<Picks, double> TreePool::settle(const std::vector<int64_t>&, Key, int64_t limit,
                                          double floor) {
  Timer timer(profile_.settle_seconds);
  Picks picks;
  for (int64_t m = 0; available_ > 0; ++m) {
    const Key next = best_[0];
    if (m == limit || next.bound < floor) return {picks, next.bound};
    if (m == kPolled || !quotas_.open(next.row)) break;
    quotas_.take(next.row);
    picks.rows.push_back(next.row);
    picks.squared.push_back(next.bound);
    add_picks(&next.row, 1);
  }
  return {picks, -1};
}

std::pair<std::vector<int64_t>, int64_t> TreePool::next_in_order(const int64_t* order,
                                                                 int64_t length, int64_t start,
                                                                 int64_t size, double floor) const {
  return rows_in_order(order, length, start, size, floor,
                       [&](int64_t row) { return bounds_[place_[row]]; });
}

Picks TreePool::settle_in_order(const std::vector<int64_t>& rows, int64_t limit, double floor) {
  Timer timer(profile_.settle_seconds);
  Picks picks;
  for (int64_t i : rows) {
    if (int64_t(picks.rows.size()) == limit) break;
    const double bound = bounds_[place_[i]];
    if (bound < floor || !quotas_.open(i)) continue;
    quotas_.take(i);
    picks.rows.push_back(i);
    picks.squared.push_back(bound);
    add_picks(&i, 1);
  }
  return picks;
}

}  // namespace entroselect
