/*
 * The daemon: what vipmap is when no command is given. Follows the objects,
 * keeps the kernel in step with them and answers for it, until a signal ends
 * it; a changed configuration takes effect meanwhile (CFG-3).
 */
#ifndef PROXY_DAEMON_H
#define PROXY_DAEMON_H

#include "proxy/app.h"

/* Takes from @options what it needs. Returns the exit status. */
int daemon_run(struct app *app, struct options *options);

#endif
