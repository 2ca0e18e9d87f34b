#pragma once
// Runs a parsed template.

#include <ctime>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "syntax.hpp"
#include "value.hpp"

namespace switchyard::text::jinja {

// Variables by symbol. A block's scope sees those around it.
struct Scope {
  explicit Scope(std::shared_ptr<Scope> outer) : parent(std::move(outer)) {}
  std::shared_ptr<Scope> parent;
  std::vector<std::pair<int, Value>> variables;
  const Value* find(int symbol) const;
  void set(int symbol, Value value);
};

// One run. Values that it makes must not outlive it.
class Machine {
 public:
  Machine(const Syntax& syntax, const Limits& limits, std::tm now);
  ~Machine();
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  // Throws Failure with the line. `inputs` are seen by the template under their names.
  MarkedText run(const std::vector<std::pair<std::string, Value>>& inputs);

  // ---- for filters, methods and objects
  Budget& budget() { return budget_; }
  const std::tm& now() const { return now_; }
  Value string(MarkedText text, bool markup = false);
  Value string(std::string text, Origin origin = Origin::kTemplate) {
    return string(MarkedText(std::move(text), origin));
  }
  Value list(std::vector<Value> items, List::Kind kind = List::Kind::kList);
  std::shared_ptr<Dict> dict() { return std::make_shared<Dict>(&budget_); }
  static Value undefined(std::string reason) { return Value::undefined(std::move(reason)); }
  // Keeps what can come to hold itself until the run ends, so that freeing it is never a long chain.
  void keep(std::shared_ptr<Object> object) { kept_objects_.push_back(std::move(object)); }
  void keep(std::shared_ptr<List> list) { kept_lists_.push_back(std::move(list)); }

  Value call(const Value& function, Arguments& arguments);
  Value filter(const std::string& name, const Value& input, Arguments& arguments);
  bool test(const std::string& name, const Value& input, Arguments& arguments);
  Value attribute(const Value& object, const std::string& name);
  Value item(const Value& object, const Value& key);
  Value slice(const Value& object, const Value& begin, const Value& end, const Value& step);
  Value arithmetic(std::string_view operation, const Value& a, const Value& b);
  bool contains(const Value& container, const Value& item);
  // The elements of a list, keys of a dict, characters of a string; nothing for undefined. Throws for others.
  std::shared_ptr<List> iterate(const Value& value);
  MarkedText text(const Value& value) { return to_text(value, budget_); }

 private:
  friend class Macro;
  class Loop;
  enum class Flow { kNext, kBreak, kContinue };
  using ScopePointer = std::shared_ptr<Scope>;

  // ---- statements
  Flow execute(const Block& block, const ScopePointer& scope);
  Flow execute(const Statement& statement, const ScopePointer& scope);
  Flow execute_for(const Statement& statement, const ScopePointer& scope);
  void execute_call(const Statement& statement, const ScopePointer& scope);
  void print(const Value& value);
  void print(const MarkedText& text);
  // What the block prints.
  MarkedText captured(const Block& block, const ScopePointer& scope);
  void assign(const Expression& target, const Value& value, const ScopePointer& scope);
  Value call_macro(const Statement& macro, const ScopePointer& outer, const std::string& name, Arguments& arguments);

  // ---- expressions
  Value evaluate(const Expression& expression, const ScopePointer& scope);
  Value evaluate_node(const Expression& expression, const ScopePointer& scope);
  Value evaluate_call(const Expression& expression, const ScopePointer& scope);
  Value evaluate_filter(const Expression& expression, const Value& input, const ScopePointer& scope);
  Value evaluate_filters(const Expression* expression, const Value& input, const ScopePointer& scope);
  Value evaluate_comparison(const Expression& expression, const ScopePointer& scope);
  Value evaluate_slice(const Expression& expression, const ScopePointer& scope);
  Value evaluate_name(const Expression& expression, const ScopePointer& scope);
  Value evaluate_container(const Expression& expression, const ScopePointer& scope);
  Arguments evaluate_arguments(const CallSyntax& call, const ScopePointer& scope);
  Value power(const Value& a, const Value& b);
  Value repeated(const Value& value, std::int64_t times);

  const Syntax& syntax_;
  Budget budget_;
  std::tm now_;
  int line_ = 0;
  int loop_symbol_, caller_symbol_, varargs_symbol_, kwargs_symbol_;
  MarkedText* out_ = nullptr;
  std::vector<std::shared_ptr<Object>> kept_objects_;
  std::vector<std::shared_ptr<List>> kept_lists_;
};

// ---- tables
using Filter = Value (*)(Machine&, const Value& input, Arguments&);
using Test = bool (*)(Machine&, const Value& input, Arguments&);
using Function = Value (*)(Machine&, Arguments&);
struct NamedFilter {
  std::string_view name;
  Filter run;
};
// Null where there is none of that name.
inline Filter find_named(std::span<const NamedFilter> rows, std::string_view name) {
  for (const NamedFilter& row : rows)
    if (row.name == name) return row.run;
  return nullptr;
}

Filter find_filter(std::string_view name);  // null where there is none
Filter find_text_filter(std::string_view name);
Filter find_sequence_filter(std::string_view name);
Test find_test(std::string_view name);
// Methods share the form of filters: the input is the object.
Filter find_method(const Value& object, std::string_view name);
Filter find_string_method(std::string_view name);
Value find_global(Machine& machine, std::string_view name);  // undefined where there is none

// ---- arguments
// The arguments in the order of `names`, null where not given. Throws where there are too many or others, or fewer than
// `required`.
std::vector<const Value*> bind(const Arguments& arguments, std::string_view function,
                               std::initializer_list<std::string_view> names, std::size_t required = 0);
std::int64_t to_integer(const Value& value, std::string_view what);
std::int64_t integer_or(const Value* value, std::int64_t otherwise, std::string_view what);
bool truth_or(const Value* value, bool otherwise);
const MarkedText& to_string(const Value& value, std::string_view what);

// ---- pieces that several tables share
// x[a][b] for "a.b", as filters with an attribute= do. What is undefined on the way becomes `otherwise`, unless null.
Value attribute_path(Machine& machine, const Value& object, const Value& path, const Value* otherwise = nullptr);
MarkedText escaped_html(const MarkedText& text);
MarkedText trimmed(const MarkedText& text, const std::string* characters, bool left, bool right);
MarkedText replaced(Machine& machine, const MarkedText& text, const MarkedText& from, const MarkedText& to,
                    std::int64_t most);
MarkedText joined(Machine& machine, const std::vector<Value>& items, const MarkedText& separator);
std::vector<Value> sorted(Machine& machine, std::vector<Value> items, bool reverse, bool case_sensitive,
                          const Value* path);
MarkedText to_json(Machine& machine, const Value& value, Arguments& arguments);
// "%s" % value and "{}".format(values).
MarkedText printf_text(Machine& machine, const MarkedText& format, const Value& values);
MarkedText format_text(Machine& machine, const MarkedText& format, const Arguments& arguments);
// The number as str.format and printf write it with this precision (negative: none) and type.
std::string number_text(double value, char type, int precision, bool alternate);

}  // namespace switchyard::text::jinja
