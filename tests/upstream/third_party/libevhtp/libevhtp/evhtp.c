/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "evhtp/evhtp.h"

#include <errno.h>
#include <event2/util.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_HEAD = 64 * 1024, MAX_CONNECTIONS = 256 };
static const size_t MAX_BODY = (size_t)1 << 30;

struct evhtp {
  int listener, stopping, open;
  int fds[MAX_CONNECTIONS]; /* of open connections; -1 where free */
  pthread_t acceptor;
  pthread_mutex_t lock;
  pthread_cond_t closed;
  evhtp_handler handler;
  void* arg;
  uint32_t id; /* tells servers apart in the Server header */
};

typedef struct {
  evhtp_t* server;
  int slot, fd;
} connection;

int evhtp_header(const evhtp_request* request, const char* name, char* value, size_t size) {
  const size_t length = strlen(name);
  for (const char* line = request->headers; *line != '\0';) {
    const char* end = strstr(line, "\r\n");
    if (end == NULL) break;
    if (strncasecmp(line, name, length) == 0 && line[length] == ':') {
      const char* from = line + length + 1;
      while (*from == ' ' || *from == '\t') from++;
      snprintf(value, size, "%.*s", (int)(end - from), from);
      return 1;
    }
    line = end + 2;
  }
  return 0;
}

static int send_all(int fd, const char* data, size_t size) {
  while (size > 0) {
    ssize_t sent = send(fd, data, size, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return 0;
    data += sent;
    size -= (size_t)sent;
  }
  return 1;
}

static const char* reason_of(int status) {
  return status == 200 ? "OK" : status == 404 ? "Not Found" : status == 405 ? "Method Not Allowed"
       : status == 413 ? "Payload Too Large" : status == 503 ? "Service Unavailable" : "Bad Request";
}

static int respond(const connection* c, const evhtp_response* r, int keep) {
  char head[1024];
  int size = snprintf(head, sizeof(head),
                      "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
                      "Server: standin/%08x\r\n%s%s\r\n",
                      r->status, reason_of(r->status), r->content_type, r->body_length,
                      (unsigned)c->server->id, r->extra_headers, keep ? "" : "Connection: close\r\n");
  return send_all(c->fd, head, (size_t)size) &&
         (r->body_length == 0 || send_all(c->fd, r->body, r->body_length));
}

static void refuse(const connection* c, int status, const char* why) {
  evhtp_response r;
  memset(&r, 0, sizeof(r));
  r.status = status;
  strcpy(r.content_type, "application/json");
  if (asprintf(&r.body, "{\"error\":\"%s\"}", why) < 0) return;
  r.body_length = strlen(r.body);
  respond(c, &r, 0);
  free(r.body);
}

/* Reads until `*used` bytes hold an end of head; returns its length, 0 at the end, -1 if bad. */
static long read_head(int fd, char* buffer, size_t* used) {
  for (;;) {
    char* end = memmem(buffer, *used, "\r\n\r\n", 4);
    if (end != NULL) return end - buffer + 4;
    if (*used == MAX_HEAD) return -1;
    ssize_t got = recv(fd, buffer + *used, MAX_HEAD - *used, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return 0;
    *used += (size_t)got;
  }
}

/* Answers one request; returns whether the connection stays. `buffer` keeps what came early. */
static int serve_one(const connection* c, char* buffer, size_t* used) {
  long head_length = read_head(c->fd, buffer, used);
  if (head_length < 0) refuse(c, 400, "the request's head is too long");
  if (head_length <= 0) return 0;
  char head[MAX_HEAD + 1], text[64], method[16], target[4096], version[16];
  memcpy(head, buffer, (size_t)head_length);
  head[head_length] = '\0';
  const size_t early = *used - (size_t)head_length;
  evhtp_request request = {method, target, NULL, 0, strstr(head, "\r\n") + 2};
  if (sscanf(head, "%15s %4095s %15s", method, target, version) != 3) {
    refuse(c, 400, "not a request line");
    return 0;
  }
  target[strcspn(target, "?#")] = '\0';
  if (evhtp_header(&request, "Transfer-Encoding", text, sizeof(text))) {
    refuse(c, 400, "chunked requests are not read here");
    return 0;
  }
  if (evhtp_header(&request, "Content-Length", text, sizeof(text)))
    request.body_length = strtoull(text, NULL, 10);
  if (request.body_length > MAX_BODY) {
    refuse(c, 413, "the body is too long");
    return 0;
  }
  if (evhtp_header(&request, "Expect", text, sizeof(text)) && early < request.body_length)
    send_all(c->fd, "HTTP/1.1 100 Continue\r\n\r\n", 25);
  char* body = malloc(request.body_length + 1);
  if (body == NULL) return 0;
  size_t have = early < request.body_length ? early : request.body_length;
  memcpy(body, buffer + head_length, have);
  *used = early - have;
  memmove(buffer, buffer + head_length + have, *used);
  while (have < request.body_length) {
    ssize_t got = recv(c->fd, body + have, request.body_length - have, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) {
      free(body);
      return 0;
    }
    have += (size_t)got;
  }
  body[have] = '\0';
  request.body = body;
  int keep = strcmp(version, "HTTP/1.1") == 0;
  if (evhtp_header(&request, "Connection", text, sizeof(text))) keep = strcasecmp(text, "close") != 0;
  evhtp_response response;
  memset(&response, 0, sizeof(response));
  response.status = 200;
  strcpy(response.content_type, "application/json");
  c->server->handler(&request, &response, c->server->arg);
  if (c->server->stopping) keep = 0;
  keep = respond(c, &response, keep) && keep;
  free(response.body);
  free(body);
  return keep;
}

static void* serve(void* arg) {
  connection c = *(connection*)arg;
  free(arg);
  char* buffer = malloc(MAX_HEAD);
  size_t used = 0;
  while (buffer != NULL && serve_one(&c, buffer, &used)) {
  }
  free(buffer);
  pthread_mutex_lock(&c.server->lock);
  c.server->fds[c.slot] = -1;
  close(c.fd);
  c.server->open--;
  pthread_cond_signal(&c.server->closed);
  pthread_mutex_unlock(&c.server->lock);
  return NULL;
}

static int take_slot(evhtp_t* server, int fd) {
  int slot = -1;
  pthread_mutex_lock(&server->lock);
  for (int i = 0; i < MAX_CONNECTIONS && slot < 0 && !server->stopping; i++)
    if (server->fds[i] < 0) slot = i;
  if (slot >= 0) {
    server->fds[slot] = fd;
    server->open++;
  }
  pthread_mutex_unlock(&server->lock);
  return slot;
}

static void* accept_all(void* arg) {
  evhtp_t* server = arg;
  while (!server->stopping) {
    int fd = accept4(server->listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0) {
      if (errno == EINTR || errno == ECONNABORTED) continue;
      break; /* the listener was shut down */
    }
    int on = 1; /* head and body are sent one after the other */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    int slot = take_slot(server, fd);
    connection* c = slot < 0 ? NULL : malloc(sizeof(connection));
    pthread_t thread;
    if (c != NULL) *c = (connection){server, slot, fd};
    if (c == NULL || pthread_create(&thread, NULL, serve, c) != 0) {
      close(fd);
      continue;
    }
    pthread_detach(thread);
  }
  return NULL;
}

evhtp_t* evhtp_start(const char* address, int port, evhtp_handler handler, void* arg) {
  int listener = evutil_listen(address, port);
  if (listener < 0) return NULL;
  evhtp_t* server = calloc(1, sizeof(evhtp_t));
  if (server == NULL) return NULL;
  server->listener = listener;
  server->handler = handler;
  server->arg = arg;
  evutil_secure_rng_get_bytes(&server->id, sizeof(server->id));
  for (int i = 0; i < MAX_CONNECTIONS; i++) server->fds[i] = -1;
  pthread_mutex_init(&server->lock, NULL);
  pthread_cond_init(&server->closed, NULL);
  pthread_create(&server->acceptor, NULL, accept_all, server);
  return server;
}

void evhtp_stop(evhtp_t* server) {
  pthread_mutex_lock(&server->lock);
  server->stopping = 1;
  pthread_mutex_unlock(&server->lock);
  shutdown(server->listener, SHUT_RDWR);
  pthread_join(server->acceptor, NULL);
  close(server->listener);
  pthread_mutex_lock(&server->lock);
  /* Requests that are worked on may still be answered; no further ones are read. */
  for (int i = 0; i < MAX_CONNECTIONS; i++)
    if (server->fds[i] >= 0) shutdown(server->fds[i], SHUT_RD);
  while (server->open > 0) pthread_cond_wait(&server->closed, &server->lock);
  pthread_mutex_unlock(&server->lock);
  free(server);
}
