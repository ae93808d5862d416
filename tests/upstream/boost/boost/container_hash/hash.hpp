// SPDX-License-Identifier: Apache-2.0
// As in Boost 1.79, boost::hash has a base that GCC 12 calls deprecated, unless told otherwise:
// https://github.com/boostorg/container_hash/issues/22
#ifndef BOOST_FUNCTIONAL_HASH_HASH_HPP
#define BOOST_FUNCTIONAL_HASH_HASH_HPP

#include <cstddef>
#include <functional>
#include <string>

namespace boost {
namespace hash_detail {
#if defined(BOOST_NO_CXX98_FUNCTION_BASE)
template <typename T>
struct hash_base {
  typedef T argument_type;
  typedef std::size_t result_type;
};
#else
template <typename T>
struct hash_base : std::unary_function<T, std::size_t> {};
#endif
}  // namespace hash_detail

template <typename T>
struct hash;

template <>
struct hash<std::string> : hash_detail::hash_base<std::string> {
  std::size_t operator()(const std::string& text) const {
    std::size_t seed = 1469598103934665603u;  // FNV-1a
    for (unsigned char c : text) seed = (seed ^ c) * 1099511628211u;
    return seed;
  }
};

}  // namespace boost
#endif
