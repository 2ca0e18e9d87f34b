#include <cmath>
#include <vector>

#include "schemes.hpp"
#include "selection.hpp"

namespace switchyard::moe {
namespace {

// Heun's third-order method: one that is not the likeliest counts for a third, three times out of four. The published
// code has 0.3333 for a third; it is what the preset must reproduce.
constexpr float kThird = 0.3333F;
constexpr float kMidpoint = 0.75F;

// Draws the experts of one token after another.
class Mixer {
 public:
  Mixer(const RouterConfig& router, const SelectionInput& input)
      : input_(input),
        width_(2.0F * router.threshold),
        experts_(static_cast<std::size_t>(input.logits_TR.cols)),
        share_E_(experts_),
        out_E_(experts_),
        taken_E_(experts_) {}

  void start(Index t) {
    logit_E_ = input_.logits_TR.row(t);
    draw_ = static_cast<std::uint64_t>(t * input_.scores_TE.cols) * (experts_ + 1);
    std::fill(taken_E_.begin(), taken_E_.end(), std::uint8_t{0});
  }

  // The next expert: those taken before are out, those too far below the best of the others are masked.
  std::size_t next() {
    std::size_t best = experts_;
    for (std::size_t e = 0; e < experts_; ++e)
      if (taken_E_[e] == 0 && (best == experts_ || goes_before(logit_E_[e], logit_E_[best]))) best = e;
    const float most = logit_E_[best];
    float sum = 0.0F;
    for (std::size_t e = 0; e < experts_; ++e) {
      const float distance = (most - logit_E_[e]) / std::max(std::abs(logit_E_[e]), most);
      out_E_[e] = taken_E_[e] != 0 || distance > width_ ? 1 : 0;
      share_E_[e] = out_E_[e] != 0 ? 0.0F : std::exp(logit_E_[e] - most);
      sum += share_E_[e];
    }
    for (float& share : share_E_) share /= sum;

    std::size_t chosen = best;
    factor_ = 1.0F;
    if (input_.training) {
      chosen = drawn(best);
      if (chosen != best && !(input_.random.uniform(draw_ + experts_) > kMidpoint)) factor_ = kThird;
      draw_ += experts_ + 1;
    }
    taken_E_[chosen] = 1;
    return chosen;
  }

  std::span<const float> shares() const { return share_E_; }  // the masked softmax that the last expert was drawn from
  float factor() const { return factor_; }                    // that its share is multiplied by

 private:
  // A sample of the shares, by the largest logit + Gumbel noise.
  std::size_t drawn(std::size_t best) const {
    std::size_t chosen = best;
    float chosen_key = logit_E_[best] + gumbel_of(input_.random.uniform(draw_ + best));
    for (std::size_t e = 0; e < experts_; ++e) {
      if (out_E_[e] != 0 || e == best) continue;
      const float key = logit_E_[e] + gumbel_of(input_.random.uniform(draw_ + e));
      if (!goes_before(key, chosen_key)) continue;
      chosen = e;
      chosen_key = key;
    }
    return chosen;
  }

  const SelectionInput& input_;
  float width_;
  std::size_t experts_;
  const float* logit_E_ = nullptr;
  std::uint64_t draw_ = 0;
  float factor_ = 1.0F;
  std::vector<float> share_E_;
  std::vector<std::uint8_t> out_E_, taken_E_;
};

}  // namespace

Assignments select_sparse_mixer(const RouterConfig& router, const SelectionInput& input) {
  require_shapes(router, input);
  require(input.logits_TR.cols == input.scores_TE.cols, "{} logits for {} experts", input.logits_TR.cols,
          input.scores_TE.cols);
  const Index k = router.top_k;
  Assignments list = k_assignments(k, input.scores_TE.rows, input.scores_TE.cols, input.valid_T);
  parallel_for(list.tokens, row_grain(64 * k * list.experts), [&](Index begin, Index end) {
    Mixer mixer(router, input);
    for (Index t = begin; t < end; ++t) {
      if (!is_valid(input.valid_T, t)) continue;
      mixer.start(t);
      const auto first = static_cast<std::size_t>(list.offset_T1[static_cast<std::size_t>(t)]);
      for (std::size_t a = first; a < first + static_cast<std::size_t>(k); ++a) {
        const std::size_t expert = mixer.next();
        list.expert_A[a] = static_cast<std::int32_t>(expert);
        list.score_A[a] = mixer.factor() * mixer.shares()[expert];
      }
    }
  });
  return list;
}

// As published: the gradient of the share, without the factor. An assignment that capacity has sent to another expert
// has no share of its own and gives none.
void select_sparse_mixer_backward(const RouterConfig& router, const SelectionInput& input, const Assignments& list,
                                  std::span<const float> d_score_A, Matrix d_logits_TR) {
  parallel_for(list.tokens, row_grain(64 * router.top_k * list.experts), [&](Index begin, Index end) {
    Mixer mixer(router, input);
    for (Index t = begin; t < end; ++t) {
      if (!is_valid(input.valid_T, t)) continue;
      mixer.start(t);
      const auto last = static_cast<std::size_t>(list.offset_T1[static_cast<std::size_t>(t) + 1]);
      for (auto a = static_cast<std::size_t>(list.offset_T1[static_cast<std::size_t>(t)]); a < last; ++a) {
        const std::size_t expert = mixer.next();
        if (list.expert_A[a] != static_cast<std::int32_t>(expert)) continue;
        const std::span<const float> share_E = mixer.shares();
        const float d_logit = d_score_A[a] * share_E[expert];
        float* d_row = d_logits_TR.row(t);
        for (std::size_t e = 0; e < share_E.size(); ++e) d_row[e] -= d_logit * share_E[e];
        d_row[expert] += d_logit;
      }
    }
  });
}

}  // namespace switchyard::moe
