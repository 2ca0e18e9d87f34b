#include "expression_parser.hpp"

namespace switchyard::text::jinja {
namespace {

constexpr int kLongestChain = 400;  // a + b + c + ... is a tree as deep as it is long

}  // namespace

ExpressionPointer ExpressionParser::make(Kind kind, int line) const {
  auto node = std::make_unique<Expression>();
  node->kind = kind;
  node->line = line;
  return node;
}

void ExpressionParser::deepen(Expression& node, const ExpressionPointer& part) const {
  if (!part) return;
  node.depth = std::max(node.depth, part->depth + 1);
  if (node.depth > kLongestChain) fail("an expression is too long");
}

void ExpressionParser::add(Expression& node, ExpressionPointer part) const {
  deepen(node, part);
  node.parts.push_back(std::move(part));
}

ExpressionPointer ExpressionParser::constant(Value value, int line) const {
  ExpressionPointer node = make(Kind::kConstant, line);
  node->constant = std::move(value);
  return node;
}

Value ExpressionParser::constant_text(std::string text) {
  return Value(std::make_shared<const String>(MarkedText(std::move(text)), false, nullptr));
}

ExpressionPointer ExpressionParser::expression() {
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

ExpressionPointer ExpressionParser::disjunction() {
  const int line = current().line;
  ExpressionPointer left = conjunction();
  while (skip_name("or")) left = make(Kind::kOr, line, {}, std::move(left), conjunction());
  return left;
}

ExpressionPointer ExpressionParser::conjunction() {
  const int line = current().line;
  ExpressionPointer left = negation();
  while (skip_name("and")) left = make(Kind::kAnd, line, {}, std::move(left), negation());
  return left;
}

ExpressionPointer ExpressionParser::negation() {
  const int line = current().line;
  if (!skip_name("not")) return comparison();
  const Nested nested(*this);
  return make(Kind::kNot, line, {}, negation());
}

ExpressionPointer ExpressionParser::comparison() {
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

ExpressionPointer ExpressionParser::sum() {
  return arithmetic({"+", "-"}, [this] { return concatenation(); });
}

ExpressionPointer ExpressionParser::concatenation() {
  const int line = current().line;
  ExpressionPointer first = product();
  if (!current().is_operator("~")) return first;
  ExpressionPointer all = make(Kind::kConcatenation, line, {}, std::move(first));
  while (skip_operator("~")) add(*all, product());
  return all;
}

ExpressionPointer ExpressionParser::product() {
  return arithmetic({"*", "/", "//", "%"}, [this] { return power(); });
}

ExpressionPointer ExpressionParser::power() {
  return arithmetic({"**"}, [this] { return unary(true); });
}

ExpressionPointer ExpressionParser::unary(bool with_filters) {
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

ExpressionPointer ExpressionParser::primary(bool is_target) {
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

bool ExpressionParser::ends_tuple(std::string_view end_name) const {
  const Token& token = current();
  return token.is(Token::Type::kVariableEnd) || token.is(Token::Type::kBlockEnd) || token.is_operator(")") ||
         (!end_name.empty() && token.is_name(end_name));
}

ExpressionPointer ExpressionParser::tuple(bool with_conditional, bool in_parentheses, std::string_view end_name,
                                          bool is_target) {
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

ExpressionPointer ExpressionParser::target(std::string_view end_name, bool with_attributes) {
  const int line = current().line;
  ExpressionPointer found = tuple(true, false, end_name, true);
  check_target(*found, with_attributes, line);
  return found;
}

void ExpressionParser::check_target(const Expression& found, bool with_attributes, int line) {
  const bool single = found.kind == Kind::kName || (with_attributes && found.kind == Kind::kNamespaceAttribute);
  if (!single && found.kind != Kind::kTuple && found.kind != Kind::kList) {
    throw Failure("found a value, expected a name to assign to", line);
  }
  for (const ExpressionPointer& part : found.parts) check_target(*part, with_attributes, line);
}

ExpressionPointer ExpressionParser::postfix(ExpressionPointer value) {
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

ExpressionPointer ExpressionParser::subscript(ExpressionPointer value, int line) {
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

void ExpressionParser::call_arguments(Expression& node) {
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

ExpressionPointer ExpressionParser::call(ExpressionPointer function) {
  ExpressionPointer node = make(Kind::kCall, current().line, {}, std::move(function));
  call_arguments(*node);
  return node;
}

std::string ExpressionParser::dotted_name() {
  std::string name = expect_name();
  while (skip_operator(".")) name.append(1, '.').append(expect_name());
  return name;
}

ExpressionPointer ExpressionParser::filtered(ExpressionPointer value) {
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

ExpressionPointer ExpressionParser::filters(ExpressionPointer value, bool inline_start) {
  while (inline_start || skip_operator("|")) {
    inline_start = false;
    const int line = current().line;
    value = make(Kind::kFilter, line, dotted_name(), std::move(value));
    if (current().is_operator("(")) call_arguments(*value);
  }
  return value;
}

ExpressionPointer ExpressionParser::test(ExpressionPointer value) {
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

}  // namespace switchyard::text::jinja
