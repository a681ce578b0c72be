#include "nearest/within.h"

#include <algorithm>
#include <atomic>
#include <memory>

#include "base/threads.h"
#include "filter/group.h"
#include "nearest/scan.h"

namespace entroselect {

namespace {

constexpr int64_t kShared = 8;          // panels that share one set of thresholds
constexpr size_t kManySuspects = 1024;  // of one query before they are rechecked

// A group of queries against all points. The reach is the same for all pairs and never falls, so a
// pair that the certificate leaves open is rechecked whatever the others are.
class Worker {
 public:
  Worker(const Frame& frame, const Kernels& kernels, const Rows& points, double limit)
      : frame_(frame),
        kernels_(kernels),
        points_(points),
        limit_(limit),
        reach_(frame.certificate.reach(limit)),
        coder_(frame, kernels),
        group_(frame, kernels),
        codes_(kGroup * frame.words),
        canonical_(padded(frame.d)),
        suspects_(kGroup) {}

  // Queries [first, first + count).
  void search(const Rows& queries, int64_t first, int count, const Panels& panels, Lists& lists) {
    for (int g = 0; g < count; ++g) {
      uint32_t* code = &codes_[g * frame_.words];
      group_.set_row(g, code, coder_.row(queries, first + g, code));
    }
    for (int64_t p = 0; p < panels.size(); ++p) {
      if (p % kShared == 0) {
        const ColumnBounds most = panels.most(p, std::min(panels.size(), p + kShared));
        for (int g = 0; g < count; ++g)
          group_.threshold[g] = frame_.certificate.threshold(group_.bounds[g], most, reach_);
      }
      const Panels::Panel& panel = panels.panel(p);
      for (uint64_t any = group_.score(count, panel); any; any &= any - 1) {
        const int g = __builtin_ctzll(any);
        collect(g, panel, p * kPanel);
        if (suspects_[size_t(g)].size() >= kManySuspects) recheck(queries, first, g, lists);
      }
    }
    for (int g = 0; g < count; ++g) recheck(queries, first, g, lists);
    pairs += count * points_.n;
  }

  int64_t pairs = 0;
  int64_t in_vain = 0;  // rechecks of pairs that are farther apart

 private:
  void collect(int g, const Panels::Panel& panel, int64_t base) {
    uint32_t mask = group_.mask[g];
    if (points_.n - base < kPanel) mask &= (uint32_t(1) << (points_.n - base)) - 1;
    for (; mask; mask &= mask - 1) {
      const int column = __builtin_ctz(mask);
      const auto interval = frame_.certificate.interval(group_.bounds[g], panel.bounds[column],
                                                        group_.scores[g * kPanel + column]);
      if (!(interval.lower > reach_)) suspects_[size_t(g)].push_back(base + column);
    }
  }

  void recheck(const Rows& queries, int64_t first, int g, Lists& lists) {
    std::vector<int64_t>& suspects = suspects_[size_t(g)];
    if (suspects.empty()) return;
    std::vector<Neighbour>& found = lists[size_t(first + g)];
    const size_t before = found.size();
    kernels_.load_row(queries, first + g, canonical_.get());
    for (size_t at = 0; at < suspects.size(); ++at) {
      if (at + 1 < suspects.size()) points_.prefetch(suspects[at + 1]);
      const double squared = kernels_.distance_to_row(canonical_.get(), points_, suspects[at]);
      if (squared <= limit_) found.push_back({squared, suspects[at]});
    }
    in_vain += int64_t(suspects.size() - (found.size() - before));
    suspects.clear();
  }

  const Frame& frame_;
  const Kernels& kernels_;
  const Rows& points_;
  const double limit_, reach_;
  Coder coder_;
  Group group_;
  Buffer<uint32_t> codes_;
  Buffer<double> canonical_;
  std::vector<std::vector<int64_t>> suspects_;  // of each query of the group, ascending
};

// As within(), with rows coded in one form. False, and lists empty, if they are bytes that cannot
// tell the rows apart.
bool within_in(Form form, const Rows& queries, const Rows& points, double limit,
               const Kernels& kernels, int threads, const std::function<void(int64_t)>& poll,
               Lists& lists) {
  std::atomic<int64_t> done{0};
  const auto report = [&] { poll(done.load()); };
  const Frame frame(points, kernels, form);
  const Panels panels = pack_all(points, frame, kernels, threads, report);
  const int64_t size = std::clamp<int64_t>((queries.n + threads - 1) / threads, 1, kGroup);
  const int64_t items = (queries.n + size - 1) / size;
  std::vector<std::unique_ptr<Worker>> workers;
  for (int w = 0; w < threads; ++w)
    workers.push_back(std::make_unique<Worker>(frame, kernels, points, limit));
  const auto search = [&](int64_t item, int worker) {
    const int count = int(std::min(queries.n, (item + 1) * size) - item * size);
    workers[size_t(worker)]->search(queries, item * size, count, panels, lists);
    done.fetch_add(count);
  };

  // One group decides whether bytes can tell the rows apart.
  const int64_t probed = form == Form::bytes && items > 0 ? items / 2 : -1;
  if (probed >= 0) {
    search(probed, 0);
    if (workers[0]->in_vain > workers[0]->pairs / kDear + 16 * size) {
      for (auto& list : lists) list.clear();
      return false;
    }
  }
  parallel_for(
      threads, items,
      [&](int64_t item, int worker) {
        if (item != probed) search(item, worker);
      },
      report);
  return true;
}

}  // namespace

void within(const Rows& queries, const Rows& points, double limit, const Kernels& kernels,
            Form form, int threads, const std::function<void(int64_t)>& poll, Lists& lists) {
  lists.assign(size_t(queries.n), {});
  if (!within_in(form, queries, points, limit, kernels, threads, poll, lists))
    within_in(Form::halves, queries, points, limit, kernels, threads, poll, lists);
}

}  // namespace entroselect
