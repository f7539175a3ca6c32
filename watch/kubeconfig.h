/*
 * Where the API server is and how to prove who we are: a kubeconfig file, or what Kubernetes mounts
 * into a pod. Secrets stay in here and in the requests; no message contains one.
 */
#ifndef WATCH_KUBECONFIG_H
#define WATCH_KUBECONFIG_H

#include "proxy/base/errbuf.h"
#include "watch/http.h"

/* Text of a file, or given inline. */
struct secret {
	char *path; /* NULL: inline, or none */
	char *data; /* NULL: none; terminated */
	size_t length;
	int64_t mtime_ns; /* of what was read, with the size the sign of a change */
	int64_t read_us; /* CLOCK_MONOTONIC */
};

struct credentials {
	char **servers; /* at least one: scheme://host[:port][/prefix] */
	unsigned int n_servers;
	struct secret ca, cert, key, token;
	char *username, *password;
	char *server_name;  /* tls-server-name */
	char *server_field; /* "clusters[NAME].server", for messages */
	char *proxy;
	bool insecure;
	bool in_cluster;
};

/* Where to look; the defaults are those of Kubernetes. Borrowed. */
struct credentials_source {
	const char *kubeconfig; /* path; "": none */
	const char *master; /* overrides the server; several with commas; "": none */
	const char *service_account; /* folder with token and ca.crt */
	const char *host,
		*port; /* KUBERNETES_SERVICE_HOST and _PORT; NULL: not set */
};

enum { TOKEN_AGE_MS = 60 * 1000 };

/*
 * Reads kubeconfig, or with neither kubeconfig nor master what a pod has. NULL
 * with @eb (file, then field, then what is wrong with it) and errno, ENOMEM or
 * another for what cannot work (CFG-8). A token's file that is not there yet is
 * no failure: see credentials_ready().
 */
struct credentials *credentials_read(const struct credentials_source *source,
				     int64_t now_us, struct errbuf *eb);
void credentials_free(struct credentials *c); /* NULL is allowed */

/* False as long as the token's file has not been read. */
bool credentials_ready(const struct credentials *c);

/*
 * Reads again what came from files and has changed, and the token if it is
 * older than @max_age_us. What cannot be read stays as it was; @eb then says
 * why and the result is negative. To be called before a request.
 */
int credentials_refresh(struct credentials *c, int64_t now_us,
			int64_t max_age_us, struct errbuf *eb);

/* Points into @c, until the next refresh. */
struct http_identity credentials_identity(const struct credentials *c);

/*
 * The pure part of reading: text of a kubeconfig to where things are. No file
 * is looked at, file names are made relative to @folder. NULL with @eb.
 */
struct credentials *kubeconfig_parse(const char *text, size_t length,
				     const char *folder, struct errbuf *eb);

#endif
