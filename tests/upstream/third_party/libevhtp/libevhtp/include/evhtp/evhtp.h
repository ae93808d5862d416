/* SPDX-License-Identifier: Apache-2.0 */
/* A small HTTP/1.1 server: one thread for each connection, one handler for all paths. */
#ifndef EVHTP_EVHTP_H_
#define EVHTP_EVHTP_H_
#include <stddef.h>
#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
  const char* method;
  const char* path; /* without the query, not decoded */
  const char* body;
  size_t body_length;
  const char* headers; /* name: value lines */
} evhtp_request;

typedef struct {
  int status;
  char content_type[64];
  char extra_headers[256]; /* whole lines, each with its CRLF */
  char* body;              /* from malloc(); freed by the server */
  size_t body_length;
} evhtp_response;

typedef void (*evhtp_handler)(const evhtp_request* request, evhtp_response* response, void* arg);
typedef struct evhtp evhtp_t;

/* Copies a header's value to `value`; returns 0 where it is not there. */
int evhtp_header(const evhtp_request* request, const char* name, char* value, size_t size);
/* Listens and starts answering; NULL, with errno, where the address cannot be used. */
evhtp_t* evhtp_start(const char* address, int port, evhtp_handler handler, void* arg);
/* Closes every connection and waits for its thread; no handler runs afterwards. */
void evhtp_stop(evhtp_t* server);

#ifdef __cplusplus
}
#endif
#endif
