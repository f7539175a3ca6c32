/*
 * The Kubernetes objects of a program: a model, and what fills it, manifests or
 * an API server. The daemon and the commands that need objects have one each.
 */
#ifndef PROXY_FEED_H
#define PROXY_FEED_H

#include "proxy/app.h"
#include "proxy/model/model.h"

struct addresses;
struct apisource;
struct manifests;
struct metrics;
struct strbuf;

struct feed {
	struct app *app; /* borrowed */
	struct options options;
	char *node_name;
	struct model *model;
	struct manifests *manifests; /* one of the two */
	struct apisource *source;
	/* What these two were opened with, if that is another configuration by now. */
	struct config *origin;
	uint64_t kubeconfig_hash; /* of the file's text at that time */
	int64_t parse_us;	  /* the latest reading of manifests */
	int64_t loaded_us;	  /* its begin, monotonic */
	struct metrics *metrics; /* where requests are counted; NULL: nowhere */
	void (*settled)(void *ctx);
	void *settled_ctx;
};

/*
 * Reads manifests or prepares a source, which apisource_start() starts; then
 * @settled is called at each good moment to look at the model. Takes over
 * @options. NULL with @eb and errno after an error.
 */
struct feed *feed_open(struct app *app, struct options *options,
		       void (*settled)(void *ctx), void *ctx, struct errbuf *eb);
void feed_close(struct feed *feed); /* NULL is allowed */

/* What the program ends with if feed_open() fails with @error, its errno: CFG-8 asks for 2. */
int feed_exit_status(int error);

/* Reads the manifests again; after a failure the model is as it was. */
int feed_load_manifests(struct feed *feed, struct errbuf *eb);

/*
 * Another configuration, in two steps (CFG-3). feed_prepare() opens whatever
 * has to be opened anew, and changes nothing; NULL with @eb if the new
 * configuration cannot be had. feed_adopt() takes over @fresh, for which it was
 * prepared, and cannot fail: the model keeps its objects until a new source has
 * listed them. By then @fresh must be the model's configuration.
 */
struct feed_change {
	bool new_source; /* lists and watches begin anew */
	bool new_node;	 /* it has another name */
	char *node_name; /* NULL: taken */
	struct apisource *source;
	struct manifests *manifests;
	uint64_t kubeconfig_hash;
};
struct feed_change *feed_prepare(struct feed *feed, const struct options *fresh,
				 struct errbuf *eb);
void feed_adopt(struct feed *feed, struct feed_change *change,
		struct options *fresh);
void feed_change_free(struct feed_change *change); /* NULL is allowed */

/*
 * For commands that leave the kernel alone: the model gets the addresses of the Node object, and
 * those that @machine has, if it is given. Returns 0 or -ENOMEM.
 */
int feed_assume_addresses(struct feed *feed, const struct addresses *machine);

/* Whether the source has listed all kinds of objects that it is asked for. */
bool feed_is_complete(const struct feed *feed);
/* Appends which kinds have not been listed, and what the API server says; nothing if complete. */
void feed_missing(const struct feed *feed, struct strbuf *out);

/* When the latest objects came, monotonic; 0: none yet. */
int64_t feed_arrived_us(const struct feed *feed);

/* An event about this node (section 22). */
void feed_post_node_event(struct feed *feed, const char *type,
			  const char *reason, const char *note);

#endif
