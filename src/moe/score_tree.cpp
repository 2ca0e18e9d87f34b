#include <algorithm>
#include <cmath>
#include <vector>

#include "rows.hpp"
#include "schemes.hpp"
#include "selection.hpp"
#include "switchyard/base/parallel.hpp"

namespace switchyard::moe {
namespace {

// Nodes without the root, level by level; the children of a node are contiguous.
struct Level {
  Index first;     // column of the level's first node
  Index nodes;     // of the whole level
  Index branches;  // children of each node of the level above
};

std::vector<Level> levels_of(const RouterConfig& router) {
  std::vector<Level> levels;
  Index first = 0, nodes = 1;
  for (const Index branches : router.levels) {
    nodes *= branches;
    levels.push_back({first, nodes, branches});
    first += nodes;
  }
  return levels;
}

// Share of each node among its siblings, and of all nodes, from one token's logits.
void shares_of_row(const std::vector<Level>& levels, const float* logit_R, float* sibling_R, float* share_R) {
  const Level* above = nullptr;
  for (const Level& level : levels) {
    for (Index n = 0; n < level.nodes; n += level.branches) {
      const float* logit = logit_R + level.first + n;
      float* sibling = sibling_R + level.first + n;
      const float most = *std::max_element(logit, logit + level.branches);
      float sum = 0.0F;
      for (Index i = 0; i < level.branches; ++i) sum += sibling[i] = std::exp(logit[i] - most);
      const float parent = above == nullptr ? 1.0F : share_R[above->first + n / level.branches];
      for (Index i = 0; i < level.branches; ++i) {
        sibling[i] /= sum;
        share_R[level.first + n + i] = sibling[i] * parent;
      }
    }
    above = &level;
  }
}

}  // namespace

Index tree_logits(const RouterConfig& router) {
  const std::vector<Level> levels = levels_of(router);
  return levels.empty() ? 0 : levels.back().first + levels.back().nodes;
}

void tree_score(const RouterConfig& router, ConstMatrix logits_TR, Matrix scores_TE) {
  const std::vector<Level> levels = levels_of(router);
  parallel_for(scores_TE.rows, row_grain(16 * logits_TR.cols), [&](Index begin, Index end) {
    std::vector<float> sibling_R(static_cast<std::size_t>(logits_TR.cols)), share_R(sibling_R.size());
    for (Index t = begin; t < end; ++t) {
      shares_of_row(levels, logits_TR.row(t), sibling_R.data(), share_R.data());
      std::copy_n(share_R.data() + levels.back().first, scores_TE.cols, scores_TE.row(t));
    }
  });
}

// With D_n = dL/d(share of node n): D of a node is the sum over its children of D times their share among siblings, and
// dL/d(logit n) = share_n (D_n - D_parent).
void tree_score_backward(const RouterConfig& router, ConstMatrix logits_TR, ConstMatrix scores_TE,
                         ConstMatrix d_scores_TE, Matrix d_logits_TR) {
  const std::vector<Level> levels = levels_of(router);
  parallel_for(scores_TE.rows, row_grain(16 * logits_TR.cols), [&](Index begin, Index end) {
    std::vector<float> sibling_R(static_cast<std::size_t>(logits_TR.cols)), share_R(sibling_R.size()),
        d_R(sibling_R.size());
    for (Index t = begin; t < end; ++t) {
      shares_of_row(levels, logits_TR.row(t), sibling_R.data(), share_R.data());
      std::copy_n(d_scores_TE.row(t), d_scores_TE.cols, d_R.data() + levels.back().first);
      float* d_logits = d_logits_TR.row(t);
      for (std::size_t l = levels.size(); l-- > 0;) {
        const Level& level = levels[l];
        for (Index n = 0; n < level.nodes; n += level.branches) {
          float d_parent = 0.0F;
          for (Index i = level.first + n; i < level.first + n + level.branches; ++i)
            d_parent += d_R[static_cast<std::size_t>(i)] * sibling_R[static_cast<std::size_t>(i)];
          for (Index i = level.first + n; i < level.first + n + level.branches; ++i)
            d_logits[i] += share_R[static_cast<std::size_t>(i)] * (d_R[static_cast<std::size_t>(i)] - d_parent);
          if (l > 0) d_R[static_cast<std::size_t>(levels[l - 1].first + n / level.branches)] = d_parent;
        }
      }
    }
  });
}

void check_tree_levels(const RouterConfig& router) {
  expect_plain_experts(router, "0: every leaf of a tree is an expert with weights");
  Index product = 1;
  Index before_last = 1;
  for (const Index branches : router.levels) {
    expect(branches >= 1 && branches <= router.experts, "levels", fmt::to_string(branches),
           fmt::format("1 to experts ({}) branches a level", router.experts));
    before_last = product;
    product *= branches;
    if (product > kMaxExperts) break;  // two more factors could overflow
  }
  const std::string nearest = router.levels.size() > 1 && router.experts % before_last == 0
                                  ? fmt::format("{} branches at the last level", router.experts / before_last)
                                  : fmt::format("levels = [{}]", router.experts);
  expect(!router.levels.empty() && product == router.experts, "levels",
         router.levels.empty() ? std::string("empty") : fmt::format("branches for {} leaves", product),
         fmt::format("branches whose product is experts ({}), such as {}", router.experts, nearest));
}

}  // namespace switchyard::moe
