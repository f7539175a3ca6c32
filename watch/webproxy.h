/*
 * Whether a request goes through a proxy because the environment says so
 * (CFG-9): HTTPS_PROXY, HTTP_PROXY and NO_PROXY as programs written in Go read
 * them, since those run beside us with the same environment. A kubeconfig's
 * proxy-url does not come here, it wins over all of this.
 */
#ifndef WATCH_WEBPROXY_H
#define WATCH_WEBPROXY_H

/* Values of the variables, borrowed; NULL or "": not set. */
struct webproxy_env {
	const char *https, *http, *none;
};

/* The process's own, of which the upper-case name counts first. */
struct webproxy_env webproxy_environment(void);

/*
 * The proxy for @server (scheme://host[:port][/prefix]): one of @env's values, or NULL for none.
 * Loopback addresses and "localhost" are always reached directly.
 */
const char *webproxy_choose(const struct webproxy_env *env, const char *server);

#endif
