#pragma once

#include "fuzz.hpp"
#include "switchyard/text/tokenizer.hpp"
#include "switchyard/text/utf8.hpp"

namespace switchyard::fuzz {

// A tokenizer that was accepted must work: its ids are in range, every id has bytes, and streams are valid UTF-8.
inline void use(const text::Tokenizer& tokenizer) {
  const auto ids = tokenizer.encode("the quick brown fox \xC3\xA4\xF0\x9D\x84\x9E\n <|end|> 1234 'll");
  text::StreamDecoder stream(tokenizer);
  for (const std::int32_t id : ids) {
    check(id >= 0 && id < tokenizer.vocab_size(), "ids are below the size of the vocabulary");
    (void)tokenizer.token_bytes(id);
    (void)tokenizer.token_text(id);
    check(!text::find_invalid_utf8(stream.push(id)), "a stream is valid UTF-8");
  }
  (void)tokenizer.decode(ids);
  (void)tokenizer.encode_plain("<|end|> the");
  for (const std::int32_t id : tokenizer.end_ids()) {
    check(id >= 0 && id < tokenizer.vocab_size(), "end ids are below the size of the vocabulary");
  }
}

}  // namespace switchyard::fuzz
