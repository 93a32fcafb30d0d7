/* The domain of the cluster's Services: "cluster.local" in most clusters. */
#ifndef TPROXY_TPROXY_DOMAIN_H
#define TPROXY_TPROXY_DOMAIN_H

#include <stddef.h>

/* Finds the domain in the search list of the file `path`, as a pod's resolv.conf(5) has it
 * ("svc.cluster.local"), and writes it to out[cap]; "cluster.local" when the list does not tell. */
void domain_find(const char *path, char *out, size_t cap);

#endif
