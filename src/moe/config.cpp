#include "switchyard/moe/config.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <string_view>
#include <utility>
#include <vector>

#include "named_table.hpp"
#include "switchyard/moe/bias.hpp"
#include "switchyard/moe/capacity.hpp"
#include "switchyard/moe/logits.hpp"
#include "switchyard/moe/losses.hpp"
#include "switchyard/moe/noise.hpp"
#include "switchyard/moe/score.hpp"
#include "switchyard/moe/select.hpp"
#include "switchyard/moe/weights.hpp"

namespace switchyard::moe {
namespace {

// Names the config and checks one key after another.
class Checker {
 public:
  explicit Checker(const std::string& where) : where_(where) {}

  template <class Value>
  void expect(bool good, std::string_view key, const Value& found, std::string_view expected) const {
    if (!good) fail(ErrorKind::kBadInput, "{}.{}: {}, expected {}", where_, key, found, expected);
  }
  template <class Row>
  void name(std::string_view key, const std::string& found, std::span<const Row> rows) const {
    if (find_row(rows, found) == nullptr)
      fail(ErrorKind::kBadInput, "{}.{}: '{}', expected one of {}", where_, key, found, row_names(rows));
  }
  void one_of(std::string_view key, const std::string& found, const std::vector<std::string_view>& known) const {
    if (std::find(known.begin(), known.end(), found) == known.end())
      fail(ErrorKind::kBadInput, "{}.{}: '{}', expected one of {}", where_, key, found, fmt::join(known, ", "));
  }
  void coefficient(std::string_view key, float found) const {
    expect(std::isfinite(found) && found >= 0.0F, key, found, "a finite number of at least 0");
  }

 private:
  const std::string& where_;
};

}  // namespace

void MoeConfig::validate(const std::string& where) const {
  const Checker check(where);
  check.expect(router.experts >= 1 && router.experts <= kMaxExperts, "router.experts", router.experts,
               fmt::format("1 to {}", kMaxExperts));
  const Index choices = router.choices();
  for (const auto& [key, count] :
       {std::pair("router.zero_experts", router.zero_experts), std::pair("router.copy_experts", router.copy_experts),
        std::pair("router.constant_experts", router.constant_experts)})
    check.expect(count >= 0 && count <= kMaxExperts, key, count, fmt::format("0 to {}", kMaxExperts));
  check.expect(router.top_k >= 1 && router.top_k <= choices, "router.top_k", router.top_k,
               fmt::format("1 to experts ({})", choices));
  check.name("router.logits", router.logits, logits_rules());
  check.expect(router.cosine_width >= 1 && router.cosine_width <= 65536, "router.cosine_width", router.cosine_width,
               "1 to 65536");
  check.expect(std::isfinite(router.temperature) && router.temperature > 0.0F, "router.temperature", router.temperature,
               "a finite number above 0");
  check.expect(is_precision(router.precision), "router.precision", router.precision, precision_names());
  check.expect(router.jitter >= 0.0F && router.jitter < 1.0F, "router.jitter", router.jitter, "0 or more, below 1");
  check.one_of("router.jitter_on", router.jitter_on, {"router", "layer"});
  check.name("router.noise", router.noise, noise_rules());
  check.coefficient("router.noise_std", router.noise_std);
  check.one_of("router.noise_on", router.noise_on, {"scores", "selection"});
  check.name("router.score", router.score, score_functions());
  check.name("router.select", router.select, selection_rules());
  check.expect(router.groups >= 1 && router.groups <= router.experts, "router.groups", router.groups,
               fmt::format("1 to experts ({})", router.experts));
  check.expect(router.groups_kept >= 1 && router.groups_kept <= router.groups, "router.groups_kept", router.groups_kept,
               fmt::format("1 to groups ({})", router.groups));
  check.coefficient("router.threshold", router.threshold);
  check.expect(router.uniform_warmup >= 0, "router.uniform_warmup", router.uniform_warmup, "0 or more steps");
  check.expect(router.expert_dropout >= 0.0F && router.expert_dropout < 1.0F, "router.expert_dropout",
               router.expert_dropout, "0 or more, below 1");
  check.name("router.normalise", router.normalise, weight_rules());
  check.expect(std::isfinite(router.norm_p) && router.norm_p >= 1.0F, "router.norm_p", router.norm_p,
               "a finite number of at least 1");
  check.expect(std::isfinite(router.scale) && router.scale > 0.0F, "router.scale", router.scale,
               "a finite number above 0");
  check.expect(!(router.top_k == 1 && router.normalise == "softmax" && router.select == "top-k"), "router.normalise",
               router.normalise,
               "\"none\" with top_k 1: a softmax over one expert is 1 whatever its logit, so the router would get no "
               "gradient");
  const SelectionRule& rule = find_selection_rule(router.select);
  for (const auto scheme_check : {find_score_function(router.score).check, rule.check}) {
    if (scheme_check == nullptr) continue;
    try {
      scheme_check(router);
    } catch (const Error& error) {
      fail(error.kind(), "{}.{}", where, error.what());
    }
  }

  check.coefficient("capacity.factor", capacity.factor);
  check.coefficient("capacity.evaluation_factor", capacity.evaluation_factor);
  for (const auto& [key, factor] : {std::pair("capacity.factor", capacity.factor),
                                    std::pair("capacity.evaluation_factor", capacity.evaluation_factor)})
    check.expect(!rule.fixed_load || factor == 0.0F, key, factor,
                 fmt::format("0: select \"{}\" gives every expert the same number of tokens already", rule.name));
  check.expect(capacity.minimum >= 0, "capacity.minimum", capacity.minimum, "at least 0");
  check.name("capacity.formula", capacity.formula, capacity_formulas());
  check.one_of("capacity.scope", capacity.scope, {"batch", "sequence"});
  check.name("capacity.drop", capacity.drop, drop_rules());
  check.name("capacity.overflow", capacity.overflow, overflow_rules());
  check.expect(capacity.overflow_scale >= 0.0F && capacity.overflow_scale <= 1.0F, "capacity.overflow_scale",
               capacity.overflow_scale, "0 to 1");
  check.expect(expert.activation.limit > 0.0F, "expert.limit", expert.activation.limit, "a number above 0");
  check.expect(std::isfinite(expert.activation.slope), "expert.slope", expert.activation.slope, "a finite number");
  check.expect(capacity.fallback_expert >= -1 && capacity.fallback_expert < router.experts, "capacity.fallback_expert",
               capacity.fallback_expert, fmt::format("-1 (the shared expert) or 0 to {}", router.experts - 1));
  check.expect(capacity.overflow != "fallback" || capacity.fallback_expert >= 0 || shared.hidden > 0,
               "capacity.overflow", capacity.overflow,
               "capacity.fallback_expert set, or a shared expert (its width is 0)");
  check.expect(
      capacity.overflow != "fallback" || capacity.fallback_expert >= 0 || !capacity.renormalise, "capacity.renormalise",
      capacity.renormalise,
      "false where overflow falls back to the shared expert: the weight of what was dropped goes there and not "
      "to the other experts");

  // Another expert's weight has to come from the same table of scores.
  if (capacity.overflow == "reroute" || (capacity.overflow == "fallback" && capacity.fallback_expert >= 0))
    check.expect(find_selection_rule(router.select).backward == nullptr, "capacity.overflow", capacity.overflow,
                 fmt::format("\"drop\" or \"scale\" with router.select \"{}\", which makes weights in its own way",
                             router.select));

  if (find_selection_rule(router.select).mixes) {
    for (const RouterLoss& loss : router_losses())
      check.expect(balance.*loss.coefficient == 0.0F, fmt::format("balance.{}", loss.name), balance.*loss.coefficient,
                   fmt::format("0 with router.select \"{}\", which chooses no experts to balance", router.select));
    check.expect(!router.dense_gradient && router.expert_dropout == 0.0F, "router.select", router.select,
                 "another rule with router.dense_gradient or router.expert_dropout: this one chooses no experts");
  }
  check.expect(!router.dense_gradient || (router.choices() == router.experts && router.score != "tree"),
               "router.dense_gradient", router.dense_gradient,
               "false with experts that have no matrices and with score \"tree\"");
  check.expect(router.slots >= 1 && router.slots <= 65536, "router.slots", router.slots, "1 to 65536");
  for (const RouterLoss& loss : router_losses())
    check.coefficient(fmt::format("balance.{}", loss.name), balance.*loss.coefficient);
  check.one_of("balance.load_balance_scope", balance.load_balance_scope, {"micro-batch", "sequence", "global-batch"});
  check.one_of("balance.load_balance_counts", balance.load_balance_counts, {"all", "first"});
  check.expect(balance.devices >= 1 && router.experts % balance.devices == 0, "balance.devices", balance.devices,
               fmt::format("a divisor of the experts ({})", router.experts));
  check.expect(balance.load_cv == 0.0F || ((router.noise == "gaussian" || router.noise == "shazeer") &&
                                           router.noise_on == "scores" && router.noise_std > 0.0F),
               "balance.load_cv", balance.load_cv,
               "0 unless the scores have normal noise (router.noise \"shazeer\" or \"gaussian\", router.noise_on "
               "\"scores\"): without it a load has no gradient");
  check.expect(balance.load_cv == 0.0F || logits_of(router) == choices, "balance.load_cv", balance.load_cv,
               fmt::format("0 with router.score \"{}\", whose logits are not one an expert", router.score));
  check.name("balance.bias_update", balance.bias_update, bias_rules());
  check.coefficient("balance.bias_update_rate", balance.bias_update_rate);
  check.expect(balance.bias_update != "quantile" || balance.bias_update_rate <= 1.0F, "balance.bias_update_rate",
               balance.bias_update_rate,
               "at most 1 with balance.bias_update \"quantile\", which it is a mixing share of");
  check.expect(balance.bias_update_rate == 0.0F || router.selection_bias, "balance.bias_update_rate",
               balance.bias_update_rate, "0 without router.selection_bias");
  check.expect(balance.bias_freeze_after >= 0, "balance.bias_freeze_after", balance.bias_freeze_after,
               "0 (never) or a number of steps");

  check.expect(expert.hidden >= 1, "expert.hidden", expert.hidden, "at least 1");
  check.expect(shared.hidden >= 0, "shared.hidden", shared.hidden, "at least 0");
  check.expect(!shared.gated || shared.hidden > 0, "shared.gated", shared.gated,
               "false without a shared expert (shared.hidden is 0)");
}

}  // namespace switchyard::moe
