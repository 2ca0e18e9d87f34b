#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>
#include <unordered_map>

#include "lexer.hpp"
#include "syntax.hpp"

namespace switchyard::text::jinja {
namespace {

// Beyond that a template is refused, so that neither reading nor running nor freeing it runs out of stack.
constexpr int kDeepest = 150;
constexpr int kLongestChain = 400;  // a + b + c + ... is a tree as deep as it is long

using Kind = Expression::Kind;

class Parser {
 public:
  explicit Parser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  Syntax run() {
    Syntax syntax;
    syntax.body = block({});
    if (!current().is(Token::Type::kEnd)) fail(fmt::format("unexpected {}", current().describe()));
    syntax.names = std::move(names_);
    return syntax;
  }

 private:
  class Nested {
   public:
    explicit Nested(Parser& parser) : parser_(parser) {
      if (++parser_.depth_ > kDeepest) parser_.fail("nested too deep");
    }
    ~Nested() { --parser_.depth_; }
    Nested(const Nested&) = delete;
    Nested& operator=(const Nested&) = delete;

   private:
    Parser& parser_;
  };

  // ---- tokens
  const Token& current() const { return tokens_[at_]; }
  const Token& look() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  Token next() {
    Token token = current();
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
  ExpressionPointer make(Kind kind, int line) const {
    auto node = std::make_unique<Expression>();
    node->kind = kind;
    node->line = line;
    return node;
  }
  template <class... Parts>
  ExpressionPointer make(Kind kind, int line, std::string text, Parts... parts) const {
    ExpressionPointer node = make(kind, line);
    node->text = std::move(text);
    (add(*node, std::move(parts)), ...);
    return node;
  }
  void deepen(Expression& node, const ExpressionPointer& part) const {
    if (!part) return;
    node.depth = std::max(node.depth, part->depth + 1);
    if (node.depth > kLongestChain) fail("an expression is too long");
  }
  void add(Expression& node, ExpressionPointer part) const {
    deepen(node, part);
    node.parts.push_back(std::move(part));
  }
  ExpressionPointer constant(Value value, int line) const {
    ExpressionPointer node = make(Kind::kConstant, line);
    node->constant = std::move(value);
    return node;
  }
  static Value constant_text(std::string text) {
    return Value(std::make_shared<const String>(MarkedText(std::move(text)), false, nullptr));
  }

  ExpressionPointer expression() {
    const Nested nested(*this);
    const int line = current().line;
    ExpressionPointer value = disjunction();
    while (skip_name("if")) {
      ExpressionPointer condition = disjunction();
      ExpressionPointer otherwise;
      if (skip_name("else")) otherwise = expression();
      value = make(Kind::kConditional, line, {}, std::move(condition), std::move(value), std::move(otherwise));
    }
    return value;
  }

  ExpressionPointer disjunction() {
    const int line = current().line;
    ExpressionPointer left = conjunction();
    while (skip_name("or")) left = make(Kind::kOr, line, {}, std::move(left), conjunction());
    return left;
  }
  ExpressionPointer conjunction() {
    const int line = current().line;
    ExpressionPointer left = negation();
    while (skip_name("and")) left = make(Kind::kAnd, line, {}, std::move(left), negation());
    return left;
  }
  ExpressionPointer negation() {
    const int line = current().line;
    if (!skip_name("not")) return comparison();
    const Nested nested(*this);
    return make(Kind::kNot, line, {}, negation());
  }

  ExpressionPointer comparison() {
    const int line = current().line;
    ExpressionPointer left = sum();
    ExpressionPointer chain;
    while (true) {
      std::string operation;
      const Token& token = current();
      if (token.is(Token::Type::kOperator) && (token.text == "==" || token.text == "!=" || token.text == "<" ||
                                               token.text == "<=" || token.text == ">" || token.text == ">=")) {
        operation = next().text;
      } else if (skip_name("in")) {
        operation = "in";
      } else if (token.is_name("not") && look().is_name("in")) {
        next();
        next();
        operation = "not in";
      } else {
        return chain ? std::move(chain) : std::move(left);
      }
      if (!chain) chain = make(Kind::kComparison, line, {}, std::move(left));
      chain->operators.push_back(std::move(operation));
      add(*chain, sum());
    }
  }

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
  ExpressionPointer sum() {
    return arithmetic({"+", "-"}, [this] { return concatenation(); });
  }
  ExpressionPointer concatenation() {
    const int line = current().line;
    ExpressionPointer first = product();
    if (!current().is_operator("~")) return first;
    ExpressionPointer all = make(Kind::kConcatenation, line, {}, std::move(first));
    while (skip_operator("~")) add(*all, product());
    return all;
  }
  ExpressionPointer product() {
    return arithmetic({"*", "/", "//", "%"}, [this] { return power(); });
  }
  ExpressionPointer power() {
    return arithmetic({"**"}, [this] { return unary(true); });
  }

  ExpressionPointer unary(bool with_filters) {
    const Nested nested(*this);
    const int line = current().line;
    ExpressionPointer value;
    if (skip_operator("-")) {
      value = make(Kind::kNegative, line, {}, unary(false));
    } else if (skip_operator("+")) {
      value = make(Kind::kPositive, line, {}, unary(false));
    } else {
      value = primary(false);
    }
    value = postfix(std::move(value));
    return with_filters ? filtered(std::move(value)) : std::move(value);
  }

  ExpressionPointer primary(bool is_target) {
    const Token token = next();
    switch (token.type) {
      case Token::Type::kName: {
        if (token.text == "true" || token.text == "True") return constant(Value(true), token.line);
        if (token.text == "false" || token.text == "False") return constant(Value(false), token.line);
        if (token.text == "none" || token.text == "None") return constant(Value(None{}), token.line);
        ExpressionPointer name = make(Kind::kName, token.line, token.text);
        name->symbol = symbol(token.text);
        if (is_target && skip_operator(".")) {
          name->kind = Kind::kNamespaceAttribute;
          name->text = expect_name("the name of an attribute");
        }
        return name;
      }
      case Token::Type::kString: {
        std::string text = token.text;
        while (current().is(Token::Type::kString)) text += next().text;
        return constant(constant_text(std::move(text)), token.line);
      }
      case Token::Type::kInteger:
        return constant(Value(token.integer), token.line);
      case Token::Type::kFloat:
        return constant(Value(token.number), token.line);
      case Token::Type::kOperator:
        if (token.text == "(") {
          ExpressionPointer inner = tuple(true, true, {});
          expect_operator(")");
          return inner;
        }
        if (token.text == "[") {
          ExpressionPointer list = make(Kind::kList, token.line);
          separated("]", [&] { add(*list, expression()); });
          return list;
        }
        if (token.text == "{") {
          ExpressionPointer dict = make(Kind::kDict, token.line);
          separated("}", [&] {
            add(*dict, expression());
            expect_operator(":");
            add(*dict, expression());
          });
          return dict;
        }
        break;
      default:
        break;
    }
    throw Failure(fmt::format("found {}, expected an expression", token.describe()), token.line);
  }

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

  bool ends_tuple(std::string_view end_name) const {
    const Token& token = current();
    return token.is(Token::Type::kVariableEnd) || token.is(Token::Type::kBlockEnd) || token.is_operator(")") ||
           (!end_name.empty() && token.is_name(end_name));
  }

  // Expressions with commas between, or one expression without.
  ExpressionPointer tuple(bool with_conditional, bool in_parentheses, std::string_view end_name,
                          bool is_target = false) {
    const Nested nested(*this);
    const int line = current().line;
    ExpressionPointer all = make(Kind::kTuple, line);
    bool has_comma = false;
    while (!ends_tuple(end_name)) {
      add(*all, is_target ? primary(true) : with_conditional ? expression() : disjunction());
      if (!skip_operator(",")) break;
      has_comma = true;
    }
    if (has_comma) return all;
    if (!all->parts.empty()) return std::move(all->parts[0]);
    if (!in_parentheses) fail(fmt::format("found {}, expected an expression", current().describe()));
    return all;
  }

  ExpressionPointer target(std::string_view end_name, bool with_attributes) {
    const int line = current().line;
    ExpressionPointer found = tuple(true, false, end_name, true);
    check_target(*found, with_attributes, line);
    return found;
  }
  static void check_target(const Expression& found, bool with_attributes, int line) {
    const bool single = found.kind == Kind::kName || (with_attributes && found.kind == Kind::kNamespaceAttribute);
    if (!single && found.kind != Kind::kTuple && found.kind != Kind::kList) {
      throw Failure("found a value, expected a name to assign to", line);
    }
    for (const ExpressionPointer& part : found.parts) check_target(*part, with_attributes, line);
  }

  ExpressionPointer postfix(ExpressionPointer value) {
    while (true) {
      const int line = current().line;
      if (skip_operator(".")) {
        if (current().is(Token::Type::kInteger)) {
          value = make(Kind::kItem, line, {}, std::move(value), constant(Value(next().integer), line));
        } else {
          value = make(Kind::kAttribute, line, expect_name("the name of an attribute"), std::move(value));
        }
      } else if (skip_operator("[")) {
        value = subscript(std::move(value), line);
      } else if (current().is_operator("(")) {
        value = call(std::move(value));
      } else {
        return value;
      }
    }
  }

  ExpressionPointer subscript(ExpressionPointer value, int line) {
    if (current().is_operator("]")) fail("found ']', expected an expression");
    ExpressionPointer bounds[3];
    bool is_slice = false;
    if (!current().is_operator(":")) bounds[0] = expression();
    for (int i = 1; i < 3 && skip_operator(":"); ++i) {
      is_slice = true;
      if (!current().is_operator(":") && !current().is_operator("]")) bounds[i] = expression();
    }
    if (!is_slice && current().is_operator(",")) {
      ExpressionPointer key = make(Kind::kTuple, line, {}, std::move(bounds[0]));
      while (skip_operator(",") && !current().is_operator("]")) add(*key, expression());
      bounds[0] = std::move(key);
    }
    expect_operator("]");
    if (!is_slice) return make(Kind::kItem, line, {}, std::move(value), std::move(bounds[0]));
    return make(Kind::kSlice, line, {}, std::move(value), std::move(bounds[0]), std::move(bounds[1]),
                std::move(bounds[2]));
  }

  void call_arguments(Expression& node) {
    expect_operator("(");
    CallSyntax& call = node.call;
    const auto check = [&](bool ok) {
      if (!ok) fail("these arguments cannot stand in this order");
    };
    separated(")", [&] {
      if (skip_operator("*")) {
        check(!call.rest && !call.named_rest);
        call.rest = expression();
        deepen(node, call.rest);
      } else if (skip_operator("**")) {
        check(!call.named_rest);
        call.named_rest = expression();
        deepen(node, call.named_rest);
      } else if (current().is(Token::Type::kName) && look().is_operator("=")) {
        check(!call.named_rest);
        std::string name = next().text;
        next();
        call.named.emplace_back(std::move(name), expression());
        deepen(node, call.named.back().second);
      } else {
        check(!call.rest && !call.named_rest && call.named.empty());
        call.positional.push_back(expression());
        deepen(node, call.positional.back());
      }
    });
  }
  ExpressionPointer call(ExpressionPointer function) {
    ExpressionPointer node = make(Kind::kCall, current().line, {}, std::move(function));
    call_arguments(*node);
    return node;
  }

  std::string dotted_name() {
    std::string name = expect_name();
    while (skip_operator(".")) name.append(1, '.').append(expect_name());
    return name;
  }

  ExpressionPointer filtered(ExpressionPointer value) {
    while (true) {
      if (current().is_operator("|")) {
        value = filters(std::move(value), false);
      } else if (current().is_name("is")) {
        value = test(std::move(value));
      } else if (current().is_operator("(")) {
        value = call(std::move(value));
      } else {
        return value;
      }
    }
  }
  // `inline_start`: the first filter stands without a '|' before it.
  ExpressionPointer filters(ExpressionPointer value, bool inline_start) {
    while (inline_start || skip_operator("|")) {
      inline_start = false;
      const int line = current().line;
      value = make(Kind::kFilter, line, dotted_name(), std::move(value));
      if (current().is_operator("(")) call_arguments(*value);
    }
    return value;
  }

  ExpressionPointer test(ExpressionPointer value) {
    const int line = next().line;
    const bool negated = skip_name("not");
    ExpressionPointer node = make(Kind::kTest, line, dotted_name(), std::move(value));
    const Token& token = current();
    if (token.is_operator("(")) {
      call_arguments(*node);
    } else if (token.is(Token::Type::kString) || token.is(Token::Type::kInteger) || token.is(Token::Type::kFloat) ||
               token.is_operator("[") || token.is_operator("{") ||
               (token.is(Token::Type::kName) && token.text != "else" && token.text != "or" && token.text != "and")) {
      if (token.is_name("is")) fail("two tests cannot follow each other with 'is'");
      node->call.positional.push_back(postfix(primary(false)));
      deepen(*node, node->call.positional.back());
    }
    return negated ? make(Kind::kNot, line, {}, std::move(node)) : std::move(node);
  }

  // ---- statements
  // Up to one of the tags `ends`, whose name is then the current token; to the end of the template where there are
  // none.
  Block block(std::initializer_list<std::string_view> ends) {
    const Nested nested(*this);
    const int line = current().line;
    Block statements;
    while (true) {
      const Token& token = current();
      switch (token.type) {
        case Token::Type::kData: {
          Statement statement;
          statement.line = token.line;
          statement.text = constant_text(next().text);
          statements.push_back(std::move(statement));
          break;
        }
        case Token::Type::kVariableBegin: {
          next();
          Statement statement;
          statement.kind = Statement::Kind::kPrint;
          statement.line = current().line;
          statement.expression = tuple(true, false, {});
          expect(Token::Type::kVariableEnd, "}}");
          statements.push_back(std::move(statement));
          break;
        }
        case Token::Type::kBlockBegin:
          next();
          if (current().is(Token::Type::kName) && std::find(ends.begin(), ends.end(), current().text) != ends.end()) {
            return statements;
          }
          statements.push_back(statement());
          expect(Token::Type::kBlockEnd, "%}");
          break;
        default:
          if (ends.size() > 0) {
            throw Failure(fmt::format("the block that begins here has no {{% {} %}}", *(ends.end() - 1)), line);
          }
          return statements;
      }
    }
  }
  Block body(std::initializer_list<std::string_view> ends) {
    skip_operator(":");
    expect(Token::Type::kBlockEnd, "%}");
    return block(ends);
  }
  Block whole_body(std::string_view end) {
    Block statements = body({end});
    next();
    return statements;
  }

  Statement statement() {
    const Token tag = current();
    if (!tag.is(Token::Type::kName)) fail(fmt::format("found {}, expected the name of a tag", tag.describe()));
    next();
    Statement result;
    result.line = tag.line;
    using Tag = Statement::Kind;
    const std::string& name = tag.text;
    if (name == "if") {
      read_if(result);
    } else if (name == "for") {
      read_for(result);
    } else if (name == "set") {
      read_set(result);
    } else if (name == "macro") {
      result.kind = Tag::kMacro;
      result.name = expect_name("the name of the macro");
      result.symbol = symbol(result.name);
      parameters(result);
      loops_outside_macro([&] { result.body = whole_body("endmacro"); });
    } else if (name == "call") {
      result.kind = Tag::kCall;
      if (current().is_operator("(")) parameters(result);
      result.expression = expression();
      if (result.expression->kind != Kind::kCall) throw Failure("{% call %} needs a call", tag.line);
      loops_outside_macro([&] { result.body = whole_body("endcall"); });
    } else if (name == "filter") {
      result.kind = Tag::kFilter;
      result.expression = filters(nullptr, true);
      result.body = whole_body("endfilter");
    } else if (name == "with") {
      result.kind = Tag::kWith;
      while (!current().is(Token::Type::kBlockEnd)) {
        if (!result.parameters.empty()) expect_operator(",");
        Parameter parameter;
        parameter.name = expect_name();
        parameter.symbol = symbol(parameter.name);
        expect_operator("=");
        parameter.value = expression();
        result.parameters.push_back(std::move(parameter));
      }
      result.body = whole_body("endwith");
    } else if (name == "generation") {
      result.kind = Tag::kScope;
      result.body = whole_body("endgeneration");
    } else if (name == "break" || name == "continue") {
      if (loops_ == 0) throw Failure(fmt::format("{{% {} %}} outside of a loop", name), tag.line);
      result.kind = name == "break" ? Tag::kBreak : Tag::kContinue;
    } else if (name == "include" || name == "import" || name == "from" || name == "extends" || name == "block" ||
               name == "autoescape" || name == "do" || name == "print") {
      throw Failure(fmt::format("{{% {} %}} is not supported in a chat template", name), tag.line);
    } else {
      throw Failure(fmt::format("unknown tag '{}'", name), tag.line);
    }
    return result;
  }

  template <class Read>
  void loops_outside_macro(Read&& read) {
    const int loops = std::exchange(loops_, 0);
    read();
    loops_ = loops;
  }

  void read_if(Statement& result) {
    result.kind = Statement::Kind::kIf;
    while (true) {
      ExpressionPointer condition = tuple(false, false, {});
      Block statements = body({"elif", "else", "endif"});
      result.branches.emplace_back(std::move(condition), std::move(statements));
      const std::string end = next().text;
      if (end == "endif") return;
      if (end == "else") {
        result.branches.emplace_back(nullptr, whole_body("endif"));
        return;
      }
    }
  }

  void read_for(Statement& result) {
    result.kind = Statement::Kind::kFor;
    result.target = target("in", false);
    if (!skip_name("in")) fail(fmt::format("found {}, expected 'in'", current().describe()));
    result.expression = tuple(false, false, "recursive");
    if (skip_name("if")) result.condition = expression();
    if (current().is_name("recursive")) fail("recursive loops are not supported in a chat template");
    ++loops_;
    result.body = body({"else", "endfor"});
    --loops_;
    if (next().text == "else") result.otherwise = whole_body("endfor");
  }

  void read_set(Statement& result) {
    result.target = target({}, true);
    if (skip_operator("=")) {
      result.kind = Statement::Kind::kSet;
      result.expression = tuple(true, false, {});
      return;
    }
    result.kind = Statement::Kind::kSetBlock;
    if (current().is_operator("|")) result.expression = filters(nullptr, false);
    result.body = whole_body("endset");
  }

  void parameters(Statement& result) {
    expect_operator("(");
    separated(")", [&] {
      Parameter parameter;
      parameter.name = expect_name("the name of a parameter");
      parameter.symbol = symbol(parameter.name);
      if (skip_operator("=")) {
        parameter.value = expression();
      } else if (!result.parameters.empty() && result.parameters.back().value) {
        fail("a parameter without a default stands behind one that has a default");
      }
      result.parameters.push_back(std::move(parameter));
    });
  }

  std::vector<Token> tokens_;
  std::size_t at_ = 0;
  int depth_ = 0, loops_ = 0;
  std::vector<std::string> names_;
  std::unordered_map<std::string, int> symbols_;
};

}  // namespace

int Syntax::symbol(std::string_view name) const {
  const auto found = std::find(names.begin(), names.end(), name);
  return found == names.end() ? -1 : static_cast<int>(found - names.begin());
}

Syntax parse(std::string_view source) { return Parser(tokenize(source)).run(); }

}  // namespace switchyard::text::jinja
