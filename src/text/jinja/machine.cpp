#include "machine.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "loop.hpp"

namespace switchyard::text::jinja {

class Macro final : public Object {
 public:
  Macro(const Statement& statement, std::string name, const std::shared_ptr<Scope>& scope)
      : statement_(&statement), name_(std::move(name)), scope_(scope) {}
  std::string type_name() const override { return "Macro"; }
  bool callable() const override { return true; }
  Value attribute(Machine& machine, std::string_view name) override {
    if (name == "name") return machine.string(name_);
    return machine.undefined(fmt::format("'Macro object' has no attribute '{}'", name));
  }
  Value call(Machine& machine, Arguments& arguments) override {
    const auto scope = scope_.lock();
    if (!scope) throw Failure(fmt::format("the macro '{}' is called outside of the block that defines it", name_));
    return machine.call_macro(*statement_, scope, name_, arguments);
  }

 private:
  const Statement* statement_;
  std::string name_;
  std::weak_ptr<Scope> scope_;  // which holds the macro
};

const Value* Scope::find(int symbol) const {
  for (const Scope* scope = this; scope != nullptr; scope = scope->parent.get()) {
    for (const auto& [known, value] : scope->variables) {
      if (known == symbol) return &value;
    }
  }
  return nullptr;
}

void Scope::set(int symbol, Value value) {
  for (auto& [known, old] : variables) {
    if (known != symbol) continue;
    old = std::move(value);
    return;
  }
  variables.emplace_back(symbol, std::move(value));
}

Machine::Machine(const Syntax& syntax, const Limits& limits, std::tm now)
    : syntax_(syntax),
      budget_(limits),
      now_(now),
      loop_symbol_(syntax.symbol("loop")),
      caller_symbol_(syntax.symbol("caller")),
      varargs_symbol_(syntax.symbol("varargs")),
      kwargs_symbol_(syntax.symbol("kwargs")) {}

Machine::~Machine() {
  for (const auto& object : kept_objects_) object->forget();
  for (const auto& list : kept_lists_) list->items.clear();
}

MarkedText Machine::run(const std::vector<std::pair<std::string, Value>>& inputs) {
  const auto scope = std::make_shared<Scope>(nullptr);
  for (const auto& [name, value] : inputs) {
    if (const int symbol = syntax_.symbol(name); symbol >= 0) scope->set(symbol, value);
  }
  try {
    return captured(syntax_.body, std::make_shared<Scope>(scope));
  } catch (const Failure& failure) {
    throw Failure(failure.what(), failure.line() > 0 ? failure.line() : line_);
  }
}

Value Machine::string(MarkedText text, bool markup) {
  budget_.work_on(text.size());
  return Value(std::make_shared<const String>(std::move(text), markup, &budget_));
}

Value Machine::list(std::vector<Value> items, List::Kind kind) {
  budget_.step(1 + items.size() / 8);
  return Value(std::make_shared<List>(std::move(items), kind, &budget_));
}

// ---- statements

Machine::Flow Machine::execute(const Block& block, const ScopePointer& scope) {
  for (const Statement& statement : block) {
    const Flow flow = execute(statement, scope);
    if (flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

void Machine::print(const MarkedText& text) {
  budget_.work_on(text.size());
  budget_.charge(text.size());  // released by whoever captures the output
  out_->append(text);
}

void Machine::print(const Value& value) {
  if (value.is_string()) {
    print(value.text());
  } else {
    print(text(value));
  }
}

MarkedText Machine::captured(const Block& block, const ScopePointer& scope) {
  MarkedText text;
  MarkedText* const outer = std::exchange(out_, &text);
  try {
    execute(block, scope);
  } catch (...) {
    out_ = outer;
    throw;
  }
  out_ = outer;
  budget_.release(text.size());
  return text;
}

Machine::Flow Machine::execute(const Statement& statement, const ScopePointer& scope) {
  const Level level(budget_);
  budget_.step();
  line_ = statement.line;
  using Kind = Statement::Kind;
  switch (statement.kind) {
    case Kind::kText:
      print(statement.text.text());
      break;
    case Kind::kPrint:
      print(evaluate(*statement.expression, scope));
      break;
    case Kind::kIf:
      for (const auto& [condition, body] : statement.branches) {
        if (!condition || truth(evaluate(*condition, scope))) return execute(body, scope);
      }
      break;
    case Kind::kFor:
      return execute_for(statement, scope);
    case Kind::kSet:
      assign(*statement.target, evaluate(*statement.expression, scope), scope);
      break;
    case Kind::kSetBlock: {
      const Value value = string(captured(statement.body, std::make_shared<Scope>(scope)));
      assign(*statement.target, evaluate_filters(statement.expression.get(), value, scope), scope);
      break;
    }
    case Kind::kMacro:
      scope->set(statement.symbol,
                 Value(std::shared_ptr<Object>(std::make_shared<Macro>(statement, statement.name, scope))));
      break;
    case Kind::kCall:
      execute_call(statement, scope);
      break;
    case Kind::kFilter:
      print(evaluate_filters(statement.expression.get(),
                             string(captured(statement.body, std::make_shared<Scope>(scope))), scope));
      break;
    case Kind::kWith: {
      const auto inner = std::make_shared<Scope>(scope);
      for (const Parameter& parameter : statement.parameters) {
        inner->set(parameter.symbol, evaluate(*parameter.value, scope));
      }
      return execute(statement.body, inner);
    }
    case Kind::kScope:
      return execute(statement.body, std::make_shared<Scope>(scope));
    case Kind::kBreak:
      return Flow::kBreak;
    case Kind::kContinue:
      return Flow::kContinue;
  }
  return Flow::kNext;
}

Machine::Flow Machine::execute_for(const Statement& statement, const ScopePointer& scope) {
  const Value values = evaluate(*statement.expression, scope);
  const auto loop = std::make_shared<Loop>(*this, statement, scope, iterate(values));
  bool entered = false;
  for (std::size_t index = 0; loop->has(index); ++index) {
    entered = true;
    budget_.step();
    loop->set_index(index);
    const auto inner = std::make_shared<Scope>(scope);
    if (loop_symbol_ >= 0) inner->set(loop_symbol_, Value(std::shared_ptr<Object>(loop)));
    assign(*statement.target, loop->at(index), inner);
    if (execute(statement.body, inner) == Flow::kBreak) break;
  }
  loop->forget();
  if (!entered) return execute(statement.otherwise, std::make_shared<Scope>(scope));
  return Flow::kNext;
}

void Machine::assign(const Expression& target, const Value& value, const ScopePointer& scope) {
  if (target.kind == Expression::Kind::kName) {
    scope->set(target.symbol, value);
    return;
  }
  if (target.kind == Expression::Kind::kNamespaceAttribute) {
    const Value* space = scope->find(target.symbol);
    if (space == nullptr || !space->is_object() || !space->object().set_attribute(*this, target.text, value)) {
      throw Failure(fmt::format("cannot set the attribute '{}' of what is no namespace", target.text), target.line);
    }
    return;
  }
  const auto items = iterate(value);
  if (items->items.size() != target.parts.size()) {
    throw Failure(fmt::format("found {} values, expected {} to unpack", items->items.size(), target.parts.size()),
                  target.line);
  }
  for (std::size_t i = 0; i < target.parts.size(); ++i) assign(*target.parts[i], items->items[i], scope);
}

void Machine::execute_call(const Statement& statement, const ScopePointer& scope) {
  const Expression& call_syntax = *statement.expression;
  const Value function = evaluate(*call_syntax.parts[0], scope);
  Arguments arguments = evaluate_arguments(call_syntax.call, scope);
  arguments.named.emplace_back("caller",
                               Value(std::shared_ptr<Object>(std::make_shared<Macro>(statement, "caller", scope))));
  line_ = statement.line;
  print(call(function, arguments));
}

Value Machine::call_macro(const Statement& macro, const ScopePointer& outer, const std::string& name,
                          Arguments& arguments) {
  const int line = line_;
  const auto scope = std::make_shared<Scope>(outer);
  const std::size_t count = macro.parameters.size(), given = arguments.positional.size();
  std::vector<bool> named_used(arguments.named.size(), false);
  if (caller_symbol_ >= 0) scope->set(caller_symbol_, undefined("no caller is defined"));
  for (std::size_t i = 0; i < count; ++i) {
    const Parameter& parameter = macro.parameters[i];
    const auto named = std::find_if(arguments.named.begin(), arguments.named.end(),
                                    [&](const auto& one) { return one.first == parameter.name; });
    if (named != arguments.named.end()) named_used[static_cast<std::size_t>(named - arguments.named.begin())] = true;
    if (i < given) {
      if (named != arguments.named.end()) {
        throw Failure(fmt::format("the macro '{}' got two values for '{}'", name, parameter.name));
      }
      scope->set(parameter.symbol, arguments.positional[i]);
    } else if (named != arguments.named.end()) {
      scope->set(parameter.symbol, named->second);
    } else if (parameter.value) {
      scope->set(parameter.symbol, evaluate(*parameter.value, scope));
    } else {
      scope->set(parameter.symbol, undefined(fmt::format("parameter '{}' was not provided", parameter.name)));
    }
  }
  if (given > count) {
    if (varargs_symbol_ < 0) {
      throw Failure(fmt::format("the macro '{}' got {} arguments, expected at most {}", name, given, count));
    }
  }
  if (varargs_symbol_ >= 0) {
    const auto first = arguments.positional.begin() + static_cast<std::ptrdiff_t>(std::min(given, count));
    scope->set(varargs_symbol_, list({first, arguments.positional.end()}, List::Kind::kTuple));
  }
  const auto rest = dict();
  for (std::size_t i = 0; i < arguments.named.size(); ++i) {
    if (named_used[i]) continue;
    const auto& [key, value] = arguments.named[i];
    if (key == "caller" && caller_symbol_ >= 0) {
      scope->set(caller_symbol_, value);
    } else if (kwargs_symbol_ >= 0) {
      rest->set(string(key), value);
    } else {
      throw Failure(fmt::format("the macro '{}' has no parameter '{}'", name, key));
    }
  }
  if (kwargs_symbol_ >= 0) scope->set(kwargs_symbol_, Value(std::shared_ptr<const Dict>(rest)));
  Value result = string(captured(macro.body, scope));
  line_ = line;
  return result;
}

}  // namespace switchyard::text::jinja
