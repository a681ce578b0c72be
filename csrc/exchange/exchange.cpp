#include "exchange/exchange.h"

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <utility>

#include "base/threads.h"

namespace entroselect {

namespace {

constexpr int64_t kRowsAtOnce = 256;  // per item of work
constexpr int64_t kBlock = 64;        // rows whose least rank is kept
constexpr int64_t kPolled = 64;       // members looked at between polls
constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

}  // namespace

Exchange::Exchange(const Rows& rows, const Kernels& kernels, int threads,
                   const Objective& objective, const int64_t* attraction, Graph graph,
                   std::function<void(int64_t)> poll)
    : rows_(rows),
      kernels_(kernels),
      threads_(threads),
      objective_(objective),
      attraction_(attraction),
      graph_(graph),
      poll_(std::move(poll)),
      is_member_(size_t(rows.n)),
      distances_(size_t(rows.n)),
      near_(rows.n),
      owner_(size_t(rows.n), -1),
      log_nearest_(size_t(rows.n)),
      nearest_(size_t(rows.n)),
      shadow_(size_t(rows.n)),
      rank_(size_t(rows.n)),
      least_(size_t((rows.n + kBlock - 1) / kBlock)),
      seen_(size_t(rows.n), 0) {}

void Exchange::load(int64_t row, std::vector<double>& out) const {
  out.assign(size_t(padded(rows_.d)), 0.0);
  kernels_.load_row(rows_, row, out.data());
}

double Exchange::squared_between(int64_t a, int64_t b) const {
  thread_local std::vector<double> x;
  load(a, x);
  return kernels_.distance_to_row(x.data(), rows_, b);
}

// The nearest member of a row has changed.
void Exchange::note_nearest(int64_t row) {
  const double squared = near_.squared(row, 0);
  owner_[size_t(row)] = near_.row(row, 0);
  log_nearest_[size_t(row)] = squared < kInfinity ? objective_.log_distance(squared) : 0;
  nearest_[size_t(row)] = squared < kInfinity ? objective_.distance(squared) : 0;
}

// ---------------------------------------------------------------- the first members

void Exchange::begin(const int64_t* rows) {
  int64_t next =
      rows ? rows[0] : std::min_element(attraction_, attraction_ + rows_.n) - attraction_;
  for (int64_t count = 1;; ++count) {
    const int64_t best = add(next, !rows);
    poll_(count);
    if (count == objective_.k) break;
    next = rows ? rows[count] : best;
  }
  finish_beginning();
}

// Adds a member and, for herding, returns the row to add next.
int64_t Exchange::add(int64_t row, bool herding) {
  std::vector<double> x;
  load(row, x);
  is_member_[size_t(row)] = 1;
  members_.push_back(row);
  const int64_t size = int64_t(members_.size()) + 1;  // with the next one
  const int64_t items = (rows_.n + kRowsAtOnce - 1) / kRowsAtOnce;
  std::vector<std::pair<int64_t, int64_t>> best(size_t(items), {kNever, -1});
  parallel_for(
      threads_, items,
      [&](int64_t item, int) {
        const int64_t end = std::min(rows_.n, (item + 1) * kRowsAtOnce);
        for (int64_t i = item * kRowsAtOnce; i < end; ++i) {
          const double squared = kernels_.distance_to_row(x.data(), rows_, i);
          distances_[size_t(i)] += objective_.distance(squared);
          if (i != row) near_.add(i, int32_t(row), squared);
          if (near_.row(i, 0) == row) note_nearest(i);
          if (!herding || member(i)) continue;
          const int64_t value =
              2 * (size * attraction_[i] - distances_[size_t(i)]) - size * log_nearest_[size_t(i)];
          best[size_t(item)] = std::min(best[size_t(item)], {value, i});
        }
      },
      [] {});
  return std::min_element(best.begin(), best.end())->second;
}

void Exchange::finish_beginning() {
  for (const int64_t row : members_) spread({row, kInfinity, near_.squared(row, 0)});
  rank_all();
}

// ---------------------------------------------------------------- what a row would bring

// Calls f(other row, squared distance) for all rows nearer to `row` than that.
template <class F>
void Exchange::ball(int64_t row, double squared, const F& f) {
  if (graph_.length > 0) {
    const double* distances = graph_.squared + row * graph_.length;
    const int32_t* rows = graph_.row + row * graph_.length;
    if (graph_.length == rows_.n - 1 || distances[graph_.length - 1] >= squared) {
      for (int64_t j = 0; j < graph_.length && distances[j] < squared; ++j)
        f(int64_t(rows[j]), distances[j]);
      return;
    }
  }
  std::vector<double> x;
  load(row, x);
  from_.resize(size_t(rows_.n));
  parallel_for(
      threads_, (rows_.n + kRowsAtOnce - 1) / kRowsAtOnce,
      [&](int64_t item, int) {
        const int64_t end = std::min(rows_.n, (item + 1) * kRowsAtOnce);
        for (int64_t i = item * kRowsAtOnce; i < end; ++i)
          from_[size_t(i)] = kernels_.distance_to_row(x.data(), rows_, i);
      },
      [] {});
  for (int64_t i = 0; i < rows_.n; ++i)
    if (i != row && from_[size_t(i)] < squared) f(i, from_[size_t(i)]);
}

// Brings the shadows up to date with a member's new nearest distance.
void Exchange::spread(const Event& event) {
  if (objective_.weight == 0 || event.before == event.after) return;
  const double before = event.before < kInfinity ? event.before : 0;
  const double after = event.after < kInfinity ? event.after : 0;
  const int64_t log_before = before > 0 ? objective_.log_distance(before) : 0;
  const int64_t log_after = after > 0 ? objective_.log_distance(after) : 0;
  ball(event.row, std::max(before, after), [&](int64_t other, double squared) {
    const int64_t value = objective_.log_distance(squared);
    int64_t change = squared < after ? log_after - value : 0;
    if (squared < before) change -= log_before - value;
    shadow_[size_t(other)] += change;
  });
}

// What the objective changes by if the row joins, less 2 D to the member that leaves.
int64_t Exchange::gain(int64_t row) const {
  const size_t i = size_t(row);
  return 2 * (objective_.k * attraction_[i] - distances_[i]) -
         objective_.k * (log_nearest_[i] - shadow_[i]);
}

// No member is nearer than the nearest, so twice that distance comes on top at least.
void Exchange::rank_all() {
  for (int64_t block = 0; block * kBlock < rows_.n; ++block) {
    const int64_t end = std::min(rows_.n, (block + 1) * kBlock);
    int64_t least = kNever;
    for (int64_t i = block * kBlock; i < end; ++i) {
      rank_[size_t(i)] = member(i) ? kNever : gain(i) + 2 * nearest_[size_t(i)];
      least = std::min(least, rank_[size_t(i)]);
    }
    least_[size_t(block)] = least;
  }
}

// The row to exchange a member for, and what that changes.
Exchange::Best Exchange::best_for(int64_t leaving) {
  ++visit_;
  const int64_t k = objective_.k;
  const double own = near_.squared(leaving, 0);
  const int64_t log_own = log_nearest_[size_t(leaving)];
  struct Fan {
    int64_t row, log_next;
    double nearest, next;
  };
  std::vector<Fan> fans;           // members whose nearest member leaves
  std::vector<int64_t> followers;  // other rows of which that is true
  for (int64_t i = 0; i < rows_.n; ++i) {
    if (owner_[size_t(i)] != leaving) continue;
    if (!member(i)) {
      followers.push_back(i);
      continue;
    }
    const double next = near_.squared(i, 1);
    // Of two members one is left, without a nearest: any L not below others then cancels out.
    fans.push_back({i, next < kInfinity ? objective_.log_distance(next) : objective_.most_log(),
                    near_.squared(i, 0), next});
  }
  int64_t lost = 2 * (k * attraction_[leaving] - distances_[size_t(leaving)]) - k * log_own;
  for (const Fan& fan : fans) lost += k * (fan.log_next - log_nearest_[size_t(fan.row)]);

  Best best;
  const auto look_at = [&](int64_t row, double squared) {
    int64_t change = gain(row) - lost + 2 * objective_.distance(squared);
    if (owner_[size_t(row)] == leaving && k > 1)
      change -= k * (objective_.log_distance(near_.squared(row, 1)) - log_nearest_[size_t(row)]);
    if (squared < own && k > 1) change -= k * (log_own - objective_.log_distance(squared));
    if (!best.beaten_by(change, row)) return;
    for (const Fan& fan : fans) {
      const double away = squared_between(fan.row, row);
      if (away < fan.next)
        change += k * (fan.log_next - objective_.log_distance(std::max(away, fan.nearest)));
    }
    if (best.beaten_by(change, row)) best = {change, row};
  };
  const auto look_once = [&](int64_t row, double squared) {
    if (member(row) || seen_[size_t(row)] == visit_) return;
    seen_[size_t(row)] = visit_;
    look_at(row, squared);
  };
  // Rows near the one that leaves gain from that; for all others the rank is a bound.
  if (objective_.weight != 0) {
    ball(leaving, own < kInfinity ? own : 0, look_once);
    for (const int64_t row : followers) look_once(row, near_.squared(row, 0));
  }
  std::vector<double> x;
  load(leaving, x);
  for (int64_t block = 0; block * kBlock < rows_.n; ++block) {
    const int64_t first = block * kBlock, end = std::min(rows_.n, first + kBlock);
    if (!best.beaten_by(least_[size_t(block)] - lost, first)) continue;
    for (int64_t i = first; i < end; ++i)
      if (rank_[size_t(i)] != kNever && best.beaten_by(rank_[size_t(i)] - lost, i) &&
          seen_[size_t(i)] != visit_)
        look_at(i, kernels_.distance_to_row(x.data(), rows_, i));
  }
  return best;
}

// ---------------------------------------------------------------- exchanges

// J of the members, from the sums and nearest distances that are kept.
__int128 Exchange::value() const {
  __int128 total = 0;
  for (const int64_t row : members_)
    total += 2 * objective_.k * attraction_[row] - distances_[size_t(row)] -
             objective_.k * log_nearest_[size_t(row)];
  return total;
}

// The kept numbers are whole, so they add up to what the exchanges said, unless somebody writes to
// the rows; then the search might also never end.
void Exchange::check(__int128 expected) const {
  if (value() != expected)
    throw std::runtime_error(
        "features: rows changed while they were being compared (another thread or process writes "
        "to them?); there is no answer, start again and leave them alone meanwhile");
}

int64_t Exchange::run(int64_t most) {
  const int64_t k = objective_.k;
  __int128 expected = value();
  int64_t made = 0, stayed = 0, longest = 0, polled = 0;
  for (int64_t slot = 0; stayed < k && made < most && k < rows_.n; slot = (slot + 1) % k) {
    if (++polled % kPolled == 0) poll_(k + longest);
    const Best best = best_for(members_[size_t(slot)]);
    if (best.row < 0) {
      longest = std::max(longest, ++stayed);
      continue;
    }
    exchange(slot, best.row);
    expected += best.change;
    if (++made % (k + kPolled) == 0) check(expected);
    stayed = 0;
  }
  check(expected);
  poll_(2 * k);
  return made;
}

void Exchange::exchange(int64_t slot, int64_t coming) {
  const int64_t leaving = members_[size_t(slot)];
  const double own = near_.squared(leaving, 0);
  members_[size_t(slot)] = coming;
  is_member_[size_t(leaving)] = 0;
  is_member_[size_t(coming)] = 1;
  std::vector<int64_t> touched;
  std::vector<double> before;
  update_lists(leaving, coming, touched);
  for (const int64_t row : touched) {
    // The old distance is that of the old owner, which may no longer be listed.
    before.push_back(squared_between(owner_[size_t(row)], row));
    if (near_.size(row) < 2 && near_.cut(row)) refill(row);
    note_nearest(row);
  }
  for (size_t j = 0; j < touched.size(); ++j)
    if (member(touched[j]) && touched[j] != coming)
      spread({touched[j], before[j], near_.squared(touched[j], 0)});
  spread({leaving, own, kInfinity});
  spread({coming, kInfinity, near_.squared(coming, 0)});
  rank_all();
}

// Updates sums and lists of all rows; `touched`: those whose nearest member changed or whose list
// became short.
void Exchange::update_lists(int64_t leaving, int64_t coming, std::vector<int64_t>& touched) {
  std::vector<double> x, y;
  load(leaving, x);
  load(coming, y);
  const int64_t items = (rows_.n + kRowsAtOnce - 1) / kRowsAtOnce;
  std::vector<std::vector<int64_t>> found{size_t(items)};
  parallel_for(
      threads_, items,
      [&](int64_t item, int) {
        const int64_t end = std::min(rows_.n, (item + 1) * kRowsAtOnce);
        for (int64_t i = item * kRowsAtOnce; i < end; ++i) {
          const double to_leaving = kernels_.distance_to_row(x.data(), rows_, i);
          const double to_coming = kernels_.distance_to_row(y.data(), rows_, i);
          distances_[size_t(i)] += objective_.distance(to_coming) - objective_.distance(to_leaving);
          near_.remove(i, int32_t(leaving), to_leaving);
          if (i != coming) near_.add(i, int32_t(coming), to_coming);
          if (near_.row(i, 0) != owner_[size_t(i)] || (near_.size(i) < 2 && near_.cut(i)))
            found[size_t(item)].push_back(i);
        }
      },
      [] {});
  for (const auto& part : found) touched.insert(touched.end(), part.begin(), part.end());
}

// Makes a row's list anew from all members.
void Exchange::refill(int64_t row) {
  std::vector<double> x;
  load(row, x);
  near_.clear(row);
  for (const int64_t other : members_)
    if (other != row)
      near_.add(row, int32_t(other), kernels_.distance_to_row(x.data(), rows_, other));
}

}  // namespace entroselect
