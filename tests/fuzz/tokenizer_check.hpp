#pragma once

#include "fuzz.hpp"
#include "switchyard/text/tokenizer.hpp"

namespace switchyard::fuzz {

// A tokenizer that was accepted must work: its ids are in range and every id has bytes.
inline void use(const text::Tokenizer& tokenizer) {
  for (const std::int32_t id : tokenizer.encode("the quick brown fox \xC3\xA4\xF0\x9D\x84\x9E\n")) {
    check(id >= 0 && id < tokenizer.vocab_size(), "ids are below the size of the vocabulary");
    (void)tokenizer.token_bytes(id);
  }
}

}  // namespace switchyard::fuzz
