#include "switchyard/moe/config.hpp"

#include <cmath>
#include <string_view>

#include "named_table.hpp"
#include "switchyard/moe/capacity.hpp"
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
  check.expect(router.top_k >= 1 && router.top_k <= router.experts, "router.top_k", router.top_k,
               fmt::format("1 to experts ({})", router.experts));
  check.name("router.score", router.score, score_functions());
  check.name("router.select", router.select, selection_rules());
  check.name("router.normalise", router.normalise, weight_rules());
  check.expect(std::isfinite(router.scale) && router.scale > 0.0F, "router.scale", router.scale,
               "a finite number above 0");

  check.coefficient("capacity.factor", capacity.factor);
  check.expect(capacity.minimum >= 0, "capacity.minimum", capacity.minimum, "at least 0");
  check.name("capacity.drop", capacity.drop, drop_rules());

  check.coefficient("balance.load_balance", balance.load_balance);
  check.coefficient("balance.z_loss", balance.z_loss);
  check.coefficient("balance.bias_update_rate", balance.bias_update_rate);
  check.expect(balance.bias_update_rate == 0.0F || router.selection_bias, "balance.bias_update_rate",
               balance.bias_update_rate, "0 without router.selection_bias");

  check.expect(expert.hidden >= 1, "expert.hidden", expert.hidden, "at least 1");
  check.expect(shared.hidden >= 0, "shared.hidden", shared.hidden, "at least 0");
  check.expect(!shared.gated || shared.hidden > 0, "shared.gated", shared.gated,
               "false without a shared expert (shared.hidden is 0)");
}

}  // namespace switchyard::moe
