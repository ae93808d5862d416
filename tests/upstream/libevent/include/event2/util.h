/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EVENT2_UTIL_H_INCLUDED_
#define EVENT2_UTIL_H_INCLUDED_
#include <stddef.h>
#include "event2/event-config.h"
#ifdef __cplusplus
extern "C" {
#endif
/* A listening TCP socket, or -1 with errno. */
int evutil_listen(const char* address, int port);
int evutil_secure_rng_init(void);
void evutil_secure_rng_get_bytes(void* buf, size_t n);
void evutil_secure_rng_add_bytes(const char* buf, size_t n);
#ifdef __cplusplus
}
#endif
#endif
