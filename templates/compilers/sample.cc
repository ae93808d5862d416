// Compiled by the compiler of the board's system and by the one that stands in for it: the objects
// must be the same, byte for byte. It uses what a compiler could get wrong for another machine:
// headers of the system and of the C++ library, templates, exceptions, atomics, floating point and
// vector code.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <unistd.h>
#include <vector>

namespace {

std::atomic<std::uint64_t> count{0};
thread_local long double last = 1.0L / 3.0L;

template <typename T>
T
Sum(const std::vector<T>& values)
{
  T sum{};
  for (const T& value : values) {
    sum += value * static_cast<T>(1.5);
  }
  return sum;
}

std::string
Name(const std::map<std::string, int>& names, int wanted)
{
  for (const auto& [name, number] : names) {
    if (number == wanted) {
      return name + ":" + std::to_string(number) + __FILE__;
    }
  }
  throw std::out_of_range("no such number");
}

}  // namespace

int
main(int argc, char** argv)
{
  std::vector<float> floats(64, static_cast<float>(argc));
  std::vector<std::int16_t> shorts(64, static_cast<std::int16_t>(getpid()));
  std::sort(floats.begin(), floats.end(), [](float a, float b) { return std::fabs(a) < std::fabs(b); });
  last = std::fma(static_cast<double>(Sum(floats)), 0.1, static_cast<double>(Sum(shorts)));
  try {
    count += Name({{argv[0], argc}}, argc + 1).size();
  }
  catch (const std::exception& err) {
    count += std::string(err.what()).size();
  }
  return count == 14 ? 0 : 1;
}
