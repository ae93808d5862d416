// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace triton { namespace common {

enum class Code { UNKNOWN, INTERNAL, NOT_FOUND, INVALID_ARG, UNAVAILABLE, UNSUPPORTED };

// The word that stands in front of a message, such as "Invalid argument".
const char* CodeString(Code code);

}}  // namespace triton::common
