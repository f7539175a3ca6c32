/*
 * The service ports of the running vipmap by their addresses: what gives
 * conntrack's entries a name.
 */
#ifndef COMMANDS_NAMES_H
#define COMMANDS_NAMES_H

#include <stdbool.h>
#include <stdint.h>

#include "proxy/app.h"

struct vips;

struct names {
	struct vips *vips;
	struct port_facts {
		int64_t affinity_s; /* 0: none */
		int64_t used;	    /* endpoints */
	} * facts;		    /* by number in @vips */
	unsigned int room;
	bool out_of_memory;
};

/* Asks. Returns EXIT_DONE or an exit status, of which nothing was said if @quiet. */
int names_fetch(struct app *app, struct names *names, bool quiet);
void names_free(struct names *names);

#endif
