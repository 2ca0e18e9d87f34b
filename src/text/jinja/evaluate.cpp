// Expressions.

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "loop.hpp"
#include "machine.hpp"
#include "unicode_text.hpp"

namespace switchyard::text::jinja {
namespace {

// A method with its object.
class Method final : public Object {
 public:
  Method(Filter run, Value self) : run_(run), self_(std::move(self)) {}
  std::string type_name() const override { return "method"; }
  bool callable() const override { return true; }
  int nesting() const override { return self_.nesting() + 1; }
  Value call(Machine& machine, Arguments& arguments) override { return run_(machine, self_, arguments); }

 private:
  Filter run_;
  Value self_;
};

Value of_number(std::int64_t value) { return Value(value); }

[[noreturn]] void overflow() { throw Failure("a whole number does not fit 64 bits"); }

[[noreturn]] void no_operator(std::string_view operation, const Value& a, const Value& b) {
  throw Failure(fmt::format("'{}' is not defined between a {} and a {}", operation, type_name(a), type_name(b)));
}

std::int64_t floor_divide(std::int64_t a, std::int64_t b) {
  if (b == -1) {
    std::int64_t result = 0;
    if (__builtin_sub_overflow(std::int64_t{0}, a, &result)) overflow();
    return result;
  }
  const std::int64_t quotient = a / b;
  return quotient - (a % b != 0 && (a < 0) != (b < 0) ? 1 : 0);
}

double float_modulo(double a, double b) {
  const double rest = std::fmod(a, b);
  return rest != 0.0 && (rest < 0.0) != (b < 0.0) ? rest + b : rest;
}

Value integer_arithmetic(char operation, std::int64_t a, std::int64_t b) {
  std::int64_t result = 0;
  bool too_large = false;
  switch (operation) {
    case '+':
      too_large = __builtin_add_overflow(a, b, &result);
      break;
    case '-':
      too_large = __builtin_sub_overflow(a, b, &result);
      break;
    case '*':
      too_large = __builtin_mul_overflow(a, b, &result);
      break;
    case '%':
      result = b == -1 ? 0 : a - b * floor_divide(a, b);
      break;
    default:
      result = floor_divide(a, b);
      break;
  }
  if (too_large) overflow();
  return of_number(result);
}

// The bounds of x[begin:end:step] for a sequence of `length` items, as Python adjusts them.
struct Slice {
  std::int64_t begin, end, step;
};
Slice slice_of(const Value& begin, const Value& end, const Value& step, std::int64_t length) {
  Slice slice{};
  slice.step = step.is_none() ? 1 : to_integer(step, "the step of a slice");
  if (slice.step == 0) throw Failure("the step of a slice is 0");
  const bool forward = slice.step > 0;
  const std::int64_t lowest = forward ? 0 : -1, highest = forward ? length : length - 1;
  const auto adjust = [&](const Value& value, std::int64_t otherwise) {
    if (value.is_none()) return otherwise;
    const std::int64_t index = to_integer(value, "the bound of a slice");
    return std::clamp(index < 0 ? (index < -length ? std::int64_t{-1} : index + length) : index, lowest, highest);
  };
  slice.begin = adjust(begin, forward ? lowest : highest);
  slice.end = adjust(end, forward ? highest : lowest);
  // A step beyond the length is as good as the length.
  slice.step = std::clamp(slice.step, -length - 1, length + 1);
  return slice;
}

}  // namespace

Value Machine::evaluate(const Expression& expression, const ScopePointer& scope) {
  const Level level(budget_);
  budget_.step();
  const int line = std::exchange(line_, expression.line);
  Value value = evaluate_node(expression, scope);
  line_ = line;
  return value;
}

Value Machine::evaluate_node(const Expression& e, const ScopePointer& scope) {
  using Kind = Expression::Kind;
  const auto part = [&](std::size_t i) { return evaluate(*e.parts[i], scope); };
  switch (e.kind) {
    case Kind::kConstant:
      return e.constant;
    case Kind::kName:
      return evaluate_name(e, scope);
    case Kind::kNamespaceAttribute:
      return attribute(evaluate_name(e, scope), e.text);
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kDict:
      return evaluate_container(e, scope);
    case Kind::kAttribute:
      return attribute(part(0), e.text);
    case Kind::kItem: {
      const Value object = part(0);
      return item(object, part(1));
    }
    case Kind::kSlice:
      return evaluate_slice(e, scope);
    case Kind::kCall:
      return evaluate_call(e, scope);
    case Kind::kFilter:
      return evaluate_filter(e, part(0), scope);
    case Kind::kTest: {
      const Value value = part(0);
      Arguments arguments = evaluate_arguments(e.call, scope);
      line_ = e.line;
      return Value(test(e.text, value, arguments));
    }
    case Kind::kNot:
      return Value(!truth(part(0)));
    case Kind::kNegative: {
      const Value value = part(0);
      require_defined(value);
      if (!value.is_number()) throw Failure(fmt::format("'-' is not defined for a {}", type_name(value)));
      return value.is_integer() ? integer_arithmetic('-', 0, value.integer()) : Value(-value.number());
    }
    case Kind::kPositive: {
      Value value = part(0);
      require_defined(value);
      if (!value.is_number()) throw Failure(fmt::format("'+' is not defined for a {}", type_name(value)));
      return value.is_integer() ? Value(value.integer()) : value;
    }
    case Kind::kAnd: {
      Value left = part(0);
      return truth(left) ? part(1) : left;
    }
    case Kind::kOr: {
      Value left = part(0);
      return truth(left) ? left : part(1);
    }
    case Kind::kArithmetic: {
      const Value left = part(0), right = part(1);
      line_ = e.line;
      return arithmetic(e.text, left, right);
    }
    case Kind::kConcatenation: {
      MarkedText text;
      for (std::size_t i = 0; i < e.parts.size(); ++i) {
        const Value value = part(i);
        text.append(this->text(value));
        budget_.work_on(text.size());
        budget_.need(text.memory());
      }
      return string(std::move(text));
    }
    case Kind::kComparison:
      return evaluate_comparison(e, scope);
    case Kind::kConditional:
      if (truth(part(0))) return part(1);
      return e.parts[2] ? part(2) : undefined("the condition is false and there is no else");
  }
  return {};
}

Value Machine::evaluate_name(const Expression& e, const ScopePointer& scope) {
  if (const Value* found = scope->find(e.symbol)) return *found;
  const std::string& name = syntax_.names[static_cast<std::size_t>(e.symbol)];
  return find_global(*this, name);
}

Value Machine::evaluate_container(const Expression& e, const ScopePointer& scope) {
  if (e.kind == Expression::Kind::kDict) {
    const auto result = dict();
    for (std::size_t i = 0; i + 1 < e.parts.size(); i += 2) {
      const Value key = evaluate(*e.parts[i], scope);
      result->set(key, evaluate(*e.parts[i + 1], scope));
    }
    return Value(std::shared_ptr<const Dict>(result));
  }
  std::vector<Value> items;
  items.reserve(e.parts.size());
  for (const auto& one : e.parts) items.push_back(evaluate(*one, scope));
  return list(std::move(items), e.kind == Expression::Kind::kTuple ? List::Kind::kTuple : List::Kind::kList);
}

Value Machine::evaluate_slice(const Expression& e, const ScopePointer& scope) {
  const Value object = evaluate(*e.parts[0], scope);
  Value bounds[3] = {Value(None{}), Value(None{}), Value(None{})};
  for (std::size_t i = 0; i < 3; ++i) {
    if (e.parts[i + 1]) bounds[i] = evaluate(*e.parts[i + 1], scope);
  }
  return slice(object, bounds[0], bounds[1], bounds[2]);
}

Value Machine::evaluate_comparison(const Expression& e, const ScopePointer& scope) {
  Value left = evaluate(*e.parts[0], scope);
  for (std::size_t i = 0; i < e.operators.size(); ++i) {
    Value right = evaluate(*e.parts[i + 1], scope);
    line_ = e.line;
    const std::string& operation = e.operators[i];
    bool holds = false;
    if (operation == "==") {
      holds = equal(left, right, budget_);
    } else if (operation == "!=") {
      holds = !equal(left, right, budget_);
    } else if (operation == "in") {
      holds = contains(right, left);
    } else if (operation == "not in") {
      holds = !contains(right, left);
    } else if (operation == "<") {
      holds = less(left, right, budget_);
    } else if (operation == ">") {
      holds = less(right, left, budget_);
    } else if (operation == "<=") {
      holds = less(left, right, budget_) || equal(left, right, budget_);
    } else {
      holds = less(right, left, budget_) || equal(left, right, budget_);
    }
    if (!holds) return Value(false);
    left = std::move(right);
  }
  return Value(true);
}

Arguments Machine::evaluate_arguments(const CallSyntax& syntax, const ScopePointer& scope) {
  Arguments arguments;
  for (const auto& one : syntax.positional) arguments.positional.push_back(evaluate(*one, scope));
  if (syntax.rest) {
    const auto more = iterate(evaluate(*syntax.rest, scope));
    budget_.step(more->items.size());
    arguments.positional.insert(arguments.positional.end(), more->items.begin(), more->items.end());
  }
  for (const auto& [name, value] : syntax.named) arguments.named.emplace_back(name, evaluate(*value, scope));
  if (syntax.named_rest) {
    const Value more = evaluate(*syntax.named_rest, scope);
    if (!more.is_dict()) throw Failure(fmt::format("found a {} behind **, expected a dict", type_name(more)));
    budget_.step(more.dict().items.size());
    for (const auto& [key, value] : more.dict().items) {
      arguments.named.emplace_back(to_string(key, "the name of an argument").bytes(), value);
    }
  }
  return arguments;
}

Value Machine::evaluate_call(const Expression& e, const ScopePointer& scope) {
  const Expression& function = *e.parts[0];
  if (function.kind == Expression::Kind::kAttribute) {
    // A method is run without making an object of it first.
    const Value self = evaluate(*function.parts[0], scope);
    if (Filter method = find_method(self, function.text)) {
      Arguments arguments = evaluate_arguments(e.call, scope);
      line_ = e.line;
      return method(*this, self, arguments);
    }
    auto* loop = self.is_object() ? dynamic_cast<Loop*>(&self.object()) : nullptr;
    if (loop != nullptr && (function.text == "cycle" || function.text == "changed")) {
      Arguments arguments = evaluate_arguments(e.call, scope);
      return loop->method(*this, function.text, arguments);
    }
    const Value found = attribute(self, function.text);
    Arguments arguments = evaluate_arguments(e.call, scope);
    line_ = e.line;
    return call(found, arguments);
  }
  const Value callee = evaluate(function, scope);
  Arguments arguments = evaluate_arguments(e.call, scope);
  line_ = e.line;
  return call(callee, arguments);
}

Value Machine::call(const Value& function, Arguments& arguments) {
  require_defined(function);
  if (!function.is_object() || !function.object().callable()) {
    throw Failure(fmt::format("a {} cannot be called", type_name(function)));
  }
  const Level level(budget_);
  budget_.step(1 + arguments.positional.size());
  const auto keep_alive = function.object_pointer();
  return keep_alive->call(*this, arguments);
}

Value Machine::evaluate_filter(const Expression& e, const Value& input, const ScopePointer& scope) {
  Arguments arguments = evaluate_arguments(e.call, scope);
  line_ = e.line;
  return filter(e.text, input, arguments);
}

Value Machine::evaluate_filters(const Expression* e, const Value& input, const ScopePointer& scope) {
  if (e == nullptr) return input;
  const Level level(budget_);
  return evaluate_filter(*e, evaluate_filters(e->parts[0].get(), input, scope), scope);
}

Value Machine::filter(const std::string& name, const Value& input, Arguments& arguments) {
  const Level level(budget_);
  budget_.step();
  const Filter found = find_filter(name);
  if (found == nullptr) throw Failure(fmt::format("there is no filter '{}'", name));
  return found(*this, input, arguments);
}

bool Machine::test(const std::string& name, const Value& input, Arguments& arguments) {
  const Level level(budget_);
  budget_.step();
  const Test found = find_test(name);
  if (found == nullptr) throw Failure(fmt::format("there is no test '{}'", name));
  return found(*this, input, arguments);
}

Value Machine::attribute(const Value& object, const std::string& name) {
  require_defined(object);
  if (const Filter method = find_method(object, name)) {
    return Value(std::shared_ptr<Object>(std::make_shared<Method>(method, object)));
  }
  if (object.is_object()) {
    Value found = object.object().attribute(*this, name);
    if (!found.is_undefined() || !found.reason().empty()) return found;
  }
  if (object.is_dict()) {
    if (const Value* found = object.dict().find(name)) return *found;
  }
  if (name[0] == '_' && !object.is_dict()) {
    return undefined(fmt::format("access to attribute '{}' of '{}' object is unsafe", name, type_name(object)));
  }
  return undefined(fmt::format("'{}' has no attribute '{}'", described(object), name));
}

Value Machine::item(const Value& object, const Value& key) {
  require_defined(object);
  if (object.is_dict()) {
    if (const Value* found = object.dict().find(key)) return *found;
  }
  if (key.is_string()) return attribute(object, key.text().bytes());
  if (key.is_integer()) {
    std::int64_t index = key.integer();
    if (object.is_string()) {
      const String& text = object.string();
      const auto length = static_cast<std::int64_t>(text.length());
      if (index < 0) index += length;
      if (index >= 0 && index < length) {
        budget_.work_on(text.ascii() ? 1 : text.text.size());
        const auto at = static_cast<std::size_t>(index);
        const std::size_t begin = text.ascii() ? at : byte_of_character(text.text.view(), at);
        return string(text.text.part(begin, next_character(text.text.view(), begin)));
      }
    }
    using Kind = List::Kind;
    if (object.is_list() && (object.list().kind == Kind::kList || object.list().kind == Kind::kTuple ||
                             object.list().kind == Kind::kRange)) {
      const auto& items = object.list().items;
      const auto length = static_cast<std::int64_t>(items.size());
      if (index < 0) index += length;
      if (index >= 0 && index < length) return items[static_cast<std::size_t>(index)];
    }
  }
  return undefined(fmt::format("'{}' has no element {}", described(object), text(key).bytes()));
}

Value Machine::slice(const Value& object, const Value& begin, const Value& end, const Value& step) {
  require_defined(object);
  using Kind = List::Kind;
  if (object.is_list() && object.list().kind <= Kind::kRange && object.list().kind != Kind::kGenerator) {
    const auto& items = object.list().items;
    const Slice s = slice_of(begin, end, step, static_cast<std::int64_t>(items.size()));
    std::vector<Value> chosen;
    for (std::int64_t i = s.begin; s.step > 0 ? i < s.end : i > s.end; i += s.step) {
      chosen.push_back(items[static_cast<std::size_t>(i)]);
    }
    return list(std::move(chosen), object.list().kind);
  }
  if (object.is_string()) {
    const String& text = object.string();
    budget_.work_on(text.text.size());
    const Slice s = slice_of(begin, end, step, static_cast<std::int64_t>(text.length()));
    if (s.step == 1) {
      if (s.begin >= s.end) return string(std::string());
      const auto first = static_cast<std::size_t>(s.begin), last = static_cast<std::size_t>(s.end);
      if (text.ascii()) return string(text.text.part(first, last));
      const std::size_t from = byte_of_character(text.text.view(), first);
      const std::size_t count = byte_of_character(text.text.view().substr(from), last - first);
      return string(text.text.part(from, from + count));
    }
    std::vector<std::size_t> starts;
    for (std::size_t i = 0; i < text.text.size(); i = next_character(text.text.view(), i)) starts.push_back(i);
    MarkedText chosen;
    for (std::int64_t i = s.begin; s.step > 0 ? i < s.end : i > s.end; i += s.step) {
      const std::size_t at = starts[static_cast<std::size_t>(i)];
      chosen.append(text.text, at, next_character(text.text.view(), at));
    }
    return string(std::move(chosen));
  }
  throw Failure(fmt::format("a {} has no slices", type_name(object)));
}

Value Machine::repeated(const Value& value, std::int64_t times) {
  const auto count = static_cast<std::size_t>(std::max<std::int64_t>(0, times));
  const std::size_t size = value.is_string() ? value.text().memory() : value.list().items.size() * sizeof(Value);
  std::size_t bytes = 0;
  if (__builtin_mul_overflow(size, count, &bytes)) bytes = static_cast<std::size_t>(-1);
  budget_.need(bytes);
  budget_.work_on(bytes);
  if (value.is_string()) {
    MarkedText text;
    if (size > 0) {
      for (std::size_t i = 0; i < count && !value.text().empty(); ++i) text.append(value.text());
    }
    return string(std::move(text));
  }
  std::vector<Value> items;
  const auto& once = value.list().items;
  for (std::size_t i = 0; i < count && !once.empty(); ++i) items.insert(items.end(), once.begin(), once.end());
  return list(std::move(items), value.list().kind);
}

Value Machine::power(const Value& a, const Value& b) {
  if (a.is_integer() && b.is_integer() && b.integer() >= 0) {
    std::int64_t result = 1, base = a.integer();
    for (std::int64_t exponent = b.integer(); exponent > 0; exponent >>= 1) {
      if ((exponent & 1) != 0 && __builtin_mul_overflow(result, base, &result)) overflow();
      if (exponent > 1 && __builtin_mul_overflow(base, base, &base)) overflow();
    }
    return Value(result);
  }
  const double base = a.number(), exponent = b.number();
  if (base == 0.0 && exponent < 0.0) throw Failure("0 to a negative power");
  if (base < 0.0 && exponent != std::floor(exponent)) throw Failure("a negative number to a power that is not whole");
  return Value(std::pow(base, exponent));
}

Value Machine::arithmetic(std::string_view operation, const Value& a, const Value& b) {
  const bool format = operation == "%" && a.is_string();
  require_defined(a);
  if (!format) require_defined(b);
  if (format) {
    MarkedText text = printf_text(*this, a.text(), b);
    return string(std::move(text));
  }
  if (a.is_number() && b.is_number()) {
    if (operation == "**") return power(a, b);
    const bool divides = operation == "/" || operation == "//" || operation == "%";
    if (divides && b.number() == 0.0) throw Failure("division by zero");
    if (operation == "/") return Value(a.number() / b.number());
    if (a.is_integer() && b.is_integer()) {
      return integer_arithmetic(operation == "//" ? '/' : operation[0], a.integer(), b.integer());
    }
    const double x = a.number(), y = b.number();
    if (operation == "+") return Value(x + y);
    if (operation == "-") return Value(x - y);
    if (operation == "*") return Value(x * y);
    if (operation == "%") return Value(float_modulo(x, y));
    return Value(std::floor(x / y));
  }
  using Kind = List::Kind;
  const auto is_sequence = [](const Value& value) {
    return value.is_list() && (value.list().kind == Kind::kList || value.list().kind == Kind::kTuple);
  };
  if (operation == "*") {
    if ((a.is_string() || is_sequence(a)) && b.is_integer()) return repeated(a, b.integer());
    if ((b.is_string() || is_sequence(b)) && a.is_integer()) return repeated(b, a.integer());
  }
  if (operation == "+") {
    if (a.is_string() && b.is_string()) {
      const bool left = a.string().markup, right = b.string().markup;
      budget_.need(a.text().memory() + b.text().memory());
      MarkedText text = right && !left ? escaped_html(a.text()) : a.text();
      text.append(left && !right ? escaped_html(b.text()) : b.text());
      return string(std::move(text), left || right);
    }
    if (is_sequence(a) && is_sequence(b) && a.list().kind == b.list().kind) {
      budget_.need((a.list().items.size() + b.list().items.size()) * sizeof(Value));
      std::vector<Value> items = a.list().items;
      items.insert(items.end(), b.list().items.begin(), b.list().items.end());
      return list(std::move(items), a.list().kind);
    }
  }
  no_operator(operation, a, b);
}

bool Machine::contains(const Value& container, const Value& item) {
  if (container.is_dict()) return container.dict().find(item) != nullptr;
  if (container.is_string()) {
    require_defined(item);
    if (!item.is_string()) throw Failure(fmt::format("found a {} left of 'in', expected a string", type_name(item)));
    budget_.search(container.text().size(), item.text().size());
    return Searcher(item.view()).find(container.view()) != std::string_view::npos;
  }
  const auto items = iterate(container);
  return std::any_of(items->items.begin(), items->items.end(),
                     [&](const Value& one) { return equal(one, item, budget_); });
}

std::shared_ptr<List> Machine::iterate(const Value& value) {
  if (value.is_list()) return value.list_pointer();
  std::vector<Value> items;
  if (value.is_dict()) {
    for (const auto& [key, item] : value.dict().items) items.push_back(key);
  } else if (value.is_string()) {
    const MarkedText& text = value.text();
    for (std::size_t i = 0; i < text.size();) {
      const std::size_t end = next_character(text.view(), i);
      items.push_back(string(text.part(i, end)));
      i = end;
    }
  } else if (!value.is_undefined()) {
    throw Failure(fmt::format("a {} has no items to go through", type_name(value)));
  }
  return list(std::move(items)).list_pointer();
}

}  // namespace switchyard::text::jinja
