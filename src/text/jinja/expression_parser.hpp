#pragma once
// Reads the expressions of a template from its tokens. Throws Failure, with the line, at what is no expression.

#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "lexer.hpp"
#include "syntax.hpp"

namespace switchyard::text::jinja {

class ExpressionParser {
 protected:
  using Kind = Expression::Kind;

  explicit ExpressionParser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  // Counts how deep the reader is in brackets and blocks.
  class Nested {
   public:
    explicit Nested(ExpressionParser& parser) : parser_(parser) {
      if (++parser_.depth_ > kDeepest) parser_.fail("nested too deep");
    }
    ~Nested() { --parser_.depth_; }
    Nested(const Nested&) = delete;
    Nested& operator=(const Nested&) = delete;

   private:
    ExpressionParser& parser_;
  };

  // ---- tokens
  const Token& current() const { return tokens_[at_]; }
  const Token& look() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  const Token& next() {
    const Token& token = current();
    if (at_ + 1 < tokens_.size()) ++at_;
    return token;
  }
  bool skip_operator(std::string_view text) {
    if (!current().is_operator(text)) return false;
    next();
    return true;
  }
  bool skip_name(std::string_view text) {
    if (!current().is_name(text)) return false;
    next();
    return true;
  }
  void expect_operator(std::string_view text) {
    if (!skip_operator(text)) fail(fmt::format("found {}, expected '{}'", current().describe(), text));
  }
  std::string expect_name(std::string_view what = "a name") {
    if (!current().is(Token::Type::kName)) fail(fmt::format("found {}, expected {}", current().describe(), what));
    return next().text;
  }
  void expect(Token::Type type, std::string_view what) {
    if (!current().is(type)) fail(fmt::format("found {}, expected {}", current().describe(), what));
    next();
  }
  [[noreturn]] void fail(const std::string& message) const { throw Failure(message, current().line); }

  int symbol(const std::string& name) {
    const auto [found, is_new] = symbols_.emplace(name, static_cast<int>(names_.size()));
    if (is_new) names_.push_back(name);
    return found->second;
  }

  // ---- expressions
  ExpressionPointer expression();
  // Expressions with commas between, or one expression without. `with_conditional`: a if b else c may stand outside of
  // parentheses. `in_parentheses`: may be empty. A comma may be the last thing before the name `end_name`. `is_target`:
  // only what can be assigned to.
  ExpressionPointer tuple(bool with_conditional, bool in_parentheses, std::string_view end_name,
                          bool is_target = false);
  // What a loop or {% set %} assigns to; `with_attributes`: also a.b.
  ExpressionPointer target(std::string_view end_name, bool with_attributes);
  // The filters behind `value`, null for those of a block.
  // `inline_start`: the first filter stands without a '|' before it.
  ExpressionPointer filters(ExpressionPointer value, bool inline_start);
  static Value constant_text(std::string text);
  // What `item` reads, with commas between, up to the closing bracket.
  template <class Item>
  void separated(std::string_view close, Item&& item) {
    bool first = true;
    while (!current().is_operator(close)) {
      if (!first) {
        expect_operator(",");
        if (current().is_operator(close)) break;
      }
      first = false;
      item();
    }
    expect_operator(close);
  }

  // Names in the order that they were first met; a symbol is a place in it.
  std::vector<std::string> names_;

 private:
  // Beyond that a template is refused, so that neither reading nor running nor freeing it runs out of stack.
  static constexpr int kDeepest = 150;

  ExpressionPointer make(Kind kind, int line) const;
  template <class... Parts>
  ExpressionPointer make(Kind kind, int line, std::string text, Parts... parts) const {
    ExpressionPointer node = make(kind, line);
    node->text = std::move(text);
    (add(*node, std::move(parts)), ...);
    return node;
  }

  void deepen(Expression& node, const ExpressionPointer& part) const;
  void add(Expression& node, ExpressionPointer part) const;
  ExpressionPointer constant(Value value, int line) const;
  ExpressionPointer disjunction();
  ExpressionPointer conjunction();
  ExpressionPointer negation();
  ExpressionPointer comparison();
  template <class Operand>
  ExpressionPointer arithmetic(std::initializer_list<std::string_view> operators, Operand&& operand) {
    const int line = current().line;
    ExpressionPointer left = operand();
    while (current().is(Token::Type::kOperator) &&
           std::find(operators.begin(), operators.end(), current().text) != operators.end()) {
      std::string operation = next().text;
      left = make(Kind::kArithmetic, line, std::move(operation), std::move(left), operand());
    }
    return left;
  }

  ExpressionPointer sum();
  ExpressionPointer concatenation();
  ExpressionPointer product();
  ExpressionPointer power();
  ExpressionPointer unary(bool with_filters);
  ExpressionPointer primary(bool is_target);

  bool ends_tuple(std::string_view end_name) const;
  static void check_target(const Expression& found, bool with_attributes, int line);
  ExpressionPointer postfix(ExpressionPointer value);
  ExpressionPointer subscript(ExpressionPointer value, int line);
  void call_arguments(Expression& node);
  ExpressionPointer call(ExpressionPointer function);
  std::string dotted_name();
  ExpressionPointer filtered(ExpressionPointer value);
  ExpressionPointer test(ExpressionPointer value);

  std::vector<Token> tokens_;
  std::size_t at_ = 0;
  int depth_ = 0;
  std::unordered_map<std::string, int> symbols_;
};

}  // namespace switchyard::text::jinja
