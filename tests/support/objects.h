/* Decoded objects as one line of text, with only what differs from nothing, to
 * compare and to print. */
#ifndef TESTS_SUPPORT_OBJECTS_H
#define TESTS_SUPPORT_OBJECTS_H

#include "proxy/model/objects.h"
#include "proxy/base/strbuf.h"

/* "service default/web 10.0.0.1 fd00::1 http:80/tcp/30080 external=... lb=... ranges=... local" */
void describe_service(struct strbuf *sb, const struct service *service);
/* "slice default/web-1 of web IPv4 http:8080/tcp 10.1.0.1(ready,serving,local,zones=a+b)" */
void describe_slice(struct strbuf *sb, const struct slice *slice);
void describe_service_cidr(struct strbuf *sb, const struct service_cidr *cidr);
void describe_node(struct strbuf *sb, const struct node *node);

/* A copy with each ' turned into ", so that JSON can be written in C. Caller owns it. */
char *with_quotes(const char *text);

#endif
