#pragma once
// A parsed template.

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "value.hpp"

namespace switchyard::text::jinja {

struct Expression;
using ExpressionPointer = std::unique_ptr<Expression>;

// Of a call, a filter or a test.
struct CallSyntax {
  std::vector<ExpressionPointer> positional;
  std::vector<std::pair<std::string, ExpressionPointer>> named;
  ExpressionPointer rest, named_rest;  // *rest, **named_rest; may be null
};

struct Expression {
  enum class Kind {
    kConstant,            // constant
    kName,                // name, symbol
    kNamespaceAttribute,  // name.text, as a target only
    kList,                // parts
    kTuple,               // parts
    kDict,                // parts: key, value, key, value...
    kAttribute,           // parts[0].text
    kItem,                // parts[0][parts[1]]
    kSlice,               // parts[0][parts[1]:parts[2]:parts[3]], each may be null
    kCall,                // parts[0](call)
    kFilter,              // parts[0] | text(call); parts[0] is null within a filter block
    kTest,                // parts[0] is text(call)
    kNot,                 // parts[0]
    kNegative,
    kPositive,
    kAnd,  // parts[0], parts[1]
    kOr,
    kArithmetic,     // parts[0] text parts[1]
    kConcatenation,  // parts
    kComparison,     // parts[0] operators[0] parts[1] operators[1] parts[2]...
    kConditional,    // parts[1] if parts[0] else parts[2], which may be null
  };
  Kind kind = Kind::kConstant;
  int line = 0;
  int depth = 1;   // of the tree below
  int symbol = 0;  // of names
  std::string text;
  Value constant;
  std::vector<ExpressionPointer> parts;
  std::vector<std::string> operators;
  CallSyntax call;
};

struct Statement;
using Block = std::vector<Statement>;

struct Parameter {
  int symbol;
  std::string name;
  ExpressionPointer value;  // the default; may be null
};

struct Statement {
  enum class Kind {
    kText,      // text
    kPrint,     // expression
    kIf,        // branches; the last may have no condition
    kFor,       // target, expression, condition (may be null), body, otherwise
    kSet,       // target, expression
    kSetBlock,  // target, expression (filters; may be null), body
    kMacro,     // symbol, name, parameters, body
    kCall,      // expression (a call), parameters, body
    kFilter,    // expression, body
    kWith,      // branches: none; names and values in parameters; body
    kScope,     // body: a block or a generation block
    kBreak,
    kContinue,
  };
  Kind kind = Kind::kText;
  int line = 0;
  int symbol = 0;
  std::string name;
  Value text;
  ExpressionPointer target, expression, condition;
  std::vector<std::pair<ExpressionPointer, Block>> branches;
  std::vector<Parameter> parameters;
  Block body, otherwise;
};

struct Syntax {
  Block body;
  std::vector<std::string> names;           // by symbol
  int symbol(std::string_view name) const;  // -1 where the template does not use it
};

// `source` is valid UTF-8. Throws Failure with the line.
Syntax parse(std::string_view source);

}  // namespace switchyard::text::jinja
