/*
 * KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1), YAML or JSON, into a config.
 */
#ifndef WATCH_PROXYCONFIG_H
#define WATCH_PROXYCONFIG_H

#include "proxy/model/config.h"

/*
 * Overwrites in @config what the file sets. Unknown and repeated fields, and
 * fields without effect that are set, are told to @warn, one line each (CFG-1).
 * Wrong types, another kind or version: -EINVAL with @eb naming the field;
 * @config is then half-filled and must be thrown away. Values are not checked
 * here: config_validate().
 */
int proxyconfig_read(const char *path, struct config *config,
		     void (*warn)(void *ctx, const char *message), void *ctx,
		     struct errbuf *eb);
int proxyconfig_parse(const char *text, size_t length, struct config *config,
		      void (*warn)(void *ctx, const char *message), void *ctx,
		      struct errbuf *eb);

/* VipmapConfiguration (vipmap/v1alpha1), where unknown and repeated fields are errors. */
int vipmapconfig_read(const char *path, struct config *config,
		      void (*warn)(void *ctx, const char *message), void *ctx,
		      struct errbuf *eb);
int vipmapconfig_parse(const char *text, size_t length, struct config *config,
		       void (*warn)(void *ctx, const char *message), void *ctx,
		       struct errbuf *eb);

#endif
