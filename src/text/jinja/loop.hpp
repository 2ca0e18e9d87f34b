#pragma once
// The variable `loop`.

#include <fmt/format.h>

#include "machine.hpp"

namespace switchyard::text::jinja {

// The values of one loop. Where the loop has a condition, values are tried no earlier than somebody asks for them.
class Machine::Loop final : public Object {
 public:
  Loop(Machine& machine, const Statement& statement, ScopePointer scope, std::shared_ptr<List> source)
      : machine_(machine), statement_(&statement), scope_(std::move(scope)), source_(std::move(source)) {}

  bool has(std::size_t index) {
    if (!statement_->condition) return index < source_->items.size();
    while (passed_.size() <= index && tried_ < source_->items.size()) {
      const Value value = source_->items[tried_++];
      machine_.budget_.step();
      const auto inner = std::make_shared<Scope>(scope_);
      machine_.assign(*statement_->target, value, inner);
      if (truth(machine_.evaluate(*statement_->condition, inner))) passed_.push_back(value);
    }
    return index < passed_.size();
  }
  Value at(std::size_t index) const { return statement_->condition ? passed_[index] : source_->items[index]; }
  void set_index(std::size_t index) { index_ = index; }
  // The scope must not hold itself through the variable `loop`.
  void forget() override { scope_.reset(); }

  std::string type_name() const override { return "loop"; }
  int nesting() const override { return source_->nesting + 1; }
  Value attribute(Machine& machine, std::string_view name) override {
    const auto index = static_cast<std::int64_t>(index_);
    if (name == "index") return Value(index + 1);
    if (name == "index0") return Value(index);
    if (name == "first") return Value(index == 0);
    if (name == "last") return Value(!reaches(index_ + 1));
    if (name == "length") return Value(count());
    if (name == "revindex") return Value(count() - index);
    if (name == "revindex0") return Value(count() - index - 1);
    if (name == "depth") return Value(std::int64_t{1});  // loops that are not recursive
    if (name == "depth0") return Value(std::int64_t{0});
    if (name == "previtem") return index_ > 0 ? at(index_ - 1) : undefined("there is no previous item");
    if (name == "nextitem") return reaches(index_ + 1) ? at(index_ + 1) : undefined("there is no next item");
    return machine.undefined(fmt::format("'loop object' has no attribute '{}'", name));
  }
  Value method(Machine& machine, std::string_view name, Arguments& arguments) {
    if (name == "cycle") {
      if (arguments.positional.empty()) throw Failure("loop.cycle() without items");
      return arguments.positional[index_ % arguments.positional.size()];
    }
    Value now = machine.list(arguments.positional, List::Kind::kTuple);
    const bool changed = last_seen_.is_undefined() || !equal(now, last_seen_, machine.budget());
    last_seen_ = std::move(now);
    return Value(changed);
  }

 private:
  bool reaches(std::size_t index) {
    return scope_ ? has(index) : index < (statement_->condition ? passed_.size() : source_->items.size());
  }
  std::int64_t count() {
    std::size_t end = index_;
    if (!statement_->condition) return static_cast<std::int64_t>(source_->items.size());
    while (reaches(end)) ++end;
    return static_cast<std::int64_t>(passed_.size());
  }
  Machine& machine_;
  const Statement* statement_;
  ScopePointer scope_;
  std::shared_ptr<List> source_;
  std::vector<Value> passed_;
  std::size_t tried_ = 0, index_ = 0;
  Value last_seen_;
};

}  // namespace switchyard::text::jinja
