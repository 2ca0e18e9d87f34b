// What may follow `is`.

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "machine.hpp"
#include "unicode_text.hpp"

namespace switchyard::text::jinja {
namespace {

const Value& other(const Arguments& arguments) {
  if (arguments.positional.size() != 1 || !arguments.named.empty()) throw Failure("the test needs one argument");
  return arguments.positional[0];
}

std::int64_t whole(const Value& value) { return to_integer(value, "what is tested"); }

bool is_callable(Machine&, const Value& v, Arguments&) { return v.is_object() && v.object().callable(); }
bool is_defined(Machine&, const Value& v, Arguments&) { return !v.is_undefined(); }
bool is_undefined(Machine&, const Value& v, Arguments&) { return v.is_undefined(); }
bool is_none(Machine&, const Value& v, Arguments&) { return v.is_none(); }
bool is_boolean(Machine&, const Value& v, Arguments&) { return v.type() == Value::Type::kBool; }
bool is_true(Machine&, const Value& v, Arguments&) { return v.type() == Value::Type::kBool && v.boolean(); }
bool is_false(Machine&, const Value& v, Arguments&) { return v.type() == Value::Type::kBool && !v.boolean(); }
bool is_integer(Machine&, const Value& v, Arguments&) { return v.type() == Value::Type::kInt; }
bool is_float(Machine&, const Value& v, Arguments&) { return v.type() == Value::Type::kFloat; }
bool is_number(Machine&, const Value& v, Arguments&) { return v.is_number(); }
bool is_string(Machine&, const Value& v, Arguments&) { return v.is_string(); }
bool is_mapping(Machine&, const Value& v, Arguments&) { return v.is_dict(); }
bool is_sequence(Machine&, const Value& v, Arguments&) {
  // Whatever has a length and can be subscribed; undefined too.
  if (v.is_list())
    return v.list().kind == List::Kind::kList || v.list().kind == List::Kind::kTuple ||
           v.list().kind == List::Kind::kRange;
  return v.is_string() || v.is_dict() || v.is_undefined();
}
bool is_iterable(Machine&, const Value& v, Arguments&) {
  return v.is_list() || v.is_string() || v.is_dict() || v.is_undefined();
}
bool is_escaped(Machine&, const Value& v, Arguments&) { return v.is_string() && v.string().markup; }
bool is_upper(Machine& machine, const Value& v, Arguments&) {
  return all_of_class(machine.text(v).view(), CharacterClass::kUpper);
}
bool is_lower(Machine& machine, const Value& v, Arguments&) {
  return all_of_class(machine.text(v).view(), CharacterClass::kLower);
}
bool is_odd(Machine&, const Value& v, Arguments&) { return whole(v) % 2 != 0; }
bool is_even(Machine&, const Value& v, Arguments&) { return whole(v) % 2 == 0; }
bool is_divisible(Machine& machine, const Value& v, Arguments& arguments) {
  return machine.arithmetic("%", v, other(arguments)).number() == 0.0;
}
bool is_in(Machine& machine, const Value& v, Arguments& arguments) { return machine.contains(other(arguments), v); }
bool is_same(Machine& machine, const Value& v, Arguments& arguments) {
  const Value& b = other(arguments);
  if (v.type() != b.type()) return false;
  if (v.is_list()) return v.list_pointer() == b.list_pointer();
  if (v.is_dict()) return &v.dict() == &b.dict();
  return equal(v, b, machine.budget());
}
bool is_equal(Machine& machine, const Value& v, Arguments& arguments) {
  return equal(v, other(arguments), machine.budget());
}
bool is_different(Machine& machine, const Value& v, Arguments& arguments) { return !is_equal(machine, v, arguments); }
bool is_less(Machine& machine, const Value& v, Arguments& arguments) {
  return less(v, other(arguments), machine.budget());
}
bool is_greater(Machine& machine, const Value& v, Arguments& arguments) {
  return less(other(arguments), v, machine.budget());
}
bool is_at_most(Machine& machine, const Value& v, Arguments& arguments) {
  return is_less(machine, v, arguments) || is_equal(machine, v, arguments);
}
bool is_at_least(Machine& machine, const Value& v, Arguments& arguments) {
  return is_greater(machine, v, arguments) || is_equal(machine, v, arguments);
}
bool is_filter(Machine&, const Value& v, Arguments&) { return v.is_string() && find_filter(v.view()) != nullptr; }
bool is_test(Machine&, const Value& v, Arguments&) { return v.is_string() && find_test(v.view()) != nullptr; }

struct Row {
  std::string_view name;
  Test run;
};
constexpr std::array kTests = {
    Row{"!=", is_different},
    Row{"<", is_less},
    Row{"<=", is_at_most},
    Row{"==", is_equal},
    Row{">", is_greater},
    Row{">=", is_at_least},
    Row{"boolean", is_boolean},
    Row{"callable", is_callable},
    Row{"defined", is_defined},
    Row{"divisibleby", is_divisible},
    Row{"eq", is_equal},
    Row{"equalto", is_equal},
    Row{"escaped", is_escaped},
    Row{"even", is_even},
    Row{"false", is_false},
    Row{"filter", is_filter},
    Row{"float", is_float},
    Row{"ge", is_at_least},
    Row{"greaterthan", is_greater},
    Row{"gt", is_greater},
    Row{"in", is_in},
    Row{"integer", is_integer},
    Row{"iterable", is_iterable},
    Row{"le", is_at_most},
    Row{"lessthan", is_less},
    Row{"lower", is_lower},
    Row{"lt", is_less},
    Row{"mapping", is_mapping},
    Row{"ne", is_different},
    Row{"none", is_none},
    Row{"number", is_number},
    Row{"odd", is_odd},
    Row{"sameas", is_same},
    Row{"sequence", is_sequence},
    Row{"string", is_string},
    Row{"test", is_test},
    Row{"true", is_true},
    Row{"undefined", is_undefined},
    Row{"upper", is_upper},
};

}  // namespace

Test find_test(std::string_view name) {
  const auto* found = std::find_if(kTests.begin(), kTests.end(), [name](const Row& row) { return row.name == name; });
  return found == kTests.end() ? nullptr : found->run;
}

}  // namespace switchyard::text::jinja
