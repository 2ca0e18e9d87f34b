// Functions that every template knows.

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "machine.hpp"

namespace switchyard::text::jinja {
namespace {

class Native final : public Object {
 public:
  Native(std::string_view name, Function run) : name_(name), run_(run) {}
  std::string type_name() const override { return fmt::format("function {}", name_); }
  bool callable() const override { return true; }
  Value call(Machine& machine, Arguments& arguments) override { return run_(machine, arguments); }

 private:
  std::string_view name_;
  Function run_;
};

class Namespace final : public Object {
 public:
  explicit Namespace(std::shared_ptr<Dict> attributes) : attributes_(std::move(attributes)) {}
  std::string type_name() const override { return "Namespace"; }
  Value attribute(Machine&, std::string_view name) override {
    const Value* found = attributes_->find(name);
    return found != nullptr ? *found
                            : Machine::undefined(fmt::format("'Namespace object' has no attribute '{}'", name));
  }
  bool set_attribute(Machine& machine, const std::string& name, Value value) override {
    if (name[0] == '_') throw Failure(fmt::format("the attribute '{}' of a namespace begins with '_'", name));
    attributes_->set(machine.string(name), std::move(value));
    return true;
  }
  int nesting() const override { return attributes_->nesting; }
  void forget() override { attributes_->items.clear(); }

 private:
  std::shared_ptr<Dict> attributes_;
};

// Nothing when it is called first, then the separator.
class Joiner final : public Object {
 public:
  explicit Joiner(Value separator) : separator_(std::move(separator)) {}
  std::string type_name() const override { return "Joiner"; }
  bool callable() const override { return true; }
  Value call(Machine& machine, Arguments& arguments) override {
    bind(arguments, "joiner", {});
    if (std::exchange(used_, true)) return separator_;
    return machine.string(std::string());
  }

 private:
  Value separator_;
  bool used_ = false;
};

class Cycler final : public Object {
 public:
  explicit Cycler(std::shared_ptr<List> items) : items_(std::move(items)) {}
  std::string type_name() const override { return "Cycler"; }
  int nesting() const override { return items_->nesting + 1; }
  Value attribute(Machine& machine, std::string_view name) override;
  const Value& current() const { return items_->items[at_]; }
  void advance() { at_ = (at_ + 1) % items_->items.size(); }
  void reset() { at_ = 0; }

 private:
  std::shared_ptr<List> items_;
  std::size_t at_ = 0;
};

class CyclerMethod final : public Object {
 public:
  CyclerMethod(Cycler* cycler, bool advances) : cycler_(cycler), advances_(advances) {}
  std::string type_name() const override { return "method"; }
  bool callable() const override { return true; }
  int nesting() const override { return cycler_->nesting(); }
  Value call(Machine&, Arguments& arguments) override {
    bind(arguments, "cycler", {});
    if (!advances_) {
      cycler_->reset();
      return Value(None{});
    }
    Value value = cycler_->current();
    cycler_->advance();
    return value;
  }

 private:
  Cycler* cycler_;  // kept by the machine
  bool advances_;
};

Value Cycler::attribute(Machine& machine, std::string_view name) {
  if (name == "current") return current();
  if (name == "next" || name == "reset") {
    return Value(std::shared_ptr<Object>(std::make_shared<CyclerMethod>(this, name == "next")));
  }
  return machine.undefined(fmt::format("'Cycler object' has no attribute '{}'", name));
}

Value range_function(Machine& machine, Arguments& arguments) {
  // What the sandbox of Jinja allows too.
  constexpr std::int64_t kLongest = 100'000;
  const auto given = bind(arguments, "range", {"start", "stop", "step"}, 1);
  std::int64_t begin = 0, end = to_integer(*given[0], "the bound of a range");
  if (given[1] != nullptr) begin = std::exchange(end, to_integer(*given[1], "the bound of a range"));
  const std::int64_t step = given[2] == nullptr ? 1 : to_integer(*given[2], "the step of a range");
  if (step == 0) throw Failure("the step of a range is 0");
  std::vector<Value> items;
  for (std::int64_t i = begin; step > 0 ? i < end : i > end;) {
    if (static_cast<std::int64_t>(items.size()) == kLongest) {
      throw Failure(fmt::format("a range of more than {} numbers", kLongest));
    }
    items.push_back(Value(i));
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  return machine.list(std::move(items), List::Kind::kRange);
}

std::shared_ptr<Dict> dict_of(Machine& machine, const Arguments& arguments) {
  const auto dict = machine.dict();
  if (arguments.positional.size() > 1) throw Failure("dict got more than one positional argument");
  if (!arguments.positional.empty()) {
    const Value& source = arguments.positional[0];
    if (source.is_dict()) {
      machine.budget().step(source.dict().items.size());
      for (const auto& [key, value] : source.dict().items) dict->set(key, value);
    } else {
      const auto pairs = machine.iterate(source);
      for (const Value& pair : pairs->items) {
        const auto parts = machine.iterate(pair);
        if (parts->items.size() != 2) throw Failure("dict: expected pairs of a key and a value");
        dict->set(parts->items[0], parts->items[1]);
      }
    }
  }
  for (const auto& [name, value] : arguments.named) dict->set(machine.string(name), value);
  return dict;
}

Value dict_function(Machine& machine, Arguments& arguments) {
  return Value(std::shared_ptr<const Dict>(dict_of(machine, arguments)));
}

Value namespace_function(Machine& machine, Arguments& arguments) {
  const auto attributes = dict_of(machine, arguments);
  for (const auto& [key, value] : attributes->items) {
    if (!key.is_string() || key.view().substr(0, 1) == "_")
      throw Failure("an attribute of a namespace begins with '_'");
  }
  const auto space = std::make_shared<Namespace>(attributes);
  machine.keep(std::shared_ptr<Object>(space));
  return Value(std::shared_ptr<Object>(space));
}

Value joiner_function(Machine& machine, Arguments& arguments) {
  const auto given = bind(arguments, "joiner", {"sep"});
  const Value separator = given[0] == nullptr ? machine.string(std::string(", ")) : *given[0];
  if (separator.nesting() > 0) throw Failure("joiner: expected a string");
  return Value(std::shared_ptr<Object>(std::make_shared<Joiner>(separator)));
}

Value cycler_function(Machine& machine, Arguments& arguments) {
  if (arguments.positional.empty()) throw Failure("cycler: at least one item is needed");
  const auto cycler = std::make_shared<Cycler>(machine.list(arguments.positional).list_pointer());
  machine.keep(std::shared_ptr<Object>(cycler));
  return Value(std::shared_ptr<Object>(cycler));
}

Value raise_function(Machine& machine, Arguments& arguments) {
  const auto given = bind(arguments, "raise_exception", {"message"}, 1);
  throw Failure(machine.text(*given[0]).bytes());
}

Value strftime_function(Machine& machine, Arguments& arguments) {
  const auto given = bind(arguments, "strftime_now", {"format"}, 1);
  const std::string& format = to_string(*given[0], "the format of a date").bytes();
  constexpr std::string_view kKinds = "aAbBcCdDeFgGhHIjklmMnpPrRsStTuUVwWxXyYzZ%";
  std::string result;
  for (std::size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%') {
      result += format[i];
      continue;
    }
    std::string one = "%";
    if (i + 1 < format.size() && std::string_view("-_0^#").find(format[i + 1]) != std::string_view::npos)
      one += format[++i];
    if (++i == format.size() || kKinds.find(format[i]) == std::string_view::npos) {
      throw Failure("strftime_now: the format has a % that means nothing");
    }
    one += format[i];
    char buffer[256];
    const std::size_t length = std::strftime(buffer, sizeof(buffer), one.c_str(), &machine.now());
    result.append(buffer, length);
  }
  return machine.string(std::move(result));
}

struct Row {
  std::string_view name;
  Function run;
};
constexpr std::array kFunctions = {
    Row{"cycler", cycler_function},         Row{"dict", dict_function},
    Row{"joiner", joiner_function},         Row{"namespace", namespace_function},
    Row{"raise_exception", raise_function}, Row{"range", range_function},
    Row{"strftime_now", strftime_function},
};

}  // namespace

Value find_global(Machine& machine, std::string_view name) {
  for (const Row& row : kFunctions) {
    if (row.name == name) return Value(std::shared_ptr<Object>(std::make_shared<Native>(row.name, row.run)));
  }
  return machine.undefined(fmt::format("'{}' is undefined", name));
}

}  // namespace switchyard::text::jinja
