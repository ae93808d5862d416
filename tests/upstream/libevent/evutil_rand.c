/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include <limits.h>
#include <stdlib.h>

#include "event2/util.h"

#ifndef EVENT__HAVE_ARC4RANDOM
#include "./arc4random.c"
#endif

int evutil_secure_rng_init(void) {
  unsigned char seed = 0;
  evutil_secure_rng_get_bytes(&seed, 1);
  return 0;
}

void
evutil_secure_rng_get_bytes(void *buf, size_t n)
{
	arc4random_buf(buf, n);
}

@LIBEVENT_ADD_BYTES@
