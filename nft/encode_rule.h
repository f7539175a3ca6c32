/*
 * Private to nft/: the netlink messages of a chain's rules.
 */
#ifndef NFT_ENCODE_RULE_H
#define NFT_ENCODE_RULE_H

#include "nft/layout.h"
#include "nft/wire.h"

void encode_rules(struct wire *w, enum family family, const struct chain *chain);

#endif
