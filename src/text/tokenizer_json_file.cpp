#include "tokenizer_json_file.hpp"

#include <optional>

#include "switchyard/base/error.hpp"
#include "vocabulary.hpp"

namespace switchyard::text {
namespace {

using Json = nlohmann::json;
constexpr std::size_t kDeepest = 64;

class Reader final : public nlohmann::json_sax<Json> {
 public:
  Reader(TokenizerJsonFile& file, const std::string& name) : file_(file), name_(name) {}

  bool null() override { return value(Json(nullptr), "null"); }
  bool boolean(bool v) override { return value(Json(v), "true or false"); }
  bool number_integer(number_integer_t v) override {
    if (place_ == Place::kListEntry && entry_ == 1) return score(static_cast<double>(v));
    return value(Json(v), "a negative number");
  }
  bool number_unsigned(number_unsigned_t v) override {
    if (place_ == Place::kVocabObject) {
      if (v > static_cast<std::uint64_t>(kLargestId)) {
        fail(ErrorKind::kBadInput, "{}: key 'model.vocab': token '{}' has id {}, expected at most {}", name_, key_, v,
             kLargestId);
      }
      file_.tokens.push_back({append(key_), key_.size(), static_cast<std::int64_t>(v), 0.0});
      return true;
    }
    if (place_ == Place::kListEntry && entry_ == 1) return score(static_cast<double>(v));
    return value(Json(v), "a number");
  }
  bool number_float(number_float_t v, const string_t&) override {
    if (place_ == Place::kListEntry && entry_ == 1) return score(v);
    return value(Json(v), "a number");
  }
  bool string(string_t& v) override {
    if (place_ == Place::kListEntry && entry_ == 0) {
      const auto id = static_cast<std::int64_t>(file_.tokens.size());
      if (id > kLargestId) fail(ErrorKind::kBadInput, "{}: key 'model.vocab' has more than {} tokens", name_, id);
      file_.tokens.push_back({append(v), v.size(), id, 0.0});
      entry_ = 1;
      return true;
    }
    if (place_ == Place::kMerges) return merge(v);
    if (place_ == Place::kMergePair && entry_ < 2) {
      const std::size_t begin = append(v);
      if (entry_ == 0) {
        file_.merges.push_back({begin, v.size(), 0});
      } else {
        file_.merges.back().right = v.size();
      }
      ++entry_;
      return true;
    }
    return value(Json(std::move(v)), "a string");
  }
  bool binary(binary_t&) override { return false; }

  bool start_object(std::size_t) override {
    if (place_ == Place::kTree && is_model_key("vocab")) {
      if (file_.vocab_form != TokenizerJsonFile::Form::kNone) twice("model.vocab");
      file_.vocab_form = TokenizerJsonFile::Form::kObject;
      place_ = Place::kVocabObject;
      return true;
    }
    return open(Json::object(), "an object");
  }
  bool end_object() override {
    if (place_ == Place::kVocabObject) {
      place_ = Place::kTree;
      return true;
    }
    return close();
  }
  bool start_array(std::size_t) override {
    if (place_ == Place::kTree && is_model_key("vocab")) {
      if (file_.vocab_form != TokenizerJsonFile::Form::kNone) twice("model.vocab");
      file_.vocab_form = TokenizerJsonFile::Form::kList;
      place_ = Place::kVocabList;
      return true;
    }
    if (place_ == Place::kTree && is_model_key("merges")) {
      if (file_.has_merges) twice("model.merges");
      file_.has_merges = true;
      place_ = Place::kMerges;
      return true;
    }
    if (place_ == Place::kVocabList || place_ == Place::kMerges) {
      place_ = place_ == Place::kVocabList ? Place::kListEntry : Place::kMergePair;
      entry_ = 0;
      return true;
    }
    return open(Json::array(), "a list");
  }
  bool end_array() override {
    if (place_ == Place::kListEntry || place_ == Place::kMergePair) {
      if (entry_ != 2) wrong("a list of another length");
      place_ = place_ == Place::kListEntry ? Place::kVocabList : Place::kMerges;
      return true;
    }
    if (place_ == Place::kVocabList || place_ == Place::kMerges) {
      place_ = Place::kTree;
      return true;
    }
    return close();
  }
  bool key(string_t& v) override {
    key_ = std::move(v);
    return true;
  }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&) override {
    fail(ErrorKind::kBadInput, "{}: is not valid JSON at byte {}", name_, position);
  }

 private:
  enum class Place { kTree, kVocabObject, kVocabList, kListEntry, kMerges, kMergePair };

  std::size_t append(std::string_view text) {
    file_.characters += text;
    return file_.characters.size() - text.size();
  }
  bool score(double v) {
    file_.tokens.back().score = v;
    entry_ = 2;
    return true;
  }
  bool merge(std::string_view text) {
    const std::size_t space = text.find(' ');
    if (space == std::string_view::npos || text.find(' ', space + 1) != std::string_view::npos) {
      fail(ErrorKind::kBadInput, "{}: key 'model.merges': entry {} is '{}', expected two tokens with a space between",
           name_, file_.merges.size(), text);
    }
    const std::size_t begin = append(text.substr(0, space));
    append(text.substr(space + 1));
    file_.merges.push_back({begin, space, text.size() - space - 1});
    return true;
  }
  bool is_model_key(std::string_view wanted) const { return tree_.size() == 2 && in_model_ && key_ == wanted; }

  [[noreturn]] void twice(std::string_view path) const {
    fail(ErrorKind::kBadInput, "{}: key '{}' is there twice", name_, path);
  }
  [[noreturn]] void wrong(std::string_view found) const {
    switch (place_) {
      case Place::kVocabObject:
        fail(ErrorKind::kBadInput, "{}: key 'model.vocab': token '{}' has {}, expected an id", name_, key_, found);
      case Place::kVocabList:
      case Place::kListEntry:
        fail(ErrorKind::kBadInput, "{}: key 'model.vocab': entry {} has {}, expected [token, score]", name_,
             file_.tokens.size(), found);
      default:
        fail(ErrorKind::kBadInput, "{}: key 'model.merges': entry {} has {}, expected \"a b\" or [\"a\", \"b\"]", name_,
             file_.merges.size(), found);
    }
  }

  Json* place(Json&& v) {
    if (tree_.empty()) {
      file_.rest = std::move(v);
      return &file_.rest;
    }
    Json& parent = *tree_.back();
    if (parent.is_array()) {
      parent.push_back(std::move(v));
      return &parent.back();
    }
    Json& member = parent[key_];
    member = std::move(v);
    return &member;
  }
  bool value(Json&& v, std::string_view what) {
    if (place_ != Place::kTree) wrong(what);
    place(std::move(v));
    return true;
  }
  bool open(Json&& v, std::string_view what) {
    if (place_ != Place::kTree) wrong(what);
    if (tree_.size() >= kDeepest) fail(ErrorKind::kBadInput, "{}: is nested more than {} deep", name_, kDeepest);
    if (tree_.size() == 1) in_model_ = tree_.back()->is_object() && key_ == "model" && v.is_object();
    tree_.push_back(place(std::move(v)));
    return true;
  }
  bool close() {
    tree_.pop_back();
    return true;
  }

  TokenizerJsonFile& file_;
  const std::string& name_;
  Place place_ = Place::kTree;
  std::vector<Json*> tree_;  // the open objects and lists; a parent is not touched while a child is open
  std::string key_;
  bool in_model_ = false;
  int entry_ = 0;  // how much of an inner list has been read
};

}  // namespace

TokenizerJsonFile read_tokenizer_json(std::string_view json, const std::string& name) {
  TokenizerJsonFile file;
  file.characters.reserve(json.size() / 3);
  Reader reader(file, name);
  if (!Json::sax_parse(json.begin(), json.end(), &reader) || !file.rest.is_object()) {
    fail(ErrorKind::kBadInput, "{}: is not a JSON object", name);
  }
  return file;
}

}  // namespace switchyard::text
