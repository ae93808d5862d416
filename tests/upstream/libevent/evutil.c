/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "event2/util.h"

int evutil_listen(const char* address, int port) {
  struct sockaddr_in where;
  memset(&where, 0, sizeof(where));
  where.sin_family = AF_INET;
  where.sin_port = htons((unsigned short)port);
  if (inet_pton(AF_INET, address, &where.sin_addr) != 1) {
    errno = EADDRNOTAVAIL;
    return -1;
  }
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (bind(fd, (struct sockaddr*)&where, sizeof(where)) != 0 || listen(fd, 128) != 0) {
    int error = errno;
    close(fd);
    errno = error;
    return -1;
  }
  return fd;
}
