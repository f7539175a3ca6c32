/*
 * A capability that an executable file grants may be permitted and yet not
 * effective: so it is in the image, as the kernel would not start the program
 * at all where the container lacks it, not even for --dry-run.
 */
#ifndef PROXY_CAPABILITY_H
#define PROXY_CAPABILITY_H

/* Makes CAP_NET_ADMIN effective if it is permitted. Returns 0, or a negative errno. */
int capability_raise_net_admin(void);

#endif
