#pragma once
// The values of a template: Python's, as far as templates see them.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "marked_text.hpp"

namespace switchyard::text::jinja {

// A template that is wrong, or too much. Whoever runs it adds the template's name, and the line where it has none.
class Failure : public std::runtime_error {
 public:
  explicit Failure(const std::string& message, int line = 0) : std::runtime_error(message), line_(line) {}
  int line() const { return line_; }

 private:
  int line_;
};

// A template is not trusted: what it may use up.
struct Limits {
  std::size_t steps = 20'000'000;              // about a second; work on long texts counts by their length
  std::size_t bytes = std::size_t{128} << 20;  // of all values that are alive, and of the output
  int depth = 1000;                            // nested evaluations, macro calls included
};

class Budget {
 public:
  explicit Budget(const Limits& limits) : limits_(limits) {}
  void step(std::size_t count = 1) {
    steps_ += count;
    if (steps_ > limits_.steps) too_long();
  }
  void work_on(std::size_t bytes) { step(1 + bytes / 64); }  // reading or copying that many
  // Looking for one text in another; a long one takes more care.
  void search(std::size_t text, std::size_t needle) {
    constexpr std::size_t kShort = 32;
    work_on(needle > kShort ? 8 * (text + needle) : text);
  }
  void charge(std::size_t bytes) {
    if (bytes > limits_.bytes - bytes_) too_much();
    bytes_ += bytes;
  }
  void release(std::size_t bytes) { bytes_ -= bytes; }
  // For something that is being built and will be charged when it is done.
  void need(std::size_t bytes) const {
    if (bytes > limits_.bytes - bytes_) too_much();
  }
  void enter() {
    if (depth_ >= limits_.depth) too_deep();
    ++depth_;
  }
  void leave() { --depth_; }

 private:
  [[noreturn]] void too_long() const;
  [[noreturn]] void too_much() const;
  [[noreturn]] void too_deep() const;
  Limits limits_;
  std::size_t steps_ = 0, bytes_ = 0;
  int depth_ = 0;
};

// One level of anything that calls itself.
class Level {
 public:
  explicit Level(Budget& budget) : budget_(budget) { budget_.enter(); }
  ~Level() { budget_.leave(); }
  Level(const Level&) = delete;
  Level& operator=(const Level&) = delete;

 private:
  Budget& budget_;
};

// What a value points to.
class Payload {
 public:
  virtual ~Payload() = default;
};

// Memory that counts while the object lives. Constants of a template and its inputs have no budget.
class Charged : public Payload {
 public:
  explicit Charged(Budget* budget) : budget_(budget) {}
  ~Charged() override {
    if (budget_ != nullptr) budget_->release(charged_);
  }
  Charged(const Charged&) = delete;
  Charged& operator=(const Charged&) = delete;
  void charge(std::size_t bytes) {
    if (budget_ == nullptr) return;
    budget_->charge(bytes);
    charged_ += bytes;
  }
  bool made_by_template() const { return budget_ != nullptr; }

 private:
  Budget* budget_;
  std::size_t charged_ = 0;
};

struct String;
struct List;
struct Dict;
class Object;

struct None {};

class Value {
 public:
  enum class Type { kUndefined, kNone, kBool, kInt, kFloat, kString, kList, kDict, kObject };

  // Undefined: prints as nothing, and says why it is nothing where more is asked of it.
  Value() = default;
  static Value undefined(std::string reason);
  Value(None) : type_(Type::kNone) {}
  Value(bool value) : type_(Type::kBool), integer_(value ? 1 : 0) {}
  Value(std::int64_t value) : type_(Type::kInt), integer_(value) {}
  Value(double value) : type_(Type::kFloat), float_(value) {}
  Value(std::shared_ptr<const String> value);
  Value(std::shared_ptr<List> value);
  Value(std::shared_ptr<const Dict> value);
  Value(std::shared_ptr<Object> value);

  Type type() const { return type_; }
  bool is_undefined() const { return type() == Type::kUndefined; }
  bool is_none() const { return type() == Type::kNone; }
  bool is_string() const { return type() == Type::kString; }
  bool is_list() const { return type() == Type::kList; }
  bool is_dict() const { return type() == Type::kDict; }
  bool is_object() const { return type() == Type::kObject; }
  bool is_integer() const { return type() == Type::kInt || type() == Type::kBool; }  // as in Python
  bool is_number() const { return is_integer() || type() == Type::kFloat; }

  const std::string& reason() const;  // of undefined; empty where there is none
  bool boolean() const { return integer_ != 0; }
  std::int64_t integer() const { return integer_; }
  double number() const { return type_ == Type::kFloat ? float_ : static_cast<double>(integer_); }
  const MarkedText& text() const;
  std::string_view view() const { return text().view(); }
  const String& string() const;
  List& list() const;
  const Dict& dict() const;
  Object& object() const;
  std::shared_ptr<List> list_pointer() const;
  std::shared_ptr<Object> object_pointer() const;

  // How deep containers lie in one another: 0 for what holds nothing.
  int nesting() const;

 private:
  Type type_ = Type::kUndefined;
  std::int64_t integer_ = 0;
  double float_ = 0.0;
  std::shared_ptr<const Payload> payload_;
};

// Containers deeper than that are refused, so that nothing that walks or frees one can run out of stack.
inline constexpr int kDeepestNesting = 100;

struct String : Charged {
  String(MarkedText content, bool is_markup, Budget* budget)
      : Charged(budget), text(std::move(content)), markup(is_markup) {
    charge(sizeof(String) + text.memory());
  }
  std::size_t length() const;  // in characters
  bool ascii() const { return length() == text.size(); }
  MarkedText text;  // valid UTF-8
  bool markup;      // of the filters safe and escape: what is added to it is escaped

 private:
  static constexpr std::size_t kUnknown = static_cast<std::size_t>(-1);
  mutable std::size_t length_ = kUnknown;
};

struct List : Charged {
  enum class Kind { kList, kTuple, kGenerator, kRange, kKeys, kValues, kItems };
  List(std::vector<Value> values, Kind what, Budget* budget);
  void append(Value value);
  std::vector<Value> items;
  Kind kind;
  int nesting = 1;
};

// In the order in which keys came first. A key is a string, a number, a truth value or none.
struct Dict : Charged {
  explicit Dict(Budget* budget) : Charged(budget) { charge(sizeof(Dict)); }
  // Null where it is not there. Keys are equal as in Python: 1, 1.0 and true are one key.
  const Value* find(const Value& key) const;
  const Value* find(std::string_view key) const;
  void set(const Value& key, Value value);
  std::vector<std::pair<Value, Value>> items;
  int nesting = 1;

 private:
  static constexpr std::size_t kNowhere = static_cast<std::size_t>(-1);
  std::size_t position(const Value& key) const;
  std::unordered_map<std::string_view, std::size_t> strings_;  // the keys own the text
  std::unordered_map<double, std::size_t> numbers_;
  std::size_t none_ = kNowhere;
};

struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

class Machine;

// What is called or has attributes of its own.
class Object : public Payload {
 public:
  virtual std::string type_name() const = 0;
  virtual Value attribute(Machine&, std::string_view) { return {}; }
  // False where there are none to set.
  virtual bool set_attribute(Machine&, const std::string&, Value) { return false; }
  virtual bool callable() const { return false; }
  virtual Value call(Machine&, Arguments&) { return {}; }
  virtual int nesting() const { return 1; }
  virtual void forget() {}  // lets go of what it holds, at the end of a run
};

inline Value::Value(std::shared_ptr<const String> value) : type_(Type::kString), payload_(std::move(value)) {}
inline Value::Value(std::shared_ptr<List> value) : type_(Type::kList), payload_(std::move(value)) {}
inline Value::Value(std::shared_ptr<const Dict> value) : type_(Type::kDict), payload_(std::move(value)) {}
inline Value::Value(std::shared_ptr<Object> value) : type_(Type::kObject), payload_(std::move(value)) {}
inline const String& Value::string() const { return static_cast<const String&>(*payload_); }
inline const Dict& Value::dict() const { return static_cast<const Dict&>(*payload_); }
inline const MarkedText& Value::text() const { return string().text; }
// Lists and objects were not const when they were put in.
inline std::shared_ptr<List> Value::list_pointer() const {
  return std::const_pointer_cast<List>(std::static_pointer_cast<const List>(payload_));
}
inline std::shared_ptr<Object> Value::object_pointer() const {
  return std::const_pointer_cast<Object>(std::static_pointer_cast<const Object>(payload_));
}
inline List& Value::list() const { return const_cast<List&>(static_cast<const List&>(*payload_)); }
inline Object& Value::object() const { return const_cast<Object&>(static_cast<const Object&>(*payload_)); }

// As Python names the type: "str", "int", "dict".
std::string type_name(const Value& value);
// "str object" and so on, as Jinja names what has no such attribute.
std::string described(const Value& value);

// Throws where the value is undefined, with its reason.
void require_defined(const Value& value);

bool truth(const Value& value);
bool equal(const Value& a, const Value& b, Budget& budget);
// a < b; throws where Python has no order for the two.
bool less(const Value& a, const Value& b, Budget& budget);

// str(value); undefined is empty.
MarkedText to_text(const Value& value, Budget& budget);
// repr(value).
void append_repr(MarkedText& out, const Value& value, Budget& budget);
std::string float_text(double value);

}  // namespace switchyard::text::jinja
