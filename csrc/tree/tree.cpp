#include "tree/tree.h"

#include "base/threads.h"

namespace entroselect {

static_assert(2 * (kTreeWidth + 1) * sizeof(double) +
                      2 * (sizeof(Tree::Node) + 2 * kTreeWidth * sizeof(double)) / kLeaf <
                  Tree::bytes_per_row(kTreeWidth),
              "a row takes more");

namespace {
constexpr int64_t kParts = 16;     // subtrees built in parallel, per thread
constexpr int64_t kPrepare = 512;  // leaves per item of work when all rows are read
}  // namespace

template <int D>
struct Tree::Builder {
  struct Point {
    double x[D];
    int64_t row;
  };
  struct Part {
    int64_t node, first, last;  // leaves
  };

  Tree& tree;
  Buffer<Point> points;

  // Leaves are full but for the last, so a node's place and those of its children follow from
  // its leaves: a subtree of L leaves has 2 L - 1 nodes.
  void build(const Part& part, int64_t smallest, std::vector<Part>* later) {
    const int64_t begin = part.first * kLeaf, end = std::min(tree.n_, part.last * kLeaf);
    Point* p = points.get();
    double* box = &tree.boxes_[part.node * 2 * D];
    std::copy(p[begin].x, p[begin].x + D, box);
    std::copy(p[begin].x, p[begin].x + D, box + D);
    int64_t lowest = p[begin].row;
    for (int64_t i = begin + 1; i < end; ++i) {
      for (int l = 0; l < D; ++l) {
        box[l] = std::min(box[l], p[i].x[l]);
        box[D + l] = std::max(box[D + l], p[i].x[l]);
      }
      lowest = std::min(lowest, p[i].row);
    }
    Node& node = tree.nodes_[size_t(part.node)];
    node = {0, part.first, part.last, lowest};
    const int64_t leaves = part.last - part.first;
    if (leaves == 1) {
      std::sort(p + begin, p + end, [](const Point& a, const Point& b) { return a.row < b.row; });
      return;
    }
    int widest = 0;
    for (int l = 1; l < D; ++l)
      if (box[D + l] - box[l] > box[D + widest] - box[widest]) widest = l;
    const int64_t left = (leaves + 1) / 2;
    // Equal rows stay in the order of their index, so that the first of them rules out the subtrees
    // of the others.
    std::nth_element(p + begin, p + (part.first + left) * kLeaf, p + end,
                     [widest](const Point& a, const Point& b) {
                       return a.x[widest] < b.x[widest] ||
                              (a.x[widest] == b.x[widest] && a.row < b.row);
                     });
    node.right = part.node + 2 * left;
    for (const Part& child : {Part{part.node + 1, part.first, part.first + left},
                              Part{node.right, part.first + left, part.last}}) {
      if (later && child.last - child.first <= smallest)
        later->push_back(child);
      else
        build(child, smallest, later);
    }
  }

  // Copies the points of a leaf to the place from which searches read them.
  void lay_out(int64_t leaf) {
    for (int64_t j = 0; j < kLeaf; ++j) {
      const bool used = j < tree.count(leaf);
      const Point* p = points.get() + leaf * kLeaf + j;
      tree.rows_[leaf * kLeaf + j] = used ? p->row : -1;
      for (int64_t l = 0; l < D; ++l)
        tree.columns_[(leaf * D + l) * kLeaf + j] = used ? p->x[l] : 0.0;
    }
  }

  void run(const Rows& rows, const Kernels& kernels, int threads,
           const std::function<void()>& poll) {
    const int64_t step = kPrepare * kLeaf;
    parallel_for(
        threads, (rows.n + step - 1) / step,
        [&](int64_t item, int) {
          double x[8];
          for (int64_t i = item * step; i < std::min(rows.n, (item + 1) * step); ++i) {
            kernels.load_row(rows, i, x);
            std::copy(x, x + D, points[i].x);
            points[i].row = i;
          }
        },
        poll);
    std::vector<Part> parts;
    const Part all = {0, 0, tree.leaves_};
    const int64_t smallest = tree.leaves_ / (kParts * threads);
    if (threads > 1 && smallest > 0)
      build(all, smallest, &parts);
    else
      parts.push_back(all);
    parallel_for(
        threads, int64_t(parts.size()),
        [&](int64_t item, int) { build(parts[size_t(item)], 0, nullptr); }, poll);
    parallel_for(
        threads, (tree.leaves_ + kPrepare - 1) / kPrepare,
        [&](int64_t item, int) {
          const int64_t end = std::min(tree.leaves_, (item + 1) * kPrepare);
          for (int64_t leaf = item * kPrepare; leaf < end; ++leaf) lay_out(leaf);
        },
        poll);
  }
};

Tree::Tree(const Rows& rows, const Kernels& kernels, int threads, const std::function<void()>& poll)
    : n_(rows.n),
      d_(rows.d),
      leaves_((rows.n + kLeaf - 1) / kLeaf),
      nodes_(size_t(2 * leaves_ - 1)),
      boxes_((2 * leaves_ - 1) * 2 * rows.d),
      columns_(leaves_ * kLeaf * rows.d),
      rows_(leaves_ * kLeaf) {
  const auto build = [&](auto width) {
    Builder<decltype(width)::value> builder{*this, {}};
    builder.points = decltype(builder.points)(rows.n);
    builder.run(rows, kernels, threads, poll);
  };
  with_width(rows.d, build);
}

}  // namespace entroselect
