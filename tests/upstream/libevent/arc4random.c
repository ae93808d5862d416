/* SPDX-License-Identifier: Apache-2.0 */
/* Where the C library has no arc4random; included by evutil_rand.c. */
#include <fcntl.h>
#include <unistd.h>

static unsigned char arc4_stirred;

static void arc4random_buf(void* buf, size_t n) {
  int fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
  unsigned char* bytes = buf;
  for (size_t i = 0; i < n; i++) {
    if (fd < 0 || read(fd, bytes + i, 1) != 1) bytes[i] = (unsigned char)rand();
    bytes[i] ^= arc4_stirred;
  }
  if (fd >= 0) close(fd);
}

static void arc4random_addrandom(const unsigned char* buf, int n) {
  for (int i = 0; i < n; i++) arc4_stirred ^= buf[i];
}
