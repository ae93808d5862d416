// SPDX-License-Identifier: Apache-2.0
#pragma once
namespace nlohmann {
// The i-th Fibonacci number: something for a compiler to do.
constexpr unsigned long Fibonacci(unsigned i) {
  return i < 2 ? i : Fibonacci(i - 1) + Fibonacci(i - 2);
}
}  // namespace nlohmann
