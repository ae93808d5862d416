// SPDX-License-Identifier: Apache-2.0
#pragma once
namespace re2 {
// Matches '*' and literal characters: enough for names in a command line.
inline bool FullMatch(const char* text, const char* pattern) {
  for (; *pattern != '\0'; ++pattern, ++text) {
    if (*pattern == '*') {
      do {
        if (FullMatch(text, pattern + 1)) return true;
      } while (*text++ != '\0');
      return false;
    }
    if (*text != *pattern) return false;
  }
  return *text == '\0';
}
}  // namespace re2
