// Anchored selection: members are added one by one and then exchanged for other rows, each time the
// best one, until no exchange lowers the objective. entroselect/reference has the same as dense
// arrays; whole numbers make both take the same exchanges.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "base/rows.h"
#include "exchange/near_lists.h"
#include "exchange/objective.h"
#include "isa/kernels.h"

namespace entroselect {

// The nearest other rows of every row, `length` each, nearest first; none if length is 0.
struct Graph {
  int64_t length = 0;
  const double* squared = nullptr;
  const int32_t* row = nullptr;
};

class Exchange {
 public:
  // `attraction`: A of every row. `poll` is called every now and then with the progress, from
  // 0 to 2 k: members added, then the longest run of members that stayed.
  Exchange(const Rows& rows, const Kernels& kernels, int threads, const Objective& objective,
           const int64_t* attraction, Graph graph, std::function<void(int64_t)> poll);

  // Adds k members: these rows, in order, or (nullptr) each time the row that lowers the objective
  // most, but for what it does to the nearest distances of those before it.
  void begin(const int64_t* rows);

  // Exchanges members in turn, each for the row that lowers the objective most, the lowest of
  // equals, until all stay or `most` exchanges are made. Returns how many. Throws
  // std::runtime_error where rows have changed meanwhile.
  int64_t run(int64_t most);

  const std::vector<int64_t>& members() const { return members_; }
  // Sum of D over the members, and squared distance to the nearest of them, of every row.
  int64_t distances(int64_t row) const { return distances_[size_t(row)]; }
  double nearest(int64_t row) const { return near_.squared(row, 0); }

  // Bytes per row besides its values and the graph.
  static constexpr int64_t kBytesPerRow = NearLists::kBytesPerRow + 6 * 8 + 4 * 4 + 1;

 private:
  struct Best {
    int64_t change = 0;  // of the objective; an exchange must lower it
    int64_t row = -1;
    bool beaten_by(int64_t other, int64_t by) const {
      return other < change || (other == change && row >= 0 && by < row);
    }
  };
  struct Event {  // a member whose nearest distance changed; infinity: it came or went
    int64_t row;
    double before, after;
  };

  bool member(int64_t row) const { return is_member_[size_t(row)] != 0; }
  int64_t add(int64_t row, bool herding);
  void finish_beginning();
  __int128 value() const;
  void check(__int128 expected) const;
  Best best_for(int64_t leaving);
  void exchange(int64_t slot, int64_t coming);
  void update_lists(int64_t leaving, int64_t coming, std::vector<int64_t>& touched);
  void refill(int64_t row);
  void note_nearest(int64_t row);
  void spread(const Event& event);
  void rank_all();
  int64_t gain(int64_t row) const;
  template <class F>
  void ball(int64_t row, double squared, const F& f);
  double squared_between(int64_t a, int64_t b) const;
  void load(int64_t row, std::vector<double>& out) const;

  const Rows rows_;
  const Kernels& kernels_;
  const int threads_;
  const Objective objective_;
  const int64_t* attraction_;
  const Graph graph_;
  const std::function<void(int64_t)> poll_;

  std::vector<int64_t> members_;
  std::vector<uint8_t> is_member_;
  std::vector<int64_t> distances_;  // sum of D over the members
  NearLists near_;
  std::vector<int32_t> owner_;        // nearest member
  std::vector<int64_t> log_nearest_;  // L of its distance
  std::vector<int64_t> nearest_;      // D of it
  // What the nearest distances of the members lose in L if this row joins them.
  std::vector<int64_t> shadow_;
  // At least what the objective changes by if this row joins, but for what leaves; and the least of
  // kBlock rows.
  std::vector<int64_t> rank_;
  std::vector<int64_t> least_;
  std::vector<int32_t> seen_;  // the visit that looked at this row
  int32_t visit_ = 0;
  std::vector<double> from_;  // distances of one row to all, while they are needed
};

}  // namespace entroselect
