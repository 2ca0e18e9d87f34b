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
        taken_E_(experts_) {
    open_.reserve(experts_);
  }

  struct Open {
    std::size_t expert;
    float share;
  };

  void start(Index t) {
    logit_E_ = input_.logits_TR.row(t);
    draw_ = static_cast<std::uint64_t>(t * input_.scores_TE.cols) * (experts_ + 1);
    std::fill(taken_E_.begin(), taken_E_.end(), std::uint8_t{0});
  }

  // The next expert: those taken before are out, those too far below the best of the others are masked.
  Open next() {
    std::size_t best = experts_;
    for (std::size_t e = 0; e < experts_; ++e)
      if (taken_E_[e] == 0 && (best == experts_ || goes_before(logit_E_[e], logit_E_[best]))) best = e;
    const float most = logit_E_[best];
    open_.clear();
    float sum = 0.0F;
    for (std::size_t e = 0; e < experts_; ++e) {
      if ((most - logit_E_[e]) / std::max(std::abs(logit_E_[e]), most) > width_ || taken_E_[e] != 0) continue;
      open_.push_back({e, std::exp(logit_E_[e] - most)});
      sum += open_.back().share;
    }
    for (Open& open : open_) open.share /= sum;

    // A sample of the shares is the largest logit + Gumbel noise.
    std::size_t chosen = 0;
    float chosen_key = 0.0F;
    for (std::size_t i = 0; i < open_.size(); ++i) {
      float key = logit_E_[open_[i].expert];
      if (input_.training) key += gumbel_of(input_.random.uniform(draw_ + open_[i].expert));
      if (i > 0 && !goes_before(key, chosen_key)) continue;
      chosen = i;
      chosen_key = key;
    }
    factor_ = 1.0F;
    if (input_.training && open_[chosen].expert != best && !(input_.random.uniform(draw_ + experts_) > kMidpoint))
      factor_ = kThird;
    draw_ += experts_ + 1;
    taken_E_[open_[chosen].expert] = 1;
    return open_[chosen];
  }

  std::span<const Open> open() const { return open_; }  // the masked softmax that the last expert was drawn from
  float factor() const { return factor_; }              // that its share is multiplied by

 private:
  const SelectionInput& input_;
  float width_;
  std::size_t experts_;
  const float* logit_E_ = nullptr;
  std::uint64_t draw_ = 0;
  float factor_ = 1.0F;
  std::vector<Open> open_;
  std::vector<std::uint8_t> taken_E_;
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
        const Mixer::Open chosen = mixer.next();
        list.expert_A[a] = static_cast<std::int32_t>(chosen.expert);
        list.score_A[a] = mixer.factor() * chosen.share;
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
        const Mixer::Open chosen = mixer.next();
        if (list.expert_A[a] != static_cast<std::int32_t>(chosen.expert)) continue;
        const float d_logit = d_score_A[a] * chosen.share;
        float* d_row = d_logits_TR.row(t);
        for (const Mixer::Open& open : mixer.open()) d_row[open.expert] -= d_logit * open.share;
        d_row[chosen.expert] += d_logit;
      }
    }
  });
}

}  // namespace switchyard::moe
