#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>

#include "expression_parser.hpp"

namespace switchyard::text::jinja {
namespace {

// Reads the statements, and with them a whole template.
class Parser : ExpressionParser {
 public:
  explicit Parser(std::vector<Token> tokens) : ExpressionParser(std::move(tokens)) {}

  Syntax run() {
    Syntax syntax;
    syntax.body = block({});
    if (!current().is(Token::Type::kEnd)) fail(fmt::format("unexpected {}", current().describe()));
    syntax.names = std::move(names_);
    return syntax;
  }

 private:
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

  int loops_ = 0;
};

}  // namespace

int Syntax::symbol(std::string_view name) const {
  const auto found = std::find(names.begin(), names.end(), name);
  return found == names.end() ? -1 : static_cast<int>(found - names.begin());
}

Syntax parse(std::string_view source) { return Parser(tokenize(source)).run(); }

}  // namespace switchyard::text::jinja
