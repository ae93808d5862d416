/* SPDX-License-Identifier: Apache-2.0 */
#include "event2/util.h"

int main(void) {
  evutil_secure_rng_add_bytes("seed", 4);
  return evutil_secure_rng_init();
}
