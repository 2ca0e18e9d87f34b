#include "tensor_names.hpp"

#include <string_view>

#include "switchyard/base/error.hpp"

namespace switchyard::model {
namespace {

std::string fill_in(std::string_view pattern, std::string_view placeholder, Index value) {
  std::string name(pattern);
  const std::size_t at = name.find(placeholder);
  if (at != std::string::npos) name.replace(at, placeholder.size(), std::to_string(value));
  return name;
}

// Whether `name` is `pattern` with the layer in place of {i}.
bool matches(std::string_view pattern, const ParameterRow& parameter) {
  return parameter.name == fill_in(pattern, "{i}", parameter.layer);
}

}  // namespace

std::vector<TensorRule> rules_for(const Family& family, const ParameterRow& parameter) {
  if (family.tensors.empty()) return {{parameter.name, parameter.name, Layout::kSame}};
  std::vector<TensorRule> rules;
  for (const TensorRule& rule : family.tensors) {
    if (matches(rule.native, parameter)) rules.push_back(rule);
  }
  require(!rules.empty(), "family {} has no name for {}", family.model_type, parameter.name);
  return rules;
}

void for_each_run(const TensorRule& rule, const ParameterRow& parameter,
                  const std::function<void(const TensorRun&)>& f) {
  const std::string name = fill_in(rule.published, "{i}", parameter.layer);
  const Shape& shape = parameter.shape;
  switch (rule.layout) {
    case Layout::kSame:
      f({name, shape, 0, 0, shape.numel()});
      return;
    case Layout::kRow:
      f({name, Shape{1, shape.numel()}, 0, 0, shape.numel()});
      return;
    case Layout::kPerExpert: {
      const Shape expert_shape(shape.dims().subspan(1));
      const Index count = expert_shape.numel();
      for (Index e = 0; e < shape[0]; ++e) f({fill_in(name, "{e}", e), expert_shape, 0, e * count, count});
      return;
    }
    case Layout::kFirstRows:
    case Layout::kLastRows: {
      const Shape fused{shape[0], 2 * shape[1], shape[2]};
      const Index count = shape[1] * shape[2];
      const Index skip = rule.layout == Layout::kLastRows ? count : 0;
      for (Index e = 0; e < shape[0]; ++e) f({name, fused, 2 * e * count + skip, e * count, count});
      return;
    }
  }
}

std::string first_file_tensor(const TensorRule& rule, const ParameterRow& parameter) {
  return fill_in(fill_in(rule.published, "{i}", parameter.layer), "{e}", 0);
}

}  // namespace switchyard::model
