#pragma once

#include <gtest/gtest.h>

#include <string>

#include "switchyard/base/error.hpp"

namespace switchyard {

// Runs `action`, which must throw an Error of this kind, and returns its message.
template <class Action>
std::string error_of(ErrorKind kind, Action&& action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(static_cast<int>(error.kind()), static_cast<int>(kind)) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return {};
}

}  // namespace switchyard
