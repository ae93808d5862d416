// SPDX-License-Identifier: Apache-2.0
#include <nlohmann/json.hpp>

int main() { return nlohmann::Fibonacci(10) == 55 ? 0 : 1; }
